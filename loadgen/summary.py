"""The report for a person: a screen of aligned lines."""

from __future__ import annotations

from collections.abc import Iterator

from loadgen.continuity import OPERATION_FAULTS
from loadgen.report import EventReport, Report
from loadgen.verdict import Verdict
from loadgen.wording import ending, spread_words, what_happened

__all__ = ["render"]

_LABEL = 13


def render(report: Report, verdict: Verdict) -> str:
    """All lines, the verdict last."""
    return "\n".join([*_lines(report), *_examples(report), *_verdict(verdict)])


def _lines(report: Report) -> Iterator[str]:
    plan, tally, rate = report.plan, report.tally, report.rate
    asked = "as fast as it goes" if rate.asked is None else f"{rate.asked:,.0f} asked"
    yield (
        f"{plan.protocol} on {plan.target} for {plan.duration_ns / 1e9:g} s, "
        f"{plan.processes} load process{'es' if plan.processes > 1 else ''}"
    )
    yield _line("operations", f"{tally.answered:,} of {tally.issued:,} answered, "
                f"{rate.achieved:,.0f} a second ({asked})")  # fmt: skip
    counts = (f"{name.replace('_', ' ')} {getattr(tally, name):,}" for name in OPERATION_FAULTS)
    yield _line("faults", ", ".join(counts))
    yield _line("connections", f"{tally.connected:,} of {plan.connections:,} connected, "
                f"refused {tally.refused:,}, dropped {tally.dropped:,}")  # fmt: skip
    yield _line("latency", f"{spread_words(report.latency)}  from the intended time")
    if plan.rate is not None:  # in a closed loop both are the same
        yield _line("service", f"{spread_words(report.service)}  from the send")
    if tally.by_version:
        versions = sorted(tally.by_version.items())
        yield _line("versions", ", ".join(f"v{number}: {count:,}" for number, count in versions))
    for event in report.events:
        yield from _event(event)
    own = f"{report.cpu_share:.0%} of a core in the busiest process"
    if plan.rate is not None:
        own += f", sent late: {spread_words(report.late)}"
    yield _line("generator", own)


def _event(event: EventReport) -> Iterator[str]:
    yield _line(f"at {event.start_s:.2f} s", f"{what_happened(event)}: {ending(event)}")
    for name, spread in (("around it", event.window), ("the rest", event.rest)):
        yield _line("", f"{name:<10}{spread_words(spread)}")


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
