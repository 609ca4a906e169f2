"""Connections that follow those which the server ended in order: the same client, dialling again.

It is what a good HTTP client does behind an answer with ``Connection: close``. What was sent behind
that answer has not been done, so it is asked again, and its time goes on: from when it was due
and first sent. What comes due while nobody is there waits for the first follower, its time from the
send counting from when it would have been sent. A dial that fails is counted where it was made, and
repeated after a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from loadgen.continuity import Operation
from loadgen.lines.line import Line, now_ns

__all__ = ["Following"]

_AGAIN_S = 0.01


class Following:
    """``dial`` makes a connection, or None when that failed; ``came`` is told who follows whom."""

    def __init__(
        self, dial: Callable[[], Awaitable[Line | None]], came: Callable[[Line, Line], None]
    ) -> None:
        self._dial = dial
        self._came = came
        self._coming: set[asyncio.Task[None]] = set()
        self._waiting: list[Operation] = []
        self._ended = False

    def coming(self) -> int:
        """How many are on their way."""
        return len(self._coming)

    def keep(self, intended: Sequence[int]) -> None:
        """These are due, and nobody is there."""
        now = now_ns()
        self._waiting.extend(Operation(-1, due, now, b"") for due in intended)

    def follow(self, line: Line, again: Sequence[Operation]) -> None:
        """Another one for this line, to ask this again."""
        if not self._ended:
            task = asyncio.create_task(self._come(line, again))
            self._coming.add(task)
            task.add_done_callback(self._done)

    async def wait_empty(self) -> None:
        """Until all who are on their way are there."""
        while self._coming:
            await asyncio.wait(self._coming)

    async def stop(self) -> None:
        """Nobody follows any more."""
        self._ended = True
        for task in self._coming:
            task.cancel()
        await asyncio.gather(*self._coming, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._coming.discard(task)
        if not task.cancelled():
            task.result()

    async def _come(self, line: Line, again: Sequence[Operation]) -> None:
        while (follower := await self._dial()) is None or not follower.alive:
            await asyncio.sleep(_AGAIN_S)
        self._came(line, follower)
        waiting, self._waiting = self._waiting, []
        follower.follow(line, [*again, *waiting])
