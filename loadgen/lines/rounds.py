"""The open loop of a process: each ring of the alarm sends what is due by then."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from loadgen.lines.alarm import open_alarm
from loadgen.lines.line import now_ns
from loadgen.lines.pace import Pacing

__all__ = ["Rounds", "Sender"]

_ROUND_LIMIT = 512  # operations sent before the loop may read again
_ROUND_SPACING = 100_000  # ns at least between two rounds: each costs some microseconds


class Sender(Protocol):
    """Takes the operations that are due."""

    def senders(self) -> int:
        """How many can take one now; 0 ends the run."""

    def send(self, first: int, intended: Sequence[int]) -> None:
        """These operations are due, of which the first has number ``first``."""


class Rounds:
    """Calls the sender for each operation of the pace, up to ``count`` of them."""

    def __init__(self, sender: Sender, pace: Pacing, count: int) -> None:
        self.sent = asyncio.Event()
        self._sender = sender
        self._pace = pace
        self._count = count
        self._issued = 0
        self._times = pace.times()
        self._next = next(self._times)
        self._alarm = open_alarm(asyncio.get_running_loop(), self._round)
        self._alarm.ring_at(self._next)

    def hurry(self, end: int) -> int:
        """The run ends at ``end``: how many operations are due until then; look again at once."""
        self._count = min(self._count, max(self._issued, self._pace.due(end - 1)))
        self._alarm.ring_at(now_ns())
        return self._count

    def stop(self) -> None:
        """Send no more."""
        self._alarm.close()

    def _round(self) -> None:
        if not self._sender.senders():
            self.sent.set()
            return
        now, first = now_ns(), self._issued
        due = self._take(now, min(_ROUND_LIMIT, self._count - first))
        if due:
            self._sender.send(first, due)
        if self._issued == self._count:
            self.sent.set()
        else:
            self._alarm.ring_at(max(self._next, now + _ROUND_SPACING))

    def _take(self, now: int, most: int) -> list[int]:
        """When those were due that are due by now; they are taken as issued."""
        due: list[int] = []
        at, times = self._next, self._times
        while at <= now and len(due) < most:
            due.append(at)
            at = next(times)
        self._next = at
        self._issued += len(due)
        return due
