"""Authors' code runs on the loop, so it must not run for ever.

``Deadline`` is a context manager that raises DeadlinePassed in the main thread, between two
bytecodes of whatever runs there, when its time is over. A C function that never returns to the
interpreter is not reached by it; the supervisor replaces a worker whose loop is stuck.

The handler of the signal stands from the first use on. Each later one only looks whether it is
still there, since an author's code may have put its own in its place, and sets the timer.
"""

from __future__ import annotations

import signal
import time
from inspect import unwrap
from types import FrameType, TracebackType

from netswap.errors import DeadlinePassed

__all__ = ["Deadline", "left"]

_handler_of = unwrap(signal.getsignal)
"""Without the wrapper, which looks the handler up in an enum."""
_set_timer, _ALARM, _REAL = signal.setitimer, signal.SIGALRM, signal.ITIMER_REAL
_innermost: Deadline | None = None
"""Whose timer is set."""


def left(until: float, otherwise: float) -> float:
    """Seconds until that moment of the machine's monotonic clock; ``otherwise`` if it is 0.0."""
    return max(until - time.monotonic(), 0.0) if until else otherwise


class Deadline:
    """Bounds the code in its ``with`` block to ``seconds``. Main thread only.

    One inside another has its own time, and gives the rest of the outer one's back.
    """

    __slots__ = ("_armed", "_entered", "_left", "_outer", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._armed = False
        self._outer: Deadline | None = None

    def __enter__(self) -> None:
        global _innermost  # noqa: PLW0603 - a process has one such timer
        if _handler_of(_ALARM) is not _rings:
            signal.signal(_ALARM, _rings)
        outer = self._outer = _innermost
        _innermost = self
        self._armed = True
        left, _ = _set_timer(_REAL, self.seconds)
        if outer is not None:
            self._left, self._entered = left, time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        global _innermost  # noqa: PLW0603
        self._armed = False
        outer = _innermost = self._outer
        if outer is None:
            _set_timer(_REAL, 0)
        else:
            outer._resume(self._left - (time.monotonic() - self._entered))

    def _resume(self, left: float) -> None:
        """Go on with what is left of it; if nothing is, it passes at once, and only once."""
        _set_timer(_REAL, max(left, 1e-6) if self._armed else 0)

    def _pass(self) -> None:
        if self._armed:
            self._armed = False
            raise DeadlinePassed(f"it did not end within {self.seconds:g} s")


def _rings(_number: int, _frame: FrameType | None) -> None:
    if _innermost is not None:
        _innermost._pass()
