"""The alarm rings once, not early, and not after it was closed."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest

from loadgen.lines.alarm import Alarm, KernelAlarm, LoopAlarm, open_alarm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="timer descriptors are Linux's")

_EARLY = {KernelAlarm: 0, LoopAlarm: 2_000_000}  # the loop's own clock counts in milliseconds


@pytest.fixture(params=[KernelAlarm, LoopAlarm])
def kind(request: pytest.FixtureRequest) -> type[KernelAlarm | LoopAlarm]:
    chosen: type[KernelAlarm | LoopAlarm] = request.param
    return chosen


async def test_it_rings_at_its_time_and_is_set_again(kind: type[KernelAlarm | LoopAlarm]) -> None:
    """Each ring comes at the deadline or after it."""
    rang = asyncio.Event()
    alarm: Alarm = kind(asyncio.get_running_loop(), rang.set)
    for ahead in (5_000_000, -1_000_000, 1_000_000):
        deadline = time.monotonic_ns() + ahead
        alarm.ring_at(deadline)
        await rang.wait()
        assert time.monotonic_ns() >= deadline - _EARLY[kind]
        rang.clear()
    alarm.close()


async def test_a_moved_alarm_rings_once(kind: type[KernelAlarm | LoopAlarm]) -> None:
    """Setting it again replaces the earlier time."""
    rings: list[int] = []
    alarm: Alarm = kind(asyncio.get_running_loop(), lambda: rings.append(time.monotonic_ns()))
    first, second = time.monotonic_ns() + 3_000_000, time.monotonic_ns() + 12_000_000
    alarm.ring_at(first)
    alarm.ring_at(second)
    done = asyncio.Event()
    watch = open_alarm(asyncio.get_running_loop(), done.set)
    watch.ring_at(second + 10_000_000)
    await done.wait()
    alarm.close()
    watch.close()
    assert len(rings) == 1
    assert rings[0] >= second - _EARLY[kind]


async def test_a_closed_alarm_is_silent(kind: type[KernelAlarm | LoopAlarm]) -> None:
    """Nothing rings after close()."""
    rings: list[None] = []
    loop = asyncio.get_running_loop()
    alarm: Alarm = kind(loop, lambda: rings.append(None))
    deadline = time.monotonic_ns() + 2_000_000
    alarm.ring_at(deadline)
    alarm.close()
    done = asyncio.Event()
    watch = open_alarm(loop, done.set)
    watch.ring_at(deadline + 10_000_000)
    await done.wait()
    watch.close()
    assert rings == []
