"""Latencies as a line of blocks, for a terminal. Logarithmic: a block up is a factor."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loadgen.conductor import Observation
from loadgen.findings import EventReport, Report
from loadgen.findings.timeline import Facts, fill, gather
from loadgen.findings.windows import Span

__all__ = ["event_lines", "sparkline"]

_BLOCKS = "▁▂▃▄▅▆▇█"
_COLUMNS = 36  # with the label before them and the figures after them it is a line of 80
_LEAST_US = 0.1  # a timer's answer may come before its time: the scale has no place for that
_SECOND = 1_000_000_000
_BEFORE, _AFTER = 500_000_000, 500_000_000


def sparkline(values: Sequence[float | None], low: float, high: float) -> str:
    """A block a value, the highest at ``high``; a blank where there is none."""
    return "".join(" " if value is None else _block(value, low, high) for value in values)


def event_lines(seen: Observation, report: Report) -> list[str]:
    """For each event the slowest operations from half a second before it to as long after its last
    trace.

    All on one scale; bars stand where the event began and ended.
    """
    if not report.events:
        return []
    samples, start = seen.samples, seen.start or 0
    facts = gather(samples.intended, samples.done)
    run = Span(start, start + seen.plan.duration_ns)
    columns = [_columns(facts, run, event) for event in report.events]
    known = [us for values, _ in columns for us in values if us is not None]
    low = max(min(known, default=1.0), _LEAST_US)
    high = max(known, default=1.0)
    return [_barred(sparkline(values, low, high), bars) for values, bars in columns]


def _block(value: float, low: float, high: float) -> str:
    if value <= low or high <= low:
        return _BLOCKS[0]
    share = math.log(value / low) / math.log(high / low)
    return _BLOCKS[min(len(_BLOCKS) - 1, int(share * len(_BLOCKS)))]


def _columns(facts: Facts, run: Span, event: EventReport) -> tuple[list[float | None], list[int]]:
    """The slowest in each column, and before which columns the event began and ended."""
    times = (event.start_s, event.end_s, event.over_s)
    began, ended, over = (run.opens + round(at_s * _SECOND) for at_s in times)
    begin, close = max(run.opens, began - _BEFORE), min(run.closes, over + _AFTER)
    if close <= begin:
        return [], []
    width = -(-(close - begin) // _COLUMNS)
    values = fill(facts, run.opens, begin, close, width).max_us
    return values, [(at - begin) // width for at in (began, ended)]


def _barred(line: str, bars: list[int]) -> str:
    for number, at in enumerate(bars):
        line = f"{line[: at + number]}|{line[at + number :]}"
    return line
