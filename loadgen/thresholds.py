"""``--fail-on 'p99>5ms'``: a metric of the report, a comparison, a number."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

import msgspec

from loadgen.continuity import FAULTS
from loadgen.plan import PlanError
from loadgen.report import PERCENTILES, EventReport, Report
from loadgen.scenarios import SCENARIOS
from loadgen.windows import NULLS_NEEDED

__all__ = ["METRICS", "Threshold", "parse_threshold"]

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
}
_EXPRESSION = re.compile(
    r"([a-z_]\w*(?:\.(?:max|p?\d\w*))*)\s*(<=|>=|==|<|>)\s*(\d+(?:\.\d+)?)\s*(us|ms|s|)"
)
_BUSY = 0.95  # of a core
_WAITED = 0.25  # of the run without one
_OF_NULLS = ("null.", "excess.")
_UNITS_US = {"us": 1.0, "": 1.0, "ms": 1e3, "s": 1e6}

_Metric = Callable[[Report], float | None]


class Threshold(msgspec.Struct, frozen=True):
    """The run fails when the comparison is true, and when there is nothing to compare."""

    text: str
    metric: str
    comparison: str
    limit: float

    def missed(self, report: Report) -> str | None:
        """Why it fails the run, or None."""
        if self.comparison in (">", ">=") and _kept_waiting(report, self.metric):
            return f"{self.text}: {report.unsent:,} that were due have waited until the end"
        value = METRICS[self.metric](report)
        if value is None:
            return f"{self.text}: nothing was measured{self._why(report)}"
        if not _COMPARISONS[self.comparison](value, self.limit):
            return None
        return f"{self.text}: it is {value:g}{' us' if self.metric in _TIMES else ''}"

    def missed_by_us(self, report: Report) -> str | None:
        """Why it would fail the run although the server was in time: it holds from the send, and
        what comes before that is our own lateness. Not where operations wait for the server, too.
        """
        scenario, exceeds = SCENARIOS[report.plan.way], _COMPARISONS[self.comparison]
        if self._is_uncertain(report):
            return self._missed_without_processor(report)
        if self.metric == "rate":
            return self._rate_missed_by_us(report)
        if self.comparison not in (">", ">=") or scenario.waits or scenario.line.ahead:
            return None
        over = [each for each in _both(self.metric, report) if exceeds(each[0], self.limit)]
        if not over or any(exceeds(service, self.limit) for _, service in over):
            return None
        latency, service = max(over)
        return (
            f"{self.text}: it is {latency:g} us, but {service:g} us from the send: the generator "
            "was late, not the server; use a machine with time to spare, or more --processes"
        )

    def _is_uncertain(self, report: Report) -> bool:
        """Whether we have waited for a processor so much that we can't tell how fast the server is:
        there was no rest, or the limit holds without two of the longest waits, which one operation
        may have met when it was sent and when it was answered.
        """
        value = METRICS[self.metric](report)
        if value is None or report.waited_share < _WAITED:
            return False
        if self.metric not in _TIMES:
            return self.metric == "rate" and report.wanted_share > _BUSY
        own_us = 2e6 * report.paused_s if self.comparison in (">", ">=") else 0.0
        holds = not _COMPARISONS[self.comparison](value - own_us, self.limit)
        return holds or report.wanted_share > _BUSY

    def _missed_without_processor(self, report: Report) -> str | None:
        missed = self.missed(report)
        if missed is None:
            return None
        return (
            f"{missed}, and for {report.waited_share:.0%} of the run the generator "
            "had no processor, though it wanted one: use a machine with time to spare"
        )

    def _rate_missed_by_us(self, report: Report) -> str | None:
        """A closed loop that never waits for the server shows how fast the generator is."""
        busy = report.plan.rate is None and report.cpu_share > _BUSY
        if not busy or self.comparison not in ("<", "<=") or self.missed(report) is None:
            return None
        return (
            f"{self.text}: it is {report.rate.achieved:g}, with {report.cpu_share:.0%} of a core "
            "in the generator, which was the limit, not the server; use more --processes"
        )

    def _why(self, report: Report) -> str:
        if self.metric in _WHY_NOT:
            return _WHY_NOT[self.metric](report)
        if not self.metric.startswith(_OF_NULLS):
            return ""
        return (
            f", there are {len(report.nulls)} windows in which nothing happened, and it needs "
            f"{NULLS_NEEDED}: make the run longer, or its events fewer"
        )


def parse_threshold(text: str) -> Threshold:
    """Times are in microseconds unless a unit (us, ms, s) follows."""
    match = _EXPRESSION.fullmatch(text.strip())
    if match is None:
        raise PlanError(f"{text!r} is not a threshold: write 'lost>0' or 'p99>5ms'")
    metric, comparison, number, unit = match.groups()
    if metric not in METRICS:
        raise PlanError(f"{metric!r} is no metric; there are {', '.join(METRICS)}")
    if unit and metric not in _TIMES:
        raise PlanError(f"{metric} is no time: write {metric}{comparison}{number}")
    return Threshold(text, metric, comparison, float(number) * _UNITS_US[unit])


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


def _both(metric: str, report: Report) -> list[tuple[float, float]]:
    """The latencies that a metric is about, each with that from the send."""
    if metric in _SHARES:
        name, spreads = metric, [(report.latency, report.service)]
    elif metric in _OF_EVENTS:
        name = _OF_EVENTS[metric]
        spreads = [(each.window, each.around.service) for each in report.events if each.around]
    elif metric in _EXCESSES:
        return _both_excesses(_EXCESSES[metric], report)
    else:
        return []
    both = ((latency.get(name), service.get(name)) for latency, service in spreads)
    return [(one, other) for one, other in both if one is not None and other is not None]


def _both_excesses(name: str, report: Report) -> list[tuple[float, float]]:
    """The excess of the latency, and that of the time from the send, when both can be said."""
    latency = _excess(name)(report)
    events = [each.around.service.get(name) for each in report.events if each.around]
    nulls = [null.service.get(name) for null in report.nulls]
    event, null = (
        max((us for us in column if us is not None), default=None) for column in (events, nulls)
    )
    if latency is None or event is None or null is None:
        return []
    return [(latency, max(0.0, round(event - null, 1)))]


def _kept_waiting(report: Report, metric: str) -> bool:
    """Whether the server kept more operations waiting until the end than this percentile of the
    latency leaves out: then it is above all that was measured.
    """
    share = _SHARES.get(metric)
    if share is None or not SCENARIOS[report.plan.way].waits:
        return False
    return report.unsent > round(report.due * (1 - share))


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
_SHARES = dict(PERCENTILES)
_EXCESSES = {f"excess.{name}": name for name in _NAMES}
_OF_EVENTS = {f"{word}{name}": name for word in ("event_", "window.") for name in _NAMES}
_TIMES: dict[str, _Metric] = {
    **{name: _time("latency", name) for name in _NAMES},
    **{f"service_{name}": _time("service", name) for name in _NAMES},
    **{f"late_{name}": _time("late", name) for name in _NAMES},
    **{metric: _worst_event(name) for metric, name in _OF_EVENTS.items()},
    **{f"null.{name}": _worst_null(name) for name in _NAMES},
    **{metric: _excess(name) for metric, name in _EXCESSES.items()},
    "overlap": _overlap,
}
_WHY_NOT = {"stale": _why_not_stale, "overlap": _why_no_overlap}
METRICS: dict[str, _Metric] = {
    **{name: _count(name) for name in ("issued", "answered", "connected", "closed", *FAULTS)},
    **_TIMES,
    "rate": lambda report: report.rate.achieved,
    "cpu": lambda report: report.cpu_share,
    "stale": _stale,
    "unsent": lambda report: float(report.unsent),
    "events_failed": lambda report: float(_failed(report.events)),
}
