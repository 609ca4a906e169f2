"""Wakes an open loop at an absolute time.

The timers of uvloop count in milliseconds, too coarse for an open loop that sends 10,000 times a
second: every latency would begin with half a millisecond of our own. On Linux a timer descriptor
wakes the loop within some 50 microseconds; elsewhere the loop's own timer must do.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct
import sys
import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["Alarm", "KernelAlarm", "LoopAlarm", "open_alarm"]

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1  # TFD_TIMER_ABSTIME
_SPEC = struct.Struct("@llll")  # struct itimerspec: interval s and ns, value s and ns
_SECONDS, _NANOSECONDS = 2, 3  # where the value stands in it
_SECOND = 1_000_000_000


class Alarm(Protocol):
    """One alarm; setting it again moves it."""

    def ring_at(self, deadline: int) -> None:
        """Call back at this time (ns, CLOCK_MONOTONIC); at once when it has passed."""

    def close(self) -> None:
        """Never call back again."""


def open_alarm(loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> Alarm:
    """The finest alarm that this machine has."""
    return KernelAlarm(loop, ring) if sys.platform == "linux" else LoopAlarm(loop, ring)


class KernelAlarm:
    """Linux's timerfd. Python has it from 3.13 on; the C library always."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        libc = ctypes.CDLL(None, use_errno=True)
        self._buffer = ctypes.create_string_buffer(_SPEC.size)
        self._spec = memoryview(self._buffer).cast("B").cast("l")
        self._address = ctypes.c_void_p(ctypes.addressof(self._buffer))
        self._set = libc.timerfd_settime  # without argtypes: looking at each costs a third more
        self._deadline = 0
        self._armed = False
        self._descriptor = libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "no timer descriptor")
        loop.add_reader(self._descriptor, self._rang)

    def ring_at(self, deadline: int) -> None:
        """Call back at this time. Setting it silences what rang before: that saves a read."""
        self._spec[_SECONDS], self._spec[_NANOSECONDS] = divmod(max(deadline, 1), _SECOND)
        self._deadline, self._armed = deadline, True
        if self._set(self._descriptor, _ABSOLUTE, self._address, None) < 0:
            raise OSError(ctypes.get_errno(), "the timer descriptor can't be set")

    def close(self) -> None:
        """Give the descriptor back."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1

    def _rang(self) -> None:
        if self._armed and time.monotonic_ns() < self._deadline:
            return  # it was moved after the loop saw it ready
        if self._armed:
            self._armed = False
            self._ring()
        if not self._armed and self._descriptor >= 0:
            self._silence()

    def _silence(self) -> None:
        with contextlib.suppress(BlockingIOError):  # due, and not yet rung: once more, then silent
            os.read(self._descriptor, 8)


class LoopAlarm:
    """The loop's own timer, as fine as the loop is."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def ring_at(self, deadline: int) -> None:
        """Call back at this time. loop.time() is CLOCK_MONOTONIC in seconds."""
        self.close()
        self._timer = self._loop.call_at(deadline / _SECOND, self._ring)

    def close(self) -> None:
        """Never call back again."""
        if self._timer is not None:
            self._timer.cancel()
