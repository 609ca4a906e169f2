"""What a worker measures of itself: its memory, and how long its loop was held."""

from __future__ import annotations

import asyncio
import resource
import time
from pathlib import Path
from typing import Self

__all__ = ["Pulse", "Stopwatch", "resident_bytes"]

_WAITED = Path("/proc/thread-self/schedstat")


def resident_bytes() -> int:
    """Resident bytes of this process."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


class Pulse:
    """Beats on the loop every ``beat_s`` seconds, from now or inside a ``with`` block.

    ``longest_ns`` is the most that a beat was late, in nanoseconds; what is held for less than a
    beat may not be seen. With ``waited``, the time that the thread waited for a processor is not
    counted where the system tells it: a busy machine is no fault of the code that runs on it. That
    reads a file at each beat.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, beat_s: float, *, waited: bool = False
    ) -> None:
        self.longest_ns = 0
        self._loop = loop
        self._beat_s = beat_s
        self._read = _waited_s if waited else _nothing_s
        self._arm()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Beat no more; a beat that is late by now counts."""
        self._timer.cancel()
        self._note()

    def _arm(self) -> None:
        self._waited = self._read()
        self._due = time.monotonic_ns() + int(self._beat_s * 1e9)
        self._timer = self._loop.call_later(self._beat_s, self._beat)

    def _beat(self) -> None:
        self._note()
        self._arm()

    def _note(self) -> None:
        late = time.monotonic_ns() - self._due - int((self._read() - self._waited) * 1e9)
        self.longest_ns = max(self.longest_ns, late)


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


def _nothing_s() -> float:
    return 0.0
