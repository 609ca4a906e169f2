"""The data of the charts: small, whole, and derived from the raw times in one place."""

from __future__ import annotations

import operator

import msgspec

from loadgen.conductor import Observation
from loadgen.report import EventReport, Report
from loadgen.timeline import Buckets, Facts, curve, fill, nice_width, whole_run
from loadgen.wording import ending, what_happened

__all__ = ["Drawing", "Mark", "build_drawing"]

_SCHEMA = "netswap-drawing/1"
_SECOND = 1_000_000_000
_WINDOW_BUCKETS = 150
_BEFORE = (
    500_000_000  # ns of a window's chart before its event and after: what is usual is seen too
)
_AFTER = 1_000_000_000


class Mark(msgspec.Struct, frozen=True):
    """An event on the time line, and the stretch around it; times are seconds of the run.

    ``over_s`` is when the last trace of it was seen.
    """

    number: int
    what: str
    ended: str
    start_s: float
    end_s: float
    failed: bool
    over_s: float
    window: Buckets


class Drawing(msgspec.Struct, frozen=True, kw_only=True):
    """All that is drawn. The curves are shares and the microseconds that they were within."""

    schema: str = _SCHEMA
    duration_s: float
    line: Buckets
    marks: list[Mark]
    latency: list[tuple[float, float]]
    service: list[tuple[float, float]]


def build_drawing(seen: Observation, report: Report) -> Drawing:
    """Derive it; takes about 2 s for a million operations."""
    samples, start = seen.samples, seen.start or 0
    facts, line = whole_run(seen, report.tally)
    end = start + round(len(line.answered) * line.width_s * _SECOND)
    return Drawing(
        duration_s=seen.plan.duration_ns / _SECOND,
        line=line,
        marks=[_mark(n, event, facts, start, end) for n, event in enumerate(report.events, 1)],
        latency=curve(facts.latency),
        service=curve(map(operator.sub, samples.done, samples.sent)),
    )


def _mark(number: int, event: EventReport, facts: Facts, start: int, end: int) -> Mark:
    begin = max(start, event.record.start - _BEFORE)
    close = min(end, start + round(event.over_s * _SECOND) + _AFTER)
    width = nice_width(max(1, close - begin), most=_WINDOW_BUCKETS)
    return Mark(
        number=number,
        what=what_happened(event),
        ended=ending(event),
        start_s=event.start_s,
        end_s=event.end_s,
        failed=event.record.failed,
        over_s=event.over_s,
        window=fill(facts, start, begin, max(close, begin + 1), width),
    )
