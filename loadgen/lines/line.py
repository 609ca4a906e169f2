"""A connection, and the ways in which one can send: whole, in halves, unread, later, in passing.

A line is open after its connect. At the end of the run it *leaves*: when all is answered it says
its last words, closes its half, and hears the server out, so that an answer too many is still seen;
over TLS, where many a server ends both halves at once, it closes its own when what it expects has
come, and is cut after the grace. When answers are owed it is cut at once. A close that the line
did not ask for is a drop, unless the server has announced it behind an answer: then the line is
*ended*, in order. It says nothing more, closes its half, and is followed by another line, which
asks again what was sent behind that answer.

Closed loop: a line keeps ``depth`` operations open (``fill``). Open loop: it is told what is due
(``send``), and sends it whatever the server does. Nothing here waits for the server's flow control:
an open loop that did would be a closed one.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, cast

from loadgen.continuity import Operation, Tally
from loadgen.dialects import Conversation
from loadgen.lines.hints import why_dropped
from loadgen.lines.secure import close_half
from loadgen.plan import Plan
from loadgen.samples import Rows, pack_row

__all__ = ["Crowd", "Halves", "Later", "Line", "Passing", "Unread", "now_ns"]

now_ns = time.monotonic_ns

_SMALL_BUFFER = 32_768  # bytes that the kernel may keep for a line that does not read
_HEARD_ON = 100_000_000  # ns at least, after the last words over TLS, before our own end
_LOOK_NS = 50_000_000
_EARLY = 1_000_000  # ns: servers' timers count in milliseconds


class Crowd(Protocol):
    """What a line knows of those that it is one of. ``end``: no operation begins after it (ns)."""

    plan: Plan
    rows: Rows
    tally: Tally
    end: int

    def forget(self, line: Line) -> None:
        """After the end: this line owes nothing any more."""

    def closed(self, line: Line) -> None:
        """A line is gone."""

    def ended(self, line: Line, again: Sequence[Operation]) -> None:
        """The server has announced the end of a line: another one asks this again, and goes on."""

    def passed(self, line: Line) -> None:
        """A line has asked all that it was to ask, and leaves."""


class Line(asyncio.Protocol):
    """Sends whole requests."""

    holds: ClassVar[bool] = False
    """Whether an operation is due only ``hold_ns`` after it has begun."""
    one_at_a_time: ClassVar[bool] = False
    """Whether it is busy with an operation for all of ``hold_ns``."""
    ahead: ClassVar[bool] = False
    """Whether it is sent ``hold_ns`` before it is due."""
    waits: ClassVar[bool] = False
    """Whether what is due waits until the server is done with others: then both make it late."""

    def __init__(self, crowd: Crowd, connection: int, conversation: Conversation) -> None:
        self.connection = connection
        self._crowd = crowd
        self._tally = crowd.tally
        self._conversation = conversation
        self._receive = conversation.receive
        self._request = conversation.request
        self._continuity = conversation.continuity
        self._pending = self._continuity.pending
        self._add_row = crowd.rows.add
        self._depth = 0 if crowd.plan.rate else crowd.plan.depth
        self._transport: asyncio.Transport | None = None
        self._leaving = False
        self._counted = False
        self._half_closed = False
        self._cut = False
        self.ended = False
        """Whether the server has announced its end, and another line follows."""

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
        self._write: Callable[[bytes], None] = self._transport.write
        self._conversation.opened(self._say)
        self._conversation.ends(self._end_in_order)
        greeting = self._conversation.greeting()
        if greeting:
            self._write(greeting)

    def data_received(self, data: bytes) -> None:
        """Judge, record, and in a closed loop ask on."""
        now = self._tally.now = now_ns()
        for each in self._receive(data):
            self._add_row(pack_row(each.intended, each.sent, now, each.version, self.connection))
        if now < self._crowd.end:
            self.fill(now)
        elif not self.owed:
            self._crowd.forget(self)

    def connection_lost(self, error: Exception | None) -> None:
        """A drop, unless the line was leaving."""
        self._transport = None
        if not self._counted:
            self._tally.now = now_ns()
            rest = self._conversation.leftover()
            if not self._leaving:
                tls, first = self._crowd.plan.tls, not self._crowd.rows
                why = why_dropped(error, rest, tls=tls, first=first)
                self._continuity.fault("dropped", -1, why)
            self._count(rest, dropped=not self._leaving)
        self._crowd.closed(self)

    def fill(self, now: int) -> None:
        """Closed loop: keep ``depth`` operations open."""
        free = self._depth - len(self._pending)
        if free == 1:
            self._write(self._request(now, now))
        elif free > 1:
            self._write(b"".join([self._request(now, now) for _ in range(free)]))

    def send(self, intended: Sequence[int]) -> None:
        """Open loop: these operations in one write."""
        now = now_ns()
        if len(intended) == 1:
            self._write(self._request(intended[0], now))
        else:
            self._write(b"".join([self._request(due, now) for due in intended]))

    def follow(self, line: Line, again: Sequence[Operation]) -> None:
        """Go on where this one was ended."""
        if again:
            self._write(b"".join([self._request(each.intended, each.sent) for each in again]))
        now = now_ns()
        if now < self._crowd.end:
            self.fill(now)

    def _end_in_order(self) -> None:
        """Between two answers: nothing behind this one is done."""
        if not self._leaving:
            again = self._withdraw()
            self._leaving = self.ended = True
            self._depth = 0
            self._crowd.ended(self, again)
            self._close_half()

    def _withdraw(self) -> list[Operation]:
        """What is to be asked again."""
        return self._continuity.withdraw()

    def leave(self) -> None:
        """End in good order, or at once when answers are owed."""
        transport = self._transport
        if self._leaving or transport is None or transport.is_closing():
            return  # what is closing was dropped, and is counted when it is gone
        self._leaving = True
        self._tally.now = now_ns()
        if self.owed:
            transport.abort()
        else:
            self._write(self._conversation.farewell())
            self._close_half()

    def _close_half(self) -> None:
        transport = self._transport
        if transport is not None and transport.can_write_eof():
            transport.write_eof()
        else:
            self._hear_on(0)

    def _hear_on(self, looks: int) -> None:
        """TLS: many a server stops at our own end, so that waits for what is still to come.

        The time is counted in looks: the loop reads between two of them, however late it is.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        passed, expects = looks * _LOOK_NS, self._conversation.expects()
        if passed >= self._crowd.plan.grace_ns:
            self._cut = expects
            transport.close()
            return
        if passed >= _HEARD_ON and not expects and not self._half_closed:
            self._half_closed = True
            close_half(transport)
        seconds = _LOOK_NS / 1_000_000_000
        asyncio.get_running_loop().call_later(seconds, self._hear_on, looks + 1)

    def end(self) -> None:
        """The last call: nothing is heard any more, so what is owed is lost."""
        if self._transport is not None:
            self._transport.abort()
        if not self._counted:
            self._tally.now = now_ns()
            self._count(self._conversation.leftover(), dropped=False)

    def _say(self, words: bytes) -> None:
        if self.alive and self._transport is not None and not self._transport.is_closing():
            self._write(words)

    def _count(self, rest: bytes, *, dropped: bool) -> None:
        """Once; the ``rest`` is of an open operation, or nobody asked for it."""
        self._counted = True
        if rest and not self.owed and not self._cut:
            detail = f"{len(rest)} bytes at the end make no whole answer: {rest[:40]!r}"
            self._continuity.fault("corrupted", -1, detail)
        self._continuity.close(dropped=dropped, heard=rest)


