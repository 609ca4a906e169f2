"""timer.service, version 2: a hashed wheel, for very many timers that are always re-armed.

Theory. Time is cut into ticks of ``TICK_NS``. A *slot* holds the timers to be looked at in one
tick; slots are made when needed and hashed by the tick's number, so the wheel has no rim and a
slot never holds a timer of a later round. Re-arming for later, what an idle timeout does at each
request, only stores the new deadline: when the old slot comes round, the stored deadline is
compared and the timer moves on. So a timer is in at most one slot, never behind its deadline, and
costs one move for each time that it would have fired without the requests.

The loop is asked for one wake-up, at the first slot's tick, and for none when nothing is armed.
A timer fires never early (the clock is compared, uvloop's timers may be), once, and up to a tick
late. A slot or a wheel that is too much for one turn of the loop is done in slices.

What moves in a swap are the deadlines; slots are made from them in ``on_start``.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any, Final

from netswap import Service, State, reference

TICK_NS: Final = 10_000_000
SLICE: Final = 1000
"""So many timers are looked at in one turn of the loop."""

Key = tuple[int, str]


def _nothing(_derived: Any) -> None:
    """The stand-in of what is derived from the deadlines."""


class Armed(State, kind="timer.service", version=2):
    """Deadlines in ns of the monotonic clock, by the object's identity and the method's name."""

    deadlines: dict[int, dict[str, int]] = reference(dict)
    slots: dict[int, dict[Key, None]] = reference(dict, _nothing, lambda _: {})
    placed: dict[Key, int] = reference(dict, _nothing, lambda _: {})
    """The slot of each timer that is in one; a cancelled timer stays until its slot comes."""
    ticks: list[int] = reference(list, _nothing, lambda _: [])
    """The slots' ticks as a heap."""
    turned: int = 0
    """The last tick that was begun: nothing is placed before it."""
    alarm: Any = reference(lambda: None, _nothing)
    waiting: list[int] = reference(list, _nothing, lambda _: [])
    """Objects whose timers are still to be placed."""
    next_slice: Any = reference(lambda: None, _nothing)


class Wheel(Service[Armed]):
    """Looks at a timer when its slot comes round, and not before."""

    def arm(self, entry: Any, name: str, seconds: float) -> None:
        """Call ``entry.target.<name>()`` once, ``seconds`` from now; re-arms an armed one."""
        deadline = self.host.clock.monotonic_ns() + int(seconds * 1e9)
        identity = entry.identity
        row = self.state.deadlines.get(identity)
        if row is None:
            row = self.state.deadlines[identity] = {}
        before = row.get(name)
        row[name] = deadline
        if before is None or deadline < before:
            self._place((identity, name), deadline)

    def cancel(self, entry: Any, name: str) -> None:
        """Forget a timer; one that is not armed is no error."""
        row = self.state.deadlines.get(entry.identity)
        if row is not None and row.pop(name, None) is not None and not row:
            del self.state.deadlines[entry.identity]

    def cancel_all(self, entry: Any) -> None:
        """Forget every timer of an object."""
        for name in self.state.deadlines.pop(entry.identity, ()):
            key = (entry.identity, name)
            tick = self.state.placed.pop(key, None)
            if tick is not None:
                del self.state.slots[tick][key]

    def remaining(self, entry: Any, name: str) -> float | None:
        """Seconds until a timer fires, or None when it is not armed."""
        deadline = self.state.deadlines.get(entry.identity, {}).get(name)
        if deadline is None:
            return None
        return max(deadline - self.host.clock.monotonic_ns(), 0) / 1e9

    def fire(self, identity: int, name: str) -> None:
        """A timer of the loop that version 1 had no time to cancel: the wheel knows better."""

    def turn(self) -> None:
        """Look at the slots that have come round."""
        state = self.state
        state.alarm = None
        now = self.host.clock.monotonic_ns()
        left = SLICE
        while state.ticks and state.ticks[0] * TICK_NS <= now:
            tick = state.turned = state.ticks[0]
            slot = state.slots[tick]
            while slot and left:
                left -= 1
                self._look_at(slot.popitem()[0], now)
            if slot:
                state.alarm = self.host.call_soon(self.entry, "turn")
                return
            heappop(state.ticks)
            del state.slots[tick]
        if state.ticks:
            self._wake_at(state.ticks[0])

    def on_start(self) -> None:
        """Place the timers whose deadlines are there."""
        state = self.state
        state.slots, state.placed, state.ticks = {}, {}, []
        state.turned, state.alarm = 0, None
        state.waiting = list(state.deadlines)
        self.adopt()

    def adopt(self) -> None:
        """Place the next slice of them."""
        state = self.state
        for identity in state.waiting[-SLICE:]:
            for name, deadline in state.deadlines.get(identity, {}).items():
                self._place((identity, name), deadline)
        del state.waiting[-SLICE:]
        state.next_slice = self.host.call_soon(self.entry, "adopt") if state.waiting else None

    def on_stop(self) -> None:
        """Drop the slots and what was asked of the loop."""
        state = self.state
        for handle in (state.alarm, state.next_slice):
            if handle is not None:
                handle.cancel()
        state.slots, state.placed, state.ticks, state.waiting = {}, {}, [], []
        state.alarm = state.next_slice = None

    def _place(self, key: Key, deadline: int) -> None:
        """Put a timer into its slot, unless it is in an earlier one already."""
        state = self.state
        tick = max(-(-deadline // TICK_NS), state.turned)
        placed = state.placed.get(key)
        if placed is not None:
            if placed <= tick:
                return
            del state.slots[placed][key]
        state.placed[key] = tick
        slot = state.slots.get(tick)
        if slot is None:
            slot = state.slots[tick] = {}
            heappush(state.ticks, tick)
            if state.ticks[0] == tick:
                self._wake_at(tick)
        slot[key] = None

    def _look_at(self, key: Key, now: int) -> None:
        """The slot of a timer has come: fire it, move it on, or forget it."""
        state = self.state
        del state.placed[key]
        identity, name = key
        row = state.deadlines.get(identity, {})
        deadline = row.get(name)
        if deadline is None:
            return
        if deadline > now:
            self._place(key, deadline)
            return
        del row[name]
        if not row:
            del state.deadlines[identity]
        entry = self.host.table.find(identity)
        if entry is not None:
            self.host.guarded(entry, name)

    def _wake_at(self, tick: int) -> None:
        state = self.state
        if state.alarm is not None:
            state.alarm.cancel()
        left = tick * TICK_NS - self.host.clock.monotonic_ns()
        state.alarm = self.host.loop.call_later(
            max(left / 1e9, 0.001), self.host.guarded, self.entry, "turn"
        )
