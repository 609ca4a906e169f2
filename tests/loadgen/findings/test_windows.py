"""A window for each event, and null windows of the same run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadgen.findings.windows import (
    AFTER,
    BEFORE,
    NULLS_KEPT,
    Span,
    event_spans,
    null_spans,
    sort_out,
)
from loadgen.samples import Samples

MS = 1_000_000
RUN = Span(0, 10_000 * MS)


def steady(*slow: tuple[int, int]) -> Samples:
    """An operation a millisecond for ten seconds, each of 1 ms; ``slow``: (which, how many ms)."""
    samples = Samples.empty()
    for number in range(10_000):
        samples.intended.append(number * MS)
        samples.sent.append(number * MS)
        samples.done.append(number * MS + MS)
    for number, late in slow:
        samples.done[number] = (number + late) * MS
    return samples


def test_a_window_ends_where_the_next_begins() -> None:
    """From 0.1 s before to 0.5 s after; an event that lasts into the next keeps its own end."""
    deeds = [Span(1000 * MS, 1100 * MS), Span(1300 * MS, 2000 * MS), Span(1400 * MS, 1500 * MS)]
    assert event_spans(deeds) == [
        Span(900 * MS, 1200 * MS),
        Span(1200 * MS, 2000 * MS),
        Span(1300 * MS, 1500 * MS + AFTER),
    ]


def test_a_window_lasts_as_long_as_traces_are_seen() -> None:
    """Half a second after the last one, or as long as is asked; not into the next window."""
    deeds = [Span(1000 * MS, 1010 * MS), Span(5000 * MS, 5010 * MS)]
    spans = event_spans(deeds, [3200 * MS, 5010 * MS])
    assert [span.closes // MS for span in spans] == [3700, 5510]
    longer = event_spans(deeds, [3200 * MS, 5010 * MS], 3000 * MS)
    assert [span.closes // MS for span in longer] == [4900, 8010]


def test_a_fault_belongs_to_the_window_in_which_it_came() -> None:
    """To an event's, to a null window, or to neither; a null window's is near no event, too."""
    busy = event_spans([Span(5000 * MS, 5100 * MS)])
    faults = [
        (5050 * MS, "dropped"),
        (5060 * MS, "dropped"),
        (1 * MS, "lost"),
        (20_000 * MS, "lost"),
    ]
    found = sort_out(steady(), busy, RUN, faults)
    assert found.events[0].faults == {"dropped": 2}
    assert [null.faults for null in found.nulls if null.faults] == [{"lost": 1}]
    assert found.elsewhere == {"lost": 2}


def test_both_ends_are_within() -> None:
    """What happens at the first or the last nanosecond of a window is in it."""
    busy = [Span(1000 * MS, 1100 * MS)]
    for at, inside in ((-1, 0), (0, 1), (100 * MS, 1), (100 * MS + 1, 0)):
        (event,) = sort_out(Samples.empty(), busy, busy[0], [(1000 * MS + at, "lost")]).events
        assert event.faults.get("lost", 0) == inside, at


def test_null_windows_are_as_long_as_those_of_events() -> None:
    """Twelve windows of 0.7 s fit beside one of them in ten seconds, at even distances."""
    busy = event_spans([Span(3000 * MS, 3100 * MS)])
    nulls = null_spans(busy, RUN)
    assert len(nulls) == 13
    sizes = [sum(piece.closes - piece.opens for piece in null) for null in nulls]
    assert {*sizes} == {700 * MS}


def test_of_windows_that_differ_the_one_in_the_middle_is_the_measure() -> None:
    """Neither the shortest nor the longest."""
    busy = [Span(at * MS, (at + long) * MS) for at, long in ((0, 1), (1000, 500), (3000, 4000))]
    nulls = null_spans(busy, RUN)
    assert {sum(piece.closes - piece.opens for piece in null) for null in nulls} == {500 * MS}


def test_frequent_events_leave_null_windows_in_pieces() -> None:
    """An event a second leaves 0.4 s each time, of which windows of 0.6 s are put together."""
    busy = event_spans([Span(second * 1000 * MS, second * 1000 * MS) for second in range(1, 10)])
    nulls = null_spans(busy, RUN)
    assert len(nulls) >= 5
    assert any(len(pieces) > 1 for pieces in nulls)


@given(st.lists(st.tuples(st.integers(0, 9_000), st.integers(0, 3_000)), max_size=12))
def test_null_windows_are_quiet(deeds: list[tuple[int, int]]) -> None:
    """No null window touches an event's window or another null window, or leaves the run."""
    busy = event_spans([Span(at * MS, (at + long) * MS) for at, long in sorted(deeds)])
    nulls = null_spans(busy, RUN)
    pieces = sorted(piece for null in nulls for piece in null)
    assert len(nulls) <= NULLS_KEPT
    assert all(RUN.opens <= piece.opens < piece.closes <= RUN.closes for piece in pieces)
    assert all(one.closes <= two.opens for one, two in zip(pieces, pieces[1:], strict=False))
    assert not any(
        piece.opens <= event.closes and event.opens <= piece.closes
        for piece in pieces
        for event in busy
    )


def test_a_stall_is_its_events_and_no_null_windows() -> None:
    """What an event kept waiting into quiet time counts in its window alone."""
    busy = event_spans([Span(5000 * MS, 5100 * MS)])
    found = sort_out(steady((5050, 2000), (2000, 7)), busy, RUN)
    (event,) = found.events
    assert event.latency["max"] == 2_000_000.0
    assert (event.opens_s, event.closes_s) == (4.9, 5.6)
    assert max(null.latency["max"] or 0 for null in found.nulls) == 7000.0
    assert found.rest["max"] == 7000.0


def test_every_operation_of_a_window_is_counted() -> None:
    """Open for a moment is enough: those before and after the window are not in it."""
    (event,) = sort_out(steady(), event_spans([Span(5000 * MS, 5000 * MS)]), RUN).events
    assert event.operations == (BEFORE + AFTER) // MS + 2


def test_a_run_that_is_all_events_has_no_null_window() -> None:
    """It is told by their number, not made up."""
    assert null_spans([Span(0, 10_000 * MS)], RUN) == []
    assert null_spans([], RUN) == []