class Halves(Line):
    """Sends half of each request, and the other half ``hold_ns`` later, when it is due.

    What is to be sent meanwhile waits its turn, and is late.
    """

    holds = True
    one_at_a_time = True

    def __init__(self, crowd: Crowd, connection: int, conversation: Conversation) -> None:
        super().__init__(crowd, connection, conversation)
        self._waiting: deque[int] = deque()
        self._other_half = b""
        self._begun: Operation | None = None  # of which only half is sent
        self._due = 0
        self._blamed: set[int] = set()
        self._continuity.blamed = self._blamed
        self._receive = self._receive_whole

    def _receive_whole(self, data: bytes) -> Sequence[Operation]:
        settled = self._conversation.receive(data)
        begun = self._begun
        if begun is not None and any(operation is begun for operation in settled):
            self._begun = None
            if begun.sequence not in self._blamed:  # an error may come at once
                detail = "was answered when half of it was sent"
                self._continuity.fault("early", begun.sequence, detail)
        self._blamed.clear()
        return settled

    def fill(self, now: int) -> None:
        """Closed loop: the next one when the last is answered."""
        idle = not self._pending and not self._waiting
        if self._depth and idle and now + self._crowd.plan.hold_ns < self._crowd.end:
            self._waiting.append(now + self._crowd.plan.hold_ns)
        self._begin()

    def send(self, intended: Sequence[int]) -> None:
        """Open loop: each becomes due after its own time of waiting."""
        self._waiting.extend(due + self._crowd.plan.hold_ns for due in intended)
        self._begin()

    def follow(self, line: Line, again: Sequence[Operation]) -> None:
        """All halves anew; what was due already is not held again."""
        self._waiting.extend(each.intended for each in again)
        super().follow(line, ())
        self._begin()

    def _withdraw(self) -> list[Operation]:
        waiting = [Operation(-1, due, due, b"") for due in self._waiting]
        self._waiting.clear()
        return [*super()._withdraw(), *waiting]

    def _say(self, words: bytes) -> None:
        if self._other_half:  # in the middle of a request nothing else can be said
            self._other_half += words
        else:
            super()._say(words)

    def _begin(self) -> None:
        if self._other_half or not self._waiting or not self.alive:
            return
        self._due = self._waiting.popleft()
        request = self._request(self._due, self._due)
        self._begun = self._pending[-1]
        self._begun.intended = self._begun.sent = now_ns()  # if it is answered too early
        cut = len(request) // 2
        self._write(request[:cut])
        self._other_half = request[cut:]
        self._wait()

    def _wait(self) -> None:
        seconds = max(self._due - now_ns(), 0) / 1_000_000_000
        asyncio.get_running_loop().call_later(seconds, self._complete)

    def _complete(self) -> None:
        if now_ns() < self._due:  # uvloop's timers may be a millisecond early
            self._wait()
            return
        other_half, self._other_half = self._other_half, b""
        if not self.alive:
            return
        operation, self._begun = self._begun, None
        if operation is not None:
            operation.sent = now_ns()  # a closed loop's is due when it is sent
            operation.intended = operation.sent if self._depth else self._due
        self._write(other_half)
        self._begin()


