"""Two saved runs side by side: ratios of the second to the first, and a verdict of the one table.

A ratio says something only between runs that asked for the same and of which neither is invalid;
else the comparison is invalid, whatever the figures are. What the second run did to its clients
comes first: a quicker server that loses answers is no better one.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from loadgen.continuity import FAULTS
from loadgen.findings import PERCENTILES, Spread
from loadgen.findings.wording import time_words
from loadgen.judging import PASS, RULES, Verdict
from loadgen.output.result import SCHEMA, Result
from loadgen.plan import PlanError

__all__ = [
    "METRICS",
    "Comparison",
    "Limit",
    "Row",
    "compare",
    "comparison_json",
    "parse_limit",
    "render_comparison",
]

_LIMIT = re.compile(r"([a-z_][\w.]*?)\s*([<>])\s*(\d+(?:\.\d+)?)")
_SIGNS: dict[str, Callable[[float, float], bool]] = {"<": operator.lt, ">": operator.gt}
_NAMES = [name for name, _ in PERCENTILES]
_RULES = {rule.exit_code: rule for rule in (*RULES, PASS)}
_SAME = ("protocol", "scenario", "loop", "payload")  # what two runs must have asked alike
_OF_THE_SECOND = (10, 13)

_Metric = Callable[[Result], float | None]


class Limit(msgspec.Struct, frozen=True):
    """The comparison fails when the ratio of this metric is so, and when there is none."""

    text: str
    metric: str
    sign: str
    ratio: float


class Row(msgspec.Struct, frozen=True):
    """A metric in both runs; ``ratio`` is the second to the first, None when it says nothing."""

    metric: str
    first: float | None
    second: float | None
    ratio: float | None


class Comparison(msgspec.Struct, frozen=True):
    """What comes of it."""

    rows: list[Row]
    verdict: Verdict


def compare(first: Result, second: Result, limits: Sequence[Limit] = ()) -> Comparison:
    """Walk the metrics, then the rules in their order."""
    rows = [_row(name, metric(first), metric(second)) for name, metric in METRICS.items()]
    ratios = {row.metric: row.ratio for row in rows}
    found = {
        **{code: list(_own(second, code)) for code in _OF_THE_SECOND},
        12: [*_different(first, second), *_invalid(first, second)],
        11: [reason for limit in limits if (reason := _missed(limit, ratios[limit.metric]))],
    }
    codes = [rule.exit_code for rule in RULES if found.get(rule.exit_code)]
    rule = _RULES[codes[0]] if codes else PASS
    reasons = [reason for code in codes for reason in found[code]]
    return Comparison(rows, Verdict(rule.name, rule.exit_code, reasons))


def parse_limit(text: str) -> Limit:
    """``p99>1.2``: the second's p99 may not be more than 1.2 times the first's."""
    match = _LIMIT.fullmatch(text.strip())
    if match is None:
        raise PlanError(f"{text!r} is not a limit: write 'p99>1.2' or 'rate<0.9'")
    metric, sign, ratio = match.groups()
    if metric not in METRICS:
        raise PlanError(f"{metric!r} is no metric; there are {', '.join(METRICS)}")
    return Limit(text, metric, sign, float(ratio))


def comparison_json(comparison: Comparison) -> str:
    """One JSON object."""
    head = {"schema": SCHEMA, **msgspec.to_builtins(comparison.verdict)}
    head["verdict"] = head.pop("name")
    return msgspec.json.encode({**head, "rows": comparison.rows}).decode()


def render_comparison(comparison: Comparison) -> str:
    """A table for a person, the verdict last."""
    return "\n".join(_lines(comparison))


def _lines(comparison: Comparison) -> Iterator[str]:
    yield f"  {'':<14}{'first':>12}{'second':>12}{'ratio':>9}"
    for row in comparison.rows:
        if row.first is row.second is None or (
            row.metric in _SELDOM and not (row.first or row.second)
        ):
            continue
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        first, second = (_words(row.metric, value) for value in (row.first, row.second))
        yield f"  {row.metric:<14}{first:>12}{second:>12}{ratio:>9}"
    verdict = comparison.verdict
    yield f"{verdict.name.upper()} (exit {verdict.exit_code})"
    yield from (f"  {reason}" for reason in verdict.reasons)


def _words(metric: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if metric in (*_COUNTS, *_SELDOM) else time_words(value)


def _row(name: str, first: float | None, second: float | None) -> Row:
    ratio = None if first is None or second is None or not first else round(second / first, 4)
    return Row(name, first, second, ratio)


def _own(result: Result, code: int) -> Iterator[str]:
    if result.exit_code == code:
        yield from (f"the second run: {reason}" for reason in result.reasons)


def _invalid(*results: Result) -> Iterator[str]:
    for name, result in zip(("first", "second"), results, strict=True):
        if result.exit_code == 12:
            yield from (f"the {name} run: {reason}" for reason in result.reasons)


def _different(first: Result, second: Result) -> Iterator[str]:
    asked = [
        {
            **{name: getattr(result, name) for name in _SAME},
            "connections": result.connections.get("asked"),
            "rate": result.rate.asked,
        }
        for result in (first, second)
    ]
    for name in asked[0]:
        if asked[0][name] != asked[1][name]:
            yield f"they are not of the same: {name} {asked[0][name]} and {asked[1][name]}"


def _missed(limit: Limit, ratio: float | None) -> str | None:
    if ratio is None:
        return f"{limit.text}: there is no ratio of {limit.metric}"
    return f"{limit.text}: it is {ratio:g}" if _SIGNS[limit.sign](ratio, limit.ratio) else None


def _percentile(column: str, name: str) -> _Metric:
    def metric(result: Result) -> float | None:
        spread: Spread = getattr(result, column)
        return spread.get(name)

    return metric


def _within(share: float) -> _Metric:
    """The curve's first point at this share or beyond; None when it has too few operations."""

    def metric(result: Result) -> float | None:
        return next((us for at, us in result.latency_curve if at >= share), None)

    return metric


