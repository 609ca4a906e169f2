"""The report for a person: a screen of aligned lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loadgen.continuity import OPERATION_FAULTS
from loadgen.report import Report
from loadgen.verdict import Verdict
from loadgen.wording import (
    ending,
    quiet_window,
    spread_words,
    stands_out,
    time_words,
    what_happened,
)

__all__ = ["render"]

_LABEL = 13


def render(report: Report, verdict: Verdict, sparks: Sequence[str] = ()) -> str:
    """All lines, the verdict last; ``sparks`` are those of the events, in their order."""
    return "\n".join([*_lines(report, sparks), *_examples(report), *_verdict(verdict)])


def _lines(report: Report, sparks: Sequence[str]) -> Iterator[str]:
    plan, tally, rate = report.plan, report.tally, report.rate
    asked = "as fast as it goes" if rate.asked is None else f"{rate.asked:,.0f} asked"
    yield (
        f"{plan.protocol} on {plan.target} for {plan.duration_ns / 1e9:g} s, "
        f"{plan.processes} load process{'es' if plan.processes > 1 else ''}"
    )
    yield _line("operations", f"{tally.answered:,} of {tally.issued:,} answered, "
                f"{rate.achieved:,.0f} a second ({asked})")  # fmt: skip
    yield _line("faults", _faults(report))
    yield _line("connections", f"{tally.connected:,} of {plan.connections:,} connected, "
                f"refused {tally.refused:,}, dropped {tally.dropped:,}")  # fmt: skip
    yield _line("latency", f"{spread_words(report.latency)}  from the intended time")
    if plan.rate is not None:  # in a closed loop both are the same
        yield _line("service", f"{spread_words(report.service)}  from the send")
    if tally.by_version:
        versions = sorted(tally.by_version.items())
        yield _line("versions", ", ".join(f"v{number}: {count:,}" for number, count in versions))
    yield from _events(report, sparks)
    own = f"{report.cpu_share:.0%} of a core in the busiest process, "
    own += f"longest pause {time_words(report.paused_s * 1e6)}"
    if plan.rate is not None:
        own += f", sent late: {spread_words(report.late)}"
    yield _line("generator", own)


def _faults(report: Report) -> str:
    counts = {name: getattr(report.tally, name) for name in OPERATION_FAULTS}
    some = [f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items() if count]
    return ", ".join(some) or f"none of {len(counts)} kinds"


def _events(report: Report, sparks: Sequence[str]) -> Iterator[str]:
    """Each with its window as a line of blocks; the worst, beside what the run is else, at last."""
    for number, event in enumerate(report.events):
        yield _line(f"at {event.start_s:.2f} s", f"{what_happened(event)}: {ending(event)}")
        p99, worst = (time_words(event.window[name]) for name in ("p99", "max"))
        blocks = f"{sparks[number]}  " if number < len(sparks) else ""
        noticed = "  stands out" if stands_out(event, report) else ""
        yield _line("", f"{blocks}p99 {p99}  max {worst}{noticed}")
    if report.worst_event is not None:
        worst_event, quiet = report.worst_event, quiet_window(report)
        where = f"  at {worst_event.start_s:.2f} s"
        yield _line("worst window", spread_words(worst_event.window) + where)
        if quiet is not None:
            yield _line("quiet, worst", f"{spread_words(quiet.latency)}  of {len(report.nulls)}")
        yield _line("the rest", spread_words(worst_event.rest))


def _examples(report: Report) -> Iterator[str]:
    for fault in report.tally.examples:
        operation = f" operation {fault.sequence}" if fault.sequence >= 0 else ""
        what = fault.what.replace("_", " ")
        yield _line(what, f"connection {fault.connection}{operation}: {fault.detail}")


def _verdict(verdict: Verdict) -> Iterator[str]:
    yield f"{verdict.name.upper()} (exit {verdict.exit_code})"
    yield from (f"  {reason}" for reason in verdict.reasons)


def _line(label: str, text: str) -> str:
    return f"  {label:<{_LABEL}}{text}"
