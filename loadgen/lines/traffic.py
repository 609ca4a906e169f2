"""The lines of one process: who connects, who sends when, and how it ends."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Awaitable, Sequence
from typing import cast

from loadgen.continuity import Operation, Tally
from loadgen.dialects import Opening
from loadgen.fanout import Member
from loadgen.lines.dialling import Dialling
from loadgen.lines.following import Following
from loadgen.lines.line import Line, Passing, now_ns
from loadgen.lines.pauses import Pauses, waited_ns
from loadgen.lines.returning import Returning
from loadgen.lines.rounds import Rounds, Sender
from loadgen.lines.scenarios import SCENARIOS
from loadgen.lines.visits import Visits
from loadgen.plan import Plan
from loadgen.samples import Rows, Samples

__all__ = ["Traffic"]

_SECOND = 1_000_000_000
_LEAVE_S = 2.0
_LATE_END = 50_000_000  # ns in which what was due before the end may still be sent


class Traffic:
    """All lines of one process. ``due`` is what an open loop had to send; ``busy_ns`` is the
    processor time of the window in which was sent; ``waited_ns`` for how long we had no processor
    in it; ``paused_ns`` the longest that we stood still, ``pauses`` when, in pairs (ns); ``left``
    has who is gone, and when (ns), in pairs; ``late`` how late we were ourselves (ns) where the
    server makes operations late, too.
    """

    def __init__(self, plan: Plan, index: int, nonce: str) -> None:
        self.plan = plan
        self.tally = Tally()
        self.rows = Rows()
        self.counted = array("q")
        self.members: list[Member] = []
        self.left, self.late, self.pauses = array("q"), array("q"), array("q")
        self.end = self._last = self._gone = 0
        self.due = self.busy_ns = self.waited_ns = self.paused_ns = 0
        self._index = index
        self._scenario = SCENARIOS[plan.way]
        self._lines: dict[Line, None] = {}
        self._dialling = Dialling(self, index, self._opening(nonce), self._came)
        self._following = Following(self._dialling.dial_next, self._followed)
        self._rounds: Rounds | None = None
        self._visits: Visits | None = None
        self._returning: Returning | None = None
        self._owing: set[Line] = set()
        self._alone, self._over, self._paid = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def _opening(self, nonce: str) -> Opening:
        plan = self.plan
        return Opening(
            -1, plan.payload, nonce, self.tally, self.counted, plan.url, self.members,
            alone=plan.processes == 1,
        )  # fmt: skip

    @property
    def samples(self) -> Samples:
        """What was written so far, as columns."""
        return self.rows.columns()

    async def dial(self) -> None:
        """Connect all lines; a connect that fails is counted and not repeated."""
        await self._dialling.dial_all()
        self._look_round()

    async def run(self, start: int) -> None:
        """Send from ``start`` for the plan's duration, then wait for what is owed, bounded."""
        self._last = start + self.plan.duration_ns
        while (left := start - now_ns()) > 0:  # uvloop's timers may be a millisecond early
            await asyncio.sleep(left / _SECOND)
        self.end = self._last  # only now: who is answered to a greeting has nothing to ask before
        busy, waited, pauses = time.process_time_ns(), waited_ns(), Pauses()
        await self._send(start)
        self.busy_ns = time.process_time_ns() - busy
        self.waited_ns = waited_ns() - waited
        await self._hear_out()
        self.paused_ns, self.pauses = pauses.stop(), pauses.found
        await self._leave()

    async def _hear_out(self) -> None:
        """What is owed, for as long as the grace is."""
        await _at_most(self.plan.grace_ns / _SECOND, self._following.wait_empty())
        await self._following.stop()
        self.end = 0  # an open loop has sent its last before the end: its answers count as after it
        for coming in (self._visits, self._returning):
            if coming is not None:
                await coming.stop()
        self._owing = {line for line in self._lines if line.alive and line.owed}
        if self._owing:
            self._paid.clear()
            await _at_most(self.plan.grace_ns / _SECOND, self._paid.wait())

    def stop(self, at: int) -> None:
        """The run ends at this time already (ns): what is due later is not sent."""
        self.end, self._last = min(self.end, at), min(self._last, at)
        self._over.set()
        if self._rounds is not None:
            self.due = min(self.due, self._rounds.hurry(at) * self._operations_each())

    def forget(self, line: Line) -> None:
        """After the end: this line owes nothing any more."""
        self._owing.discard(line)
        if not self._owing:
            self._paid.set()

    def passed(self, line: Line) -> None:
        """A line has asked all that it was to ask, and leaves."""
        if self._visits is not None:
            self._visits.gone(cast(Passing, line))

    def ended(self, line: Line, again: Sequence[Operation]) -> None:
        """The server has announced the end of a line: another one asks this again, and goes on."""
        self.tally.close()
        self._gone += 1
        self._following.follow(line, again)
        if self._returning is not None:
            self._returning.look()

    def _came(self, line: Line) -> None:
        self._lines[line] = None
        self._alone.clear()

    def _followed(self, line: Line, follower: Line) -> None:
        self._gone += 1
        if self._visits is not None:
            self._visits.replaced(cast(Passing, line), cast(Passing, follower))
        if self._returning is not None:
            self._returning.look()

    def closed(self, line: Line) -> None:
        """A line is gone; one that was ended has its place until another one takes it."""
        if not line.ended:
            self.passed(line)
        self.forget(line)
        self.left.extend((line.connection, now_ns()))
        self._gone += 1
        self._lines.pop(line, None)
        if self._returning is not None and not line.ended:
            self._returning.gone()
        self._look_round()

    def live_lines(self) -> list[Line]:
        """The lines that can carry an operation."""
        return [line for line in self._lines if line.alive]

    def lost_lines(self) -> int:
        """How many are gone: when it changes, ``live_lines`` does."""
        return self._gone

    def coming(self) -> Following:
        """Those who follow lines that were ended."""
        return self._following

    def _look_round(self) -> None:
        """Whether anybody is there, or may still come."""
        if self._lines or self._dialling.under_way or self._following.coming():
            self._alone.clear()
            return
        self._alone.set()
        if self._visits is None and self._returning is None:
            self._over.set()

    async def _send(self, start: int) -> None:
        sender = self._sender()
        if self.plan.rate is None or self._scenario.pace is None:
            self._begin()
            await _at_most((self.end - now_ns()) / _SECOND, self._over.wait())
            return
        pace = self._scenario.pace(self.plan, start, self._index)
        last = self.end - 1 - (self.plan.hold_ns if self._scenario.line.holds else 0)
        number = pace.due(last)
        self.due = number * self._operations_each()
        rounds = self._rounds = Rounds(sender, pace, number)
        await _at_most((self.end + _LATE_END - now_ns()) / _SECOND, rounds.sent.wait())
        rounds.stop()
        await self._linger()

    async def _linger(self) -> None:
        """Until the end, also when all is sent: an event may come that the lines have to live
        through. Visits are not cut short.
        """
        if self._visits is not None:
            self.end += self.plan.grace_ns
            await _at_most((self.end - now_ns()) / _SECOND, self._visits.wait_empty())
        else:
            await _at_most((self.end - now_ns()) / _SECOND, self._over.wait())

    def _sender(self) -> Sender:
        lines = self.live_lines()
        if self._scenario.returns:
            self._returning = Returning(self._dialling.dial_next, self.live_lines, self.late)
            return self._returning
        if not issubclass(self._scenario.line, Passing):
            return _Turns(self)
        self._visits = Visits(
            self._dial_passing, cast(list[Passing], lines), self.plan.rate is None, self.late
        )
        return self._visits

    def _begin(self) -> None:
        """Closed loop."""
        if self._visits is not None:
            self._visits.begin()
            return
        now = now_ns()
        for line in self.live_lines():
            line.fill(now)

    async def _dial_passing(self) -> Passing | None:
        return cast(Passing | None, await self._dialling.dial_next())

    def _operations_each(self) -> int:
        """How many operations there are to what the pace counts."""
        return self.plan.requests if issubclass(self._scenario.line, Passing) else 1

    async def _leave(self) -> None:
        for line in [*self._lines]:
            line.leave()
        hearing_on = self.plan.grace_ns / _SECOND if self.plan.tls else 0.0
        await _at_most(_LEAVE_S + hearing_on, self._alone.wait())
        for line in [*self._lines]:
            line.end()


class _Turns:
    """Operation ``k`` goes out on line ``k`` modulo their number, one write a line; while nobody is
    there, it waits for who follows.
    """

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._lost = traffic.lost_lines()
        self._lines = traffic.live_lines()

    def senders(self) -> int:
        """The lines that live, or are to."""
        if self._lost != self._traffic.lost_lines():
            self._lost, self._lines = self._traffic.lost_lines(), self._traffic.live_lines()
        return len(self._lines) or self._traffic.coming().coming()

    def send(self, first: int, intended: Sequence[int]) -> None:
        """In turn."""
        lines, width = self._lines, len(self._lines)
        if not lines:
            self._traffic.coming().keep(intended)
        for k in range(min(len(intended), width)):
            lines[(first + k) % width].send(intended[k::width])


async def _at_most(seconds: float, waiting: Awaitable[object]) -> None:
    try:
        await asyncio.wait_for(waiting, max(0.0, seconds))
    except TimeoutError:
        await asyncio.sleep(0)  # if we stood still, what came meanwhile is read only now
