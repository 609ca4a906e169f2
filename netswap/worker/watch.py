"""The watch in one worker: new code is on probation, and a swappable policy judges its figures.

From before the swap until the transaction has ended, a monitor stands in front of every object of
the kinds that are changed, old and new, or a guard in front of every object that there is: what a
call on watch does to others can be undone only then. What they count, and what the host is told of
failures, is handed to the present ``watch.policy`` as plain data. A reason that it returns ends the
watch. The policy is the one from before the swap, so a push of the policy is judged by the old
one; if it raises, nothing can be said of the new code, and that is a failed watch.

When a guard has fired it is judged before anything else is called: once the watch has failed, each
object goes back at its next call, and does not wait for the rollback of all workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from netswap.blame import blame, defined_at, describe
from netswap.events import Refusal, Stage, WatchRow
from netswap.hotswap import Change
from netswap.interpose import Figures, Firing, Guard, Interposition, Monitor, Protection
from netswap.mediator import present
from netswap.stack import FACTORY, Host
from netswap.transfer import State
from netswap.worker.deadline import Deadline
from netswap.worker.driver import SLICE_NS
from netswap.worker.gauges import Pulse, resident_bytes

if TYPE_CHECKING:
    from netswap.channel import messages
    from netswap.ott import Entry

__all__ = ["POLICY", "Watch"]

POLICY = "watch.policy"
BEAT_S = 0.02
"""Seconds between two looks how late the loop is."""
JUDGED_S = 0.1
"""Seconds between two judgements; a failure is judged at once."""
CALL_S = 0.5
"""Seconds that a guarded call may take."""
POLICY_S = 0.25
"""Seconds that one judgement may take."""
ONLY_COUNTED = frozenset({"timer.service", FACTORY, POLICY})
"""What they do is not for one client, so the call of one can't be made again for them."""

TakeBack = Callable[[Mapping["Entry", State]], Refusal | None]


class Fault(NamedTuple):
    """The first failure of an implementation: what, and at which line and object."""

    reason: str
    file: str | None
    line: int | None
    entry: str


class Record:
    """What is known of one implementation since the watch began."""

    def __init__(self, cls: Any) -> None:
        self.cls = cls
        self.figures = Figures()
        self.objects: WeakSet[Monitor] = WeakSet()
        self.failures = 0
        self.firings = 0
        self.fault: Fault | None = None

    @property
    def errors(self) -> int:
        """Failures that its monitors or the host have seen: most are seen by both."""
        return max(self.figures.errors, self.failures)

    @property
    def unguarded(self) -> int:
        """Objects whose guard only watches."""
        return sum(isinstance(one, Guard) and not one.protects for one in self.objects)

    def plain(self) -> dict[str, Any]:
        """For the policy; times in microseconds."""
        return {
            "kind": self.cls.kind,
            "version": self.cls.version,
            "objects": len(self.objects),
            "calls": self.figures.calls,
            "errors": self.errors,
            "firings": self.firings,
            "mean_us": self.figures.mean_ns / 1e3,
            "max_us": self.figures.longest_ns / 1e3,
        }


