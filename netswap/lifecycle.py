"""Life cycles: what may happen in which state is a table, and a look-up is all that reads it.

What is on the way of each request (``http.exchange``, ``http.channel``) reads a plain dict instead:
of a subclass, a look-up costs 190 instructions more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn, TypeVar

from netswap.errors import TransitionError

__all__ = ["LifeCycle"]

S = TypeVar("S")
E = TypeVar("E")


class LifeCycle(dict[tuple[S, E], S]):
    """State and event to the state after it; ``machine`` is what lives so.

    A look-up of what has no row raises TransitionError, before anything has changed.
    """

    def __init__(self, machine: str, rows: Mapping[tuple[S, E], S]) -> None:
        super().__init__(rows)
        self.machine = machine

    def __missing__(self, key: tuple[S, E]) -> NoReturn:
        state, event = (getattr(one, "value", one) for one in key)
        raise TransitionError(self.machine, state, event)
