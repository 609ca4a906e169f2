"""Connections that come, ask, and go, each followed by another: the lines of ``churn``.

Closed loop: whoever leaves is followed at once. Open loop: connections are due at their times, and
when too many are there already they wait, and are late: that is how a stall of the accept queue
shows. A connect that fails is counted where it was made; it is followed after a moment, so that a
server that is gone is not besieged.

How late a visit begins counts as ours from when it could: from when it was due, or when another one
left and made room for it. The rest of its lateness, the wait for room and the connect, is the
server's.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from loadgen.lines.line import Passing, now_ns

__all__ = ["Visits"]

_AGAIN_S = 0.01


class Visits:
    """At most ``most`` at once; ``dial`` makes a connection, or None when that failed. ``late``
    takes how late we were to begin with each (ns).
    """

    def __init__(
        self,
        dial: Callable[[], Awaitable[Passing | None]],
        fresh: list[Passing],
        followed: bool,
        late: array[int],
    ) -> None:
        self._dial = dial
        self._late = late
        self._fresh = fresh
        self._most = len(fresh)
        self._followed = followed
        self._due: deque[int] = deque()
        self._coming: set[asyncio.Task[None]] = set()
        self._here: set[Passing] = set()
        self._empty = asyncio.Event()

    def begin(self) -> None:
        """Closed loop: everybody comes."""
        self.send(0, [now_ns()] * self._most)

    def senders(self) -> int:
        """Somebody can always come."""
        return 1

    def send(self, first: int, intended: Sequence[int]) -> None:
        """These are due."""
        self._empty.clear()
        self._due.extend(intended)
        self._admit(0)

    def gone(self, line: Passing) -> None:
        """This one has left, in order or not; told twice is told once."""
        if line in self._here:
            self._here.discard(line)
            self._follow()

    def replaced(self, line: Passing, follower: Passing) -> None:
        """The visit of the one goes on as the other: it was ended by the server."""
        if line in self._here:
            self._here.discard(line)
            self._here.add(follower)

    async def wait_empty(self) -> None:
        """Until all who were due have come and gone."""
        await self._empty.wait()

    async def stop(self) -> None:
        """Nobody comes any more."""
        self._due.clear()
        self._followed = False
        for task in self._coming:
            task.cancel()
        await asyncio.gather(*self._coming, return_exceptions=True)

    def _follow(self) -> None:
        now = now_ns()
        if self._followed:
            self._due.append(now)
        self._admit(now)

    def _admit(self, since: int) -> None:
        """Who is due comes in, as long as there is room; there was none before ``since`` (ns)."""
        while self._due and len(self._here) + len(self._coming) < self._most:
            due = self._due.popleft()
            task = asyncio.create_task(self._come(due, max(due, since)))
            self._coming.add(task)
            task.add_done_callback(self._came)
        if not self._here and not self._coming:
            self._empty.set()

    def _came(self, task: asyncio.Task[None]) -> None:
        self._coming.discard(task)
        if not task.cancelled():
            task.result()
            self._admit(now_ns())

    async def _come(self, due: int, possible: int) -> None:
        self._late.append(now_ns() - possible)
        line = self._fresh.pop() if self._fresh else await self._dial()
        if line is None:
            await asyncio.sleep(_AGAIN_S)
            self._follow()
        elif line.alive:
            self._here.add(line)
            line.due = due
            line.fill(now_ns())
        else:
            self._follow()
