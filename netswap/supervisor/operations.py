"""What an operator asks for: push, swap, rollback. Each ends in one transaction at a time.

Authors' code is never imported here: a probe looks at it in a child, the workers import it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import structlog

from netswap.errors import UsageError
from netswap.events import Refusal, Stage
from netswap.modules import Bundle
from netswap.outcome import Outcome
from netswap.probe import Probed, run_probe
from netswap.supervisor.agreement import Agreement
from netswap.supervisor.fleet import Fleet
from netswap.supervisor.results import (
    ChangeLine,
    Progress,
    Result,
    Tell,
    failure,
    prepared_of,
    receipt_of,
    verdicts_of,
)
from netswap.supervisor.state import StateDirectory
from netswap.supervisor.transaction import Plan, Transaction
from netswap.supervisor.versions import Change

__all__ = ["Operations", "Options"]

log = structlog.get_logger("netswap.supervisor")


@dataclass(frozen=True)
class Options:
    """What a push, swap or rollback may be told; ``timeout`` None means the configured one."""

    dry_run: bool = False
    timeout: float | None = None
    only: str | None = None
    allow_lossy: bool = False


class Operations:
    """The transactions of one server; ``timeout`` in seconds is for those that name none."""

    def __init__(self, state: StateDirectory, fleet: Fleet, timeout: float) -> None:
        self._state = state
        self._fleet = fleet
        self._default_timeout = timeout
        self._claimed: str | None = None
        self._closed = False
        self._last_tx = 0

    @property
    def running(self) -> str | None:
        """The command whose transaction runs, if one does."""
        return self._claimed

    async def close(self) -> None:
        """Refuse what comes from now on, and return when what runs has ended."""
        self._closed = True
        while self._claimed is not None:
            await self._fleet.wait_changed()

    @contextlib.contextmanager
    def _claim(self, command: str) -> Iterator[Result | None]:
        """One transaction at a time: yields the refusal of a second one."""
        if self._claimed is not None or self._closed:
            running = f"`{self._claimed}` runs" if self._claimed else "the server shuts down"
            reason = f"{running}, and only one transaction may run at a time"
            yield failure(Outcome.CONFLICT, [Refusal(Stage.AGREEMENT, reason)])
            return
        self._claimed = command
        try:
            yield None
        finally:
            self._claimed = None
            self._fleet.wake()

    async def push(self, bundles: Sequence[Bundle], options: Options, tell: Tell) -> Result:
        """Bring ``bundles`` to every worker, as one transaction."""
        command = "push " + ", ".join(bundle.name for bundle in bundles)
        with self._claim(command) as conflict:
            return conflict or await self._push(bundles, command, options, tell)

    async def _push(
        self, bundles: Sequence[Bundle], command: str, options: Options, tell: Tell
    ) -> Result:
        timeout = self._timeout(options)
        names = ", ".join(bundle.name for bundle in bundles)
        tell(Progress("loading", f"loading {names} in a child process"))
        probed = await asyncio.to_thread(run_probe, bundles, (), timeout)
        refusals = [*probed.refusals, *_doubled(bundles, probed)]
        if refusals:
            return failure(Outcome.REFUSED, refusals)
        try:
            stored = {self._state.store.put(bundle): bundle.name for bundle in bundles}
        except OSError as error:
            return failure(Outcome.REFUSED, [_unwritable(error)])
        changes = [
            Change(kind, self._state.versions.active.get(kind), bundle.sha256, version)
            for bundle, kinds in zip(bundles, probed.kinds, strict=True)
            for kind, version in kinds.items()
            if not self._state.versions.is_active(kind, bundle.sha256)
        ]
        if not changes:
            return Result(Outcome.DONE, "already active", state="nothing had to change")
        return await self._run(self._plan(command, changes, options, stored), tell)

    async def swap(self, kind: str, revision: str, options: Options, tell: Tell) -> Result:
        """Bring a revision of ``kind`` that is already there."""
        with self._claim(f"swap {kind}@{revision}") as conflict:
            if conflict:
                return conflict
            return await self._swap(kind, revision, f"swap {kind}@{revision}", options, tell)

    async def _swap(
        self, kind: str, revision: str, command: str, options: Options, tell: Tell
    ) -> Result:
        try:
            row = self._state.versions.find(kind, revision)
        except UsageError as error:
            return _usage(error)
        if self._state.versions.is_active(kind, row.sha256):
            return Result(Outcome.DONE, "already active", state="nothing had to change")
        return await self._run(
            self._plan(command, [self._state.versions.change_to(row)], options), tell
        )

    async def rollback(
        self, kind: str | None, revision: str | None, options: Options, tell: Tell
    ) -> Result:
        """Undo the last transaction, or the last change of ``kind``, or go to its ``revision``."""
        words = ["rollback", kind or "", f"--to {revision}" if revision else ""]
        command = " ".join(word for word in words if word)
        with self._claim(command) as conflict:
            if conflict:
                return conflict
            if kind is not None and revision is not None:
                return await self._swap(kind, revision, command, options, tell)
            return await self._undo(kind, command, options, tell)

    async def _undo(self, kind: str | None, command: str, options: Options, tell: Tell) -> Result:
        versions = self._state.versions
        try:
            changes, undoes = versions.undo_last() if kind is None else versions.undo_kind(kind)
        except UsageError as error:
            return _usage(error)
        plan = replace(self._plan(command, changes, options), undoes=undoes)
        return await self._run(plan, tell)

    def _timeout(self, options: Options) -> float:
        return self._default_timeout if options.timeout is None else options.timeout

    def _plan(
        self,
        command: str,
        changes: Sequence[Change],
        options: Options,
        bundles: Mapping[str, str] | None = None,
    ) -> Plan:
        return Plan(
            command,
            changes,
            bundles=bundles or {},
            timeout=self._timeout(options),
            only=options.only,
            allow_lossy=options.allow_lossy,
            dry_run=options.dry_run,
        )

    def new_tx(self) -> int:
        """The number of the next transaction; a dry run uses one up."""
        self._last_tx = max(self._last_tx + 1, self._state.versions.next_tx)
        return self._last_tx

    async def _run(self, plan: Plan, tell: Tell) -> Result:
        if not await self._fleet.wait_booted(plan.timeout):
            reason = f"workers {self._fleet.booting()} are still starting"
            return _no_fleet(reason)
        live = [slot.number for slot in self._fleet.serving()]
        if not live:
            return _no_fleet("no worker serves at the moment")
        agreement = Agreement(self.new_tx(), live, plan.dry_run, plan.only is not None)
        before = self._lines(plan)
        tell(Progress("preparing", f"preparing in {len(live)} workers"))
        await self._fleet.carry_out(
            Transaction(agreement, plan, self._fleet.send, self._state.append, tell)
        )
        log.info(
            "transaction ended",
            transaction=agreement.tx,
            command=plan.command,
            outcome=agreement.outcome.value,
        )
        return self._result(agreement, plan, before)

    def _lines(self, plan: Plan) -> list[ChangeLine]:
        """The changes as they are before: the new revision may not have a number yet."""
        return [self._line(change) for change in plan.changes]

    def _line(self, change: Change) -> ChangeLine:
        versions, old = self._state.versions, change.old
        return ChangeLine(
            change.kind,
            versions.version_of.get((change.kind, old)) if old else None,
            change.version,
            versions.revision(change.kind, old) if old else None,
            versions.revision(change.kind, change.new),
            change.new,
        )

    def _result(self, agreement: Agreement, plan: Plan, before: list[ChangeLine]) -> Result:
        result = _ending(agreement, plan)
        result.dry_run, result.only = plan.dry_run, plan.only
        result.verdicts = verdicts_of(agreement)
        revision = self._state.versions.revision
        result.changes = [
            msgspec.structs.replace(line, new_revision=revision(line.kind, line.sha256))
            for line in before
        ]
        return result


def _ending(agreement: Agreement, plan: Plan) -> Result:
    if agreement.outcome is not Outcome.DONE:
        return failure(agreement.outcome, agreement.refusals, agreement.tx)
    if plan.dry_run:
        receipt = prepared_of(agreement)
        nothing = "nothing was changed: a dry run"
        return Result(Outcome.DONE, "this would work", state=nothing, receipt=receipt)
    undo = "" if plan.undoes else "netswap rollback"
    what = f"{plan.command}: done"
    return Result(
        Outcome.DONE, what, transaction=agreement.tx, receipt=receipt_of(agreement), undo=undo
    )


def _no_fleet(reason: str) -> Result:
    advice = "`netswap workers` shows them; try again when they serve"
    return failure(Outcome.REFUSED, [Refusal(Stage.AGREEMENT, reason, advice=advice)])


def _usage(error: UsageError) -> Result:
    refusal = Refusal(Stage.CHECK, error.what, advice=error.advice)
    return failure(Outcome.REFUSED, [refusal])


def _unwritable(error: OSError) -> Refusal:
    reason = f"the bundle can't be stored: {error.strerror or error}"
    return Refusal(Stage.LOAD, reason, advice="make room in the state directory, then push again")


def _doubled(bundles: Sequence[Bundle], probed: Probed) -> list[Refusal]:
    """A kind that two of the pushed bundles provide."""
    seen: dict[str, str] = {}
    refusals = []
    for bundle, kinds in zip(bundles, probed.kinds, strict=False):
        for kind in kinds:
            if kind in seen:
                reason = f"{kind} is provided by {seen[kind]} and by {bundle.name}"
                refusals.append(Refusal(Stage.LOAD, reason, kind=kind, advice="push one of them"))
            seen[kind] = bundle.name
    return refusals
