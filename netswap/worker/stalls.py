"""How long a loop was held while something else had the processor."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

__all__ = ["Stalls"]

LOOK_S = 0.001
"""Seconds between two looks; what is held for less is not seen."""


class Stalls:
    """Measures inside its ``with`` block: ``longest_ns`` beyond what was meant, in nanoseconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.longest_ns = 0
        self._loop = loop
        self._due = 0
        self._next: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._arm()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._next is not None
        self._next.cancel()
        self._note()

    def _arm(self) -> None:
        self._due = time.monotonic_ns() + int(LOOK_S * 1e9)
        self._next = self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._note()
        self._arm()

    def _note(self) -> None:
        self.longest_ns = max(self.longest_ns, time.monotonic_ns() - self._due)
