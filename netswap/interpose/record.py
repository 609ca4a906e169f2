"""Records: what some live connections were called with lately, to be played again elsewhere.

A ``Tape`` holds one window of calls, in the order in which they came over all of its connections,
and of each connection how it was before its first call in the window. A window that is full gives
way to a new one; the one before is kept until the new one has something to tell.

Left out is what follows from other inputs and will come by itself when those are played: calls
from inside a recorded call, and what a connection has called soon. Sessions are not recorded:
their ``run`` can't be played.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from netswap.interpose.effects import StandIn
from netswap.interpose.interposer import Interposer
from netswap.interpose.snapshot import Snapshot, snapshots_of
from netswap.mediator import present
from netswap.stack import Connection

if TYPE_CHECKING:
    from netswap.ott import Entry

__all__ = ["Input", "Record", "Tape", "Window"]

ENDS = frozenset({"connection_made", "connection_lost"})
"""What a transport says once: it can't be said again to the same object."""


class Input(NamedTuple):
    """A call of an object from outside."""

    entry: Entry
    method: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]


class Window:
    """Some inputs in their order, and how each object was before its first."""

    def __init__(self) -> None:
        self.before: dict[Entry, dict[Entry, Snapshot]] = {}
        self.inputs: list[Input] = []


class Tape:
    """Records at most ``connections`` objects; a window has at most ``inputs`` calls."""

    def __init__(self, connections: int, inputs: int) -> None:
        self._room = connections
        self._limit = inputs
        self._last = Window()
        self._now = Window()
        self.called_soon: Counter[tuple[Entry, str]] = Counter()
        self.inside = False

    @property
    def window(self) -> Window:
        """The present window, or the last one while that has more to tell."""
        fuller = len(self._now.inputs) * 4 < len(self._last.inputs)
        return self._last if fuller else self._now

    def record(self, entry: Entry) -> Record | None:
        """The interposer for a live object; None for one that is not recorded."""
        target = present(entry)
        if self._room <= 0 or not isinstance(target, Connection) or target.may_suspend:
            return None
        self._room -= 1
        return Record(self)

    def follows(self, entry: Entry, method: str) -> bool:
        """Whether this call comes of an earlier one; what was called soon is expected once."""
        if self.called_soon[entry, method] > 0:
            self.called_soon[entry, method] -= 1
            return True
        return self.inside

    def note(self, given: Input) -> None:
        """An object is about to be called. Raises TypeError when its state can't be encoded."""
        if len(self._now.inputs) >= self._limit:
            self._last, self._now = self._now, Window()
        if given.entry not in self._now.before:
            self._now.before[given.entry] = snapshots_of(given.entry)
        self._now.inputs.append(given)


class _Host(StandIn):
    """Notes what its object calls soon."""

    __slots__ = ()

    def call_soon(self, entry: Entry, method: str, *arguments: Any) -> Any:
        self._outbox.called_soon[entry, method] += 1
        return self._real.call_soon(entry, method, *arguments)


class Record(Interposer):
    """Notes each call of one object on a tape."""

    __slots__ = ("_tape", "_target")

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._target: Any = None

    def settle(self) -> None:
        """The object's host is stood in for."""
        target = present(self.entry)
        if target is not None and not isinstance(target.host, _Host):
            target.host = _Host(target.host, self._tape)
            self._target = target

    def lift(self) -> None:
        """It has its own host again."""
        target, self._target = self._target, None
        if target is not None:
            target.host = target.host._real

    def call(self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Note it, unless it follows from another one."""
        tape = self._tape
        if name in ENDS or tape.follows(self.entry, name):
            return super().call(name, args, keywords)
        tape.note(Input(self.entry, name, args, keywords))
        tape.inside = True
        try:
            return super().call(name, args, keywords)
        finally:
            tape.inside = False
