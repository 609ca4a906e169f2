"""An interposition: interposers in front of all objects that something finds, also later ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakSet

from netswap.interpose.interposer import Interposer, put_in, take_out

if TYPE_CHECKING:
    from netswap.ott import Entry
    from netswap.stack import Host

__all__ = ["Interposition"]


class Interposition:
    """``make(entry)`` gives the interposer of a live object, or None when it wants none.

    From the first ``place`` until the first ``remove`` it is asked for each object that is born;
    both go in slices, so that ten thousand objects do not hold the loop.
    """

    def __init__(self, host: Host, make: Callable[[Entry], Interposer | None]) -> None:
        self._host = host
        self._make = make
        self._placed: WeakSet[Interposer] = WeakSet()  # one goes with its object
        self._waiting: deque[Entry] | None = None

    def __len__(self) -> int:
        return len(self._placed)

    def place(self, budget_ns: int | None = None) -> bool:
        """Place as many as fit the time, or all; whether that was the last."""
        if self._waiting is None:
            self._waiting = deque(self._host.table)
            self._host.births.append(self._place)
        until = self._until(budget_ns)
        while self._waiting:
            self._place(self._waiting.popleft())
            if self._is_over(until):
                break
        return not self._waiting

    def remove(self, budget_ns: int | None = None) -> bool:
        """Take as many out as fit the time, or all; whether that was the last."""
        if self._waiting is not None:
            self._waiting = None
            self._host.births.remove(self._place)
        until = self._until(budget_ns)
        while self._placed:
            take_out(self._placed.pop())
            if self._is_over(until):
                break
        return not self._placed

    def _until(self, budget_ns: int | None) -> int | None:
        return None if budget_ns is None else self._host.clock.monotonic_ns() + budget_ns

    def _is_over(self, until: int | None) -> bool:
        return until is not None and self._host.clock.monotonic_ns() >= until

    def _place(self, entry: Entry) -> None:
        if entry.target is None:
            return
        interposer = self._make(entry)
        if interposer is not None:
            self._placed.add(interposer)
            put_in(entry, interposer)
