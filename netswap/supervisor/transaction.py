"""Drives one agreement: journal, messages, deadlines. The decisions are all in ``agreement``."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog

from netswap.channel import messages
from netswap.outcome import Outcome
from netswap.supervisor.agreement import Act, Agreement, Deadline, Event, Lost, Phase, Written
from netswap.supervisor.results import Progress, Tell, receipt_of, worker_line
from netswap.supervisor.versions import Change, Record, Undo

__all__ = ["Plan", "Transaction", "local_selector"]

log = structlog.get_logger("netswap.supervisor")

GRACE = 2.0
"""Seconds that a worker may be later than the deadline that it was given itself: its own refusal
names the place, ours only the worker."""
SETTLE = 10.0
"""Seconds for taking back or letting go, which no author's code can refuse."""

_GLOBAL_ID = re.compile(r"(?<![a-z_])id\s*=\s*(\d+)\.(\d+)")


@dataclass(frozen=True)
class Plan:
    """What is to be swapped and how; ``timeout`` in seconds, ``only`` a selector."""

    command: str
    changes: Sequence[Change]
    undoes: Sequence[Undo] = ()
    bundles: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 10.0
    only: str | None = None
    allow_lossy: bool = False
    dry_run: bool = False

    @property
    def target(self) -> dict[str, str]:
        """Kind to bundle."""
        return {change.kind: change.new for change in self.changes}


def local_selector(selector: str, slot: int) -> str:
    """``selector`` as ``slot`` understands it: ``id=1.42`` is ``id=42`` in slot 1, else nothing.

    Identities within a slot begin at 1.
    """
    return _GLOBAL_ID.sub(lambda found: f"id={found[2] if int(found[1]) == slot else 0}", selector)


class Transaction:
    """One run of an agreement over ``slots``.

    ``send(slot, message)`` queues a message; ``append(record)`` writes the journal and raises
    OSError when it can't. Votes and deaths come in through ``offer``.
    """

    def __init__(
        self,
        agreement: Agreement,
        plan: Plan,
        send: Callable[[int, messages.Message], object],
        append: Callable[[Record], None],
        tell: Tell,
    ) -> None:
        self.agreement = agreement
        self.plan = plan
        self._send = send
        self._append = append
        self._tell = tell
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._begun = False

    def offer(self, event: Event) -> None:
        """A vote or a death, in the order in which they came."""
        self._events.put_nowait(event)

    async def run(self) -> Agreement:
        """Drive the agreement to its end. Always ends: every phase that waits has a deadline."""
        agreement = self.agreement
        self._perform(agreement.begin())
        while not agreement.done:
            phase = agreement.phase
            try:
                async with asyncio.timeout(self._seconds(phase)):
                    await self._collect(phase)
            except TimeoutError:
                self._perform(agreement.feed(Deadline(phase)))
        return agreement

    async def _collect(self, phase: Phase) -> None:
        """Feed events until the phase is over."""
        while self.agreement.phase is phase:
            event = await self._events.get()
            self._report(event)
            self._perform(self.agreement.feed(event))

    def _seconds(self, phase: Phase) -> float:
        asked = {Phase.PREPARING: self.plan.timeout, Phase.SWAPPING: self.plan.timeout}
        return asked.get(phase, SETTLE) + GRACE

    def _perform(self, actions: list[Act]) -> None:
        queue = deque(actions)
        while queue:
            act = queue.popleft()
            if act in _JOURNAL:
                queue.extend(self._journal(act))
            elif act is not Act.DONE:
                self._send_all(act)

    def _send_all(self, act: Act) -> None:
        for slot in sorted(self.agreement.live):
            self._send(slot, self._message(act, slot))

    def _message(self, act: Act, slot: int) -> messages.Message:
        if act is not Act.SEND_PREPARE:
            return _MESSAGES[act](self.agreement.tx)
        plan = self.plan
        only = None if plan.only is None else local_selector(plan.only, slot)
        return messages.Prepare(
            self.agreement.tx, plan.target, only, plan.timeout, plan.allow_lossy, plan.dry_run
        )

    def _journal(self, act: Act) -> list[Act]:
        if act is Act.JOURNAL_ABORT and not self._begun:
            return []
        try:
            self._append(self._record(act))
        except OSError as error:
            log.error("journal not written", record=act.value, reason=str(error))
            return self.agreement.feed(Written(False, error.strerror or str(error)))
        self._begun = True
        return [] if act is Act.JOURNAL_ABORT else self.agreement.feed(Written())

    def _record(self, act: Act) -> Record:
        agreement, plan = self.agreement, self.plan
        if act is Act.JOURNAL_BEGIN:
            return Record(
                "begin",
                agreement.tx,
                time.time(),
                command=plan.command,
                changes=list(plan.changes),
                only=plan.only,
                undoes=list(plan.undoes),
                bundles=dict(plan.bundles),
            )
        if act is Act.JOURNAL_COMMIT:
            receipt = msgspec.to_builtins(receipt_of(agreement))
            return Record("commit", agreement.tx, time.time(), receipt=receipt)
        outcome = Outcome.REFUSED if agreement.outcome is Outcome.DONE else agreement.outcome
        reason = str(agreement.refusals[0]) if agreement.refusals else ""
        return Record("abort", agreement.tx, time.time(), outcome=outcome.value, reason=reason)

    def _report(self, event: Event) -> None:
        text = _SAID.get(type(event))
        if text is None or (getattr(event, "tx", self.agreement.tx) != self.agreement.tx):
            return
        if isinstance(event, messages.Swapped):
            text = worker_line(event.receipt)
        refusal = getattr(event, "refusal", None)
        if refusal is not None:
            text = f"{text}: {refusal.reason}"
        slot: int = getattr(event, "slot", -1)
        self._tell(Progress(self.agreement.phase.value, text, slot))


_JOURNAL = frozenset({Act.JOURNAL_BEGIN, Act.JOURNAL_COMMIT, Act.JOURNAL_ABORT})

_MESSAGES: dict[Act, type[messages.Swap | messages.Finish | messages.Revert]] = {
    Act.SEND_SWAP: messages.Swap,
    Act.SEND_FINISH: messages.Finish,
    Act.SEND_REVERT: messages.Revert,
}

_SAID: dict[type, str] = {
    messages.Prepared: "prepared",
    messages.Refused: "refused",
    messages.Swapped: "swapped",
    messages.SwapFailed: "failed and restored its old objects",
    messages.Finished: "let the old code go",
    messages.Reverted: "serves the old code",
    Lost: "died",
}
