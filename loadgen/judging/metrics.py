"""What ``--fail-on`` can be about, read from a report; None where nothing was measured."""

from __future__ import annotations

from collections.abc import Callable

from loadgen.continuity import FAULTS
from loadgen.findings import PERCENTILES, EventReport, Report
from loadgen.findings.windows import NULLS_NEEDED

__all__ = ["METRICS", "OF_LATENCY", "SHARES", "TIMES", "why_nothing"]

_OF_NULLS = ("null.", "excess.")

_Metric = Callable[[Report], float | None]


def why_nothing(metric: str, report: Report) -> str:
    """Why it is None, as far as that is not plain, to stand behind a sentence that says so."""
    if metric in _WHY_NOT:
        return _WHY_NOT[metric](report)
    if not metric.startswith(_OF_NULLS):
        return ""
    return (
        f", there are {len(report.nulls)} windows in which nothing happened, and it needs "
        f"{NULLS_NEEDED}: make the run longer, or its events fewer"
    )


def _count(name: str) -> _Metric:
    return lambda report: float(getattr(report.tally, name))


def _time(column: str, name: str) -> _Metric:
    def metric(report: Report) -> float | None:
        value: float | None = getattr(report, column)[name]
        return value

    return metric


def _worst_event(name: str) -> _Metric:
    def metric(report: Report) -> float | None:
        values = (event.window[name] for event in report.events)
        return max((value for value in values if value is not None), default=None)

    return metric


def _worst_null(name: str) -> _Metric:
    """The highest of the null windows, of which there must be enough to say."""

    def metric(report: Report) -> float | None:
        values = [value for null in report.nulls if (value := null.latency[name]) is not None]
        return max(values) if len(values) >= NULLS_NEEDED else None

    return metric


def _excess(name: str) -> _Metric:
    """By how much the worst window of an event is above the worst null window; 0 when it isn't."""

    def metric(report: Report) -> float | None:
        event, null = _worst_event(name)(report), _worst_null(name)(report)
        return None if event is None or null is None else max(0.0, round(event - null, 1))

    return metric


def _stale(report: Report) -> float | None:
    """None when it can't be said of a push."""
    told = [event.settled.stale for event in report.events if event.record.promises]
    known = [stale for stale in told if stale is not None]
    return float(sum(known)) if told and len(known) == len(told) else None


def _why_not_stale(report: Report) -> str:
    pushes = [event for event in report.events if event.record.promises]
    if not pushes:
        return ", there was no push that is done"
    if not report.tally.by_version:
        return ", answers name no version"
    silent = next(event for event in pushes if event.settled.stale is None)
    why = _why_not_new(silent) or "was under way beside something that is no push or has failed"
    return f", the push at {silent.start_s:.2f} s {why}"


def _why_not_new(event: EventReport) -> str:
    """Nothing when it brought a version."""
    before, after = event.settled[:2]
    if not before:
        return "has no answer before it, since the last event, that names a version"
    return "brought no version that was not there before" if {*after} <= {*before} else ""


def _overlap(report: Report) -> float | None:
    """The longest (us); None when it can't be said of one that ended well."""
    told = [event.settled.overlap for event in report.events if not event.record.failed]
    known = [overlap for overlap in told if overlap is not None]
    return max(known) / 1e3 if known and len(known) == len(told) else None


def _why_no_overlap(report: Report) -> str:
    events = [event for event in report.events if not event.record.failed]
    if not events:
        return ", there was no event that ended with 0"
    if not report.tally.by_version:
        return ", answers name no version"
    silent = next(event for event in events if event.settled.overlap is None)
    return f", the event at {silent.start_s:.2f} s brought no version that was not there before"


def _failed(events: list[EventReport]) -> int:
    return sum(event.record.failed for event in events)


_NAMES = [name for name, _ in PERCENTILES]
SHARES = dict(PERCENTILES)
_EXCESSES = {f"excess.{name}": name for name in _NAMES}
_OF_EVENTS = {f"{word}{name}": name for word in ("event_", "window.") for name in _NAMES}
OF_LATENCY: dict[str, _Metric] = {
    **{name: _time("latency", name) for name in _NAMES},
    **{metric: _worst_event(name) for metric, name in _OF_EVENTS.items()},
    **{f"null.{name}": _worst_null(name) for name in _NAMES},
    **{metric: _excess(name) for metric, name in _EXCESSES.items()},
}
TIMES: dict[str, _Metric] = {
    **OF_LATENCY,
    **{f"service_{name}": _time("service", name) for name in _NAMES},
    **{f"late_{name}": _time("late", name) for name in _NAMES},
    "overlap": _overlap,
}
_WHY_NOT = {"stale": _why_not_stale, "overlap": _why_no_overlap}
METRICS: dict[str, _Metric] = {
    **{name: _count(name) for name in ("issued", "answered", "connected", "closed", *FAULTS)},
    **TIMES,
    "rate": lambda report: report.rate.achieved,
    "cpu": lambda report: report.cpu_share,
    "stale": _stale,
    "unsent": lambda report: float(report.unsent),
    "events_failed": lambda report: float(_failed(report.events)),
}
