"""The exit codes are one table, walked here; the report that they judge is derived exactly."""

from __future__ import annotations

import statistics
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.conductor import Observation
from loadgen.continuity import FAULTS, Tally
from loadgen.events import EventRecord
from loadgen.findings.report import build_report, spread
from loadgen.judging import RULES, judge
from loadgen.judging.metrics import TIMES
from loadgen.judging.thresholds import METRICS, parse_threshold
from loadgen.output.summary import render
from loadgen.plan import Event, Plan

MS = 1_000_000
SECOND = 1_000_000_000


def observed(**changes: Any) -> Observation:
    """A good open-loop run of one second: 1,000 operations of 1 ms, each sent 10 us late."""
    rate, seconds = changes.pop("rate", 1000.0), changes.pop("seconds", 1)
    count, long = 1000 * seconds, SECOND * seconds
    plan = Plan(protocol="verify", host="h", port=1, connections=1, duration_ns=long, rate=rate)
    tally = Tally(issued=count, answered=count, connected=1, **changes.pop("tally", {}))
    seen = Observation(plan, 0, tally, due=count, busy_ns=[long // 2])
    late = changes.pop("late", 10_000)
    for number in range(count):
        seen.samples.intended.append(number * MS)
        seen.samples.sent.append(number * MS + late)
        seen.samples.done.append(number * MS + MS)
    for name, value in changes.items():
        setattr(seen, name, value)
    return seen


def pushed(exit_code: int | None) -> list[EventRecord]:
    event = Event("push", 0, ("v2.py",))
    return [EventRecord(event, ["netswap"], 400 * MS, 500 * MS, exit_code, "", "refused")]


VIOLATED: dict[str, Any] = {"tally": {"lost": 1}}
SWAP_FAILED: dict[str, Any] = {"events": pushed(20)}
INVALID: dict[str, Any] = {"trouble": ["a process died"]}
MISSED = [parse_threshold("p99>1us")]


@pytest.mark.parametrize(
    ("changes", "thresholds", "expected"),
    [
        ({}, [], 0),
        ({}, MISSED, 11),
        (INVALID, MISSED, 12),
        (SWAP_FAILED | INVALID, MISSED, 13),
        (VIOLATED | SWAP_FAILED | INVALID, MISSED, 10),
        ({"events": pushed(None)}, [], 13),
        ({"events": pushed(0)}, [], 0),
    ],
)
def test_precedence(changes: dict[str, Any], thresholds: list[Any], expected: int) -> None:
    """2, 10, 13, 12, 11: the first rule of the table with a reason gives the code."""
    assert [rule.exit_code for rule in RULES] == [2, 10, 13, 12, 11]
    report = build_report(observed(**changes))
    verdict = judge(report, thresholds)
    assert verdict.exit_code == expected
    assert bool(verdict.reasons) == bool(expected)
    assert f"(exit {expected})" in render(report, verdict)


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"unknown"}))
def test_each_fault_alone_violates_correctness(fault: str) -> None:
    """One lost, duplicated, reordered, corrupted, forgotten, dropped or refused is one too many."""
    assert judge(build_report(observed(tally={fault: 1}))).exit_code == 10


@pytest.mark.parametrize(
    ("fault", "code"), [("lost", 12), ("dropped", 12), ("refused", 12), ("corrupted", 10)]
)
def test_who_stood_still_can_not_accuse_of_silence(fault: str, code: int) -> None:
    """What is wrong in an answer that came is wrong all the same."""
    seen = observed(tally={fault: 1}, paused_ns=2 * SECOND)
    assert judge(build_report(seen)).exit_code == code


def test_late_because_of_us_is_invalid() -> None:
    """Too few sent, and those late: the generator was the bottleneck."""
    assert judge(build_report(observed(due=2000, late=60 * MS))).exit_code == 12
    assert judge(build_report(observed(due=2000, busy_ns=[SECOND]))).exit_code == 12


def test_visits_that_a_slow_server_keeps_waiting_are_not_our_saturation() -> None:
    """Too few and late, because connections stay too long: unless the processor is busy."""
    seen = observed(due=2000, late=60 * MS)
    seen.plan = msgspec.structs.replace(seen.plan, scenario="churn")
    assert judge(build_report(seen)).exit_code == 0
    seen.busy_ns = [SECOND]
    assert judge(build_report(seen)).exit_code == 12


