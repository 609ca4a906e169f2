"""The checker: every way in which an answer can be wrong, and nothing else, is counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.continuity import FAULTS, Continuity, Tally, pattern


def opened(operations: int) -> Continuity:
    line = Continuity(7, Tally())
    for number in range(operations):
        line.issue(number, number, b"")
    return line


def faults(line: Continuity) -> dict[str, int]:
    counts = {name: getattr(line.tally, name) for name in FAULTS}
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([0, 1, 2, 3], {}),
        ([0, 2, 3], {"lost": 1}),
        ([0, 1], {"lost": 2}),
        ([0, 1, 1, 2, 3], {"duplicated": 1}),
        ([0, 2, 1, 3], {"reordered": 1}),
        ([3, 0, 1, 2], {"reordered": 3}),
        ([0, 2, 1, 1, 3], {"reordered": 1, "duplicated": 1}),
        ([0, 1, 2, 3, 3], {"duplicated": 1}),
        ([0, 1, 9, 2, 3], {"corrupted": 1}),
    ],
)
def test_each_fault_is_counted_once(answers: list[int], expected: dict[str, int]) -> None:
    """Lost, duplicated, reordered and never asked for are told apart."""
    line = opened(4)
    for sequence in answers:
        line.settle(sequence)
    line.close(dropped=False)
    assert faults(line) == expected


def test_open_operations_of_a_dropped_connection_have_an_unknown_outcome() -> None:
    """What was overtaken is lost; what was still open when the connection fell may be done."""
    line = opened(4)
    line.settle(1)
    line.close(dropped=True)
    assert faults(line) == {"lost": 1, "unknown": 2}


def test_what_was_overtaken_is_owed_still() -> None:
    """Its answer may come late: the end of a run waits for that, too."""
    line = opened(3)
    line.settle(1)
    assert line.outstanding() == 2
    line.settle(0)
    assert line.outstanding() == 1


@pytest.mark.parametrize("dropped", [False, True])
def test_what_never_came_went_wrong_when_it_was_due(dropped: bool) -> None:
    """Overtaken or open at the end, lost or unknown: not when the connection was over."""
    line = opened(4)
    line.settle(1)
    line.tally.now = 99
    line.close(dropped=dropped)
    assert line.tally.fault_times == [0, 2, 3]


@given(st.integers(0, 12), st.lists(st.integers(0, 15)), st.booleans())
def test_every_operation_has_one_outcome(issued: int, answers: list[int], dropped: bool) -> None:
    """Whatever the server answers: issued = answered + lost + unknown, and no answer vanishes."""
    line = opened(issued)
    settled = [line.settle(sequence) for sequence in answers]
    line.close(dropped=dropped)
    tally = line.tally
    assert tally.issued == issued == tally.answered + tally.lost + tally.unknown
    assert sum(each is not None for each in settled) == tally.answered
    assert len(answers) == tally.answered + tally.duplicated + tally.corrupted
    assert tally.reordered <= tally.answered


@given(st.integers(0, 12), st.permutations(range(12)))
def test_a_run_is_clean_only_when_answered_in_order(issued: int, order: list[int]) -> None:
    """No fault is counted exactly when every answer came once and in its turn."""
    answers = [sequence for sequence in order if sequence < issued]
    line = opened(issued)
    for sequence in answers:
        line.settle(sequence)
    line.close(dropped=False)
    assert (line.tally.faults() == 0) == (answers == sorted(answers))
    assert line.tally.lost == 0


def test_tallies_of_processes_add_up() -> None:
    """Counts, versions and examples of two processes make one tally."""
    one = Tally(issued=3, lost=1, by_version={1: 2, 2: 1})
    other = Tally(issued=4, corrupted=2, by_version={2: 5})
    other.fault("dropped", 3, -1, "gone")
    one.add(other)
    assert (one.issued, one.lost, one.corrupted, one.dropped) == (7, 1, 2, 1)
    assert one.by_version == {1: 2, 2: 6}
    assert [fault.what for fault in one.examples] == ["dropped"]


def test_of_each_kind_a_few_examples_are_kept() -> None:
    """Also of many processes: a report has room for some."""
    one, other = Tally(), Tally()
    for tally in (one, other):
        for number in range(5):
            tally.fault("lost", number, -1, "gone")
    one.add(other)
    assert (one.lost, len(other.examples), len(one.examples)) == (10, 3, 3)


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(1, 600))
def test_payloads_of_neighbours_differ(connection: int, sequence: int, size: int) -> None:
    """An answer that went to the next connection, or stands for the next operation, shows."""
    own = pattern(connection, sequence, size)
    assert len(own) == size
    assert own != pattern(connection + 1, sequence, size)
    assert own != pattern(connection, sequence + 1, size)
