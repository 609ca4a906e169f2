"""Drives one agreement: journal, messages, deadlines. The decisions are all in ``agreement``."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import msgspec

from netswap.canary import Canary
from netswap.channel import messages
from netswap.events import Stuck
from netswap.logs import get_logger
from netswap.options import Options
from netswap.outcome import Outcome
from netswap.supervisor.agreement import (
    Act,
    Agreement,
    Deadline,
    Decision,
    Event,
    Lost,
    Phase,
    Probation,
    Untouched,
    Written,
)
from netswap.supervisor.results import (
    Progress,
    Tell,
    apart,
    receipt_of,
    watch_line,
    worker_line,
)
from netswap.supervisor.slots import SILENT
from netswap.supervisor.versions import Change, Record, Undo

__all__ = ["Lookout", "Plan", "Transaction", "local_selector"]

log = get_logger("netswap.supervisor")

GRACE = 2.0
"""Seconds that a worker may be later than the deadline that it was given itself, as long as it is
heard of: its own refusal names the place, ours only the worker."""
SETTLE = 10.0
"""Seconds for taking back or letting go, which no author's code can refuse, but may stand in the
way of: of who is not heard of nothing is expected in that time."""
PROMPT = 0.25
"""Seconds that a silent worker is waited for all the same, when it takes back or lets go."""
LOOK = 0.1
"""Seconds between two looks at who is silent, once the time of a phase is over."""
CANARY_WATCH = 10.0
"""Seconds that a canary is watched when nothing else was asked for."""
REPORTS = (0.5, 10.0)
"""The shortest and the longest time between two reports of a watch, in seconds."""

_GLOBAL_ID = re.compile(r"(?<![a-z_])id\s*=\s*(\d+)\.(\d+)")


@dataclass(frozen=True)
class Plan:
    """What is to be swapped and how; ``timeout`` in seconds, whatever ``options`` say of it."""

    command: str
    changes: Sequence[Change]
    timeout: float = 10.0
    options: Options = field(default_factory=Options)
    undoes: Sequence[Undo] = ()
    bundles: Mapping[str, str] = field(default_factory=dict)
    stays: Sequence[str] = ()
    """Kinds of what is undone that were not there before it."""

    @cached_property
    def canary(self) -> Canary | None:
        """What goes first."""
        return None if self.options.canary is None else Canary.parse(self.options.canary)

    @property
    def watch(self) -> float:
        """Seconds that all of it is on probation, 0.0 for not at all."""
        return self.options.watch or 0.0

    @property
    def on_probation(self) -> bool:
        """Whether it has to stand anything before it is committed."""
        return self.canary is not None or self.watch > 0

    @property
    def probation(self) -> Probation:
        """What it has to stand before it is committed."""
        options, canary = self.options, self.canary is not None
        whole = not (canary or options.rolling or options.only is not None)
        chosen = self.canary is not None and self.canary.selector is not None
        by_hand = bool(options.by_hand)
        return Probation(canary, self.watch > 0, by_hand, options.atomic, whole, chosen)

    @property
    def canary_watch(self) -> float:
        """Seconds that the canary is on probation."""
        return self.options.by_hand or self.watch or CANARY_WATCH

    @property
    def target(self) -> dict[str, str]:
        """Kind to bundle."""
        return {change.kind: change.new for change in self.changes}


def local_selector(selector: str, slot: int) -> str:
    """``selector`` as ``slot`` understands it: ``id=1.42`` is ``id=42`` in slot 1, else nothing.

    Identities within a slot begin at 1.
    """
    return _GLOBAL_ID.sub(lambda found: f"id={found[2] if int(found[1]) == slot else 0}", selector)


class Lookout:
    """Who knows the workers from outside. This one knows nothing: nobody is ever silent."""

    def silence(self, slot: int) -> float:  # noqa: ARG002
        """Seconds since the worker of ``slot`` was heard."""
        return 0.0

    async def stuck(self, slots: Iterable[int]) -> list[Stuck]:  # noqa: ARG002
        """What those workers do that answer nobody."""
        return []


_NOBODY = Lookout()


class Transaction:
    """One run of an agreement over ``slots``.

    ``send(slot, message)`` queues a message; ``append(record)`` writes the journal and raises
    OSError when it can't. Votes and deaths come in through ``offer``. All phases that may fail have
    ``plan.timeout`` together; time on watch does not count.
    """

    def __init__(
        self,
        agreement: Agreement,
        plan: Plan,
        send: Callable[[int, messages.Message], object],
        append: Callable[[Record], None],
        tell: Tell,
        lookout: Lookout = _NOBODY,
    ) -> None:
        self.agreement = agreement
        self.plan = plan
        self._send = send
        self._append = append
        self._tell = tell
        self._events: asyncio.Queue[Event | messages.Begun] = asyncio.Queue()
        self._lookout = lookout
        self._until = time.monotonic() + plan.timeout
        self._begun = False
        self._swapping: set[int] = set()
        self._begins = 0.0  # until when a swap that was sent may be begun
        self._read = 0.0  # all that was said until then has been read
        self._asked: int | None = None
        self._kept: Decision | None = None

    def decide(self, decision: Decision) -> None:
        """End the probation that is under way, or the next one as soon as it begins."""
        if self.agreement.phase in _DECIDABLE:
            self._events.put_nowait(decision)
        else:
            self._kept = decision

    def offer(self, event: Event | messages.Begun) -> None:
        """A vote or a death, in the order in which they came."""
        self._events.put_nowait(event)

    async def run(self) -> Agreement:
        """Drive the agreement to its end. Always ends: every phase that waits has a deadline."""
        agreement = self.agreement
        self.begin()
        while not agreement.done:
            phase = agreement.phase
            if self._kept is not None and phase in _DECIDABLE:
                self._events.put_nowait(self._kept)
                self._kept = None
            if not await self._collect(phase):
                await self._be_late(phase)
        return agreement

    async def _be_late(self, phase: Phase) -> None:
        """The time is over: say of whom, and what those do that answer nobody."""
        slots = self._late(phase)
        silent = [slot for slot in slots if self._is_silent(slot)]
        if phase is Phase.REVERTING and self._read >= self._begins:
            for slot in [slot for slot in silent if slot not in self._swapping]:
                self.take(Untouched(slot))
        if self.agreement.phase is phase:
            stuck = await self._lookout.stuck(silent)
            while phase is Phase.REVERTING and not self._events.empty():
                self.take(self._events.get_nowait())  # who went on meanwhile is back
            asked = self._asked if phase is Phase.PREPARING else None
            self.take(Deadline(phase, asked, tuple(stuck)))

    def begin(self) -> None:
        """What ``run`` does first: the begin record, then the question to the first worker."""
        self._perform(self.agreement.begin())

    def take(self, event: Event | messages.Begun) -> None:
        """What ``run`` does with each event, records and messages included; it never waits."""
        if isinstance(event, messages.Begun):
            self._swapping.update([event.slot] if event.tx == self.agreement.tx else [])
            return
        self._report(event)
        was = self.agreement.phase
        acts = self.agreement.feed(event)
        if was is Phase.PREPARING is not self.agreement.phase:
            for remark in self.remarks:
                self._tell(Progress(self.agreement.phase.value, remark))
        self._perform(acts)
        self._ask_next()

    async def _collect(self, phase: Phase) -> bool:
        """Feed events until the phase is over; False when its time is."""
        self._entered = time.monotonic()
        while self.agreement.phase is phase:
            event = await self._next(phase)
            if event is None:
                return False
            self.take(event)
            if isinstance(event, Decision) and self.agreement.phase is phase and not event.promote:
                self._kept = event  # it came too late for one watch, and counts for the next
        return True

    async def _next(self, phase: Phase) -> Event | messages.Begun | None:
        """The next event, None when the time is over and nothing that was said in it is unread."""
        while (seconds := self._patience(phase)) > 0 or await self._has_more(phase):
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    return await self._events.get()
        return None

    async def _has_more(self, phase: Phase) -> bool:
        """Read what has come before the time is called over: timers run before sockets are read.

        A turn of a loop reads more than a socket holds, and asyncio's comes after ours.
        """
        read = time.monotonic()
        for _ in range(2):
            await asyncio.sleep(0)
        self._read = read
        return not self._events.empty() or self._patience(phase) > 0

    def _patience(self, phase: Phase) -> float:
        """Seconds to wait before the next look; 0.0 when nobody is worth waiting for."""
        due, last = self._limits(phase)
        now = time.monotonic()
        if now < due:
            return due - now
        if now >= last or all(map(self._is_silent, self._late(phase))):
            return 0.0
        return min(LOOK, last - now)

    def _limits(self, phase: Phase) -> tuple[float, float]:
        """Until when anybody is waited for, and until when those who are heard of."""
        if phase in _WATCHES:
            due = self._entered + self._watched(phase)
        elif phase in _FALLIBLE:
            due = self._until
        else:
            last = self._entered + SETTLE + GRACE
            return min(max(self._entered + PROMPT, self._begins), last), last
        return due, due + GRACE

    def _late(self, phase: Phase) -> list[int]:
        asked = phase is Phase.PREPARING and self._asked in self.agreement.waiting
        waiting = [self._asked] if asked else self.agreement.waiting
        return sorted(slot for slot in waiting if slot is not None)

    def _left(self) -> float:
        """Seconds of what all phases that may fail have together."""
        return max(self._until - time.monotonic(), 0.0)

    def _is_silent(self, slot: int) -> bool:
        return self._lookout.silence(slot) > SILENT

    def _watched(self, phase: Phase) -> float:
        return self.plan.canary_watch if phase is Phase.PROBATION else self.plan.watch

    def _perform(self, actions: list[Act]) -> None:
        queue = deque(actions)
        while queue:
            act = queue.popleft()
            if act in _JOURNAL:
                queue.extend(self._journal(act))
            elif act is not Act.DONE:
                self._send_all(act)

    def _ask_next(self) -> None:
        """Workers prepare one after the other.

        Two rehearsals at once would slow down what is served, and a refusal of the first spares
        the others.
        """
        waiting = self.agreement.waiting
        is_next = self.agreement.phase is Phase.PREPARING and self._asked not in waiting
        if is_next and waiting:
            self._asked = min(waiting)
            if shadow := self.plan.options.shadow:  # which each worker has on top, and its playing
                self._until += shadow + self.plan.timeout
            self._send(self._asked, self._prepare(self._asked))

    def _send_all(self, act: Act) -> None:
        if act is Act.SEND_PREPARE:
            self._ask_next()
            return
        phase = self.agreement.phase
        if phase in _WATCHES:
            self._until += self._watched(phase)
        if phase is Phase.RETURNING:
            self._until = time.monotonic() + self.plan.timeout
        for slot in sorted(self.agreement.live):
            self._send(slot, self._message(act, slot))

    def _message(self, act: Act, slot: int) -> messages.Message:
        special = _SPECIAL.get(act)
        return special(self, slot) if special is not None else _MESSAGES[act](self.agreement.tx)

    def _prepare(self, slot: int) -> messages.Message:
        plan, options = self.plan, self.plan.options
        return messages.Prepare(
            self.agreement.tx,
            plan.target,
            None if options.only is None else local_selector(options.only, slot),
            self._left(),
            options.allow_lossy,
            options.dry_run,
            None if plan.canary is None else _local_canary(plan.canary, slot),
            plan.on_probation,
            guard=options.guard,
            shadow=options.shadow or 0.0,
            expect_diff=options.expect_diff,
            rehearse=options.rehearse,
            allow_stale=options.allow_stale,
            rolling=options.rolling,
        )

    def _swap_canary(self, slot: int) -> messages.Message:
        agreement, canary = self.agreement, self.plan.canary
        assert canary is not None
        before = sum(count for other, count in agreement.connections.items() if other < slot)
        self._begins = self._until
        return messages.Swap(agreement.tx, True, canary.carry(before), until=self._until)

    def _swap(self, _slot: int) -> messages.Message:
        agreement = self.agreement
        holding = sorted(agreement.live) if agreement.atomic else []
        self._begins = self._until
        return messages.Swap(agreement.tx, holding=holding, until=self._until)

    def _hold(self, _slot: int) -> messages.Message:
        return messages.Hold(self.agreement.tx, self._until)

    def _revert(self, _slot: int) -> messages.Message:
        agreement = self.agreement
        return messages.Revert(agreement.tx, sorted(agreement.live) if agreement.returned else [])

    def _watch_canary(self, _slot: int) -> messages.Message:
        return self._probe(self.plan.canary_watch, canary=True)

    def _watch(self, _slot: int) -> messages.Message:
        return self._probe(self.plan.watch, canary=False)

    def _probe(self, seconds: float, canary: bool) -> messages.Watch:
        return messages.Watch(self.agreement.tx, seconds, _interval(seconds), canary)

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
                only=plan.options.only,
                undoes=list(plan.undoes),
                bundles=dict(plan.bundles),
            )
        if act is Act.JOURNAL_COMMIT:
            receipt = msgspec.to_builtins(receipt_of(agreement))
            return Record("commit", agreement.tx, time.time(), receipt=receipt)
        outcome = Outcome.REFUSED if agreement.outcome is Outcome.DONE else agreement.outcome
        reason = str(agreement.refusals[0]) if agreement.refusals else ""
        return Record("abort", agreement.tx, time.time(), outcome=outcome.value, reason=reason)

    @property
    def remarks(self) -> list[str]:
        """What is special about what this one swaps and how, once all are prepared."""
        agreement, options = self.agreement, self.plan.options
        stays = [f"{kind} was not there before: it stays" for kind in self.plan.stays]
        if options.atomic:
            return stays
        ways = {"canary": options.canary is not None, "only": options.only is not None}
        way = next((name for name, is_so in ways.items() if is_so), "")
        way = way or ("atomic" if agreement.atomic else "rolling")
        return stays + apart(agreement.clustered, agreement.asking, way)

    def _report(self, event: Event) -> None:
        text = _SAID.get(type(event))
        if text is None or (getattr(event, "tx", self.agreement.tx) != self.agreement.tx):
            return
        if isinstance(event, messages.Swapped):
            text = worker_line(event.receipt)
        if isinstance(event, messages.Watching):
            text = watch_line(event.rows)
        if isinstance(event, messages.Watched) and self.agreement.phase not in _DECIDABLE:
            text = "stopped its watch, which was decided by then"
        refusal = getattr(event, "refusal", None)
        if refusal is not None:
            text = f"{text}: {refusal.reason}"
        slot: int = getattr(event, "slot", -1)
        self._tell(Progress(self.agreement.phase.value, text, slot))


def _local_canary(canary: Canary, slot: int) -> Canary:
    """The canary as ``slot`` understands it: nothing of a worker that is not meant."""
    selector = None if canary.selector is None else local_selector(canary.selector, slot)
    share = canary.share if canary.worker in (None, slot) else 0
    return msgspec.structs.replace(canary, share=share, selector=selector)


def _interval(seconds: float) -> float:
    shortest, longest = REPORTS
    return min(max(seconds / 10, shortest), longest)


_DECIDABLE = _WATCHES = frozenset({Phase.PROBATION, Phase.WATCHING})
_FALLIBLE = frozenset(
    {Phase.PREPARING, Phase.CANARY, Phase.HOLDING, Phase.SWAPPING, Phase.RETURNING}
)

_SPECIAL: dict[Act, Callable[[Transaction, int], messages.Message]] = {
    Act.SEND_CANARY: Transaction._swap_canary,
    Act.SEND_WATCH_CANARY: Transaction._watch_canary,
    Act.SEND_HOLD: Transaction._hold,
    Act.SEND_SWAP: Transaction._swap,
    Act.SEND_REVERT: Transaction._revert,
    Act.SEND_WATCH: Transaction._watch,
}

_JOURNAL = frozenset({Act.JOURNAL_BEGIN, Act.JOURNAL_COMMIT, Act.JOURNAL_ABORT})

_MESSAGES: dict[Act, type[messages.Finish]] = {Act.SEND_FINISH: messages.Finish}

_SAID: dict[type, str] = {
    messages.Prepared: "prepared",
    messages.Refused: "refused",
    messages.Held: "serves nothing until all have swapped",
    messages.Swapped: "swapped",
    messages.SwapFailed: "failed and restored its old objects",
    messages.Watching: "",
    messages.Watched: "violated no rule",
    messages.WatchFailed: "violated a rule",
    messages.Finished: "let the old code go",
    messages.Reverted: "serves the old code",
    Lost: "died",
}
