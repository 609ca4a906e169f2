"""A stall in a closed loop is seen as who would have come in it would have seen it."""

from __future__ import annotations

import re
from array import array
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loadgen.conductor import Observation
from loadgen.findings import Report, build_report
from loadgen.findings.omission import corrected, expected_interval
from loadgen.judging import judge, parse_threshold
from loadgen.output.page import render_page
from loadgen.output.page.drawing import build_drawing
from loadgen.output.summary import render
from loadgen.plan import PlanError
from tests.loadgen.carried import MS
from tests.loadgen.seen import pushed_at, steady_run

STALL = {2100: 200}
"""An operation that took 200 ms beside 799 in the window of a push at 2 s."""


def closed(slow: dict[int, int], *pauses: tuple[int, int]) -> Report:
    """A run of six seconds in closed loop, with our own pauses (ms)."""
    return build_report(closed_run(slow, *pauses))


def closed_run(
    slow: dict[int, int], *pauses: tuple[int, int], pushes: Any = (2000,)
) -> Observation:
    seen = steady_run(6, *map(pushed_at, pushes), slow=slow)
    seen.plan = msgspec.structs.replace(seen.plan, rate=None)
    seen.samples.version[:] = array("l", [1] * 6000)
    seen.pauses = [array("q", [at * MS for pause in pauses for at in pause])]
    return seen


def test_what_is_put_in_is_what_an_open_loop_would_have_seen() -> None:
    """A server of 1 ms stalls for 0.1 s; who asks each millisecond waits for what is left of it."""
    asked_on = [MS] * 500 + [100 * MS] + [MS] * 400
    each_millisecond = [MS] * 500 + [left * MS for left in range(100, 0, -1)] + [MS] * 400
    interval = expected_interval(sorted(asked_on))
    assert interval == MS
    assert sorted(corrected(asked_on, interval)) == sorted(each_millisecond)


def test_nothing_is_put_in_where_nothing_was_left_out() -> None:
    """What took less than two intervals kept nobody else waiting; an open loop asked all of it."""
    assert [*corrected([1, 5, 9], 5)] == [1, 5, 9]
    assert [*corrected([10, 11, 14], 5)] == [10, 5, 11, 6, 14, 9]
    assert [*corrected([10_000], 0)] == [10_000]
    assert [*corrected([-5, 0], expected_interval([-5, 0]))] == [-5, 0]
    assert expected_interval([]) == 0


@given(st.lists(st.integers(-1000, 10**12), min_size=1), st.integers(0, 10**9))
@example([0, 1, 10], 0)
def test_it_is_bounded(took: list[int], hold: int) -> None:
    """A run that stood still nearly all the time is not made many times as long."""
    put_in = [*corrected(took, expected_interval(sorted(took), hold))]
    assert len(took) <= len(put_in) <= 3 * len(took) + sum(each < 0 for each in took) * 1000
    assert max(put_in) == max(took)


@pytest.mark.parametrize(
    ("slow", "limit", "code"),
    [
        pytest.param(STALL, "window.p99>50ms", 0, id="as it is asked"),
        pytest.param(STALL, "corrected.window.p99>50ms", 11, id="corrected"),
        pytest.param(STALL, "corrected.window.p50>50ms", 0, id="a fifth of the window"),
        pytest.param(STALL, "corrected.p99>50ms", 11, id="of the run"),
        pytest.param(STALL, "corrected.null.p99>50ms", 0, id="elsewhere"),
        pytest.param(STALL, "corrected.excess.p99>50ms", 11, id="beside elsewhere"),
        pytest.param({4000: 200}, "null.p99>50ms", 0, id="in quiet time, as it is asked"),
        pytest.param({4000: 200}, "corrected.null.p99>50ms", 11, id="in quiet time"),
        pytest.param({4000: 200}, "corrected.excess.p99>0ms", 0, id="not beyond quiet time"),
        pytest.param({}, "corrected.window.max>2ms", 0, id="no stall"),
    ],
)
def test_a_limit_on_what_a_closed_loop_hides(slow: dict[int, int], limit: str, code: int) -> None:
    """What a percentile leaves out as it was measured is in it as it is corrected."""
    assert judge(closed(slow), [parse_threshold(limit)]).exit_code == code


def test_our_own_pause_is_no_stall_of_the_servers() -> None:
    """The operation was open while we stood still: nothing is proved, and that is said."""
    verdict = judge(closed(STALL, (2110, 2290)), [parse_threshold("corrected.window.p99>50ms")])
    assert verdict.exit_code == 12
    assert "in which the generator may have stood still" in verdict.reasons[0]
    elsewhere = closed(STALL, (4000, 4030))
    assert judge(elsewhere, [parse_threshold("corrected.window.p99>50ms")]).exit_code == 11