class Unread(Line):
    """Sends ``depth`` requests at once and reads nothing for ``hold_ns``: then they are due."""

    holds = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open, with little room in the kernel: what the server says stays with the server."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)

    def fill(self, now: int) -> None:
        """The next ones when all of the last are answered."""
        hold = self._crowd.plan.hold_ns
        if self._pending or now + hold >= self._crowd.end or not self.alive:
            return
        assert self._transport is not None
        self._transport.pause_reading()
        due = now + hold
        self._write(b"".join([self._request(due, due) for _ in range(self._depth)]))
        asyncio.get_running_loop().call_later(hold / 1_000_000_000, self._read_on)

    def _read_on(self) -> None:
        now = now_ns()
        for operation in self._pending:
            operation.intended = operation.sent = now
        if self._transport is not None:
            self._transport.resume_reading()


class Later(Line):
    """Asks for answers that come ``hold_ns`` later: they are due then, and none may be early.

    One that has a fault already is not judged by its time, too: an error may come at once.
    """

    holds = True
    ahead = True

    def __init__(self, crowd: Crowd, connection: int, conversation: Conversation) -> None:
        super().__init__(crowd, connection, conversation)
        self._blamed: set[int] = set()
        self._continuity.blamed = self._blamed
        self._receive = self._receive_timed

    def _receive_timed(self, data: bytes) -> Sequence[Operation]:
        settled = self._conversation.receive(data)
        for operation in settled:
            early = operation.intended - self._tally.now
            if early > _EARLY and operation.sequence not in self._blamed:
                detail = f"came {early / 1e6:.1f} ms before its time"
                self._continuity.fault("early", operation.sequence, detail)
        self._blamed.clear()
        return settled

    def fill(self, now: int) -> None:
        """Closed loop: ``depth`` operations wait at once."""
        due = now + self._crowd.plan.hold_ns
        free = self._depth - len(self._pending)
        if free > 0 and due < self._crowd.end:
            self._write(b"".join([self._request(due, now) for _ in range(free)]))

    def send(self, intended: Sequence[int]) -> None:
        """Open loop: each is due after its own time of waiting."""
        super().send([due + self._crowd.plan.hold_ns for due in intended])


class Passing(Line):
    """Asks so many requests, leaves, and is followed by another connection.

    Its first operation was due when the connect began: a connect that takes its time shows there.
    """

    waits = True
    due: int = 0
    before: int = 0
    """What those that it follows have asked of its visit."""

    @property
    def asked(self) -> int:
        """How much of its visit is done or under way."""
        return self.before + self._continuity.issued

    def follow(self, line: Line, again: Sequence[Operation]) -> None:
        """The rest of the visit."""
        self.before = cast(Passing, line).asked
        super().follow(line, again)

    def _end_in_order(self) -> None:
        if self.asked < self._crowd.plan.requests or self._pending:
            super()._end_in_order()
        else:
            self.leave()  # as it was going to
            self._crowd.passed(self)

    def fill(self, now: int) -> None:
        """The next ones, or farewell."""
        plan = self._crowd.plan
        if self._leaving:
            return
        left = plan.requests - self.before - self._continuity.issued
        free = min(plan.depth - len(self._pending), left)
        if free > 0:
            due, self.due = self.due or now, 0
            asked = [self._request(due, now)]  # first, since its number is the lowest
            asked += [self._request(now, now) for _ in range(free - 1)]
            self._write(b"".join(asked))
        elif not left and not self._pending:
            self.leave()
            self._crowd.passed(self)
