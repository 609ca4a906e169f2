"""The life of a worker slot, and when its next worker may start.

A slot lives as long as the server; the workers in it come and go. Both parts are pure: time is
passed in, in seconds of a monotonic clock.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum, auto

from netswap.lifecycle import LifeCycle

__all__ = ["LIFE", "Backoff", "Happening", "WorkerState"]


class WorkerState(StrEnum):
    """What a slot's worker is doing."""

    DEAD = auto()
    STARTING = auto()
    SERVING = auto()
    DRAINING = auto()


class Happening(StrEnum):
    """What can happen to it."""

    SPAWNED = auto()
    READY = auto()
    DRAIN = auto()
    EXITED = auto()


LIFE = LifeCycle(
    "worker",
    {
        (WorkerState.DEAD, Happening.SPAWNED): WorkerState.STARTING,
        (WorkerState.DEAD, Happening.DRAIN): WorkerState.DEAD,
        (WorkerState.STARTING, Happening.READY): WorkerState.SERVING,
        (WorkerState.STARTING, Happening.DRAIN): WorkerState.DRAINING,
        (WorkerState.STARTING, Happening.EXITED): WorkerState.DEAD,
        (WorkerState.SERVING, Happening.DRAIN): WorkerState.DRAINING,
        (WorkerState.SERVING, Happening.EXITED): WorkerState.DEAD,
        # A worker that was told to drain while it started says that it is ready all the same.
        (WorkerState.DRAINING, Happening.READY): WorkerState.DRAINING,
        (WorkerState.DRAINING, Happening.DRAIN): WorkerState.DRAINING,
        (WorkerState.DRAINING, Happening.EXITED): WorkerState.DEAD,
    },
)


class Backoff:
    """How long to wait before a slot gets its next worker, and whether it is in a crash loop.

    The first death costs ``first`` seconds, each further one within ``window`` twice as much as
    the one before, up to ``longest``. ``loop`` deaths within the window are a crash loop.
    """

    def __init__(
        self, first: float = 0.1, longest: float = 10.0, window: float = 60.0, loop: int = 5
    ) -> None:
        self._first = first
        self._longest = longest
        self._window = window
        self._loop = loop
        self._deaths: deque[float] = deque(maxlen=64)

    def died(self, now: float) -> float:
        """Count a death at ``now``; return the seconds to wait."""
        while self._deaths and now - self._deaths[0] > self._window:
            self._deaths.popleft()
        self._deaths.append(now)
        return float(min(self._first * 2 ** (len(self._deaths) - 1), self._longest))

    @property
    def crash_loop(self) -> bool:
        """Whether the latest death belongs to a crash loop."""
        return len(self._deaths) >= self._loop

    def forgive(self) -> None:
        """Forget the deaths: a worker has served for long."""
        self._deaths.clear()
