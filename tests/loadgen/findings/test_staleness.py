"""Old code that answers after a push has said it is done is told, and nobody is blamed wrongly."""

from __future__ import annotations

from array import array
from collections.abc import Callable

import msgspec
import pytest

from loadgen.conductor import Observation
from loadgen.continuity import Tally
from loadgen.events import EventRecord
from loadgen.findings import Report, build_report
from loadgen.findings.staleness import settle
from loadgen.judging import judge, parse_threshold
from loadgen.output.page import render_page
from loadgen.output.result import build_result
from loadgen.output.summary import render
from loadgen.plan import Event, EventKind, Plan
from loadgen.samples import Samples
from tests.loadgen.findings.test_versions import answered

PUSH = [(31, 40, True)]
RUN = [(21, 40, False)]
BACK = [(11, 12, False), (71, 72, False)]
TWO = [(21, 30, True), (71, 80, True)]


def told(
    versions: list[int], events: list[tuple[int, int, bool]], held: int = 0
) -> list[int | None]:
    """What is said of each event; an answer each 10 ns, asked at its time and there 5 ns later."""
    return [each.stale for each in settle(events, answered(versions), held)]


@pytest.mark.parametrize(
    ("versions", "events", "stale"),
    [
        pytest.param([1, 1, 1, 2, 2, 2, 2], PUSH, [0], id="a push"),
        pytest.param([1, 1, 1, 1, 1, 2, 2], PUSH, [0], id="old code until its end"),
        pytest.param([1, 1, 1, 2, 2, 1, 2], PUSH, [1], id="old code after it"),
        pytest.param([2, 2, 2, 1, 1, 2, 1], PUSH, [1], id="a push of an older version"),
        pytest.param([1, 1, 1, 1, 1, 1, 1], PUSH, [None], id="the same again, or hidden"),
        pytest.param([-1, -1, -1, -1, -1], PUSH, [None], id="no version is named"),
        pytest.param([-1, -1, -1, -1, -1, 2], PUSH, [None], id="none was named before"),
        pytest.param([1, 1, 1, 2, -1, -1, 2], PUSH, [0], id="some name none"),
        pytest.param([1, 1, 1, 2], PUSH, [0], id="nothing was asked after it"),
        pytest.param([1, 1, 1, 2, 2, 1, 2], [(31, 40, False)], [None], id="no push, or a failed"),
        pytest.param([1, 1, 2, 2, 2, 2, 2, 2, 2, 3, 3], TWO, [0, 0], id="two pushes"),
        pytest.param([1, 1, 2, 2, 2, 2, 2, 2, 2, 1, 1], TWO, [0, 0], id="there and back"),
        pytest.param([1, 1, 2, 2, 2, 2, 2, 2, 2, 1, 2, 1], TWO, [0, 1], id="not all back"),
        pytest.param([1, 1, 2, 2, 2, 1, 2, 2, 2, 3, 2, 1], TWO, [1, 2], id="never all"),
        pytest.param([1, 1, 2, 2, 2, 2, 2, 2, 2, 2], TWO, [0, None], id="once more"),
        pytest.param([1, 1, 1, 2, 2, 1, 2], [(21, 40, True), (31, 36, True)], [0, 1], id="at once"),
        pytest.param([1, 1, 1, 2, 2, 1, 2], [(21, 40, True), (31, 36, False)], [None, None],
                     id="beside something else"),
        pytest.param([1, 1, 1, 2, 2, 1, 2], [(21, 31, True), (31, 40, True)], [0, 1],
                     id="one after the other, at once"),
        pytest.param([1, 2, 1, 2, 2, 2, 2], PUSH, [None], id="one of two that were there stays"),
        pytest.param([-1, -1, 1, 2, 2, 2], [(25, 30, True)], [0], id="answered as it began"),
        pytest.param([1, 1, 2, 2, 2, 2, 2, 1], [(21, 30, True), (72, 80, False)], [0, None],
                     id="answered while a rollback is under way"),
    ],
)  # fmt: skip
def test_answers_after_a_push(
    versions: list[int], events: list[tuple[int, int, bool]], stale: list[int | None]
) -> None:
    """Those asked after its end, of a version from before it, when it brought another one."""
    assert told(versions, events) == stale


