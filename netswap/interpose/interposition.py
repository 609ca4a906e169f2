"""An interposition: interposers in front of all objects that a selector finds, also later ones."""

from __future__ import annotations

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

    It is asked for every object that is there now and for each that is born until ``remove()``.
    """

    def __init__(self, host: Host, make: Callable[[Entry], Interposer | None]) -> None:
        self._host = host
        self._make = make
        self._placed: WeakSet[Interposer] = WeakSet()  # one goes with its object
        for entry in host.table:
            if entry.target is not None:
                self._place(entry)
        host.births.append(self._place)

    def __len__(self) -> int:
        return len(self._placed)

    def remove(self) -> None:
        """Take all of them out; once."""
        self._host.births.remove(self._place)
        for interposer in list(self._placed):
            take_out(interposer)
        self._placed.clear()

    def _place(self, entry: Entry) -> None:
        interposer = self._make(entry)
        if interposer is not None:
            self._placed.add(interposer)
            put_in(entry, interposer)
