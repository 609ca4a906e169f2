"""Time as an object, so that a test can own it.

Rooms of the mechanism take a ``Clock`` and never import ``time``. Durations are nanoseconds.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What a room may ask of time."""

    def monotonic_ns(self) -> int:
        """Nanoseconds on CLOCK_MONOTONIC: comparable between processes of one machine."""

    def time_ns(self) -> int:
        """Nanoseconds since the epoch, for deadlines that outlive the machine's uptime."""


class SystemClock:
    """The machine's clocks."""

    monotonic_ns = staticmethod(time.monotonic_ns)
    time_ns = staticmethod(time.time_ns)
