"""Both event loops with their time in the test's hands.

The loops are real: their selectors, transports and callbacks are those of a server. What is asked
of them for later (``call_later``, ``call_at`` and so ``asyncio.sleep`` and time-outs) waits for a
``ManualClock``, which stands still until somebody moves it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from contextvars import Context
from math import ceil
from typing import Final, TypeVarTuple, Unpack

import uvloop

__all__ = ["LOOPS", "ManualClock", "ManualLoop"]

Ts = TypeVarTuple("Ts")

START_NS: Final = 1_000_000_000_000
EPOCH_NS: Final = 1_700_000_000_000_000_000


class ManualClock:
    """A ``Clock`` that stands still until it is moved; nanoseconds."""

    def __init__(self) -> None:
        self._passed = 0

    def monotonic_ns(self) -> int:
        """Time since a start that is the same for every clock."""
        return START_NS + self._passed

    def time_ns(self) -> int:
        """Time since the epoch, in November 2023."""
        return EPOCH_NS + self._passed

    def move_to(self, monotonic_ns: int) -> None:
        """Let it be then; time does not go back."""
        self._passed = max(self._passed, monotonic_ns - START_NS)

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass. On a loop use the loop's, which also calls what is due."""
        self._passed += round(seconds * 1e9)


class ManualLoop(asyncio.AbstractEventLoop):
    """What is common to both: mixed into a real loop, in front of it."""

    def __init__(self) -> None:
        super().__init__()
        self.begin_anew()

    def begin_anew(self) -> None:
        """A new clock, with nothing waiting for it."""
        self.clock = ManualClock()
        self.scheduled = 0
        """How many callbacks were asked for: a measure of whether anything goes on."""
        self._alarms: list[tuple[int, int, asyncio.TimerHandle]] = []
        self._number = 0

    def time(self) -> float:
        """Seconds of the manual clock."""
        return self.clock.monotonic_ns() / 1e9

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """That of the loop, counted."""
        self.scheduled += 1
        return super().call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call back when the manual clock is ``delay`` seconds further, never earlier."""
        when = self.clock.monotonic_ns() + ceil(max(delay, 0) * 1e9)
        handle = asyncio.TimerHandle(when / 1e9, callback, args, self, context)
        self._number += 1
        heapq.heappush(self._alarms, (when, self._number, handle))
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call back at a time of the manual clock, in seconds."""
        return self.call_later(when - self.time(), callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled handles are skipped when their time comes."""

    @property
    def armed(self) -> int:
        """How many callbacks wait for the clock."""
        return sum(not handle.cancelled() for _, _, handle in self._alarms)

    def ring(self, until_ns: int) -> bool:
        """Move the clock to what is due next, by ``until_ns``, and ask for the call.

        False, with the clock at ``until_ns``, when nothing is due any more.
        """
        while self._alarms and self._alarms[0][0] <= until_ns:
            when, _, handle = heapq.heappop(self._alarms)
            if not handle.cancelled():
                self.clock.move_to(when)
                self.call_soon(_run, handle)
                return True
        self.clock.move_to(until_ns)
        return False


def _run(handle: asyncio.TimerHandle) -> None:
    """What was due; it may have been cancelled in the same turn."""
    if not handle.cancelled():
        handle._run()


class _Asyncio(ManualLoop, asyncio.SelectorEventLoop):
    """asyncio's own."""


class _Uvloop(ManualLoop, uvloop.Loop):  # type: ignore[misc]  # stubs unlike typeshed's
    """uvloop's."""


LOOPS: Final[dict[str, Callable[[], ManualLoop]]] = {"asyncio": _Asyncio, "uvloop": _Uvloop}
"""Name to what makes one."""
