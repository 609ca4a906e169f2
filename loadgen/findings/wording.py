"""Figures as a person reads them; the same words on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

from loadgen.findings.report import EventReport, Report, Spread
from loadgen.findings.windows import NULLS_NEEDED, Window
from loadgen.plain import plain_words
from loadgen.plan import Event

__all__ = [
    "deed_words",
    "ending",
    "fault_words",
    "plan_words",
    "p99_name",
    "quiet_window",
    "quiet_words",
    "rate_words",
    "spread_words",
    "stands_out",
    "time_words",
    "title_words",
    "version_words",
    "what_happened",
]

_DEED_MOST = 100  # characters
_FEW = 10.0  # a second: below it the digits behind the point count
_VERSIONS_TOLD = 6
_SECOND = 1_000_000_000
_SEEN_LONGER_S = 0.05  # after its end: below it nobody would say that it went on


def time_words(us: float | None, digits: int = 3) -> str:
    """Microseconds in the unit that suits them, with so many digits."""
    if us is None:
        return "-"
    for limit, scale, unit in ((1e3, 1, "us"), (1e6, 1e3, "ms")):
        if us < limit:
            return f"{us / scale:.{digits}g} {unit}"
    return f"{us / 1e6:.{digits}g} s"


def rate_words(rate: float) -> str:
    """Operations a second."""
    return f"{rate:,.0f}" if rate >= _FEW else f"{rate:.3g}"


def spread_words(spread: Spread) -> str:
    """All percentiles in a line."""
    return "  ".join(f"{name} {time_words(value)}" for name, value in spread.items())


def title_words(report: Report) -> str:
    """What was run, in a line."""
    plan = report.plan
    return f"{plan.protocol} on {plan.target} for {plan_words(report)}"


def plan_words(report: Report) -> str:
    """How long, in which way, by how many; and when it was ended early."""
    plan = report.plan
    some = f"{plan.processes} load process{'es' if plan.processes > 1 else ''}"
    early = f", ended before its {report.asked_s:.4g} s" if report.asked_s else ""
    return (
        f"{plan.duration_ns / _SECOND:.4g} s{early}: {plan.way}, "
        f"{plan.connections:,} connection{'s' if plan.connections > 1 else ''}, {some}"
    )


def version_words(counts: Mapping[int, int]) -> str:
    """How many answers each version gave; of many versions the first ones and the last."""
    words = [f"v{number}: {count:,}" for number, count in sorted(counts.items())]
    if (more := len(words) - _VERSIONS_TOLD) > 0:
        words[_VERSIONS_TOLD - 1 : -1] = [f"{more} more"]
    return ", ".join(words)


def fault_words(counts: Mapping[str, int]) -> str:
    """The kinds that there are, the most frequent first; nothing when there is none."""
    some = sorted(((n, name) for name, n in counts.items() if n), key=lambda pair: -pair[0])
    return ", ".join(f"{name.replace('_', ' ')} {n:,}" for n, name in some)


def deed_words(event: Event) -> str:
    """What is to be done, in a line; of a program the name: the whole command is in the page."""
    first, *rest = event.words
    named = first if event.kind == "push" else PurePath(first).name
    return plain_words(" ".join((event.kind, named, *rest)), _DEED_MOST)


def what_happened(event: EventReport) -> str:
    """The deed of an event."""
    return deed_words(event.record.event)


def quiet_window(report: Report) -> Window | None:
    """The worst in which nothing happened, when there are enough of them to say something."""
    return report.worst_null if len(report.nulls) >= NULLS_NEEDED else None


def quiet_words(report: Report) -> str:
    """How many windows there are in which nothing happened; what to do when they are too few."""
    number = len(report.nulls)
    if number >= NULLS_NEEDED:
        return f"of {number} windows in which nothing happened"
    return f"{number} windows, {NULLS_NEEDED} needed to compare: a longer --duration or --every"


def stands_out(event: EventReport, report: Report) -> bool | None:
    """Whether its window has more faults or a higher p99 than every one in which nothing happened,
    with what a closed loop leaves out.

    None when the run can't say it: too short, or nothing was measured.
    """
    if event.badness[0] > max((sum(null.faults.values()) for null in report.nulls), default=0):
        return True
    quiet, p99 = quiet_window(report), event.corrected["p99"]
    if quiet is None or p99 is None:
        return None
    return p99 > (quiet.corrected["p99"] or 0.0)


def p99_name(report: Report) -> str:
    """That of the p99 by which windows are compared."""
    return "corrected p99" if report.interval_ns else "p99"


def ending(event: EventReport) -> str:
    """How an event ended, after how long, for how long it was seen after that, and what answers
    that were asked after its end are of.
    """
    code = event.record.exit_code
    took, longer = event.end_s - event.start_s, event.over_s - event.end_s
    seen = f", seen for {longer:.2f} s more" if longer > _SEEN_LONGER_S else ""
    seen += f", {event.closed:,} connections closed in order" if event.closed else ""
    how = f"{'no exit' if code is None else f'exit {code}'} after {took:.2f} s{seen}"
    return how + _settled_words(event)


def _settled_words(event: EventReport) -> str:
    """Whether old code answers still: of a push that is done how often, of others for how long."""
    before, after, stale, overlap = event.settled
    if stale:
        return f", {stale:,} stale answers: asked after its end, of code from before it"
    if overlap and overlap > _SEEN_LONGER_S * _SECOND:
        return f", {overlap / _SECOND:.2f} s with old code beside new"
    if event.record.promises and before and after and {*after} <= {*before}:
        return f", answers still of {', '.join(f'v{version}' for version in after)}"
    return ""
