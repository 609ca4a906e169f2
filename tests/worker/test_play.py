"""What is tried before a swap: all of it in a child, or a sample that stands for all."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from netswap import Service, State
from netswap.channel import messages
from netswap.hotswap import Change
from netswap.ott import Entry
from netswap.stack import Host
from netswap.transfer import Migration
from netswap.worker import play
from netswap.worker.play import SAMPLE, _sample, try_all, try_sample
from netswap.worker.trial import Trial, Trials
from protocols.verify.v1 import Verify

ASK = messages.Prepare(1, {}, timeout=10.0)


class Hall1(State, kind="test.hall", version=1):
    """A number."""

    count: int = 0


class Hall2(State, kind="test.hall", version=2):
    """The same number."""

    count: int = 0


class Rooms1(Service[Hall1]):
    """The first version."""


class Rooms2(Service[Hall2]):
    """The second version."""


@pytest.fixture
def host() -> Iterator[Host]:
    """A worker's objects: a hundred halls."""
    loop = asyncio.new_event_loop()
    host = Host(loop, None)
    for number in range(100):
        row = host.table.create("test.hall")
        row.target = Rooms1.born(host, row, Hall1(number))
    yield host
    loop.close()


def entries(host: Host) -> list[Entry]:
    """All of them."""
    return list(host.table.of_kind("test.hall"))


def changes(up: Any = dict) -> list[Change]:
    """From the first version to the second by this step."""
    steps = (Migration("test.hall", 1, 2, up, (), 1), Migration("test.hall", 2, 1, dict, (), 1))
    return [Change("test.hall", Rooms2, Rooms1, steps)]


def test_all_objects_are_tried(host: Host) -> None:
    """Also with nothing to do."""
    played = try_all(changes(), entries(host), host, ASK)
    assert played.refusal is None
    assert played.report.objects == 100
    assert try_all(changes(), [], host, ASK).report.objects == 0


def test_what_a_conversion_does_to_the_process_is_refused(host: Host) -> None:
    """It would be done once an object, and nobody would undo it."""
    made: list[int] = []

    def up(old: dict[str, Any]) -> dict[str, Any]:
        made.append(os.open(os.devnull, os.O_RDONLY))
        return old

    try:
        refusal = try_all(changes(up), entries(host)[:1], host, ASK).refusal
    finally:
        for descriptor in made:
            os.close(descriptor)
    assert refusal is not None
    assert "converting test.hall opened the descriptor" in refusal.reason
    assert refusal.advice


def test_a_sample_goes_from_one_end_to_the_other(host: Host) -> None:
    """So many of each kind, and never the first ones alone."""
    host.present["test.hall"] = Rooms1
    for _ in range(3):
        row = host.table.create("test.rare")
        row.target = Rooms1.born(host, row, Hall1())
    rows = [*entries(host), *host.table.of_kind("test.rare")]
    chosen = _sample(rows)
    counts = Counter(entry.kind for entry in chosen)
    assert counts["test.rare"] == 3
    assert SAMPLE // 2 < counts["test.hall"] <= SAMPLE
    places = [rows.index(entry) for entry in chosen if entry.kind == "test.hall"]
    assert places[0] == 0
    assert places[-1] > 90


def test_a_sample_that_fails_is_refused_and_one_that_passes_is_called_so(host: Host) -> None:
    """The report never looks like that of a rehearsal."""

    def up(old: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("no")

    passed = try_sample(changes(), entries(host), host, ASK, 1.0)
    assert passed.refusal is None
    assert passed.report.sample
    assert passed.report.objects <= SAMPLE
    refused = try_sample(changes(up), entries(host), host, ASK, 1.0)
    assert refused.refusal is not None
    assert "ValueError: no" in refused.refusal.reason
    assert refused.report.failed == passed.report.objects


def test_a_sample_that_takes_too_long_is_given_up(host: Host) -> None:
    """It is on the loop, which may not be held for longer."""

    def up(old: dict[str, Any]) -> dict[str, Any]:
        while True:
            pass

    refusal = try_sample(changes(up), entries(host), host, ASK, 0.05).refusal
    assert refusal is not None
    assert "did not end within 0.05 s" in refusal.reason


@pytest.mark.parametrize(
    ("tried", "untried", "late"), [(2, 0, False), (2, 2, False), (2, 3, True), (0, 9, False)]
)
def test_a_swap_that_would_not_end_in_time_is_refused(tried: int, untried: int, late: bool) -> None:
    """From what the objects took that were tried, also for those that were not."""
    verify = [Change("verify.connection", Verify, Verify, ())]
    trials = Trials(Trial(verify, lambda: 0), verify, 0)
    trials.tried, trials.untried, trials.spent_ns = tried, untried, tried * 1_000_000_000
    refusal = play._too_long(trials, 4.0)
    assert (refusal is not None) is late
    if refusal is not None:
        assert "converting 5 objects takes 5.0 s (1.0000 s each" in refusal.reason
        assert refusal.kind == "verify.connection"
