"""timer.service, version 1: one timer of the loop for each armed name.

Good while timers are few or seldom re-armed: each ``arm`` makes a timer of the loop, and cancels
one when the name was armed. A timer of the loop holds an entry's identity and a name, never code.

What moves in a swap are the deadlines. The loop's timers are derived from them: ``on_stop`` drops
them and ``on_start`` makes them again, both in slices between other work of the loop. One that is
not dropped yet does no harm: ``fire`` acts only when a deadline says so.
"""

from __future__ import annotations

from typing import Any, Final

from netswap import Service, State, reference

SLICE: Final = 500
"""So many objects are looked after in one turn of the loop."""


def _nothing(_derived: Any) -> None:
    """The stand-in of what is derived from the deadlines."""


class Armed(State, kind="timer.service", version=1):
    """Deadlines in ns of the monotonic clock, by the object's identity and the method's name."""

    deadlines: dict[int, dict[str, int]] = reference(dict)
    handles: dict[int, dict[str, Any]] = reference(dict, _nothing, lambda _: {})
    """The loop's timers."""
    waiting: list[int] = reference(list, _nothing, lambda _: [])
    """Objects whose timers are still to be made."""
    next_slice: Any = reference(lambda: None, _nothing)


class LoopTimers(Service[Armed]):
    """Leaves the waiting to the loop."""

    def arm(self, entry: Any, name: str, seconds: float) -> None:
        """Call ``entry.target.<name>()`` once, ``seconds`` from now; re-arms an armed one."""
        deadline = self.host.clock.monotonic_ns() + int(seconds * 1e9)
        self.state.deadlines.setdefault(entry.identity, {})[name] = deadline
        self._set(entry.identity, name, seconds)

    def cancel(self, entry: Any, name: str) -> None:
        """Forget a timer; one that is not armed is no error."""
        self._forget(entry.identity, name)
        handle = self.state.handles.get(entry.identity, {}).pop(name, None)
        if handle is not None:
            handle.cancel()

    def cancel_all(self, entry: Any) -> None:
        """Forget every timer of an object."""
        self.state.deadlines.pop(entry.identity, None)
        for handle in self.state.handles.pop(entry.identity, {}).values():
            handle.cancel()

    def remaining(self, entry: Any, name: str) -> float | None:
        """Seconds until a timer fires, or None when it is not armed."""
        deadline = self.state.deadlines.get(entry.identity, {}).get(name)
        if deadline is None:
            return None
        return max(deadline - self.host.clock.monotonic_ns(), 0) / 1e9

    def fire(self, identity: int, name: str) -> None:
        """A timer of the loop is over: act if the deadline is, too (uvloop's may be early)."""
        deadline = self.state.deadlines.get(identity, {}).get(name)
        if deadline is None:
            return
        left = deadline - self.host.clock.monotonic_ns()
        if left > 0:
            self._set(identity, name, max(left / 1e9, 0.001))
            return
        self._forget(identity, name)
        self.state.handles.get(identity, {}).pop(name, None)
        entry = self.host.table.find(identity)
        if entry is not None:
            self.host.guarded(entry, name)

    def on_start(self) -> None:
        """Make the loop's timers for the deadlines that are there."""
        state = self.state
        state.handles = {}
        state.waiting = list(state.deadlines)
        self.adopt()

    def adopt(self) -> None:
        """Make the next slice of them."""
        state = self.state
        now = self.host.clock.monotonic_ns()
        for identity in _take(state.waiting):
            made = state.handles.get(identity, {})
            for name, deadline in state.deadlines.get(identity, {}).items():
                if name not in made:
                    self._set(identity, name, (deadline - now) / 1e9)
        state.next_slice = self.host.call_soon(self.entry, "adopt") if state.waiting else None

    def on_stop(self) -> None:
        """Drop the loop's timers."""
        state = self.state
        if state.next_slice is not None:
            state.next_slice.cancel()
        rows = list(state.handles.values())
        state.handles, state.waiting, state.next_slice = {}, [], None
        _cancel(self.host.loop, rows)

    def _set(self, identity: int, name: str, seconds: float) -> None:
        handles = self.state.handles.setdefault(identity, {})
        if name in handles:
            handles[name].cancel()
        handles[name] = self.host.loop.call_later(
            max(seconds, 0), self.host.guarded, self.entry, "fire", identity, name
        )

    def _forget(self, identity: int, name: str) -> None:
        row = self.state.deadlines.get(identity, {})
        if row.pop(name, None) is not None and not row:
            del self.state.deadlines[identity]


def _take(rows: list[Any]) -> list[Any]:
    """A slice off the end of ``rows``."""
    taken = rows[-SLICE:]
    del rows[-SLICE:]
    return taken


def _cancel(loop: Any, rows: list[dict[str, Any]]) -> None:
    """Cancel the loop's timers, a slice a turn."""
    for row in _take(rows):
        for handle in row.values():
            handle.cancel()
    if rows:
        loop.call_soon(_cancel, loop, rows)