@pytest.mark.parametrize(
    ("limit", "changes", "code"),
    [
        ("p99>0.9ms", {}, 11),  # 1.00 ms, and 0.99 ms from the send
        ("p99>0.9ms", {"late": 200_000}, 12),  # 0.80 ms from the send
        ("p99>2ms", {"late": 200_000}, 0),
        ("service_p99>0.7ms", {"late": 200_000}, 11),
        ("p99<2ms", {"late": 200_000}, 11),
    ],
)
def test_a_limit_that_only_our_lateness_misses_says_nothing_of_the_server(
    limit: str, changes: dict[str, Any], code: int
) -> None:
    """An open loop is late by itself alone: who would be in time from the send is not convicted."""
    verdict = judge(build_report(observed(**changes)), [parse_threshold(limit)])
    assert verdict.exit_code == code
    assert len(verdict.reasons) == bool(code)
    if code == 12:
        assert "it is 1 ms, but 800 us from the send" in verdict.reasons[0]


@pytest.mark.parametrize(("busy", "code"), [(0.9, 11), (0.97, 12)])
def test_a_closed_loop_without_a_rest_shows_how_fast_the_generator_is(
    busy: float, code: int
) -> None:
    """A server that answers faster than we ask is not slow."""
    seen = observed(rate=None, due=0, busy_ns=[round(busy * SECOND)])
    report = build_report(seen)
    verdict = judge(report, [parse_threshold("rate<2000")])
    assert verdict.exit_code == code
    assert ("the generator, which was the limit" in verdict.reasons[0]) == (code == 12)
    assert judge(report, [parse_threshold("rate<900")]).exit_code == 0
    seen.plan = msgspec.structs.replace(seen.plan, rate=1000.0)
    assert judge(build_report(seen), [parse_threshold("rate<2000")]).exit_code == 11


@pytest.mark.parametrize(
    ("busy", "waited", "limit", "code"),
    [
        (0.3, 0.7, "p99>0.5ms", 12),
        (0.3, 0.7, "rate<2000", 12),
        (0.3, 0.7, "p99>2ms", 0),
        (0.3, 0.7, "connected<2", 11),
        (0.3, 0.4, "rate<2000", 11),
        (0.3, 0.4, "max>8.1ms", 12),
        (0.3, 0.4, "max>7.9ms", 11),
        (0.8, 0.2, "max>8.1ms", 11),
    ],
)
@pytest.mark.parametrize("rate", [None, 1000.0])
def test_who_waits_for_a_processor_blames_nobody_for_being_slow(
    busy: float, waited: float, limit: str, code: int, rate: float | None
) -> None:
    """Of a limit that holds there is no doubt. Of one that is missed there is, where we waited for
    a quarter of the time and never rested, or twice for 1 ms at once, which would explain it.
    Counts say the same however slow we are.
    """
    times = {"busy_ns": [round(busy * SECOND)], "waited_ns": [round(waited * SECOND)]}
    times["paused_ns"] = MS
    seen = observed(rate=rate, due=1000 if rate else 0, late=0, **times)
    seen.samples.done[500] += 9 * MS
    report = build_report(seen)
    verdict = judge(report, [parse_threshold(limit)])
    assert verdict.exit_code == code, verdict.reasons
    assert ("had no processor" in "".join(verdict.reasons)) == (code == 12)


@pytest.mark.parametrize(("more_ms", "code"), [(6, 11), (0, 12)])
def test_a_window_is_judged_by_what_is_the_servers_in_it(more_ms: int, code: int) -> None:
    """An operation of 6 ms in a push's window, of which we were 5 ms late: unless another one of
    7 ms was the server's.
    """
    seen = observed(events=pushed(0), seconds=6)
    seen.samples.done[440] += 5 * MS
    seen.samples.sent[440] += 5 * MS
    seen.samples.done[450] += more_ms * MS
    report = build_report(seen)
    (event,) = report.events
    assert event.around is not None
    assert (event.window["max"], event.around.service["max"]) == (
        (7000.0, 6990.0) if code == 11 else (6000.0, 990.0)
    )
    for limit in ("window.max>4ms", "excess.max>1ms"):
        assert judge(report, [parse_threshold(limit)]).exit_code == code