class Watch:
    """One probation of ``changes``, judged by ``policy``.

    Guards go back by ``take_back``; without it there are none.
    """

    def __init__(
        self, host: Host, changes: Iterable[Change], policy: Any, take_back: TakeBack | None
    ) -> None:
        self._host = host
        self._policy = policy
        self._changes = {change.kind: change for change in changes}
        self._records: dict[Any, Record] = {}
        for change in self._changes.values():
            for cls in filter(None, (change.before, change.new)):
                self._record(cls)
        self._others = Figures()
        limit = Deadline(CALL_S)
        self._protection: Protection | None = take_back and Protection(
            lambda: limit, self._is_on_watch, take_back, self._fired
        )
        self._interposition = Interposition(host, self._in_front)
        self._ended = self._is_over = False
        self._may_fail = True
        self._refusal: Refusal | None = None
        self._began: float | None = None
        self._pulse: Pulse | None = None
        self._kick = asyncio.Event()
        self._memory = resident_bytes()

    async def enter(self) -> None:
        """Place what counts and guards, before the swap: no call of new code goes without."""
        self._host.failures.append(self._on_failure)
        if self._protection is not None:
            self._host.second_chance = self._second_chance
        while not self._interposition.place(SLICE_NS):
            await asyncio.sleep(0)

    async def leave(self) -> None:
        """Take it out, after the end of the transaction: new code is guarded while it goes back.

        What fails meanwhile fails; nothing is taken back any more.
        """
        self._is_over = True
        self._host.failures.remove(self._on_failure)
        self._host.second_chance = None
        while not self._interposition.remove(SLICE_NS):
            await asyncio.sleep(0)
        # They refer to this watch: with it, the old code would wait for a full collection.
        del self._interposition, self._protection

    async def run(
        self, ask: messages.Watch, report: Callable[[list[WatchRow]], None]
    ) -> tuple[Refusal | None, list[WatchRow]]:
        """Watch until the time is over, ``end()`` is called, or a rule is violated: which one.

        The figures are those of that moment; ``report`` gets them on the way.
        """
        host = self._host
        self._memory = resident_bytes()
        self._began = host.loop.time()
        self._may_fail = True
        pulse = self._pulse = Pulse(host.loop, BEAT_S, waited=True)
        try:
            return await self._until(ask, report), self._rows()
        finally:
            pulse.stop()
            self._ended = self._may_fail = False

    async def _until(
        self, ask: messages.Watch, report: Callable[[list[WatchRow]], None]
    ) -> Refusal | None:
        reported = 0
        while True:
            gone = self._gone()
            if not self._ended:
                self._decide()
            if self._refusal is not None or self._ended or gone >= ask.seconds:
                return self._refusal
            if gone // ask.interval > reported:
                reported = int(gone // ask.interval)
                report(self._rows())
            self._kick.clear()
            with suppress(TimeoutError):
                left = max(ask.seconds - gone, 0.001)
                await asyncio.wait_for(self._kick.wait(), min(JUDGED_S, left))

    def end(self) -> None:
        """It has been decided: stop watching."""
        self._ended = True
        self._kick.set()

    # what is counted

    def _record(self, cls: Any) -> Record:
        return self._records.setdefault(cls, Record(cls))

    def _is_new(self, cls: Any) -> bool:
        return self._changes[cls.kind].new is cls

    def _is_on_watch(self, entry: Entry) -> bool:
        change = None if self._is_over else self._changes.get(entry.kind)
        return change is not None and type(present(entry)) is change.new

    def _in_front(self, entry: Entry) -> Monitor | None:
        protection = None if entry.kind in ONLY_COUNTED else self._protection
        if entry.kind not in self._changes:
            return Guard(self._others, protection) if protection else None
        if protection:
            return Guard(Figures(), protection, self._figures_of)
        return Monitor(Figures(), self._figures_of)

    def _figures_of(self, monitor: Monitor) -> Figures:
        """Those of the implementation that the monitor's object has now."""
        for record in self._records.values():
            record.objects.discard(monitor)
        record = self._record(type(present(monitor.entry)))
        record.objects.add(monitor)
        return record.figures

    def _on_failure(self, target: Any, error: BaseException) -> None:
        place = blame(error)
        record = self._records.get(type(present(target.entry))) or self._written_in(place[0])
        if record is None:
            return
        record.failures += 1
        name = f"{self._host.slot}.{target.entry.identity}"
        record.fault = record.fault or Fault(describe(error), *place, name)
        self._kick.set()

    def _written_in(self, file: str | None) -> Record | None:
        """The new code that comes from ``file``: who calls it may be the one that fails."""
        new = (change.new for change in self._changes.values())
        return next((self._record(cls) for cls in new if defined_at(cls)[0] == file), None)

    def _fired(self, firing: Firing) -> None:
        self._host.log.error("guard_fired", **_fields(firing))
        change = self._changes.get(firing.kind)
        found = self._written_in(firing.file) if change is None else self._record(change.new)
        record = found or self._record(next(iter(self._changes.values())).new)
        record.firings += 1
        fault = Fault(f"{firing.reason} in {firing.method}", firing.file, firing.line, firing.entry)
        record.fault = record.fault or fault
        if self._may_fail and not (self._ended or self._is_over):
            self._decide()
        self._kick.set()

    def _second_chance(self, target: Any, error: BaseException) -> bool:
        """Take back the services that are on watch, all or none; see ``Host.second_chance``."""
        host, change = self._host, self._changes.get(target.kind)
        if self._is_over or self._protection is None or change is None:
            return False
        if type(target) is not change.new:
            return False
        rows = [host.services[kind] for kind in self._changes if kind in host.services]
        states = {row: present(row).state for row in rows if self._is_on_watch(row)}
        done = self._protection.take_back(states) is None
        entry = f"{host.slot}.{target.entry.identity}"
        fault = (describe(error), *blame(error), done)
        self._fired(Firing(target.kind, entry, target.version, "answer", *fault))
        return done

    def _rows(self) -> list[WatchRow]:
        """The figures of every implementation concerned, the new ones first within their kind."""
        stall, memory, slot = self._stall_ms(), resident_bytes(), self._host.slot
        return [
            WatchRow(
                slot,
                record.cls.kind,
                record.cls.version,
                self._is_new(record.cls),
                len(record.objects),
                record.figures.calls,
                record.errors,
                round(record.figures.mean_ns / 1e3, 1),
                round(record.figures.longest_ns / 1e3, 1),
                round(stall, 1),
                memory,
                record.unguarded,
            )
            for record in sorted(
                self._records.values(), key=lambda r: (r.cls.kind, not self._is_new(r.cls))
            )
        ]

    # how it is judged

    def _decide(self) -> None:
        """Judge, unless it has failed already; then its guards let nobody try any more.

        Not between the end of a watch that went well and the commit: what stands is decided then.
        """
        self._refusal = self._refusal or self._judge(self._gone())
        if self._refusal is not None and self._protection is not None:
            self._protection.has_failed = True

    def _gone(self) -> float:
        """Seconds since it was asked to watch; new code may serve before that."""
        return 0.0 if self._began is None else self._host.loop.time() - self._began

    def _stall_ms(self) -> float:
        return 0.0 if self._pulse is None else self._pulse.longest_ns / 1e6

    def _judge(self, seconds: float) -> Refusal | None:
        for change in self._changes.values():
            record = self._record(change.new)
            try:
                with Deadline(POLICY_S):
                    reason = self._policy.judge(self._figures(change, record, seconds))
            except BaseException as error:  # authors' code, which may call sys.exit()
                return self._unable(error)
            if reason is not None:
                return self._violated(record, str(reason))
        return None

    def _figures(self, change: Change, record: Record, seconds: float) -> dict[str, Any]:
        old = None if change.before is None else self._record(change.before).plain()
        return record.plain() | {
            "seconds": seconds,
            "stall_ms": self._stall_ms(),
            "memory": resident_bytes(),
            "memory_before": self._memory,
            "old": old,
        }

    def _violated(self, record: Record, reason: str) -> Refusal:
        cls, fault = record.cls, record.fault
        if fault is None:
            fault = Fault("", *defined_at(cls), "")
        because = f": {fault.reason}" if fault.reason else ""
        return Refusal(
            Stage.WATCH,
            f"{cls.kind} version {cls.version}: {reason}{because}",
            fault.file,
            fault.line,
            cls.kind,
            self._host.slot,
            fault.entry or None,
            "mend it and push it again; `netswap check` runs it offline",
        )

    def _unable(self, error: BaseException) -> Refusal:
        policy = type(self._policy)
        reason = f"the policy that judges the watch failed: {describe(error)}"
        advice = "mend the policy and push it alone, without --watch"
        file, line = blame(error, policy)
        return Refusal(Stage.WATCH, reason, file, line, POLICY, self._host.slot, advice=advice)


def _fields(firing: Firing) -> dict[str, Any]:
    return {
        "kind": firing.kind,
        "entry": firing.entry,
        "version": firing.version,
        "doing": firing.method,
        "error": firing.reason,
        "at": f"{firing.file}:{firing.line}" if firing.file else None,
        "answered": firing.answered,
    }
