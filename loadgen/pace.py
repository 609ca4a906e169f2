"""When each operation of an open loop is due. Pure arithmetic."""

from __future__ import annotations

import math

import msgspec

__all__ = ["Pace"]

_SECOND = 1_000_000_000


class Pace(msgspec.Struct, frozen=True):
    """A constant total ``rate`` (operations a second) over ``processes``, of which this is one.

    Operation ``k`` of process ``index`` is number ``k * processes + index`` of the whole run.
    """

    start: int
    rate: float
    index: int = 0
    processes: int = 1

    def intended(self, k: int) -> int:
        """The time (ns) at which operation ``k`` must be sent."""
        return self.start + math.ceil((k * self.processes + self.index) * _SECOND / self.rate)

    def due(self, now: int) -> int:
        """How many operations are intended at ``now`` or before."""
        passed = (now - self.start) * self.rate / _SECOND
        guess = max(0, int((passed - self.index) / self.processes) + 1)
        while guess and self.intended(guess - 1) > now:
            guess -= 1
        while self.intended(guess) <= now:
            guess += 1
        return guess
