"""Connections that stay, and come back when they are dropped: the lines of ``loyal``.

It is what a client with a long-lived connection does. A drop is a fault and is counted; then the
connection is dialled again, at once, or after a moment when that failed. What is due while nobody
is there waits for the first who is, and is late: how long nobody was served is in the latency. How
late we are ourselves is what has passed when it is handed on, to a line or to the wait for one.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Awaitable, Callable, Sequence

from loadgen.lines.line import Line, now_ns

__all__ = ["Returning"]

_AGAIN_S = 0.01


class Returning:
    """Operations go out on the ``lines`` in turn; ``dial`` makes another, None when that failed.
    ``late`` takes how late we were with each (ns).
    """

    def __init__(
        self,
        dial: Callable[[], Awaitable[Line | None]],
        lines: Callable[[], list[Line]],
        late: array[int],
    ) -> None:
        self._dial = dial
        self._late = late
        self._find = lines
        self._lines = lines()
        self._waiting: list[int] = []
        self._coming: set[asyncio.Task[None]] = set()
        self._ended = False

    def senders(self) -> int:
        """Somebody will always come back."""
        return 1

    def send(self, first: int, intended: Sequence[int]) -> None:
        """In turn, or kept until somebody is there."""
        now = now_ns()
        self._late.extend([now - due for due in intended])
        self._hand_on(first, intended)

    def _hand_on(self, first: int, intended: Sequence[int]) -> None:
        lines, width = self._lines, len(self._lines)
        if not lines:
            self._waiting.extend(intended)
        for k in range(min(len(intended), width)):
            lines[(first + k) % width].send(intended[k::width])

    def look(self) -> None:
        """Others are there than before; what waits goes out."""
        self._lines = self._find()
        if self._lines and self._waiting:
            waiting, self._waiting = self._waiting, []
            self._hand_on(0, waiting)

    def gone(self) -> None:
        """One was dropped: it is dialled again."""
        self._lines = self._find()
        if not self._ended:
            task = asyncio.create_task(self._come_back())
            self._coming.add(task)
            task.add_done_callback(self._came)

    async def stop(self) -> None:
        """Nobody comes back any more."""
        self._ended = True
        for task in self._coming:
            task.cancel()
        await asyncio.gather(*self._coming, return_exceptions=True)

    def _came(self, task: asyncio.Task[None]) -> None:
        self._coming.discard(task)
        if not task.cancelled():
            task.result()

    async def _come_back(self) -> None:
        while await self._dial() is None:
            await asyncio.sleep(_AGAIN_S)
        self.look()