def test_who_waited_until_the_end_is_slower_than_all_that_was_measured() -> None:
    """A server that keeps visits waiting for room is not fast because they never came in."""
    seen = observed(due=1011)
    seen.plan = msgspec.structs.replace(seen.plan, scenario="churn")
    report = build_report(seen)
    assert "11 of 1,011 that were due could not be sent" in render(report, judge(report))
    (reason,) = judge(report, [parse_threshold("p99>1s"), parse_threshold("p90>1s")]).reasons
    assert reason == "p99>1s: 11 that were due have waited until the end"
    assert judge(report, [parse_threshold("unsent>10")]).exit_code == 11
    seen.plan = msgspec.structs.replace(seen.plan, scenario="steady")
    assert judge(build_report(seen), [parse_threshold("p99>1s")]).exit_code == 0


def test_latency_that_is_our_own_is_invalid() -> None:
    """All sent, and yet half of what was measured is how late that was: no pass."""
    seen = observed(late=120 * MS)
    for row, done in enumerate(seen.samples.done):
        seen.samples.done[row] = done + 199 * MS
    (reason,) = judge(build_report(seen)).reasons
    assert "the generator was late, p99 120.0 ms" in reason
    seen.plan = msgspec.structs.replace(seen.plan, scenario="slow")
    assert judge(build_report(seen)).exit_code == 12


def test_latency_of_which_little_is_our_own_is_the_servers() -> None:
    """However late we were: what was measured is mostly how slow the server is."""
    seen = observed(late=200 * MS)
    for row, done in enumerate(seen.samples.done):
        seen.samples.done[row] = done + 999 * MS
    assert judge(build_report(seen)).exit_code == 0


@pytest.mark.parametrize("scenario", ["churn", "loyal"])
def test_what_waits_for_the_server_is_late_by_it_and_by_us(scenario: str) -> None:
    """How late we were is kept apart: that alone makes a run invalid, how long they waited not."""
    seen = observed(late=900 * MS)
    for row, done in enumerate(seen.samples.done):
        seen.samples.done[row] = done + 999 * MS
    seen.plan = msgspec.structs.replace(seen.plan, scenario=scenario)
    seen.late.extend([MS] * 1000)
    report = build_report(seen)
    assert (judge(report).exit_code, report.late["p99"]) == (0, 1000.0)
    seen.late.extend([600 * MS] * 100)
    assert "the generator was late, p99 600.0 ms" in judge(build_report(seen)).reasons[0]


def test_a_timer_asked_late_is_late_however_long_it_is_held() -> None:
    """Its question is to be sent a hold before the answer is due."""
    seen = observed(late=-300 * MS)
    seen.plan = msgspec.structs.replace(seen.plan, scenario="timer", hold_ns=500 * MS)
    report = build_report(seen)
    assert report.late["p99"] == 200_000.0
    assert "the generator was late, p99 200.0 ms" in judge(report).reasons[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"late": 90 * MS},
        {"due": 2000},  # too few, and yet on time with time to spare: lines were gone
        {"busy_ns": [SECOND]},  # all sent, however busy
        {"rate": None, "due": 0, "busy_ns": [SECOND]},  # a closed loop is always busy
    ],
)
def test_what_is_not_our_saturation(changes: dict[str, Any]) -> None:
    """A run isn't called invalid for what the server did."""
    assert judge(build_report(observed(**changes))).exit_code == 0


def test_nothing_done_is_no_pass() -> None:
    """A run without a connection, or without an answer, proves nothing."""
    plan = observed().plan
    assert judge(build_report(Observation(plan, None, Tally(refused=3)))).exit_code == 12
    assert judge(build_report(Observation(plan, 0, Tally(connected=1)))).exit_code == 12


def test_the_summary_survives_a_run_without_samples() -> None:
    """Nothing measured is told as such."""
    report = build_report(Observation(observed().plan, None))
    assert "latency      -  " in render(report, judge(report))


@given(st.lists(st.integers(0, 10**12), min_size=1))
def test_percentiles_are_measured_times(values: list[int]) -> None:
    """Nearest rank: at least the share of the values is at or below, and it is one of them."""
    found = spread(values)
    assert found["max"] == round(max(values) / 1000, 1)
    assert found["p50"] == round(statistics.median_low(values) / 1000, 1)
    assert {*found.values()} <= {round(value / 1000, 1) for value in values}


