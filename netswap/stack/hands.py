"""What an object has in its hands, for those who stand in front of it, play it again or try it.

An interposer puts stand-ins there and takes them out, a trial looks at the timers, a stage in a
child has other transports. None of it is an author's business, so it is no method of an object:
each would be a name that an author can't use any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from netswap.stack.connection import Connection

if TYPE_CHECKING:
    import asyncio

    from netswap.ott import Entry
    from netswap.stack.session import Session
    from netswap.stack.timer import Timers

__all__ = [
    "TIMERS",
    "conversation_of",
    "handle_of",
    "handle_slot",
    "output_of",
    "parts_of",
    "rewire",
    "tell_at_swap_point",
    "teller_of",
    "timers_of",
]

TIMERS = "_timers"
"""The attribute that has an object's timers, once it has asked for them."""


def handle_slot(name: str) -> str:
    """The attribute that has the handle which a class calls ``name`` in its ``uses``."""
    return f"_use_{name}"


def handle_of(target: Any, name: str) -> Entry | None:
    """That handle; None if the class uses nothing by that name."""
    entry: Entry | None = getattr(target, handle_slot(name), None)
    return entry


def output_of(target: Any) -> Entry | None:
    """The send buffer that a connection writes to; None if it writes to its transport."""
    return handle_of(target, "output")


def parts_of(target: Any) -> list[Entry]:
    """The entries of a connection's parts."""
    return list(target._part_entries().values()) if isinstance(target, Connection) else []


def timers_of(target: Any) -> Timers | None:
    """An object's timers, if it has asked for them."""
    timers: Timers | None = getattr(target, TIMERS, None)
    return timers


def rewire(connection: Connection[Any]) -> None:
    """Its transport or its send buffer is another one: it writes to that."""
    connection._wire()


def conversation_of(session: Session[Any]) -> asyncio.Task[None] | None:
    """The task of ``run()``; None before it begins and after it was stopped."""
    return session._task


def tell_at_swap_point(session: Session[Any], tell: Callable[[], None] | None) -> None:
    """Hold the session at its next swap point and call ``tell`` then; None: let it pass.

    It is not told of the swap point at which it waits now: that is ``bring_to_rest``.
    """
    session._tell = tell


def teller_of(session: Session[Any]) -> Callable[[], None] | None:
    """Who is told at its next swap point."""
    return session._tell
