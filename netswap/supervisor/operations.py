"""What an operator asks for: push, swap, rollback. Each ends in one transaction at a time.

Authors' code is never imported here: a probe looks at it in a child, the workers import it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import msgspec

from netswap.errors import BundleError, UsageError
from netswap.events import Refusal, Stage
from netswap.logs import get_logger
from netswap.modules import Bundle
from netswap.modules.application import as_application, inheriting
from netswap.options import Options
from netswap.outcome import Outcome
from netswap.probe import Probed, doubled, run_probe
from netswap.supervisor.agreement import Agreement, Decision
from netswap.supervisor.application import APP
from netswap.supervisor.fleet import Fleet
from netswap.supervisor.results import (
    ChangeLine,
    Progress,
    Result,
    Tell,
    failure,
    figures_of,
    prepared_of,
    receipt_of,
    verdicts_of,
)
from netswap.supervisor.running import Running
from netswap.supervisor.state import StateDirectory
from netswap.supervisor.transaction import Plan, Transaction
from netswap.supervisor.versions import Change

__all__ = ["Operations"]

log = get_logger("netswap.supervisor")


class Operations:
    """The transactions of one server; ``timeout`` in seconds is for those that name none."""

    def __init__(self, state: StateDirectory, fleet: Fleet, timeout: float) -> None:
        self._state = state
        self._fleet = fleet
        self._default_timeout = timeout
        self._running: Running | None = None
        self._closed = False
        self._last_tx = 0

    @property
    def running(self) -> str | None:
        """The command whose transaction runs, and that it is on probation, if one does."""
        return None if self._running is None else str(self._running)

    async def close(self) -> None:
        """Refuse what comes from now on, and return when what runs has ended.

        What is on probation is taken back: it would not end by itself for a long time.
        """
        self._closed = True
        while self._running is not None:
            self._running.decide(Decision(False, "taken back, since the server shuts down"))
            await self._fleet.wait_changed()

    async def _alone(
        self, command: str, tell: Tell, work: Callable[[Tell], Awaitable[Result]]
    ) -> Result:
        """One transaction at a time: the result of ``work``, or the refusal of a second one."""
        if self._running is not None or self._closed:
            return self._conflict()
        running = self._running = Running(command, tell)
        try:
            running.result = await work(running.tell)
            return running.result
        finally:
            self._running = None
            running.end()
            self._fleet.wake()

    def _conflict(self) -> Result:
        running = self._running
        if running is None:
            stopping = failure(Outcome.CONFLICT, [_STOPPING])
            stopping.state = "it drains its connections, and begins nothing new"
            return stopping
        reason = f"`{running.command}` runs, and only one transaction may run at a time"
        decidable = running.on_probation
        advice = "`netswap promote` or `netswap rollback` decides what is on probation"
        refusal = Refusal(Stage.AGREEMENT, reason, advice=advice if decidable else "")
        return failure(Outcome.CONFLICT, [refusal])

    async def promote(self, tell: Tell) -> Result:
        """End the probation that is under way, in favour of the new code; how that ended."""
        running = self._running
        if running is None or not running.on_probation:
            advice = "`netswap push --canary 10% PATH` puts something there"
            return _declined("nothing is on probation", advice)
        running.decide(Decision(True))
        result = await running.wait_result(tell)
        return _unknown(running) if result is None else result

    async def _take_back(self, running: Running, tell: Tell) -> Result:
        running.decide(Decision(False, "taken back by `netswap rollback`"))
        return await self._undone(running, "taken back", tell)

    async def abort(self, tell: Tell) -> Result:
        """End what is under way in favour of the old code, whatever it waits for."""
        running = self._running
        if running is None:
            advice = "`netswap rollback` undoes the last transaction"
            return _declined("no transaction is under way", advice)
        running.stop("aborted by `netswap blockers --abort`")
        return await self._undone(running, "aborted", tell)

    async def _undone(self, running: Running, how: str, tell: Tell) -> Result:
        """What came of undoing ``running`` while it was under way."""
        result = await running.wait_result(tell)
        if result is None:
            return _unknown(running)
        if result.outcome is Outcome.DONE and not result.dry_run:
            reason = f"`{running.command}` was committed before it could be {how}"
            declined = _declined(reason, "netswap rollback undoes it")
            declined.state, declined.transaction = result.state, result.transaction
            return declined
        if result.outcome not in (Outcome.ROLLED_BACK, Outcome.REFUSED):
            return result
        what = f"{running.command}: {how}"
        return Result(
            Outcome.DONE, what, state=result.state, transaction=result.transaction,
            watch=result.watch,
        )  # fmt: skip

    async def push(self, bundles: Sequence[Bundle], options: Options, tell: Tell) -> Result:
        """Bring ``bundles`` to every worker, as one transaction."""
        command = "push " + ", ".join(bundle.name for bundle in bundles)
        return await self._alone(
            command, tell, lambda tell: self._push(bundles, command, options, tell)
        )

    async def _push(
        self, bundles: Sequence[Bundle], command: str, options: Options, tell: Tell
    ) -> Result:
        timeout, started = self._timeout(options), time.monotonic()
        bundles = [self._as_before(bundle) for bundle in bundles]
        names = ", ".join(bundle.name for bundle in bundles)
        tell(Progress("loading", f"loading {names} in a child process"))
        try:
            probed = await asyncio.to_thread(run_probe, bundles, (), timeout)
        except (OSError, RuntimeError) as error:  # a thread that can't be started is the latter
            return failure(Outcome.REFUSED, [_no_probe(error)])
        refusals = [*probed.refusals, *doubled(bundles, probed)]
        if refusals:
            return failure(Outcome.REFUSED, refusals)
        try:
            stored = {self._state.store.put(bundle): bundle.name for bundle in bundles}
        except OSError as error:
            return failure(Outcome.REFUSED, [_unwritable(error)])
        changes = self._changes_of(bundles, probed)
        if not changes:
            return Result(Outcome.DONE, "already active", state="nothing had to change")
        plan = self._plan(command, changes, options, stored)
        return await self._run(_begun(plan, started), tell)

    def _changes_of(self, bundles: Sequence[Bundle], probed: Probed) -> list[Change]:
        """What they provide, but for what is active already."""
        versions = self._state.versions
        return [
            Change(kind, versions.active.get(kind), bundle.sha256, version)
            for bundle, kinds in zip(bundles, probed.kinds, strict=True)
            for kind, version in kinds.items()
            if not versions.is_active(kind, bundle.sha256)
        ]

    def _as_before(self, bundle: Bundle) -> Bundle:
        """An application is where it was in the version before, if it does not say where."""
        bundle = as_application(bundle)
        active = self._state.versions.active.get(APP)
        try:
            return bundle if active is None else inheriting(bundle, self._state.store.get(active))
        except BundleError:  # it is refused with its reason where it is loaded
            return bundle

    async def swap(self, kind: str, revision: str, options: Options, tell: Tell) -> Result:
        """Bring a revision of ``kind`` that is already there."""
        command = f"swap {kind}@{revision}"
        return await self._alone(
            command, tell, lambda tell: self._swap(kind, revision, command, options, tell)
        )

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
        """Undo the last transaction, or the last change of ``kind``, or go to its ``revision``.

        Without ``kind``, what is on probation is taken back.
        """
        running = self._running
        if kind is None and running is not None and running.on_probation:
            return await self._take_back(running, tell)
        words = ["rollback", kind or "", f"--to {revision}" if revision else ""]
        command = " ".join(word for word in words if word)
        if kind is not None and revision is not None:
            to, at = kind, revision
            return await self._alone(
                command, tell, lambda tell: self._swap(to, at, command, options, tell)
            )
        return await self._alone(
            command, tell, lambda tell: self._undo(kind, command, options, tell)
        )

    async def _undo(self, kind: str | None, command: str, options: Options, tell: Tell) -> Result:
        versions = self._state.versions
        try:
            changes, undoes = versions.undo_last() if kind is None else versions.undo_kind(kind)
        except UsageError as error:
            return _usage(error)
        stays = versions.brought_by(undoes[0].tx) if kind is None else ()
        plan = replace(self._plan(command, changes, options), undoes=undoes, stays=stays)
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
        if not bundles:  # what ran before may run again
            options = msgspec.structs.replace(options, allow_stale=True)
        return Plan(command, changes, self._timeout(options), options, bundles=bundles or {})

    def new_tx(self) -> int:
        """The number of the next transaction; a dry run uses one up."""
        self._last_tx = max(self._last_tx + 1, self._state.versions.next_tx)
        return self._last_tx

    async def _run(self, plan: Plan, tell: Tell) -> Result:
        started = time.monotonic()
        booted = await self._fleet.wait_booted(plan.timeout)
        plan = _begun(plan, started)
        live = [slot.number for slot in self._fleet.serving()]
        unable = self._unable(plan, live, booted)
        if unable is not None:
            return unable
        dry_run, is_partial = plan.options.dry_run, plan.options.only is not None
        agreement = Agreement(self.new_tx(), live, dry_run, is_partial, plan.probation)
        before = self._lines(plan)
        tell(
            Progress("preparing", f"preparing in {len(live)} worker{'s' if len(live) > 1 else ''}")
        )
        fleet = self._fleet
        transaction = Transaction(agreement, plan, fleet.send, self._state.append, tell, fleet)
        assert self._running is not None
        self._running.begin(transaction)
        await fleet.carry_out(transaction)
        log.info(
            "transaction ended",
            transaction=agreement.tx,
            command=plan.command,
            outcome=agreement.outcome.value,
        )
        return self._result(transaction, before)

    def _unable(self, plan: Plan, live: Sequence[int], booted: bool) -> Result | None:
        """Why these workers can't begin with it, if they can't."""
        if not booted:
            return _no_fleet(f"workers {self._fleet.booting()} are still starting")
        if not live:
            return _no_fleet("no worker serves at the moment")
        refusal = self._no_probation(plan, live)
        return None if refusal is None else failure(Outcome.REFUSED, [refusal])

    def _no_probation(self, plan: Plan, live: Sequence[int]) -> Refusal | None:
        """A worker that is not there could not boot before a probation has ended."""
        worker = None if plan.canary is None else plan.canary.worker
        slots = [slot.number for slot in self._fleet.slots]
        if worker is not None and worker not in slots:
            advice = f"the workers are {slots[0]} to {slots[-1]}"
            reason = f"there is no worker {worker}"
            return Refusal(Stage.AGREEMENT, reason, advice=advice)
        missing = sorted(set(slots) - set(live))
        if plan.on_probation and missing:
            reason = f"workers {missing} do not serve, and a probation needs all of them"
            advice = "`netswap workers` shows them; try again when they serve"
            return Refusal(Stage.AGREEMENT, reason, advice=advice)
        return None

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

    def _result(self, transaction: Transaction, before: list[ChangeLine]) -> Result:
        agreement, plan = transaction.agreement, transaction.plan
        result = _ending(agreement, plan)
        result.dry_run, result.only = plan.options.dry_run, plan.options.only
        result.atomic, result.remarks = agreement.atomic, transaction.remarks
        result.verdicts, result.watch = verdicts_of(agreement), figures_of(agreement)
        result.rehearsal = [agreement.rehearsals[slot] for slot in sorted(agreement.rehearsals)]
        revision = self._state.versions.revision
        result.changes = [
            msgspec.structs.replace(line, new_revision=revision(line.kind, line.sha256))
            for line in before
        ]
        return result


def _begun(plan: Plan, started: float) -> Plan:
    """``plan`` with what is left of its time; ``started`` on the monotonic clock."""
    return replace(plan, timeout=max(plan.timeout - (time.monotonic() - started), 0.0))


def _ending(agreement: Agreement, plan: Plan) -> Result:
    if agreement.outcome is not Outcome.DONE:
        return failure(agreement.outcome, agreement.refusals, agreement.tx)
    if plan.options.dry_run:
        receipt = prepared_of(agreement)
        nothing = "nothing was changed: a dry run"
        return Result(Outcome.DONE, "this would work", state=nothing, receipt=receipt)
    undo = "" if plan.undoes else "netswap rollback"
    what = f"{plan.command}: done"
    return Result(
        Outcome.DONE, what, transaction=agreement.tx, receipt=receipt_of(agreement), undo=undo
    )


def _declined(reason: str, advice: str) -> Result:
    """There is nothing to do; which code serves is as it was."""
    result = failure(Outcome.REFUSED, [Refusal(Stage.AGREEMENT, reason, advice=advice)])
    result.state = "nothing was changed"
    return result


def _unknown(running: Running) -> Result:
    """The supervisor failed inside; its log says why."""
    what = f"how `{running.command}` ended is not known"
    return Result(Outcome.UNKNOWN, what, advice="`netswap history` shows how it ended")


def _no_fleet(reason: str) -> Result:
    advice = "`netswap workers` shows them; try again when they serve"
    return failure(Outcome.REFUSED, [Refusal(Stage.AGREEMENT, reason, advice=advice)])


def _usage(error: UsageError) -> Result:
    refusal = Refusal(Stage.CHECK, error.what, advice=error.advice)
    return failure(Outcome.REFUSED, [refusal])


_STOPPING = Refusal(
    Stage.AGREEMENT,
    "the server shuts down",
    advice="start it again, which brings back what was committed, then push",
)


def _unwritable(error: OSError) -> Refusal:
    reason = f"the bundle can't be stored: {error.strerror or error}"
    advice = "see that the state directory is there, can be written and has room, then push again"
    return Refusal(Stage.LOAD, reason, advice=advice)


def _no_probe(error: Exception) -> Refusal:
    what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    reason = f"no process to load it in: {what}"
    advice = "the server is short of descriptors, processes or memory; see to that, then push again"
    return Refusal(Stage.LOAD, reason, advice=advice)
