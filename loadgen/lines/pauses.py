"""Whether the generator itself stood still: stopped, swapped out, or left without a processor.

A closed loop asks nothing while it is not running, so it is never late; and an answer that waited
for us looks like one that was slow. So a timer rings every 5 ms. How late it rings is for how long
nothing was sent or read. From when to when that was is kept, to tell which part of a latency is
ours. Linux also counts for how long a process was ready to run and had no processor: many waits too
short for the timer make every operation slow.
"""

from __future__ import annotations

import asyncio
from array import array
from pathlib import Path

from loadgen.lines.line import now_ns

__all__ = ["Pauses", "waited_ns"]

_PERIOD_NS = 5_000_000
_TOLD_NS = 5_000_000  # below that a ring is as late as timers are
_KEPT = 200_000  # pauses; each is two numbers
_SECOND = 1_000_000_000
_SCHEDULED = Path("/proc/self/schedstat")  # of the thread that runs the loop; ns: ran, waited


def waited_ns() -> int:
    """For how long we were ready and others ran, since the process began; 0 where nobody counts."""
    try:
        return int(_SCHEDULED.read_bytes().split()[1])
    except FileNotFoundError:
        return 0


class Pauses:
    """Looks from when it is made until it is stopped. ``found`` are pairs (ns): from the ring
    before a late one, since we may have stood still from then on, to the late one.
    """

    def __init__(self) -> None:
        self.found = array("q")
        self._longest = 0
        self._set()

    def stop(self) -> int:
        """The longest pause (ns); also the one that is going on. It is looked for no longer."""
        self._timer.cancel()
        return self._take()

    def _set(self) -> None:
        self._due = now_ns() + _PERIOD_NS
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_PERIOD_NS / _SECOND, self._ring)

    def _ring(self) -> None:
        self._take()
        self._set()

    def _take(self) -> int:
        now = now_ns()
        late = now - self._due
        self._longest = max(self._longest, late)
        if late >= _TOLD_NS and len(self.found) < 2 * _KEPT:
            self.found.extend((self._due - _PERIOD_NS, now))
        return self._longest
