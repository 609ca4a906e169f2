"""What we are late by is told apart from what the server keeps waiting."""

from __future__ import annotations

import asyncio
from array import array
from typing import cast

import pytest

from loadgen.lines import complete, line, returning, visits
from loadgen.lines.line import Line, Passing
from loadgen.lines.returning import Returning
from loadgen.lines.visits import Visits
from loadgen.plan import Plan, PlanError

SECOND = 1_000_000_000


class Clock:
    """Says what it is told."""

    now = 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of all that send."""
    clock = Clock()
    for module in (line, returning, visits):
        monkeypatch.setattr(module, "now_ns", lambda: clock.now)
    return clock


class Guest:
    """A line that does nothing."""

    def __init__(self) -> None:
        self.alive = True
        self.due = 0
        self.sent: list[int] = []

    def fill(self, now: int) -> None:
        self.sent.append(now)

    def send(self, intended: list[int]) -> None:
        self.sent.extend(intended)


async def test_a_visit_is_late_by_us_from_when_there_is_room(clock: Clock) -> None:
    """The wait for room and the connect are the server's, what is before the connect is ours."""
    late, connected = array("q"), asyncio.Event()
    first, second = Guest(), Guest()

    async def dial() -> Passing:
        await connected.wait()
        return cast(Passing, second)

    coming = Visits(dial, [cast(Passing, first)], False, late)
    clock.now = 5
    coming.send(0, [0, 2])
    clock.now = 7
    while not first.sent or coming._coming:
        await asyncio.sleep(0)
    clock.now = 100
    coming.gone(cast(Passing, first))
    clock.now = 103
    while len(late) < 2:
        await asyncio.sleep(0)
    clock.now = 200
    connected.set()
    while not second.sent:
        await asyncio.sleep(0)
    assert list(late) == [7, 3]
    assert (second.due, second.sent) == (2, [200])


async def test_who_waits_for_one_to_come_back_is_late_by_us_before_only(clock: Clock) -> None:
    """From when it was due until we noticed; how long nobody was there is the server's."""
    late, guest = array("q"), Guest()
    there: list[Line] = []

    async def dial() -> Line:
        there.append(cast(Line, guest))
        return there[0]

    loyal = Returning(dial, lambda: [*there], late)
    clock.now = 5
    loyal.send(0, [1, 2])
    loyal.gone()
    clock.now = 90
    while not guest.sent:
        await asyncio.sleep(0)
    loyal.send(2, [88])
    assert list(late) == [4, 3, 2]
    assert guest.sent == [1, 2, 88]


@pytest.mark.parametrize(("rate", "good"), [(4.0, True), (4.1, False)])
def test_halves_that_can_not_be_carried_are_refused(rate: float, good: bool) -> None:
    """A connection is busy with one request for all of its hold: more would be late by us."""
    plan = Plan(protocol="echo", host="h", port=1, connections=2, duration_ns=9 * SECOND,
                hold_ns=SECOND // 2, scenario="slow", rate=rate)  # fmt: skip
    if good:
        assert complete(plan, None, None).rate == rate
        return
    with pytest.raises(PlanError, match="at most 4 a second"):
        complete(plan, None, None)
