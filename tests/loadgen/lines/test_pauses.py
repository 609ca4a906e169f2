"""A generator that stood still proves nothing, and accuses nobody."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from loadgen.findings import build_report
from loadgen.judging import judge
from loadgen.lines import now_ns, pauses
from loadgen.lines.pauses import Pauses, waited_ns
from tests.loadgen.carried import MS, served, undisturbed
from tests.loadgen.faulty_server import Server, Verify


def hold_the_loop(ms: int) -> None:
    end = now_ns() + ms * MS
    while now_ns() < end:
        pass


class Holding(Server):
    """Answers its third question, then nobody runs on this loop for so many ms."""

    def __init__(self, ms: int) -> None:
        super().__init__(Verify, "none")
        self.ms = ms

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.answered == 3:
            hold_the_loop(self.ms)


async def test_the_longest_pause_is_told() -> None:
    """Also one that lasts until the end, but for the period of 20 ms."""
    pauses = Pauses()
    hold_the_loop(30)
    await asyncio.sleep(0)
    hold_the_loop(60)
    assert pauses.stop() >= 40 * MS


async def test_a_ring_that_is_late_enough_is_kept_from_the_ring_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not one that is as late as timers are, and no more than there is room for; all are told."""
    now = 1000 * MS
    monkeypatch.setattr(pauses, "now_ns", lambda: now)
    monkeypatch.setattr(pauses, "_KEPT", 2)
    looking = Pauses()
    for ms in (9, 10, 5, 30, 40):
        now += ms * MS
        looking._timer.cancel()
        looking._ring()
    assert [at // MS for at in looking.found] == [1009, 1019, 1024, 1054]
    assert looking.stop() == 35 * MS


@pytest.mark.asyncio(loop_factories=["uvloop"])  # a load process always runs on it
@pytest.mark.parametrize("rate", [None, 10.0])
async def test_a_pause_of_ours_is_no_pass_and_no_accusation(rate: float | None) -> None:
    """In any loop, also in the grace after the end: what came meanwhile is not lost."""
    seen = await served(partial(Holding, 300), rate=rate, connections=1)
    verdict = judge(build_report(seen))
    assert (verdict.exit_code, seen.tally.lost) == (12, 0), verdict.reasons
    assert "stood still for" in verdict.reasons[0]


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_short_pause_is_a_part_of_a_busy_machine() -> None:
    """It is in the latency, and told, and the run counts."""
    seen = await undisturbed(lambda: served(partial(Holding, 60), connections=1))
    report = build_report(seen)
    assert judge(report).exit_code == 0
    assert 0.03 <= report.paused_s < 0.25


def test_the_wait_for_a_processor_is_what_the_system_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second number of three; where there is none, we have not waited."""
    monkeypatch.setattr(pauses, "_SCHEDULED", tmp_path / "schedstat")
    assert waited_ns() == 0
    (tmp_path / "schedstat").write_text("5000 7000 12\n")
    assert waited_ns() == 7000