def _worst(spreads: Callable[[Result], Iterable[Spread]], name: str) -> _Metric:
    def metric(result: Result) -> float | None:
        values = (spread.get(name) for spread in spreads(result))
        return max((value for value in values if value is not None), default=None)

    return metric


def _windows(result: Result) -> Iterable[Spread]:
    return (event.window_us for event in result.events)


def _nulls(result: Result) -> Iterable[Spread]:
    return (null.latency_us for null in result.null_windows)


def _cpu(result: Result) -> float | None:
    """Microseconds of the generator's processor time an operation."""
    answered = result.counts["answered"]
    return sum(result.cpu_s) * 1e6 / answered if answered else None


def _faults(result: Result) -> float:
    good = ("issued", "answered")
    operations = sum(count for name, count in result.counts.items() if name not in good)
    return float(operations)


def _count(name: str) -> _Metric:
    return lambda result: float(result.counts.get(name, 0))


_COUNTS = ("rate", "answered", "faults")
_SELDOM = ("closed", *FAULTS)  # told where there were some
METRICS: dict[str, _Metric] = {
    "rate": lambda result: result.rate.achieved,
    "answered": lambda result: float(result.counts["answered"]),
    "faults": _faults,
    **{name: _count(name) for name in FAULTS},
    "closed": lambda result: float(result.connections.get("closed", 0)),
    **{name: _percentile("latency_us", name) for name in _NAMES[:-1]},
    "p99.99": _within(0.9999),
    "max": _percentile("latency_us", "max"),
    **{f"service_{name}": _percentile("service_us", name) for name in _NAMES},
    "window.p99": _worst(_windows, "p99"),
    "window.max": _worst(_windows, "max"),
    "null.p99": _worst(_nulls, "p99"),
    "null.max": _worst(_nulls, "max"),
    "cpu": _cpu,
}
"""What is compared. Windows are the worst of each run; ``cpu`` is the generator's an operation."""
