"""What a worker measures of itself."""

from __future__ import annotations

import asyncio
import mmap
import threading
import time
from pathlib import Path

import pytest

from netswap.worker import gauges
from netswap.worker.gauges import Pulse, Stopwatch, resident_bytes


async def test_a_held_loop_is_seen_by_its_pulse() -> None:
    """By as much as the next beat was late."""
    pulse = Pulse(asyncio.get_running_loop(), 0.02, waited=True)
    held = asyncio.get_running_loop().time() + 0.2
    while asyncio.get_running_loop().time() < held:  # noqa: ASYNC110 - the loop is what is held
        time.sleep(0.05)  # noqa: ASYNC251 - on purpose
    while pulse.longest_ns < 100_000_000:  # noqa: ASYNC110 - for the next beat
        await asyncio.sleep(0)
    pulse.stop()
    assert pulse.longest_ns < 60_000_000_000


def test_memory_is_that_of_this_process() -> None:
    """It grows with what is allocated."""
    before = resident_bytes()
    with mmap.mmap(-1, 64 << 20) as held:  # the heap may still have what others have freed
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        assert resident_bytes() - before > 32 << 20


def test_a_stopwatch_tells_standing_still_from_computing() -> None:
    """Neither is the other."""
    watch = Stopwatch()
    threading.Event().wait(0.05)
    assert watch.blocked_s() > 0.02  # of it, for a time in which others compute is none
    assert watch.cpu_ns() < 40_000_000
    watch = Stopwatch()
    while watch.cpu_ns() < 50_000_000:
        pass
    assert watch.blocked_s() < 0.04


def test_a_stopwatch_that_cannot_tell_says_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A busy machine looks the same as a sleep there."""
    monkeypatch.setattr(gauges, "_WAITED", tmp_path / "no such file")
    watch = Stopwatch()
    threading.Event().wait(0.01)
    assert watch.blocked_s() == 0.0
