"""A run by time: whatever the buckets, nothing is lost in them."""

from __future__ import annotations

import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from loadgen.findings.timeline import curve, fill, gather, nice_width

MS = 1_000_000
ROWS = st.lists(
    st.tuples(st.integers(0, 999 * MS), st.integers(1, 500 * MS), st.integers(1, 3)), min_size=1
)


@given(ROWS, st.integers(1, 400 * MS))
def test_no_spike_is_lost_in_a_bucket(rows: list[tuple[int, int, int]], width: int) -> None:
    """However wide a bucket, its most and least are of it all, and every operation is in one."""
    intended = [due for due, _, _ in rows]
    done = [due + took for due, took, _ in rows]
    width = max(width, MS)
    line = fill(gather(intended, done, [v for _, _, v in rows]), 0, 0, 2000 * MS, width)
    for k, (most, least) in enumerate(zip(line.max_us, line.min_us, strict=True)):
        within = [took for due, took, _ in rows if due // width == k]
        assert most == (round(max(within) / 1000, 1) if within else None)
        assert least == (round(min(within) / 1000, 1) if within else None)
    assert sum(line.answered) == len(rows)
    apart = [sum(counts) for counts in zip(*line.by_version.values(), strict=True)]
    assert apart == line.answered


def test_a_stall_stands_where_its_victims_were_due() -> None:
    """A freeze of 300 ms is a slope from its begin, not a spike at its end."""
    intended = [k * MS for k in range(1000)]
    done = [max(at + MS, 700 * MS) if at >= 400 * MS else at + MS for at in intended]
    line = fill(gather(intended, done), 0, 0, 1000 * MS, 100 * MS)
    assert [us and round(us / 1000) for us in line.max_us] == [1, 1, 1, 1, 300, 200, 100, 1, 1, 1]
    assert line.answered[4:8] == [1, 0, 0, 399]


def test_a_bucket_in_which_nothing_was_due_says_so() -> None:
    """No latency is made up for it."""
    line = fill(gather([0, 250 * MS], [MS, 251 * MS]), 0, 0, 300 * MS, 100 * MS)
    assert line.p50_us == [1000.0, None, 1000.0]


def test_connections_are_of_the_version_that_answered_last() -> None:
    """A connection counts from its first answer, and for one version at a time."""
    done = [50 * MS, 60 * MS, 150 * MS, 250 * MS]
    facts = gather(done, done, [1, 1, 2, 2], connections=[7, 8, 7, 8])
    line = fill(facts, 0, 0, 400 * MS, 100 * MS)
    assert line.connections == {"1": [2, 1, 0, 0], "2": [0, 1, 2, 2]}
    assert fill(facts, 0, 200 * MS, 400 * MS, 100 * MS).connections == {"1": [0, 0], "2": [2, 2]}


def test_faults_have_their_time() -> None:
    """They are counted in the bucket of their time, and those beyond the stretch in none."""
    faults = [(5, "lost"), (150 * MS, "lost"), (150 * MS, "dropped"), (900 * MS, "early")]
    line = fill(gather([], [], faults=faults), 0, 0, 300 * MS, 100 * MS)
    assert line.faults == [1, 2, 0]
    assert line.kinds == {"dropped": [0, 1, 0], "lost": [1, 1, 0]}


def test_closes_in_order_have_their_time() -> None:
    """They are no fault, and nobody's version."""
    closed = array("q", [5, 150 * MS, 160 * MS, 900 * MS])
    line = fill(replace(gather([], []), closed=closed), 0, 0, 300 * MS, 100 * MS)
    assert (line.closed, line.faults) == ([1, 2, 0], [0, 0, 0])


def test_who_has_left_is_no_connection_of_any_version() -> None:
    """It counts until it leaves; who left without an answer never counted."""
    done = [50 * MS, 60 * MS, 150 * MS]
    left = [7, 180 * MS, 9, 190 * MS, 8, 210 * MS]
    facts = gather(done, done, [1, 1, 2], connections=[7, 8, 7], left=left)
    line = fill(facts, 0, 0, 300 * MS, 100 * MS)
    assert line.connections == {"1": [2, 1, 0], "2": [0, 0, 0]}


def test_short_visits_count_where_they_were() -> None:
    """Of connections that come and go within a bucket none is there at its end."""
    done = [10 * MS, 20 * MS, 130 * MS, 90 * MS]
    left = [1, 15 * MS, 2, 25 * MS, 3, 140 * MS, 4, 110 * MS]
    facts = gather(done, done, [1, 1, 2, 1], connections=[1, 2, 3, 4], left=left)
    line = fill(facts, 0, 0, 300 * MS, 100 * MS)
    assert line.connections == {"1": [3, 0, 0], "2": [0, 1, 0]}


@given(st.integers(1, 10**13), st.integers(0, 10**8))
def test_a_width_is_round_and_makes_few_buckets(span: int, operations: int) -> None:
    """1, 2 or 5 times a power of ten, a screenful at most."""
    width = nice_width(span, operations)
    assert str(width).rstrip("0") in {"1", "2", "5"}
    assert span / width <= 300


@pytest.mark.parametrize("count", [1, 2, 7, 1000, 12_345])
def test_the_curve_ends_at_the_slowest(count: int) -> None:
    """It rises, begins at the quickest, and its last point is the maximum, at 1 - 1/n."""
    points = curve(range(1000, 1000 + count * 1000, 1000))
    assert points == sorted(points)
    assert points[0][1] == 1.0
    assert points[-1] == (1 - 1 / count, float(count))
    halves = [us for share, us in points if math.isclose(share, 0.9)]
    assert halves == ([math.ceil(count * 0.9)] if count >= 1000 else halves)
