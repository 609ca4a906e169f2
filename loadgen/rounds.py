"""The open loop of a process: each ring of the alarm sends what is due by then."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from loadgen.alarm import open_alarm
from loadgen.line import now_ns
from loadgen.pace import Pacing

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
        self._alarm = open_alarm(asyncio.get_running_loop(), self._round)
        self._alarm.ring_at(pace.intended(0))

    def hurry(self, end: int) -> int:
        """The run ends at ``end``: how many operations are due until then; look again at once."""
        self._count = min(self._count, max(self._issued, self._pace.due(end - 1)))
        self._alarm.ring_at(now_ns())
        return self._count

    def stop(self) -> None:
        """Send no more."""
        self._alarm.close()

    def _round(self) -> None:
        now, first, ready = now_ns(), self._issued, self._sender.senders()
        last = min(self._pace.due(now), self._count, first + _ROUND_LIMIT)
        if last == self._count or not ready:
            self.sent.set()
        if not ready:
            return
        if last > first:
            intended = self._pace.intended
            self._sender.send(first, [intended(k) for k in range(first, last)])
        self._issued = last
        if not self.sent.is_set():
            self._alarm.ring_at(max(self._pace.intended(last), now + _ROUND_SPACING))