@pytest.mark.parametrize(
    ("versions", "events", "overlap"),
    [
        pytest.param([1, 1, 1, 2, 2, 2, 2], RUN, [0], id="all at once"),
        pytest.param([1, 1, 1, 1, 1, 2, 2], RUN, [0], id="late, and all at once"),
        pytest.param([1, 1, 1, 2, 1, 2, 2], RUN, [5], id="one more of old code"),
        pytest.param([1, 1, 1, 2, 2, 2, 1], RUN, [25], id="never all"),
        pytest.param([2, 2, 2, 1, 2, 1, 1], RUN, [5], id="back to an older version"),
        pytest.param([1, 1, 1, 1, 1, 1, 1], RUN, [None], id="the same again"),
        pytest.param([-1, -1, -1, 2, 2, 1], RUN, [None], id="none was named before"),
        pytest.param([-1, 1, -1, 2, -1, 1, 2], RUN, [15], id="some name none"),
        pytest.param([1, 2, 1, 2, 3, 1, 3], RUN, [5], id="two were there"),
        pytest.param([1, 1, 2, 1, 2, 2, 2, 2, 1, 2, 1], BACK, [5, 5], id="there and back"),
        pytest.param([1, 1, 2, 2, 1, 1, 1, 2, 1, 2], BACK, [35, None], id="mixed, and so it stays"),
        pytest.param([1, 1, 2, 2, 2, 2, 2, 2, 2, 3, 2, 3], BACK, [0, 5], id="on and on"),
        pytest.param([1, 1, 2, 2, 2, 2, 2, 1], BACK, [0, 0], id="answered as the next began"),
        pytest.param([1, 1, 1, 2, 2, 1, 2], [(21, 40, False), (31, 36, False)], [0, 15],
                     id="at once"),
    ],
)  # fmt: skip
def test_how_long_two_versions_answer_side_by_side(
    versions: list[int], events: list[tuple[int, int, bool]], overlap: list[int | None]
) -> None:
    """From the first answer of what an event brought to the last question that old code answers."""
    assert [each.overlap for each in settle(events, answered(versions), 0)] == overlap
    longer = [each.overlap for each in settle(events, answered(versions), 4)]
    assert longer == [each and each - 4 for each in overlap], "half of it was sent before"


def test_who_comes_anew_and_gets_old_code_after_a_reload_is_seen_by_who_asks() -> None:
    """Connections of one question each: nobody ever goes back, and a command promises nothing."""
    seen = observed([1, 1, 1, 2, 2, 1, 2, 1, 2], "run")
    seen.samples.connection[:] = array("i", range(9))
    report = build_report(seen)
    assert judge(report).exit_code == 0
    assert judge(report, [parse_threshold("overlap>1us")]).exit_code == 0
    verdict = judge(report, [parse_threshold("overlap>0.03us")])
    assert (verdict.exit_code, verdict.reasons) == (11, ["overlap>0.03us: it is 0.035 us"])
    (event,) = build_result(seen, report, verdict)["events"]
    assert event["overlap_s"] == 35e-9


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (lambda: observed([1] * 7, "run"), "the event at 0.00 s brought no version"),
        (lambda: observed([-1] * 7, "run"), "answers name no version"),
        (lambda: observed(STALE, "run", 1), "there was no event that ended with 0"),
    ],
)
def test_an_overlap_that_can_not_be_said_is_not_passed(
    seen: Callable[[], Observation], why: str
) -> None:
    """A reload after which nothing is new has not been watched."""
    run = seen()
    run.tally.by_version.pop(-1, None)
    (reason,) = judge(build_report(run), [parse_threshold("overlap>3s")]).reasons
    assert why in reason


def test_a_long_overlap_is_told_without_being_asked_for() -> None:
    """Of a command that is no push, too."""
    seen = observed([1, 1, 1, 2, 1, 2], "run")
    for column in seen.samples[:3]:
        column[:] = array(column.typecode, [at * 10**7 for at in column])
    (record,) = seen.events
    seen.events = [msgspec.structs.replace(record, start=31 * 10**7, end=40 * 10**7)]
    report = build_report(seen)
    assert "0.05 s with old code beside new" not in render(report, judge(report))
    seen.samples.sent[4] += 10**7
    report = build_report(seen)
    assert "exit 0 after 0.09 s, 0.06 s with old code beside new" in render(report, judge(report))


def test_a_question_that_was_begun_before_is_not_stale() -> None:
    """Half of it was sent before the push was done: old code may have it."""
    versions = [1, 1, 1, 2, 2, 1, 2, 2]
    assert told(versions, PUSH, 9) == [1]
    assert told(versions, PUSH, 10) == [0]


