"""A run as it goes: a view that is drawn anew each second at a terminal, plain lines elsewhere.

``Lines`` and ``Live`` are two ways to show the same ``rows``; both write to standard error, so that
the result alone is on standard output.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple, TextIO

from loadgen.events import EventRecord
from loadgen.findings.wording import deed_words, rate_words, time_words
from loadgen.output.sparkline import sparkline
from loadgen.plan import Plan
from loadgen.progress import Moment, OnProgress

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Row", "Watching", "rows", "watching"]

Watching = Literal["auto", "live", "lines", "off"]

_SECONDS_KEPT = 60
_EVENTS_KEPT = 6
_BESIDE, _COLUMNS_LEAST = 34, 4  # columns that stand beside a line of blocks, and what it has
_VERSIONS_SHOWN = 4
_ONE_LINE = ("rate", "slowest", "event")  # what is cut where it is too long; the rest is folded
_PLAIN_TERMINALS = ("", "dumb", "unknown")  # which can't draw anew
_LINES = 20  # of plain text for a run, at most about so many, and not more than one in 5 s
_LINE_EVERY_S = 5.0
_BAR = 20  # columns

Tone = Literal["", "good", "bad", "quiet"]
_STYLES: dict[Tone, str] = {"": "", "good": "green", "bad": "bold red", "quiet": "dim"}


class Row(NamedTuple):
    """A line of the view."""

    label: str
    text: str
    tone: Tone = ""


@contextmanager
def watching(plan: Plan, how: Watching, stream: TextIO) -> Iterator[OnProgress | None]:
    """What to call once a second; None when nobody watches. Auto is live at a terminal that can."""
    if how == "auto":
        able = stream.isatty() and os.environ.get("TERM", "") not in _PLAIN_TERMINALS
        how = "live" if able else "lines"
    if how == "live":
        with _live(plan, stream) as show:
            yield show
    else:
        yield _Lines(plan, stream) if how == "lines" else None


def rows(history: Sequence[Moment]) -> Iterator[Row]:
    """What there is to see; ``history`` are the seconds kept, the present one last."""
    now = history[-1]
    rates = [moment.rate for moment in history]
    slowest = [moment.latency.get("max") for moment in history]
    known = [us for us in slowest if us is not None]
    low, high = (min(known), max(known)) if known else (1.0, 1.0)
    yield Row("rate", f"{rate_words(now.rate):>9} a second  {_heights(rates)}")
    yield Row("latency", _latency(now))
    scale = f"{time_words(low)} to {time_words(high)}" if known else "-"
    yield Row("slowest", f"{scale:<20}  {sparkline(slowest, low, high)}")
    if now.by_version:
        yield Row("versions", _versions(now))
    yield Row(
        "faults", f"{now.faults:,}" if now.faults else "none", "bad" if now.faults else "good"
    )
    for record in now.happened[-_EVENTS_KEPT:]:
        yield Row("event", _ended(record), "bad" if record.failed else "")
    for event in now.happening:
        yield Row("event", f"{deed_words(event)}: under way", "quiet")


class _Lines:
    """A line now and then, and one for each event as it ends."""

    def __init__(self, plan: Plan, stream: TextIO) -> None:
        self._every = max(_LINE_EVERY_S, plan.duration_ns / 1e9 / _LINES)
        self._stream = stream
        self._next = self._every
        self._events = 0

    def __call__(self, moment: Moment) -> None:
        """Say what is new."""
        for record in moment.happened[self._events :]:
            print(f"{moment.seconds:6.0f} s  {_ended(record)}", file=self._stream)
        self._events = len(moment.happened)
        if moment.seconds >= self._next:
            self._next += self._every
            print(
                f"{moment.seconds:6.0f} s  {moment.answered:,} answered, "
                f"{rate_words(moment.rate)} a second, {_latency(moment)}, {moment.faults:,} faults",
                file=self._stream, flush=True,
            )  # fmt: skip


@contextmanager
def _live(plan: Plan, stream: TextIO) -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.live import Live

    history: deque[Moment] = deque(maxlen=_SECONDS_KEPT)
    console = Console(file=stream)
    with Live(console=console, transient=True, auto_refresh=False) as live:

        def show(moment: Moment) -> None:
            history.append(moment)
            kept = list(history)[-max(_COLUMNS_LEAST, console.width - _BESIDE) :]
            live.update(_drawn(plan, kept), refresh=True)

        yield show


def _drawn(plan: Plan, history: Sequence[Moment]) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    now = history[-1]
    title = Text(f"{plan.protocol} on {plan.target}", style="bold")
    passed = min(now.seconds, now.duration_s)
    bar = ProgressBar(total=now.duration_s, completed=passed, width=_BAR)
    head = Table.grid(padding=(0, 2))
    head.add_row(Text(f"{passed:.0f} of {now.duration_s:.4g} s"), bar)
    body = Table.grid(padding=(0, 2))
    for row in rows(history):
        cut = row.label in _ONE_LINE
        text = Text(row.text, style=_STYLES[row.tone], no_wrap=cut, overflow="ellipsis")
        body.add_row(Text(row.label, style="dim"), text)
    return Group(title, head, body)


def _latency(moment: Moment) -> str:
    names = ("p50", "p99", "max")
    return "  ".join(f"{name} {time_words(moment.latency.get(name))}" for name in names)


def _versions(moment: Moment) -> str:
    """All answers of the newest, and what each has of those of the last second."""
    lately = sum(moment.lately.values())
    words = []
    for version, count in [*moment.by_version.items()][-_VERSIONS_SHOWN:]:
        share = moment.lately.get(version, 0) / lately if lately else 0.0
        words.append(f"v{version} {count:,}" + (f" ({share:.0%} now)" if share else ""))
    older = len(moment.by_version) - len(words)
    return "  ".join(([f"{older} older"] if older else []) + words)


def _ended(record: EventRecord) -> str:
    code = "no exit" if record.exit_code is None else f"exit {record.exit_code}"
    took = (record.end - record.start) / 1e9
    why = f": {record.reason}" if record.failed else ""
    return f"{deed_words(record.event)}: {code} after {took:.2f} s{why}"


def _heights(values: Sequence[float]) -> str:
    """From nothing: a rate that halves is half as high."""
    most = max(values, default=0.0) or 1.0
    return "".join("▁▂▃▄▅▆▇█"[min(7, int(value / most * 8))] for value in values)
