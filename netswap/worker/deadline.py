"""Authors' code runs on the loop, so it must not run for ever.

``Deadline`` is a context manager that raises DeadlinePassed in the main thread, between two
bytecodes of whatever runs there, when its time is over. A C function that never returns to the
interpreter is not reached by it; the supervisor replaces a worker whose loop is stuck.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

from netswap.errors import DeadlinePassed

__all__ = ["Deadline"]


class Deadline:
    """Bounds the code in its ``with`` block to ``seconds``. Main thread only, not nested."""

    __slots__ = ("_armed", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._armed = False

    def __enter__(self) -> None:
        self._armed = True
        signal.signal(signal.SIGALRM, self._passed)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _passed(self, _number: int, _frame: FrameType | None) -> None:
        if self._armed:
            self._armed = False
            raise DeadlinePassed(f"it did not end within {self.seconds:g} s")