def observed(versions: list[int], kind: EventKind = "push", code: int = 0) -> Observation:
    """A run in which something happened from 31 to 40 ns."""
    plan = Plan(protocol="verify", host="h", port=1, connections=1, duration_ns=100, rate=1e8)
    count = len(versions)
    tally = Tally(issued=count, answered=count, connected=1, by_version=dict.fromkeys(versions, 1))
    record = EventRecord(Event(kind, 31, ("v2.py",)), ["x", "v2.py"], 31, 40, code, "", "")
    return Observation(plan, 0, tally, answered(versions), count, [1], [record])


STALE = [1, 1, 1, 2, 2, 2, 2]


def two_connections(report: Observation) -> Observation:
    """One that stays on old code beside the one that goes on: neither ever goes back."""
    answered([1, 1, 1, 1, 1, 1, 1], 1, report.samples)
    return report


def test_it_is_told_everywhere_and_a_fault_for_who_says_so() -> None:
    """No connection ever goes back, so nothing else sees it; the limit does."""
    seen = two_connections(observed(STALE))
    report = build_report(seen)
    verdict = judge(report)
    assert verdict.exit_code == 0
    assert "2 stale answers: asked after its end" in render(report, verdict)
    assert "2 stale answers: asked after its end" in render_page(seen, report, verdict)
    (event,) = build_result(seen, report, verdict)["events"]
    assert (event["stale"], event["versions_before"], event["versions_after"]) == (2, [1], [1, 2])
    (reason,) = judge(report, [parse_threshold("stale>0")]).reasons
    assert reason == "stale>0: it is 2"
    good = build_report(observed(STALE))
    assert judge(good, [parse_threshold("stale>0")]).exit_code == 0


def beside(seen: Observation) -> Observation:
    """The same with a command that was under way at the time."""
    (other,) = observed([], "run").events
    seen.events.append(other)
    return seen


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (observed([1] * 7), "the push at 0.00 s brought no version"),
        (observed([-1] * 7), "answers name no version"),
        (observed([-1] * 4 + [2] * 3), "the push at 0.00 s has no answer before it"),
        (beside(observed(STALE)), "the push at 0.00 s was under way beside something"),
        (observed(STALE, "run"), "there was no push that is done"),
        (observed(STALE, "push", 20), "there was no push that is done"),
    ],
)
def test_what_can_not_be_said_is_not_passed(seen: Observation, why: str) -> None:
    """A limit on nothing is missed, and it is said why there is nothing."""
    seen.tally.by_version.pop(-1, None)
    verdict = judge(build_report(seen), [parse_threshold("stale>0")])
    assert why in verdict.reasons[-1]


def test_a_limit_needs_to_know_of_each_push() -> None:
    """That one was good says nothing of the one that brought no version."""
    seen = observed([1, 1, 1, 2, 2, 2, 2, 2, 2])
    (first,) = seen.events
    seen.events.append(msgspec.structs.replace(first, start=61, end=65))
    assert [event.settled.stale for event in build_report(seen).events] == [0, None]
    (reason,) = judge(build_report(seen), [parse_threshold("stale>0")]).reasons
    assert "brought no version" in reason


def test_a_push_that_changed_nothing_to_be_seen_is_told_as_such() -> None:
    """Its command said that all went well, and the same version answers."""
    report: Report = build_report(observed([1] * 7))
    assert "exit 0 after 0.00 s, answers still of v1" in render(report, judge(report))


def test_halves_are_judged_from_when_they_may_have_begun() -> None:
    """The first half of a slow request was sent a hold before the rest of it."""
    seen = two_connections(observed(STALE))
    for hold, stale in ((9, 2), (10, 1), (20, 0)):
        seen.plan = msgspec.structs.replace(seen.plan, scenario="slow", hold_ns=hold)
        (event,) = build_report(seen).events
        assert event.settled.stale == stale, hold


def test_halves_may_have_begun_before_a_pause_of_ours() -> None:
    """Then the other one is sent so much later than a hold after it."""
    seen = two_connections(observed(STALE))
    seen.plan = msgspec.structs.replace(seen.plan, scenario="slow", hold_ns=9)
    seen.paused_ns = 1
    (event,) = build_report(seen).events
    assert event.settled.stale == 1


def test_no_events_and_no_samples() -> None:
    """Nothing is said of nothing."""
    assert settle([], Samples.empty(), 0) == []
    (nothing,) = settle(PUSH, Samples.empty(), 0)
    assert nothing == ((), (), None, None)