def test_latency_counts_from_the_intended_time() -> None:
    """Latency includes our lateness, the service time doesn't."""
    report = build_report(observed(late=400_000))
    assert report.latency["p99"] == 1000.0
    assert report.service["p99"] == 600.0
    assert report.late["p99"] == 400.0
    assert report.rate.achieved == 1000.0


def test_what_was_answered_after_the_end_is_not_in_the_rate() -> None:
    """It was answered, but not in the time that the rate is of."""
    seen = observed()
    for row in range(990, 1000):
        seen.samples.done[row] = SECOND + 1
    assert build_report(seen).rate.achieved == 990.0


def test_an_event_is_set_beside_the_rest() -> None:
    """What was open from 0.1 s before an event to 0.5 s after it is told apart."""
    seen = observed(events=pushed(0))
    seen.samples.done[450] += 5 * MS
    seen.samples.done[100] += 3 * MS
    (event,) = build_report(seen).events
    assert (event.window["max"], event.rest["max"]) == (6000.0, 4000.0)
    assert (event.start_s, event.end_s) == (0.4, 0.5)


def test_an_operation_open_across_the_window_belongs_to_it() -> None:
    """Intended before and answered within is part of the window."""
    seen = observed(events=pushed(0))
    seen.samples.done[10] = 350 * MS
    (event,) = build_report(seen).events
    assert event.window["max"] == 340_000.0


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_can_be_a_threshold(metric: str) -> None:
    """Each metric is read from a report, missed below it and kept above it."""
    seen = observed(events=pushed(0), seconds=6, due=6001)
    for row in range(6000):
        seen.samples.version.append(1 if row < 450 else 2)
        seen.samples.connection.append(0)
    report = build_report(seen)
    assert judge(report, [parse_threshold(f"{metric}>=0")]).exit_code == 11
    unit = "us" if metric in TIMES else ""
    assert judge(report, [parse_threshold(f"{metric}>1000000000{unit}")]).exit_code == 0


def test_a_threshold_on_nothing_is_missed() -> None:
    """A limit on events fails a run in which none happened."""
    verdict = judge(build_report(observed()), [parse_threshold("event_max>5ms")])
    assert verdict.exit_code == 11


def test_the_worst_window_is_held_against_the_worst_null_window() -> None:
    """An event is only as bad as it is beyond what the same run did when nothing happened."""
    seen = observed(events=pushed(0), seconds=6)
    seen.samples.done[450] += 5 * MS
    seen.samples.done[4000] += 3 * MS
    report = build_report(seen)
    assert report.worst_event is report.events[0]
    assert report.worst_null is not None
    assert report.worst_null.latency["max"] == 4000.0
    assert len(report.nulls) >= 5
    (reason,) = judge(report, [parse_threshold("excess.max>1ms")]).reasons
    assert "it is 2 ms" in reason
    assert judge(report, [parse_threshold("window.p99.9>7ms")]).exit_code == 0


def test_too_few_null_windows_say_nothing() -> None:
    """A second with a push in it has no room for five: what is asked of them is missed."""
    report = build_report(observed(events=pushed(0)))
    verdict = judge(report, [parse_threshold("excess.max>1s")])
    assert verdict.exit_code == 11
    assert "there are 0 windows in which nothing happened, and it needs 5" in verdict.reasons[0]


@pytest.mark.parametrize(("nulls", "code"), [(4, 11), (5, 0)])
def test_five_null_windows_are_enough(nulls: int, code: int) -> None:
    """One less says nothing."""
    report = build_report(observed(events=pushed(0), seconds=6))
    few = msgspec.structs.replace(report, nulls=report.nulls[:nulls])
    assert judge(few, [parse_threshold("null.max>1s")]).exit_code == code


def test_an_event_that_is_better_than_quiet_time_exceeds_nothing() -> None:
    """The excess is 0, not below: a limit from below is of no use, and is told as it is."""
    seen = observed(events=pushed(0), seconds=6)
    seen.samples.done[4000] += 30 * MS
    report = build_report(seen)
    assert judge(report, [parse_threshold("excess.max==0")]).reasons == [
        "excess.max==0: it is 0 us"
    ]
