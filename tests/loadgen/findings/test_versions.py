"""A connection changes version once an event, and no other way."""

from __future__ import annotations

from typing import Any

import pytest

from loadgen.conductor import Observation
from loadgen.continuity import Continuity, Tally
from loadgen.events import EventRecord
from loadgen.findings import build_report
from loadgen.findings.counter import miscounted
from loadgen.findings.versions import Change, changes, unexcused
from loadgen.judging import judge
from loadgen.plan import Event, Plan
from loadgen.samples import Samples


def answered(versions: list[int], connection: int = 0, samples: Samples | None = None) -> Samples:
    """An operation each 10 ns, sent at its time and answered 5 ns later by these versions."""
    samples = samples or Samples.empty()
    for number, version in enumerate(versions):
        for column, value in zip(
            samples, (number * 10, number * 10, number * 10 + 5, version, connection), strict=True
        ):
            column.append(value)
    return samples


def test_a_change_is_between_two_answers() -> None:
    """After the older question was sent, before the newer answer was there; -1 says nothing."""
    samples = answered([1, -1, 1, -1, 2, 2])
    assert list(changes(samples)) == [Change(0, 1, 2, 20, 45)]


def test_connections_change_by_themselves() -> None:
    """Rows of several connections, in any mixture, are told apart."""
    samples = answered([2, 2, 1], 7, answered([1, 1, 2], 3))
    assert [(change.connection, change.new) for change in changes(samples)] == [(3, 2), (7, 1)]


@pytest.mark.parametrize(
    ("versions", "events", "wrong"),
    [
        pytest.param([1, 1, 2, 2], [(15, 20, False)], 0, id="a push"),
        pytest.param([1, 1, 2, 1], [(15, 20, False)], 1, id="a push and back"),
        pytest.param([1, 2, 1, 2], [(5, 20, False)], 2, id="a push, back and on again"),
        pytest.param([1, 2, 1, 1], [(5, 20, True)], 0, id="a push that failed"),
        pytest.param([1, 2, 1, 2], [(5, 20, True)], 1, id="on again after a failure"),
        pytest.param([1, 2, 1, 2], [(5, 6, False), (16, 17, False), (27, 28, False)], 0,
                     id="three events"),
        pytest.param([1, 2, 1, 1], [(5, 6, False), (31, 32, False)], 1, id="back before its event"),
        pytest.param([1, 1, 1, 2], [(5, 6, False)], 0, id="long after a command that set it going"),
        pytest.param([1, 2, 2, 2], [(25, 26, False)], 1, id="before its event"),
        pytest.param([1, 1, 2, 1], [(5, 6, False), (7, 8, False)], 1, id="one too many"),
        pytest.param([1, 1, 2, 2], [(25, 26, False)], 0, id="as the new answer came"),
        pytest.param([1, 1, 2, 1], [(5, 6, False), (10, 11, False)], 0, id="as the next one began"),
        pytest.param([1, 1, 2, 1], [(5, 30, False), (8, 9, False)], 0, id="one within another"),
        pytest.param([1, 2, 1, 2], [], 0, id="nobody knows why"),
    ],
)  # fmt: skip
def test_each_change_needs_a_reason(
    versions: list[int], events: list[tuple[int, int, bool]], wrong: int
) -> None:
    """An event excuses one change of a connection until the next event, a failed one two."""
    assert len(list(unexcused(changes(answered(versions)), events))) == wrong


@pytest.mark.parametrize(
    ("values", "excused", "wrong"),
    [
        ([0, 1, 2], 0, []),
        ([2, 0, 1], 0, []),
        ([], 0, []),
        ([0, 1, 1, 2], 0, [1]),
        ([0, 2], 0, [1]),
        ([0, 2], 1, []),
        ([2, 3], 1, [1]),
        ([0, 2, 4], 1, [3]),
        ([-1, 0], 0, [-1]),
        ([1, 1], 1, [1]),
        ([0, 10**17], 1, [2]),
    ],
)
def test_the_shared_counter(values: list[int], excused: int, wrong: list[int]) -> None:
    """Exactly 0 to N-1: each value once, no more missing than outcomes are unknown; a gap is
    one mistake, however wide.
    """
    assert [value for value, _ in miscounted(values, excused)] == wrong


def test_what_is_wrong_with_a_value_is_said() -> None:
    """One below the first came once, and yet it is wrong."""
    assert list(miscounted([-1, 0, 0, 3], 0)) == [
        (-1, "is below the first"),
        (0, "was given twice"),
        (1, "was given to nobody (and 1 after it), and a later one was"),
    ]


def observed(**changes: Any) -> Observation:
    plan = Plan(protocol="verify", host="h", port=1, connections=1, duration_ns=100)
    seen = Observation(plan, 0, Tally(issued=4, answered=4, connected=1))
    for name, value in changes.items():
        setattr(seen, name, value)
    return seen


def test_a_run_is_convicted_of_what_only_all_rows_show() -> None:
    """Going back inside one push, and a counter's value given twice, are exit 10."""
    push = EventRecord(Event("push", 0, ("v2.py",)), ["netswap"], 5, 20, 0, "", "")
    back = build_report(observed(samples=answered([1, 2, 1, 1]), events=[push]))
    assert (judge(back).exit_code, back.tally.not_monotone) == (10, 1)
    twice = build_report(observed(counted=[0, 1, 1]))
    assert (judge(twice).exit_code, twice.tally.miscounted) == (10, 1)
    assert judge(build_report(observed(counted=[0, 1, 2]))).exit_code == 0


@pytest.mark.parametrize("fault", ["unknown", "lost", "corrupted"])
def test_a_value_may_be_missing_where_an_answer_is(fault: str) -> None:
    """Whoever got it could not say so: that is counted once, where it was."""
    seen = observed(counted=[0, 2])
    assert build_report(seen).tally.miscounted == 1
    setattr(seen.tally, fault, 1)
    assert build_report(seen).tally.miscounted == 0


def test_what_only_a_comparison_shows_has_no_time() -> None:
    """A change of version has that of its answer; a value that came twice is of no moment."""
    push = EventRecord(Event("push", 0, ("v2.py",)), ["netswap"], 5, 20, 0, "", "")
    seen = observed(samples=answered([1, 2, 1, 1]), events=[push], counted=[0, 1, 1])
    assert list(build_report(seen).tally.timed()) == [(25, "not_monotone"), (0, "miscounted")]


def test_parts_of_an_answer_that_disagree() -> None:
    """Counted once an answer, however many parts it has."""
    line = Continuity(0, Tally())
    for number in range(2):
        line.issue(number, number, b"")
    for number, versions in enumerate([(1, 1, 1), (1, 2, 3)]):
        operation = line.settle(number)
        assert operation is not None
        line.answered_by(operation, *versions)
    assert line.tally.mixed_version == 1
    assert line.tally.by_version == {1: 2}
