"""Work beside the loop: the loop turns meanwhile, and a deadline reaches into the thread."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest

from netswap.errors import BundleError, DeadlinePassed
from netswap.events import Refusal
from netswap.testing import ManualClock
from netswap.worker import apart as room
from netswap.worker import gauges
from netswap.worker.apart import apart
from netswap.worker.gauges import Pulse

PATIENCE = 20.0


@pytest.mark.asyncio(loop_factories=["asyncio"])  # uvloop's methods can't be put in place of
async def test_a_thread_that_can_not_say_that_it_has_begun_is_not_waited_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever it fails with there comes back."""
    loop = asyncio.get_running_loop()
    tell = loop.call_soon_threadsafe

    def short_once(*words: Any) -> asyncio.Handle:
        monkeypatch.setattr(loop, "call_soon_threadsafe", tell)
        raise MemoryError

    monkeypatch.setattr(loop, "call_soon_threadsafe", short_once)
    with pytest.raises(MemoryError):
        await asyncio.wait_for(apart(list, PATIENCE), PATIENCE)


async def test_what_the_work_gives_or_raises_comes_back() -> None:
    """In another thread, and the switch interval is as before."""
    before = sys.getswitchinterval()
    seen: list[float | int] = []

    def work() -> str:
        seen.extend((threading.get_ident(), sys.getswitchinterval()))
        return "given"

    assert await apart(work, PATIENCE) == "given"
    assert seen[0] != threading.get_ident()
    assert seen[1] < before
    assert sys.getswitchinterval() == before

    assert await apart(asyncio.get_event_loop, PATIENCE) is asyncio.get_running_loop()

    def fail() -> None:
        raise BundleError(Refusal("load", "no"))

    with pytest.raises(BundleError):
        await apart(fail, PATIENCE)
    assert await apart(seen.clear, PATIENCE) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("raised", [SystemExit(3), StopIteration(), KeyboardInterrupt()])
async def test_no_exception_is_lost_or_ends_the_process(raised: BaseException) -> None:
    """Whatever an import raises."""

    def work() -> None:
        raise raised

    with pytest.raises((type(raised), RuntimeError)):  # a coroutine can't raise StopIteration
        await apart(work, PATIENCE)


async def test_the_loop_turns_while_the_work_computes() -> None:
    """It would have been held for all of that time."""
    go_on = threading.Event()
    turns = [0]

    def work() -> str:
        while not go_on.is_set():
            turns[0] += 1
        return "given"

    task = asyncio.ensure_future(apart(work, PATIENCE))
    async with asyncio.timeout(PATIENCE):
        while not turns[0]:
            await asyncio.sleep(0)
    before = turns[0]
    for _ in range(100):
        await asyncio.sleep(0)
    assert not task.done()
    async with asyncio.timeout(PATIENCE):
        while turns[0] == before:
            await asyncio.sleep(0)
    go_on.set()
    assert await task == "given"


async def test_work_that_hangs_is_interrupted_at_its_deadline() -> None:
    """Between two bytecodes; the thread is gone afterwards."""
    before = threading.active_count()

    def work() -> None:
        while True:
            pass

    with pytest.raises(DeadlinePassed):
        await apart(work, 0.05)
    async with asyncio.timeout(PATIENCE):
        while threading.active_count() > before:
            await asyncio.sleep(0)


@pytest.mark.skipif(
    sys.gettrace() is not None,
    reason="CPython 3.11 turns on the spot when it traces while such an exception waits",
)
async def test_work_that_can_not_be_interrupted_is_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it gives later interests nobody."""
    monkeypatch.setattr(room, "LAST_S", 0.01)
    before = threading.active_count()
    go_on = threading.Event()

    def work() -> None:
        while not go_on.is_set():
            try:
                go_on.wait()
            except DeadlinePassed:
                continue

    with pytest.raises(DeadlinePassed, match=r"within 0\.01 s"):
        await apart(work, 0.01)
    go_on.set()
    async with asyncio.timeout(PATIENCE):
        while threading.active_count() > before:
            await asyncio.sleep(0)


async def test_the_time_counts_from_when_the_thread_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In what starts it nobody would catch the exception: it would be a traceback on stderr."""
    go_on = threading.Event()

    def work() -> None:
        while True:
            pass

    class Late(threading.Thread):
        def run(self) -> None:
            go_on.wait()
            super().run()

    monkeypatch.setattr(threading, "Thread", Late)
    monkeypatch.setattr(room, "LAST_S", 0.0)
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    before = threading.active_count()
    with pytest.raises(DeadlinePassed):
        await apart(work, 0.0)
    async with asyncio.timeout(PATIENCE):
        while threading.active_count() > before:
            await asyncio.sleep(0)


async def test_a_stall_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest time for which nothing else of the loop ran."""
    clock = ManualClock()
    monkeypatch.setattr(gauges, "time", clock)
    loop = asyncio.get_running_loop()
    with Pulse(loop, 0.001) as quiet:
        await asyncio.sleep(0)
    with Pulse(loop, 0.001) as held:
        clock.advance(0.05)
        await asyncio.sleep(0)
    assert held.longest_ns == 49_000_000
    assert quiet.longest_ns == 0
