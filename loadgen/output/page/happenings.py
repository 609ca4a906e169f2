"""What is read of the events: a table of all, then each with its window, figures and words."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from loadgen.findings import EventReport, Report
from loadgen.findings.wording import (
    ending,
    fault_words,
    p99_name,
    quiet_window,
    quiet_words,
    stands_out,
    time_words,
    what_happened,
)
from loadgen.output.markup import Child, el, table
from loadgen.output.page.drawing import Drawing, Mark

__all__ = ["events_section", "events_words"]

_SHORT = ("p50", "p99", "p99.9", "max")  # what fits beside a small chart
_COLUMNS = {2: "words", 3: "words", 4: "words"}  # of the table of events, those that are text
_ABOUT_THE_EVENTS = (
    "A window goes from 0.1 s before an event to some time after its last trace: the end of its "
    "command, a connection that was dropped, an answer of old code. "
)


def events_words(number: int) -> str:
    """How many, in words."""
    return "1 event" if number == 1 else f"{number:,} events"


def events_section(report: Report, drawing: Drawing) -> Element:
    """A table of all, and the window of each that has one."""
    pairs = list(zip(report.events, drawing.marks, strict=True))
    section = el("section", el("h2", "Events"), _about_the_windows(report))
    head = ("event", "at", "what", "ended", "faults", p99_name(report), "slowest", "noticed")
    rows = (_row(event, mark, report) for event, mark in pairs)
    section.append(el("div", table("Events", head, rows, styles=_COLUMNS), class_="card"))
    cards = [_event(event, mark, report) for event, mark in pairs if mark.window]
    if len(cards) < len(pairs):
        section.append(el("p", f"The {len(cards)} worst, in the order of their times:"))
    section.append(el("div", *cards, class_="grid"))
    return section


def _row(event: EventReport, mark: Mark, report: Report) -> tuple[Child, ...]:
    number = _flag(mark, "a", href=f"#event-{mark.number}") if mark.window else _flag(mark, "span")
    if not mark.window:
        number.set("id", f"event-{mark.number}")
    return (
        number,
        f"{event.start_s:.2f} s",
        what_happened(event),
        ending(event),
        el("strong", fault_words(event.faults), class_="bad") if event.faults else "none",
        time_words(event.corrected["p99"]),
        time_words(event.corrected["max"]),
        _noticed(event, report),
    )


def _flag(mark: Mark, tag: str, **more: str) -> Element:
    return el(tag, str(mark.number), class_="flag failed" if mark.failed else "flag", **more)


def _about_the_windows(report: Report) -> Element:
    parts: list[Child] = [_ABOUT_THE_EVENTS]
    if report.worst_event is not None:
        worst, number = report.worst_event, report.events.index(report.worst_event) + 1
        p99 = f"{p99_name(report)} {time_words(worst.corrected['p99'])}"
        said = [fault_words(worst.faults), p99]
        link = el("a", f"event {number}", href=f"#event-{number}")
        parts += ["The worst window is that of ", link, f": {', '.join(filter(None, said))}. "]
    quiet = quiet_window(report)
    words = quiet_words(report)
    if quiet is None:
        parts.append(f"When nothing happened: {words}.")
    else:
        p99 = f"{p99_name(report)} {time_words(quiet.corrected['p99'])}"
        parts.append(f"When nothing happened: {p99} in the worst {words}.")
        chance = len(report.events) / (len(report.nulls) + 1)
        parts.append(
            f" By chance {chance:.1g} of {events_words(len(report.events))} would stand out."
        )
    if report.elsewhere:
        parts.append(f" Near no event: {fault_words(report.elsewhere)}.")
    return el("p", *(piece for part in parts for piece in _coded(part)), class_="quiet")


def _coded(part: Child) -> Iterator[Child]:
    """Options of the command are not broken over two lines."""
    for piece in re.split(r"(--[a-z]+)", part) if isinstance(part, str) else (part,):
        coded = isinstance(piece, str) and piece.startswith("--")
        yield el("code", piece) if coded and isinstance(piece, str) else piece


def _event(event: EventReport, mark: Mark, report: Report) -> Element:
    said = f"at {event.start_s:.2f} s, {ending(event)} "
    return el(
        "article",
        el("h3", _flag(mark, "span"), f" {what_happened(event)}"),
        el("p", said, _noticed(event, report), class_="quiet"),
        *(el("p", el("strong", words), class_="bad") for words in _bad(event)),
        _window(event, mark),
        _beside(event, mark, report),
        el("details", el("summary", "What it was, printed and returned"), *_said(event)),
        class_="card",
        id=f"event-{mark.number}",
    )


def _bad(event: EventReport) -> Iterator[str]:
    if event.record.failed:
        yield event.record.reason
    if event.faults:
        yield fault_words(event.faults)


def _window(event: EventReport, mark: Mark) -> Element:
    faults = fault_words(event.faults) or "no fault"
    slowest = time_words(event.window["max"])
    return el(
        "div",
        class_="chart window",
        data_event=str(mark.number),
        role="figure",
        aria_label=f"Latency around event {mark.number}: slowest {slowest}, {faults}",
    )


def _beside(event: EventReport, mark: Mark, report: Report) -> Element:
    """The window in numbers, between the worst in which nothing happened and all the rest."""
    quiet, closed = quiet_window(report), report.interval_ns > 0
    beside = [("around it", event.window)]
    if closed:
        beside.append(("corrected", event.corrected))
    if quiet is not None:
        beside.append(("quiet, worst", quiet.latency))
    if quiet is not None and closed:
        beside.append(("corrected", quiet.corrected))
    beside.append(("the rest", event.rest))
    rows = [(name, *(time_words(spread[each]) for each in _SHORT)) for name, spread in beside]
    return table(f"Latency around event {mark.number}", ("latency", *_SHORT), rows)


_NOTICED = {True: ("stands out", "poor"), False: ("unnoticed", "good"), None: ("can't say", "")}


def _noticed(event: EventReport, report: Report) -> Element:
    """A word on whether anybody noticed."""
    words, style = _NOTICED[stands_out(event, report)]
    return el("span", words, class_=f"chip {style}".rstrip())


def _said(event: EventReport) -> Iterator[Element]:
    record = event.record
    yield el("pre", f"$ {shlex.join(record.command)}")
    for name, text in (("printed", record.stdout), ("complained", record.stderr)):
        if text:
            yield el("p", f"{name}:", class_="quiet")
            yield el("pre", _indented(text))
    yield el("p", ending(event), class_="quiet")


def _indented(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2)
    except ValueError:
        return text
