"""A window for each event, and null windows in which nothing happened. Pure arithmetic.

What a push does to the latency can't be told from one number: a run of a minute hides ten slow
milliseconds in its p99, and a machine with other work on it makes slow milliseconds without any
push. So each event has a *window* of the time line, and the same run is asked how its windows look
when nothing happens: the *null windows*. An event is noticeable when its window is worse than every
one of them; with fewer than ``NULLS_NEEDED`` the run was too short to say.

Rules.

- An event's window is from ``BEFORE`` its start to ``AFTER`` its end, yet it ends where the next
  event's begins: each event answers for its own. Its end is that of its last trace (``effects``).
- The *quiet* time is what is left of the run. It is cut into null windows as long as the median of
  the events' windows, at even distances, at most ``NULLS_KEPT``. A null window may be put together
  of several pieces of quiet time, so that frequent events leave some, too.
- An operation belongs to every window in which it was open, if only for a moment. One that was
  open in the window of an event is in no null window: a stall answers for what it kept waiting.
- The *rest* are all operations that are in no event's window, whether in a null window or not.
- A fault belongs to every window in which its time is, or to *elsewhere*.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median_low
from typing import NamedTuple

import msgspec

from loadgen.findings.doubt import Doubt, OwnPauses
from loadgen.findings.omission import corrected
from loadgen.samples import Samples
from loadgen.spread import Spread, spread

__all__ = ["NULLS_NEEDED", "Span", "Window", "Windows", "event_spans", "null_spans", "sort_out"]

BEFORE = 100_000_000
AFTER = 500_000_000
NULLS_NEEDED = 5
NULLS_KEPT = 20
_SECOND = 1_000_000_000


class Span(NamedTuple):
    """A piece of time, ns on CLOCK_MONOTONIC, both ends within."""

    opens: int
    closes: int


class Window(msgspec.Struct, frozen=True):
    """What was open in a window: seconds of the run from its first to its last moment, how many
    operations, their latency, how many faults of each kind, the time from the send, and the latency
    with what a closed loop leaves out; with the doubts about them.
    """

    opens_s: float
    closes_s: float
    operations: int
    latency: Spread
    faults: dict[str, int] = {}
    service: Spread = {}
    doubt: Doubt | None = None
    corrected: Spread = {}
    corrected_doubt: Doubt | None = None


class Windows(NamedTuple):
    """One for each event, in their order; the null windows; and the latency of all the rest, with
    the faults that were near no event.
    """

    events: list[Window]
    nulls: list[Window]
    rest: Spread
    elsewhere: dict[str, int] = {}


def event_spans(
    deeds: Sequence[Span], traces: Sequence[int] | None = None, after: int = AFTER
) -> list[Span]:
    """The window of each event; ``deeds`` are from its start to its end, ordered by start, and
    ``traces`` the times (ns) of the last that was seen of each: without them, its end.
    """
    starts = [deed.opens for deed in deeds]
    seen = [deed.closes for deed in deeds] if traces is None else traces
    return [
        Span(deed.opens - BEFORE, _end(deed, last + after, starts[bisect_right(starts, deed[0]) :]))
        for deed, last in zip(deeds, seen, strict=True)
    ]


def _end(deed: Span, until: int, later: Sequence[int]) -> int:
    """Where the window of an event ends: not in the next one's, unless the event lasts as long."""
    return max(deed.closes, min(until, later[0] - BEFORE)) if later else until


