"""Figures as a person reads them; the same words on the terminal and on the page."""

from __future__ import annotations

from loadgen.report import EventReport, Report, Spread
from loadgen.windows import NULLS_NEEDED, Window

__all__ = ["ending", "quiet_window", "spread_words", "stands_out", "time_words", "what_happened"]


def time_words(us: float | None) -> str:
    """Microseconds in the unit that suits them, with three digits."""
    if us is None:
        return "-"
    for limit, scale, unit in ((1e3, 1, "us"), (1e6, 1e3, "ms")):
        if us < limit:
            return f"{us / scale:.3g} {unit}"
    return f"{us / 1e6:.3g} s"


def spread_words(spread: Spread) -> str:
    """All percentiles in a line."""
    return "  ".join(f"{name} {time_words(value)}" for name, value in spread.items())


def what_happened(event: EventReport) -> str:
    """The deed of an event."""
    return " ".join((event.record.event.kind, *event.record.event.words))


def quiet_window(report: Report) -> Window | None:
    """The worst in which nothing happened, when there are enough of them to say something."""
    return report.worst_null if len(report.nulls) >= NULLS_NEEDED else None


def stands_out(event: EventReport, report: Report) -> bool | None:
    """Whether its window has a higher p99 than every one in which nothing happened.

    None when the run can't say it: too short, or nothing was measured.
    """
    quiet, p99 = quiet_window(report), event.window["p99"]
    if quiet is None or p99 is None:
        return None
    return p99 > (quiet.latency["p99"] or 0.0)


def ending(event: EventReport) -> str:
    """How an event ended, and after how long."""
    code = event.record.exit_code
    took = event.end_s - event.start_s
    return f"{'no exit' if code is None else f'exit {code}'} after {took:.2f} s"
