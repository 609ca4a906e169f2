"""What a worker measures of itself: its memory, and how long its loop was held."""

from __future__ import annotations

import asyncio
import resource
import time
from pathlib import Path

__all__ = ["Pulse", "Stopwatch", "resident_bytes"]

BEAT_S = 0.02
_WAITED = Path("/proc/thread-self/schedstat")


def resident_bytes() -> int:
    """Resident bytes of this process."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


class Pulse:
    """Beats on the loop; ``longest_ms`` is the most that a beat was late, in milliseconds.

    The time that the thread waited for a processor is not counted where the system tells it: a
    busy machine is no fault of the code that runs on it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.longest_ms = 0.0
        self._loop = loop
        self._waited = _waited_s()
        self._due = loop.time() + BEAT_S
        self._timer = loop.call_later(BEAT_S, self._beat)

    def stop(self) -> None:
        """Beat no more."""
        self._timer.cancel()

    def _beat(self) -> None:
        now, waited = self._loop.time(), _waited_s()
        held = now - self._due - (waited - self._waited)
        self.longest_ms = max(self.longest_ms, held * 1e3)
        self._waited, self._due = waited, now + BEAT_S
        self._timer = self._loop.call_later(BEAT_S, self._beat)


class Stopwatch:
    """Since it was made, of this thread: its processor time, and how long it stood still.

    It stands still when it neither runs nor waits for a processor: it sleeps, or waits for others.
    Where the system does not tell how long it waited for one, nobody knows, and it is never said.
    """

    def __init__(self) -> None:
        self._waited = _waited_s()
        self._cpu = time.thread_time_ns()
        self._began = time.perf_counter_ns()

    def cpu_ns(self) -> int:
        """Nanoseconds of processor time."""
        return time.thread_time_ns() - self._cpu

    def blocked_s(self) -> float:
        """Seconds in which it stood still; 0.0 where that can't be known."""
        if not _WAITED.exists():
            return 0.0
        took = time.perf_counter_ns() - self._began
        return (took - self.cpu_ns()) / 1e9 - (_waited_s() - self._waited)


def _waited_s() -> float:
    try:
        return int(_WAITED.read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):  # not Linux, or built without it
        return 0.0
