"""Loops whose time is in the test's hands: both wait for the clock, and for nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from netswap.testing import ManualClock
from netswap.testing.loops import LOOPS, ManualLoop


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> Iterator[ManualLoop]:
    """Each loop in turn."""
    made = LOOPS[request.param]()
    yield made
    made.close()


def run(loop: ManualLoop, main: Callable[[], Awaitable[Any]]) -> Any:
    return loop.run_until_complete(main())  # type: ignore[arg-type]  # coroutines


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_the_clock_stands_still_until_it_is_moved() -> None:
    """Both of its times go on by what passes, and never back."""
    clock = ManualClock()
    before = clock.monotonic_ns(), clock.time_ns()
    clock.advance(1.5)
    assert (clock.monotonic_ns() - before[0], clock.time_ns() - before[1]) == (1_500_000_000,) * 2
    clock.move_to(0)
    assert clock.monotonic_ns() - before[0] == 1_500_000_000


def test_sleep_and_time_outs_wait_for_the_clock(loop: ManualLoop) -> None:
    """A coroutine that sleeps for an hour is woken when the test says that it is over."""

    async def main() -> list[str]:
        seen: list[str] = []

        async def sleeper() -> None:
            await asyncio.sleep(3600)
            seen.append("slept")
            try:
                await asyncio.wait_for(asyncio.Event().wait(), 10)
            except TimeoutError:
                seen.append("timed out")

        task = asyncio.ensure_future(sleeper())
        await turns()
        for seconds, expected in ((3599, []), (2, ["slept"]), (11, ["slept", "timed out"])):
            until = loop.clock.monotonic_ns() + seconds * 1_000_000_000
            while loop.ring(until):
                await turns()
            assert seen == expected
        await task
        return seen

    assert run(loop, main) == ["slept", "timed out"]


def test_calls_come_in_the_order_of_their_times_and_cancelled_ones_not(loop: ManualLoop) -> None:
    """At their own time; those of one time in the order in which they were asked for."""

    async def main() -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []
        start = loop.time()

        def note(name: str) -> None:
            seen.append((name, round(loop.time() - start, 6)))

        loop.call_later(3, note, "c")
        loop.call_later(1, note, "a")
        loop.call_at(start + 3, note, "d")
        gone = loop.call_later(2, note, "never")
        loop.call_later(2, note, "b")
        gone.cancel()
        assert loop.armed == 4
        while loop.ring(loop.clock.monotonic_ns() + 10_000_000_000):
            await turns()
        assert loop.armed == 0
        return seen

    assert run(loop, main) == [("a", 1), ("b", 2), ("c", 3), ("d", 3)]


def test_beginning_anew_forgets_what_waited(loop: ManualLoop) -> None:
    """The next play begins at the same time as the one before."""
    loop.call_later(1, lambda: None)
    loop.clock.advance(5)
    now = loop.time()
    loop.begin_anew()
    assert loop.armed == 0
    assert loop.time() == now - 5
