"""A report with other latencies: counted from the send, with what a closed loop leaves out, or as
our own pauses may have changed them.

Each view is a report, so every metric can be read from it. Where a view differs from the report
that was measured, the difference is the generator's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec.structs import replace

from loadgen.findings import EventReport, Report
from loadgen.findings.doubt import Doubt
from loadgen.findings.windows import Window
from loadgen.spread import Spread

__all__ = ["at_least", "at_most", "from_the_send", "without_omission"]

_Bound = Literal["least", "most"]


def from_the_send(report: Report) -> Report:
    """Nothing counts from when it was due: how late we sent is not in it."""
    return _in_windows(
        replace(report, latency=report.service),
        lambda each: each.service,
        lambda each: each.service,
    )


def without_omission(report: Report) -> Report:
    """With what a closed loop leaves out, which was never late: from the send it is the same."""
    if report.plan.rate is not None:
        return report
    events = [
        replace(event, window=event.around.corrected, around=_corrected(event.around))
        if event.around
        else event
        for event in report.events
    ]
    return replace(
        report,
        latency=report.corrected,
        doubt=report.corrected_doubt,
        service=report.corrected,
        service_doubt=report.corrected_doubt,
        events=events,
        nulls=[_corrected(null) for null in report.nulls],
    )


def _corrected(window: Window) -> Window:
    return replace(
        window,
        latency=window.corrected,
        service=window.corrected,
        doubt=window.corrected_doubt,
    )


def at_least(report: Report, *, beside_nulls: bool = False) -> Report:
    """The server was at least so slow. ``beside_nulls``: for an excess, which is least where the
    null windows were as slow as they may have been.
    """
    return _bounded(report, "least", "most" if beside_nulls else "least")


def at_most(report: Report, *, beside_nulls: bool = False) -> Report:
    """The server was at most so slow, and two versions answered for at most so long."""
    longest_ns = round(1e9 * max(report.stills_s, default=0.0))
    bounded = _bounded(report, "most", "least" if beside_nulls else "most")
    events = [_overlapping(event, longest_ns) for event in bounded.events]
    return replace(bounded, events=events)


def _overlapping(event: EventReport, more_ns: int) -> EventReport:
    overlap = event.settled.overlap
    longer = None if overlap is None else overlap + more_ns
    return replace(event, settled=event.settled._replace(overlap=longer))


def _bounded(report: Report, bound: _Bound, of_nulls: _Bound) -> Report:
    whole = replace(
        report,
        latency=_bound(report.latency, report.doubt, bound),
        service=_bound(report.service, report.service_doubt, bound),
    )
    return _in_windows(
        whole,
        lambda each: _bound(each.latency, each.doubt, bound),
        lambda each: _bound(each.latency, each.doubt, of_nulls),
    )


def _bound(measured: Spread, doubt: Doubt | None, bound: _Bound) -> Spread:
    spread: Spread = measured if doubt is None else getattr(doubt, bound)
    return spread


def _in_windows(
    report: Report, of_event: Callable[[Window], Spread], of_null: Callable[[Window], Spread]
) -> Report:
    events = [
        replace(event, window=of_event(event.around)) if event.around else event
        for event in report.events
    ]
    return replace(
        report,
        events=events,
        nulls=[replace(null, latency=of_null(null)) for null in report.nulls],
    )