def test_a_stall_that_may_have_been_in_our_pause_is_not_denied() -> None:
    """Nobody asked then, so nobody knows."""
    verdict = judge(closed({}, (2110, 2290)), [parse_threshold("corrected.window.p99>50ms")])
    assert verdict.exit_code == 12


@pytest.mark.parametrize(
    ("waited", "limit", "code"),
    [
        pytest.param(180, "corrected.p99>2ms", 12, id="all of what it leaves out and more"),
        pytest.param(40, "corrected.p99>2ms", 11, id="less than it leaves out"),
        pytest.param(0, "corrected.p99>2ms", 11, id="none"),
        pytest.param(180, "p99>2ms", 0, id="as it was measured"),
        pytest.param(180, "p50>100us", 11, id="slow without a wait, too"),
    ],
)
def test_waits_too_short_to_be_pauses_are_no_stalls(waited: int, limit: str, code: int) -> None:
    """Sixty operations of 4 ms, in all or some of which we may have been without a processor."""
    seen = steady_run(6, pushed_at(2000), slow=dict.fromkeys(range(50, 6000, 100), 4))
    seen.plan = msgspec.structs.replace(seen.plan, rate=None)
    seen.samples.version[:] = array("l", [1] * 6000)
    seen.waited_ns, seen.paused_ns = [waited * MS], 4 * MS
    verdict = judge(build_report(seen), [parse_threshold(limit)])
    assert verdict.exit_code == code, verdict.reasons


def test_an_open_loop_leaves_nothing_out() -> None:
    """It is the latency, and so is each limit."""
    report = build_report(steady_run(6, pushed_at(2000), slow=STALL))
    assert report.corrected == report.latency
    assert [event.around.corrected for event in report.events if event.around] == [
        event.window for event in report.events
    ]
    for limit, code in (("corrected.window.p99>50ms", 0), ("corrected.window.max>50ms", 11)):
        assert judge(report, [parse_threshold(limit)]).exit_code == code


def test_it_is_told_of_a_closed_loop() -> None:
    """Beside the latency as it is measured, in which nobody would notice the event."""
    report = closed(STALL)
    lines = [each.split() for each in render(report, judge(report)).splitlines()]
    assert [words[1:7] for words in lines if words[0] == "corrected"] == [
        ["1", "ms", "1", "ms", "139", "ms"],  # the run
        ["1", "ms", "100", "ms", "190", "ms"],  # the window
        ["1", "ms", "1", "ms", "1", "ms"],  # the worst in which nothing happened
        ["p99", "190", "ms", "max", "200", "ms"],
    ]
    assert ["stands", "out"] in lines
    opened = build_report(steady_run())
    assert "corrected" not in render(opened, judge(opened))


def test_the_worst_window_is_the_one_that_kept_most_waiting() -> None:
    """Many that took a little longer are not worse than a stall that a closed loop hides."""
    little = dict.fromkeys(range(1100, 1130), 3)
    report = build_report(closed_run({**little, 4100: 200}, pushes=(1000, 4000)))
    assert [event.window["p99"] for event in report.events] == [3000.0, 1000.0]
    assert report.worst_event is report.events[1]
    quiet = closed({**dict.fromkeys(range(3200, 3230), 3), 4000: 200})
    assert quiet.worst_null is not None
    assert quiet.worst_null.latency["max"] == 200_000.0


def test_the_page_draws_it_and_tells_it_in_numbers() -> None:
    """As the second curve; in the table of percentiles and beside the event, before quiet time."""
    seen = closed_run(STALL)
    report = build_report(seen)
    drawing = build_drawing(seen, report)
    for curve, most in ((drawing.latency, 1000.0), (drawing.beside, 140_000.0)):
        assert max(us for share, us in curve if share <= 0.99) <= most
    assert max(us for share, us in drawing.beside if share <= 0.99) > 100_000
    page = render_page(seen, report, judge(report))
    rows = re.findall(r">corrected</th><td>1 ms</td><td>([\d.]+ ms)</td><td>([\d.]+ ms)<", page)
    assert rows == [("190 ms", "199 ms"), ("1 ms", "1 ms"), ("1 ms", "139 ms")]


@pytest.mark.parametrize("metric", ["rate", "service_p99", "overlap", "stale"])
def test_what_is_no_latency_is_not_corrected(metric: str) -> None:
    """It is a usage error, with what could be meant."""
    with pytest.raises(PlanError, match="can't be corrected: p50, .*window.p99"):
        parse_threshold(f"corrected.{metric}>1ms")
