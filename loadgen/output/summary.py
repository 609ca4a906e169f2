"""The report for a person: aligned lines, the verdict at their end, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from loadgen.continuity import OPERATION_FAULTS
from loadgen.findings import PERCENTILES, EventReport, Report, Spread
from loadgen.findings.wording import (
    ending,
    fault_words,
    p99_name,
    quiet_window,
    quiet_words,
    rate_words,
    stands_out,
    time_words,
    title_words,
    version_words,
    what_happened,
)
from loadgen.judging import Verdict

__all__ = ["EVENTS_SHOWN", "render"]

EVENTS_SHOWN = 12
_LABEL, _CELL = 13, 10
_WAITED_SHOWN = 0.05
_NEXT: Final = {
    10: "docs/load.md explains each kind; --report FILE draws when they came",
    11: "--report FILE draws when it was slow, and how it is when nothing happens",
    12: "nothing is proved of the server: mend this first, then run it again",
    13: "netswap status says what serves now, netswap history why",
}
"""What to do about an exit code."""


def render(report: Report, verdict: Verdict, sparks: Sequence[str] = ()) -> str:
    """All lines, the verdict last; ``sparks`` are those of the events, in their order."""
    parts = (
        [title_words(report)],
        _traffic(report),
        _latencies(report),
        _events(report, sparks),
        _examples(report),
        _verdict(verdict),
    )
    return "\n".join(line for part in parts for line in part)


def _traffic(report: Report) -> Iterator[str]:
    tally, rate = report.tally, report.rate
    asked = "as fast as it goes" if rate.asked is None else f"{rate_words(rate.asked)} asked"
    yield _line("operations", f"{tally.answered:,} of {tally.issued:,} answered, "
                f"{rate_words(rate.achieved)} a second ({asked})")  # fmt: skip
    if report.unsent:
        yield _line("", f"{report.unsent:,} of {report.due:,} that were due could not be sent")
    yield _line("faults", _faults(report))
    closed = f", closed in order {tally.closed:,}" if tally.closed else ""
    yield _line("connections", f"{tally.connected:,} connected, refused {tally.refused:,}, "
                f"dropped {tally.dropped:,}" + closed)  # fmt: skip
    if tally.by_version:
        yield _line("versions", version_words(tally.by_version))
    own = f"{report.cpu_share:.0%} of a core in the busiest process, "
    if report.waited_share >= _WAITED_SHOWN:
        own += f"{report.waited_share:.0%} of the time without one, "
    yield _line("generator", own + f"longest pause {time_words(report.paused_s * 1e6)}")


def _faults(report: Report) -> str:
    counts: dict[str, int] = {name: getattr(report.tally, name) for name in OPERATION_FAULTS}
    return fault_words(counts) or f"none of {len(counts)} kinds"


def _latencies(report: Report) -> Iterator[str]:
    """A table: the whole run, and the worst window of an event beside how the run is else."""
    yield _line("", "".join(f"{name:<{_CELL}}" for name, _ in PERCENTILES).rstrip())
    for label, spread, note in (*_of_the_run(report), *_of_windows(report)):
        cells = (time_words(value) for value in spread.values())
        yield _line(label, ("".join(f"{cell:<{_CELL}}" for cell in cells) + note).rstrip())
    if report.worst_event is not None and quiet_window(report) is None:
        yield _line("quiet", quiet_words(report))
    if report.elsewhere:
        yield _line("", f"{fault_words(report.elsewhere)}: near no event")


def _of_the_run(report: Report) -> Iterator[tuple[str, Spread, str]]:
    yield "latency", report.latency, "from when due"
    if report.plan.rate is None:  # from the send it is the same, and nothing is late
        yield "corrected", report.corrected, "with who would have come in a stall"
    else:
        yield "service", report.service, "from the send"
        yield "sent late", report.late, "by ourselves"


def _of_windows(report: Report) -> Iterator[tuple[str, Spread, str]]:
    worst, quiet = report.worst_event, quiet_window(report)
    if worst is not None:
        yield "worst window", worst.window, f"at {worst.start_s:.2f} s"
        if report.interval_ns:
            yield "  corrected", worst.corrected, ""
        if quiet is not None:
            yield "quiet, worst", quiet.latency, f"of {len(report.nulls)} windows"
            if report.interval_ns:
                yield "  corrected", quiet.corrected, ""
        yield "the rest", worst.rest, "near no event"


def _events(report: Report, sparks: Sequence[str]) -> Iterator[str]:
    """Each with its window as a line of blocks; of many the worst, in the order of their times."""
    worse = [(event.settled.stale or 0, event.badness) for event in report.events]
    numbers = sorted(range(len(worse)), key=worse.__getitem__)
    for number in sorted(numbers[-EVENTS_SHOWN:]):
        blocks = f"{sparks[number]}  " if number < len(sparks) else ""
        yield from _event(report.events[number], blocks, report)
    if (hidden := len(numbers) - EVENTS_SHOWN) > 0:
        yield _line("", f"{hidden:,} more events, none worse: --report FILE shows them all")


def _event(event: EventReport, blocks: str, report: Report) -> Iterator[str]:
    yield _line(f"at {event.start_s:.2f} s", f"{what_happened(event)}: {ending(event)}")
    if event.record.failed:
        yield _line("", event.record.reason)
    noticed = "stands out" if stands_out(event, report) else ""
    if wrong := ", ".join(filter(None, (fault_words(event.faults), noticed))):
        yield _line("", wrong)
    p99, worst = (time_words(event.corrected[name]) for name in ("p99", "max"))
    yield _line("", f"{blocks}{p99_name(report)} {p99}  max {worst}")


def _examples(report: Report) -> Iterator[str]:
    for fault in report.tally.examples:
        operation = f" operation {fault.sequence}" if fault.sequence >= 0 else ""
        what = fault.what.replace("_", " ")
        yield _line(what, f"connection {fault.connection}{operation}: {fault.detail}")


def _verdict(verdict: Verdict) -> Iterator[str]:
    yield f"{verdict.name.upper()} (exit {verdict.exit_code})"
    yield from (f"  {reason}" for reason in verdict.reasons)
    if verdict.exit_code in _NEXT:
        yield f"  next: {_NEXT[verdict.exit_code]}"


def _line(label: str, text: str) -> str:
    return f"  {label:<{_LABEL}}{text}"
