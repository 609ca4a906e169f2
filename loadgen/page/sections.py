"""What is read: the verdict first, then figures, charts' places, events, and tables."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from loadgen.continuity import OPERATION_FAULTS
from loadgen.markup import Child, el, table
from loadgen.page.drawing import Drawing, Mark
from loadgen.report import PERCENTILES, EventReport, Report, Spread
from loadgen.verdict import Verdict
from loadgen.wording import (
    ending,
    quiet_window,
    spread_words,
    stands_out,
    time_words,
    what_happened,
)

__all__ = ["body", "title"]

_NAMES = [name for name, _ in PERCENTILES]
_SHORT = ("p50", "p99", "p99.9", "max")  # what fits beside a small chart
_ROWS = 60  # of the time line as a table

_ABOUT_THE_LINE = (
    "Latency stands where an operation was due, so that a stall shows as those who waited saw it. "
    "Drag to look closer, double-click to go back."
)
_ABOUT_THE_PERCENTILES = (
    "Latency counts from the time when an operation was due, the service time from when it was "
    "sent: where they part, operations queued behind a stall."
)


def title(report: Report) -> str:
    """What was watched."""
    return f"{report.plan.protocol} on {report.plan.target}"


def body(report: Report, verdict: Verdict, drawing: Drawing) -> Iterator[Element]:
    """All sections in order."""
    yield _head(report, verdict)
    main = el("main", _figures(report), _line(report, drawing))
    if report.events:
        main.append(_events(report, drawing))
    main.append(_percentiles(report))
    main.append(el("div", _versions(report), _faults(report), class_="pair"))
    main.append(_numbers(report, drawing))
    yield main


def _head(report: Report, verdict: Verdict) -> Element:
    plan = report.plan
    pace = "as fast as it goes" if plan.rate is None else f"{plan.rate:,.0f} operations a second"
    words = (
        f"{plan.way}, {plan.connections:,} connections, {pace}, {plan.duration_ns / 1e9:g} s, "
        f"{plan.processes} load process{'es' if plan.processes > 1 else ''}"
    )
    badge = el("p", el("strong", verdict.name), f" exit {verdict.exit_code}",
               class_="verdict", data_code=str(verdict.exit_code))  # fmt: skip
    reasons = el("ul", *(el("li", reason) for reason in verdict.reasons), class_="reasons")
    head = el("header", el("div", el("h1", title(report)), el("p", words, class_="quiet")), badge)
    if verdict.reasons:
        head.append(reasons)
    return head


def _figures(report: Report) -> Element:
    tally = report.tally
    faults = sum(getattr(tally, name) for name in OPERATION_FAULTS) + tally.dropped + tally.refused
    figures = [
        ("answered", f"{tally.answered:,}", f"of {tally.issued:,} asked"),
        ("a second", f"{report.rate.achieved:,.0f}", _asked(report)),
        ("p50", time_words(report.latency["p50"]), "half were faster"),
        ("p99", time_words(report.latency["p99"]), "99 of 100 were faster"),
        ("slowest", time_words(report.latency["max"]), "of all"),
        ("faults", f"{faults:,}", "lost, wrong or dropped"),
    ]
    boxes = (
        el("div", el("dt", name), el("dd", value), el("dd", note, class_="quiet"),
           class_="bad" if name == "faults" and faults else "")
        for name, value, note in figures
    )  # fmt: skip
    return el("dl", *boxes, class_="figures")


def _asked(report: Report) -> str:
    return "closed loop" if report.rate.asked is None else f"of {report.rate.asked:,.0f} asked"


def _chart(name: str, label: str) -> Element:
    return el("div", class_=f"chart {name}", id=f"chart-{name}", role="figure", aria_label=label)


def _key(*names: tuple[str, str]) -> Element:
    """A legend; the script writes the values under the pointer into it."""
    entries = (
        el("li", el("i", class_=f"swatch {style}"), el("span", name), el("output"), class_=style)
        for style, name in names
    )
    return el("ul", *entries, class_="key")


def _line(report: Report, drawing: Drawing) -> Element:
    versions = [(f"v{k % 6}", f"version {name}") for k, name in enumerate(drawing.line.by_version)]
    worst = time_words(_most(drawing.line.max_us))
    within = f"the slowest took {worst}; {len(drawing.marks)} events are marked"
    return el(
        "section",
        el("h2", "Time line"),
        el("p", _ABOUT_THE_LINE, class_="quiet"),
        el("h3", "Latency"),
        _key(("p50", "p50"), ("p99", "p99"), ("max", "slowest")),
        _chart("latency", f"Latency by time: {within}"),
        el("h3", "Answers a second"),
        _key(*(versions or [("v0", "all")])),
        _chart("rate", f"Answers a second by time: {report.rate.achieved:,.0f} on the average"),
        *_connections(drawing, versions),
        el("h3", "Faults"),
        _key(("fault", "faults")),
        _chart("faults", f"Faults by time: {sum(drawing.line.faults):,} in all"),
        class_="card",
    )  # fmt: skip


def _connections(drawing: Drawing, versions: list[tuple[str, str]]) -> Iterator[Element]:
    """Only where answers tell their version."""
    if drawing.line.connections:
        last = {name: counts[-1] for name, counts in drawing.line.connections.items()}
        words = ", ".join(f"version {name} answered {count:,} last" for name, count in last.items())
        yield el("h3", "Connections by the version that answered last")
        yield _key(*versions)
        yield _chart("connections", f"Connections by version and time: {words}")


def _events(report: Report, drawing: Drawing) -> Element:
    pairs = zip(report.events, drawing.marks, strict=True)
    cards = [_event(event, mark, report) for event, mark in pairs]
    section = el("section", el("h2", "Events"), _about_the_windows(report))
    section.append(el("div", *cards, class_="grid"))
    return section


def _about_the_windows(report: Report) -> Element:
    parts: list[Child] = []
    if report.worst_event is not None:
        number = report.events.index(report.worst_event) + 1
        worst = time_words(report.worst_event.window["p99"])
        link = el("a", f"event {number}", href=f"#event-{number}")
        parts += ["The worst window is that of ", link, f", p99 {worst}. "]
    quiet = quiet_window(report)
    if quiet is None:
        parts.append("The run is too short to say how it is when nothing happens.")
    else:
        p99 = time_words(quiet.latency["p99"])
        parts.append(f"When nothing happened, {p99} in the worst of {len(report.nulls)} as long.")
    return el("p", *parts, class_="quiet")


def _event(event: EventReport, mark: Mark, report: Report) -> Element:
    quiet = quiet_window(report)
    beside = [("around it", event.window), ("the rest", event.rest)]
    if quiet is not None:
        beside.insert(1, ("quiet, worst", quiet.latency))
    rows = [(name, *(time_words(spread[each]) for each in _SHORT)) for name, spread in beside]
    label = f"Latency around event {mark.number}: slowest {time_words(event.window['max'])}"
    number = el("span", str(mark.number), class_="flag failed" if mark.failed else "flag")
    return el(
        "article",
        el("h3", number, f" {what_happened(event)}"),
        el(
            "p",
            f"at {event.start_s:.2f} s, {ending(event)} ",
            *_noticed(event, report),
            class_="quiet",
        ),
        el(
            "div",
            class_="chart window",
            data_event=str(mark.number),
            role="figure",
            aria_label=label,
        ),
        table(f"Latency around event {mark.number}", ("latency", *_SHORT), rows),
        el("details", el("summary", "What it was, printed and returned"), *_said(event)),
        class_="card",
        id=f"event-{mark.number}",
    )


def _noticed(event: EventReport, report: Report) -> Iterator[Element]:
    """A word on whether anybody noticed, where the run can say it."""
    noticed = stands_out(event, report)
    if noticed is not None:
        words = "stands out" if noticed else "unnoticed"
        yield el("span", words, class_="chip poor" if noticed else "chip good")


def _said(event: EventReport) -> Iterator[Element]:
    record = event.record
    yield el("pre", f"$ {' '.join(record.command)}")
    for name, text in (("printed", record.stdout), ("complained", record.stderr)):
        if text:
            yield el("pre", _indented(text), aria_label=name)
    yield el("p", ending(event), class_="quiet")


def _indented(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2)
    except ValueError:
        return text


def _percentiles(report: Report) -> Element:
    rows = [
        ("latency", *_times(report.latency)),
        ("service time", *_times(report.service)),
        ("sent late", *_times(report.late)),
    ]
    return el(
        "section",
        el("h2", "Percentiles"),
        el("p", _ABOUT_THE_PERCENTILES, class_="quiet"),
        _key(("p50", "latency"), ("p99", "service time")),
        _chart("percentiles", f"Share of operations by latency: {spread_words(report.latency)}"),
        table("Percentiles", ("", *_NAMES), rows),
        class_="card",
    )  # fmt: skip


def _times(spread: Spread) -> list[str]:
    return [time_words(spread[name]) for name in _NAMES]


def _versions(report: Report) -> Element:
    tally = report.tally
    total = sum(tally.by_version.values())
    rows: list[tuple[Child, ...]] = [
        (f"version {number}", f"{count:,}", _meter(count / total))
        for number, count in sorted(tally.by_version.items())
    ] or [("no version told", f"{tally.answered:,}", "")]
    lines = [(name, f"{getattr(tally, name):,}") for name in ("connected", "refused", "dropped")]
    return el(
        "section",
        el("h2", "Versions and connections"),
        table("Answers by version", ("answers by", "count", "share"), rows),
        table("Connections", ("connections", f"of {report.plan.connections:,}"), lines),
        class_="card",
    )


def _meter(share: float) -> Element:
    bar = el("i", style=f"width:{share:.2%}")
    return el("span", el("span", bar, class_="meter"), f" {share:.1%}", class_="share")


def _faults(report: Report) -> Element:
    tally = report.tally
    rows = [(name.replace("_", " "), f"{getattr(tally, name):,}") for name in OPERATION_FAULTS]
    examples = (
        el("li", f"{fault.what.replace('_', ' ')} on connection {fault.connection}: {fault.detail}")
        for fault in tally.examples
    )
    section = el("section", el("h2", "Continuity"), table("Faults", ("fault", "operations"), rows))
    section.set("class", "card")
    if tally.examples:
        section.append(el("ul", *examples, class_="reasons"))
    return section


def _numbers(report: Report, drawing: Drawing) -> Element:
    cpu = ", ".join(f"{seconds:g} s" for seconds in report.cpu_s) or "-"
    own = f"The generator used {cpu} of processor time, {report.cpu_share:.0%} of a core at most."
    head = ("second", "answered", "p50", "p99 at most", "slowest", "faults")
    return el(
        "section",
        el("h2", "The same in numbers"),
        el("p", own, class_="quiet"),
        el(
            "details",
            el("summary", "The time line as a table"),
            table("The time line", head, _coarse(drawing)),
        ),
        class_="card",
    )


def _coarse(drawing: Drawing) -> Iterator[tuple[str, ...]]:
    """The buckets of the line, some in a row: the most of each, so that no spike is lost."""
    line = drawing.line
    step = -(-len(line.answered) // _ROWS)
    for k in range(0, len(line.answered), step):
        part = slice(k, k + step)
        yield (
            f"{line.begin_s + k * line.width_s:.2f}",
            f"{sum(line.answered[part]):,}",
            time_words(_middle(line.p50_us[part])),
            time_words(_most(line.p99_us[part])),
            time_words(_most(line.max_us[part])),
            f"{sum(line.faults[part]):,}",
        )


def _most(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median_low(known) if known else None
