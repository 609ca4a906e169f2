"""The lines of one process: sockets, pacing, and the raw times.

A line is open after its connect. At the end of the run it *leaves*: when all is answered it says
its last words, closes its half, and hears the server out, so that an answer too many is still seen;
when answers are owed it is cut. A close that the line did not ask for is a drop.

Closed loop: a line keeps ``depth`` operations open. Open loop: the operations of a ``Pace`` go out
when they are due, on the lines in turn, whatever the server does. Nothing here waits for the
server's flow control: an open loop that did would be a closed one.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import cast

from loadgen.alarm import open_alarm
from loadgen.continuity import Tally
from loadgen.dialects import DIALECTS, Opening
from loadgen.pace import Pace
from loadgen.plan import Plan
from loadgen.samples import Samples

__all__ = ["Traffic"]

_SECOND = 1_000_000_000
_DIALLING_AT_ONCE = 200
_LEAVE_S = 2.0
_ROUND_LIMIT = 512  # operations sent before the loop may read again
_ROUND_SPACING = 100_000  # ns at least between two rounds: each costs some microseconds
_LATE_END = 50_000_000  # ns in which what was due before the end may still be sent

_now = time.monotonic_ns


class _Line(asyncio.Protocol):
    """One connection."""

    def __init__(self, traffic: Traffic, connection: int) -> None:
        plan = traffic.plan
        opening = Opening(
            connection, plan.payload, traffic.nonce, traffic.tally, traffic.counted, plan.url
        )
        self._traffic = traffic
        self._tally = traffic.tally
        self._connection = connection
        self._conversation = DIALECTS[plan.protocol](opening)
        self._receive = self._conversation.receive
        self._request = self._conversation.request
        self._continuity = self._conversation.continuity
        self._pending = self._continuity.pending
        self._record = [column.append for column in traffic.samples]
        self._depth = 0 if plan.rate else plan.depth
        self._transport: asyncio.Transport | None = None
        self._leaving = False
        self._counted = False

    @property
    def alive(self) -> bool:
        """Whether it is connected and has not been told to leave."""
        return self._transport is not None and not self._leaving

    @property
    def owed(self) -> int:
        """Answers that have not come."""
        return self._continuity.outstanding()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's derives from nothing
        self._write = self._transport.write

    def data_received(self, data: bytes) -> None:
        """Judge, record, and in a closed loop ask on."""
        now = self._tally.now = _now()
        intended, sent, done, version, connection = self._record
        for operation in self._receive(data):
            intended(operation.intended)
            sent(operation.sent)
            done(now)
            version(operation.version)
            connection(self._connection)
        if now < self._traffic.end:
            self.fill(now)
        elif not self.owed:
            self._traffic.forget(self)

    def connection_lost(self, error: Exception | None) -> None:
        """A drop, unless the line was leaving."""
        self._transport = None
        if not self._leaving:
            self._tally.now = _now()
            why = str(error or "") or "the server closed the connection"
            self._continuity.fault("dropped", -1, why)
            self._count(dropped=True)
        self._traffic.closed(self)

    def fill(self, now: int) -> None:
        """Closed loop: keep ``depth`` operations open."""
        free = self._depth - len(self._pending)
        if free == 1:
            self._write(self._request(now, now))
        elif free > 1:
            self._write(b"".join([self._request(now, now) for _ in range(free)]))

    def send(self, intended: Sequence[int]) -> None:
        """Open loop: these operations in one write."""
        now = _now()
        self._write(b"".join([self._request(due, now) for due in intended]))

    def leave(self) -> None:
        """End in good order, or at once when answers are owed."""
        if not self.alive or self._transport is None:
            return
        self._leaving = True
        if self.owed:
            self._transport.abort()
        elif not self._transport.is_closing():
            self._write(self._conversation.farewell())
            if self._transport.can_write_eof():
                self._transport.write_eof()
            else:  # TLS: nothing is heard after one's own end
                self._transport.close()

    def end(self) -> None:
        """The last call: nothing is heard any more, so what is owed is lost."""
        if self._transport is not None:
            self._transport.abort()
        self._count(dropped=False)

    def _count(self, *, dropped: bool) -> None:
        if not self._counted:
            self._counted = True
            self._continuity.close(dropped=dropped)


class Traffic:
    """All lines of one process. ``due`` is what an open loop had to send; ``busy_ns`` is the
    processor time of the window in which was sent.
    """

    def __init__(self, plan: Plan, index: int, nonce: str) -> None:
        self.plan = plan
        self.nonce = nonce
        self.tally = Tally()
        self.samples = Samples.empty()
        self.counted = array("q")
        self.end = 0
        self.due = 0
        self.busy_ns = 0
        self._index = index
        self._secure = ssl.create_default_context(cafile=plan.ca or None) if plan.tls else None
        self._lines: list[_Line] = []
        self._gone = 0
        self._alone = asyncio.Event()
        self._over = asyncio.Event()
        self._rounds: _Rounds | None = None
        self._owing: set[_Line] = set()
        self._paid = asyncio.Event()

    async def dial(self) -> None:
        """Connect all lines, some at a time; a connect that fails is counted and not repeated."""
        numbers = iter(self.plan.share(self._index))
        width = max(1, _DIALLING_AT_ONCE // self.plan.processes)
        await asyncio.gather(*(self._dial_each(numbers) for _ in range(width)))
        if self._gone < len(self._lines):  # while dialling, all that were open may have closed
            self._alone.clear()
        self.tally.connected = len(self._lines)

    async def run(self, start: int) -> None:
        """Send from ``start`` for the plan's duration, then wait for what is owed, bounded."""
        self.end = start + self.plan.duration_ns
        await asyncio.sleep((start - _now()) / _SECOND)
        busy = time.process_time_ns()
        await self._send(start)
        self.busy_ns = time.process_time_ns() - busy
        self.end = 0  # an open loop has sent its last before the end: its answers count as after it
        self._owing = {line for line in self._lines if line.alive and line.owed}
        if self._owing:
            self._paid.clear()
            await _at_most(self.plan.grace_ns / _SECOND, self._paid.wait())
        await self._leave()

    def stop(self, at: int) -> None:
        """The run ends at this time already (ns): what is due later is not sent."""
        self.end = min(self.end, at)
        if self._rounds is None:
            self._over.set()
        else:
            self.due = min(self.due, self._rounds.hurry(at))

    def forget(self, line: _Line) -> None:
        """After the end: this line owes nothing any more."""
        self._owing.discard(line)
        if not self._owing:
            self._paid.set()

    def closed(self, line: _Line) -> None:
        """A line is gone."""
        self.forget(line)
        self._gone += 1
        if self._gone >= len(self._lines):
            self._alone.set()
            self._over.set()

    def live_lines(self) -> list[_Line]:
        """The lines that can carry an operation."""
        return [line for line in self._lines if line.alive]

    def lost_lines(self) -> int:
        """How many are gone: when it changes, ``live_lines`` does."""
        return self._gone

    async def _connect(self, factory: Callable[[], _Line]) -> _Line:
        loop, plan, secure = asyncio.get_running_loop(), self.plan, self._secure
        if plan.path:
            name = plan.host if secure else None
            _, line = await loop.create_unix_connection(
                factory, plan.path, ssl=secure, server_hostname=name
            )
        else:
            _, line = await loop.create_connection(factory, plan.host, plan.port, ssl=secure)
        return line

    async def _dial_each(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            factory = partial(_Line, self, number)
            try:
                async with asyncio.timeout(self.plan.timeout_s):
                    line = await self._connect(factory)
            except OSError as error:
                self.tally.now = _now()
                self.tally.fault("refused", number, -1, str(error) or "no answer to the connect")
            else:
                self._lines.append(line)

    async def _send(self, start: int) -> None:
        remaining = (self.end - _now()) / _SECOND
        if self.plan.rate is None:
            now = _now()
            for line in self.live_lines():
                line.fill(now)
            await _at_most(remaining, self._over.wait())
            return
        pace = Pace(start, self.plan.rate, self._index, self.plan.processes)
        self.due = pace.due(self.end - 1)
        rounds = self._rounds = _Rounds(self, pace)
        await _at_most(remaining + _LATE_END / _SECOND, rounds.sent.wait())
        rounds.stop()

    async def _leave(self) -> None:
        for line in self._lines:
            line.leave()
        await _at_most(_LEAVE_S, self._alone.wait())
        for line in self._lines:
            line.end()


class _Rounds:
    """The open loop: each ring of the alarm sends what is due by then."""

    def __init__(self, traffic: Traffic, pace: Pace) -> None:
        self.sent = asyncio.Event()
        self._traffic = traffic
        self._pace = pace
        self._issued = 0
        self._lost = traffic.lost_lines()
        self._lines = traffic.live_lines()
        self._alarm = open_alarm(asyncio.get_running_loop(), self._round)
        self._alarm.ring_at(pace.intended(0))

    def hurry(self, end: int) -> int:
        """The run ends at ``end``: how many operations are due until then; look again at once."""
        self._alarm.ring_at(_now())
        return max(self._issued, self._pace.due(end - 1))

    def stop(self) -> None:
        """Send no more."""
        self._alarm.close()

    def _round(self) -> None:
        if self._lost != self._traffic.lost_lines():
            self._lost, self._lines = self._traffic.lost_lines(), self._traffic.live_lines()
        now, first = _now(), self._issued
        last = min(self._pace.due(now), self._traffic.due, first + _ROUND_LIMIT)
        if last == self._traffic.due or not self._lines:
            self.sent.set()
        if not self._lines:
            return
        self._send(first, last)
        self._issued = last
        if not self.sent.is_set():
            self._alarm.ring_at(max(self._pace.intended(last), now + _ROUND_SPACING))

    def _send(self, first: int, last: int) -> None:
        """Operation ``k`` goes out on line ``k`` modulo their number, one write a line."""
        width, intended = len(self._lines), self._pace.intended
        for k in range(first, min(last, first + width)):
            self._lines[k % width].send([intended(each) for each in range(k, last, width)])


async def _at_most(seconds: float, waiting: Awaitable[object]) -> None:
    try:
        await asyncio.wait_for(waiting, max(0.0, seconds))
    except TimeoutError:
        return