def null_spans(busy: Sequence[Span], run: Span) -> list[list[Span]]:
    """The null windows, each as its pieces; none when nothing happens, or all the time."""
    gaps = _quiet(busy, run)
    if not busy:
        return []
    length = max(1, median_low(max(0, _within(span, run)) for span in busy))
    quiet = sum(gap.closes - gap.opens for gap in gaps)
    count = min(NULLS_KEPT, quiet // length)
    return [_pieces(gaps, quiet * number // count, length) for number in range(count)]


def _within(span: Span, run: Span) -> int:
    return min(span.closes, run.closes) - max(span.opens, run.opens)


def _quiet(busy: Sequence[Span], run: Span) -> list[Span]:
    """What the windows of the events leave of the run, their own ends not in it."""
    gaps, at = [], run.opens
    for span in sorted(busy):
        if span.opens - 1 > at:
            gaps.append(Span(at, min(span.opens - 1, run.closes)))
        at = max(at, span.closes + 1)
    if at < run.closes:
        gaps.append(Span(at, run.closes))
    return [gap for gap in gaps if gap.opens < gap.closes]


def _pieces(gaps: Iterable[Span], skip: int, length: int) -> list[Span]:
    """``length`` of quiet time, after the first ``skip`` of it."""
    pieces = []
    for gap in gaps:
        size = gap.closes - gap.opens
        if skip < size and length > 0:
            opens = gap.opens + skip
            pieces.append(Span(opens, min(gap.closes, opens + length)))
            length -= pieces[-1].closes - opens
        skip = max(0, skip - size)
    return pieces


def sort_out(
    samples: Samples,
    events: Sequence[Span],
    run: Span,
    faults: Iterable[tuple[int, str]] = (),
    own: OwnPauses | None = None,
    interval: int = 0,
) -> Windows:
    """Which operations were open in which window, and how they fared; ``faults`` are times (ns) and
    what was wrong, ``own`` the pauses of ourselves, ``interval`` what ``omission`` expects (ns).
    """
    spans = [*([span] for span in events), *null_spans(events, run)]
    eventful = len(events)
    rows, rest = _open_in(samples, spans, eventful)
    faulty, elsewhere = _faults_in(faults, spans, eventful)
    windows = [
        _window(pieces, samples, inside, _Beside(run.opens, wrong, own, interval))
        for pieces, inside, wrong in zip(spans, rows, faulty, strict=True)
    ]
    far = spread(samples.done[row] - samples.intended[row] for row in rest)
    return Windows(windows[:eventful], windows[eventful:], far, elsewhere)


def _open_in(
    samples: Samples, spans: Sequence[Sequence[Span]], eventful: int
) -> tuple[list[list[int]], list[int]]:
    """The rows of each window's operations; and of all that are in no event's."""
    found: list[list[int]] = [[] for _ in spans]
    rest: list[int] = []
    edges, labels = _segments(spans)
    times = zip(samples.intended, samples.done, strict=True)
    for row, (intended, done) in enumerate(times):
        first, last = bisect_right(edges, intended), bisect_right(edges, done)
        inside = labels[first] if first == last else sorted({*sum(labels[first : last + 1], ())})
        if not inside or inside[0] >= eventful:
            rest.append(row)
        for number in inside:
            if number < eventful or inside[0] >= eventful:
                found[number].append(row)
    return found, rest


def _faults_in(
    faults: Iterable[tuple[int, str]], spans: Sequence[Sequence[Span]], eventful: int
) -> tuple[list[dict[str, int]], dict[str, int]]:
    """How many of each kind there are in each window; and those that are in no event's."""
    found: list[Counter[str]] = [Counter() for _ in spans]
    elsewhere: Counter[str] = Counter()
    edges, labels = _segments(spans)
    for at, what in faults:
        inside = labels[bisect_right(edges, at)]
        for number in inside:
            found[number][what] += 1
        if not inside or inside[0] >= eventful:
            elsewhere[what] += 1
    return [{**counted} for counted in found], {**elsewhere}


def _segments(spans: Sequence[Sequence[Span]]) -> tuple[list[int], list[tuple[int, ...]]]:
    """Where windows begin and end; and for each segment between, which windows it is in."""
    pieces = [(piece, number) for number, each in enumerate(spans) for piece in each]
    edges = sorted({edge for (opens, closes), _ in pieces for edge in (opens, closes + 1)})
    labels = [
        tuple(number for (first, last), number in pieces if first <= opens and end <= last + 1)
        for opens, end in pairwise(edges)
    ]
    return edges, [(), *labels, ()]


class _Beside(NamedTuple):
    """When the run began (ns), the faults in a window, and the pauses and interval of the run."""

    start: int
    faults: dict[str, int]
    own: OwnPauses | None
    interval: int


def _window(pieces: Sequence[Span], samples: Samples, rows: list[int], beside: _Beside) -> Window:
    start, faults, own, interval = beside
    opens, closes = (round((at - start) / _SECOND, 3) for at in (pieces[0][0], pieces[-1][1]))
    done = [samples.done[row] for row in rows]
    took, served = (
        [at - column[row] for at, row in zip(done, rows, strict=True)]
        for column in (samples.intended, samples.sent)
    )
    doubts = (own.latency(rows, pieces), own.corrected(rows, pieces)) if own else (None, None)
    return Window(
        opens, closes, len(rows), spread(took), faults, spread(served), doubts[0],
        spread(corrected(took, interval)), doubts[1],
    )  # fmt: skip
