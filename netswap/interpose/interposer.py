"""What stands in front of one object for as long as it is wanted there.

An interposer is a row like the entry itself: the entry's ``target`` is the interposer, and the
interposer's ``target`` is what was there before, another interposer or the object. So clients,
who hold the entry, call the interposer and know nothing of it; a swap re-points the last row of
the chain; and no object is ever asked to hold still, because nothing but pointers changes and
that between two callbacks of the loop. Without one in place nothing of this room runs.

A call from outside is one of the transport's callbacks, or any method called through the handle.
What the stack itself asks of an object (``PASSED``), what is not callable, and what an object only
lends from another, as a connection does its transport's ``write``, goes straight to it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from netswap.mediator import Interposed, mediator_of, present, row_of

if TYPE_CHECKING:
    from netswap.ott import Entry

__all__ = ["Interposer", "interposers_of", "put_in", "take_out"]

PASSED = frozenset(
    {
        *("at_rest", "attributes", "blockers", "bring_to_rest", "carry_on", "close_after"),
        *("abort", "close", "pause_reading", "resume_reading", "state_type"),
    }
)
"""Callables that are no calls into the author's code, or end the object whatever that says."""


class Interposer(Interposed):
    """Base of interposers: ``call`` and ``call_later`` see every call and pass it on."""

    __slots__ = ("__weakref__", "entry")

    entry: Entry

    def call(self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """A plain method is called; its value."""
        return getattr(self.target, name)(*args, **keywords)

    async def call_later(self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """An ``async def`` method is called and awaited; its value."""
        return await getattr(self.target, name)(*args, **keywords)

    def settle(self) -> None:
        """It stands in front of the present object, and calls will come; perhaps not the first."""

    def lift(self) -> None:
        """It stands there no more, or a swap looks at the object; perhaps not the first time."""

    def __getattr__(self, name: str) -> Any:
        if name == "target":  # never set: asked for before it was placed
            raise AttributeError(name)
        found = getattr(self.target, name)
        if name in PASSED or name.startswith("_") or not callable(found) or self._is_lent(found):
            return found
        way = self.call_later if iscoroutinefunction(found) else self.call
        return partial(_led, way, name)

    def _is_lent(self, found: Any) -> bool:
        owner = getattr(found, "__self__", None)
        return owner is not None and owner is not present(self.entry)


def _led(way: Callable[..., Any], name: str, *args: Any, **keywords: Any) -> Any:
    return way(name, args, keywords)


def put_in(entry: Entry, interposer: Interposer) -> None:
    """Place an interposer in front of a live object and of the interposers that it has."""
    interposer.entry = entry
    interposer.target = entry.target
    entry.target = interposer
    present(entry).point_here()
    interposer.settle()


def take_out(interposer: Interposer) -> None:
    """Take an interposer out of its place; one whose object is gone has none."""
    entry = interposer.entry
    row: Any = entry
    while row.target is not interposer:
        if not isinstance(row.target, Interposed):
            interposer.lift()
            return
        row = row.target
    row.target = interposer.target
    mediator = mediator_of(entry)
    if mediator is not None:  # it may have leant on this row
        mediator.entry = row_of(entry)
    present(entry).point_here()
    interposer.lift()


def interposers_of(entry: Entry) -> list[Interposer]:
    """What stands in front of an object, the outermost first."""
    found: list[Interposer] = []
    target = entry.target
    while isinstance(target, Interposer):
        found.append(target)
        target = target.target
    return found
