"""The data of the charts: small, whole, and derived from the raw times in one place."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from loadgen.conductor import Observation
from loadgen.findings import EventReport, Report
from loadgen.findings.omission import corrected
from loadgen.findings.timeline import Buckets, Facts, curve, fill, nice_width, whole_run
from loadgen.findings.wording import ending, what_happened

__all__ = ["CARDS", "Drawing", "Mark", "Stretch", "build_drawing", "tells_p99"]

CARDS = 24  # events of a run that have a chart of their own: of more, the worst

_SCHEMA = "netswap-drawing/3"
_SECOND = 1_000_000_000
_WINDOW_BUCKETS, _BUCKETS_OF_ALL, _LEAST_BUCKETS = 150, 2400, 60
_TOLD_APART = 100  # operations that a bucket needs for a p99 that is not its slowest
_BEFORE = (
    500_000_000  # ns of a window's chart before its event and after: what is usual is seen too
)
_AFTER = 1_000_000_000


class Stretch(msgspec.Struct, frozen=True):
    """The buckets around an event, as of the line: only what its chart shows."""

    begin_s: float
    width_s: float
    p50_us: list[float | None]
    max_us: list[float | None]
    faults: list[int]


class Mark(msgspec.Struct, frozen=True):
    """An event on the time line, and the stretch around it; times are seconds of the run.

    ``over_s`` is when the last trace of it was seen; ``window`` is None when the page has no room
    for a chart of it.
    """

    number: int
    what: str
    ended: str
    start_s: float
    end_s: float
    failed: bool
    over_s: float
    window: Stretch | None


class Drawing(msgspec.Struct, frozen=True, kw_only=True):
    """All that is drawn. The curves are shares and the microseconds that they were within: of the
    latency, and ``beside`` it of the service time, in a closed loop of the corrected latency.

    ``p99`` says whether the line has one: with fewer operations a bucket it would be the slowest.
    """

    schema: str = _SCHEMA
    duration_s: float
    line: Buckets
    marks: list[Mark]
    latency: list[tuple[float, float]]
    beside: list[tuple[float, float]]
    p99: bool


def build_drawing(seen: Observation, report: Report) -> Drawing:
    """Derive it; takes about 2 s for a million operations."""
    start = seen.start or 0
    facts, line = whole_run(seen, report.tally)
    end = start + round(len(line.answered) * line.width_s * _SECOND)
    shown = _shown(report.events)
    most = max(_LEAST_BUCKETS, min(_WINDOW_BUCKETS, _BUCKETS_OF_ALL // max(1, len(shown))))
    cut = _Cut(facts, start, end, most)
    return Drawing(
        duration_s=seen.plan.duration_ns / _SECOND,
        line=line,
        marks=[_mark(n, e, cut, n in shown) for n, e in enumerate(report.events, 1)],
        latency=curve(facts.latency),
        beside=curve(_beside(seen, report, facts)),
        p99=tells_p99(line),
    )


def _beside(seen: Observation, report: Report, facts: Facts) -> Iterable[int]:
    if report.interval_ns:
        return corrected(facts.latency, report.interval_ns)
    return map(operator.sub, seen.samples.done, seen.samples.sent)


def tells_p99(line: Buckets) -> bool:
    """Whether its buckets have so many operations that a p99 differs from the slowest."""
    return sum(line.answered) >= _TOLD_APART * len(line.answered)


def _shown(events: Sequence[EventReport]) -> set[int]:
    """The numbers of the worst events."""
    numbers = sorted(range(len(events)), key=lambda k: events[k].badness)
    return {k + 1 for k in numbers[-CARDS:]}


class _Cut(NamedTuple):
    """What windows are cut from: the facts between start and end (ns), ``most`` buckets each."""

    facts: Facts
    start: int
    end: int
    most: int


def _mark(number: int, event: EventReport, cut: _Cut, shown: bool) -> Mark:
    return Mark(
        number=number,
        what=what_happened(event),
        ended=ending(event),
        start_s=event.start_s,
        end_s=event.end_s,
        failed=event.record.failed,
        over_s=event.over_s,
        window=_stretch(event, cut) if shown else None,
    )


def _stretch(event: EventReport, cut: _Cut) -> Stretch:
    begin = max(cut.start, event.record.start - _BEFORE)
    close = min(cut.end, cut.start + round(event.over_s * _SECOND) + _AFTER)
    width = nice_width(max(1, close - begin), most=cut.most)
    line = fill(cut.facts, cut.start, begin, max(close, begin + 1), width)
    return Stretch(line.begin_s, line.width_s, line.p50_us, line.max_us, line.faults)
