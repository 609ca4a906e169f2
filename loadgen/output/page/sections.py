"""What is read: the verdict first, then figures, charts' places, events, and tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from loadgen.continuity import CONNECTION_FAULTS, FAULTS, OPERATION_FAULTS, Fault
from loadgen.findings import PERCENTILES, Report, Spread
from loadgen.findings.wording import (
    fault_words,
    plan_words,
    rate_words,
    spread_words,
    stands_out,
    time_words,
)
from loadgen.judging import Verdict
from loadgen.output.markup import Child, el, table
from loadgen.output.page.drawing import Drawing
from loadgen.output.page.happenings import events_section, events_words

__all__ = ["body", "title"]

_NAMES = [name for name, _ in PERCENTILES]
_ROWS = 60  # of the time line as a table
_NAMED = 8  # of a legend
_FAULTS_NAMED = ("dropped", "refused", "lost", "unknown")  # with a colour of their own

_ABOUT_THE_LINE = (
    "Latency stands where an operation was due, so that a stall shows as those who waited saw it. "
    "Drag to look closer, double-click to go back; with keys: arrows, + and -, Escape."
)
_ABOUT_THE_PERCENTILES = {
    "open": "Latency counts from the time when an operation was due, the service time from when it "
    "was sent: where they part, operations queued behind a stall.",
    "closed": "A closed loop asks nothing while it waits for an answer, so a stall is one slow "
    "operation of each connection. Corrected for that, the latency is also of those who would have "
    "come in the stall.",
}


def title(report: Report) -> str:
    """What was watched."""
    return f"{report.plan.protocol} on {report.plan.target}"


def body(report: Report, verdict: Verdict, drawing: Drawing) -> Iterator[Element]:
    """All sections in order."""
    yield _head(report, verdict)
    main = el("main", _figures(report), _line(report, drawing))
    if report.events:
        main.append(events_section(report, drawing))
    main.append(_percentiles(report))
    main.append(el("div", _versions(report), _faults(report), class_="pair"))
    main.append(_numbers(report, drawing))
    yield main


def _head(report: Report, verdict: Verdict) -> Element:
    badge = el("p", el("strong", verdict.name), f" exit {verdict.exit_code}",
               class_="verdict", data_code=str(verdict.exit_code))  # fmt: skip
    reasons = el("ul", *(el("li", reason) for reason in verdict.reasons), class_="reasons")
    head = el(
        "header",
        el("div", el("h1", title(report)), el("p", plan_words(report), class_="quiet")),
        badge,
    )
    if verdict.reasons:
        head.append(reasons)
    return head


def _figures(report: Report) -> Element:
    boxes = (
        el("div", el("dt", name), el("dd", value), el("dd", note, class_="quiet"), class_=style)
        for name, value, note, style in (*_amounts(report), *_troubles(report))
    )
    return el("dl", *boxes, class_="figures")


def _amounts(report: Report) -> Iterator[tuple[str, str, str, str]]:
    tally = report.tally
    unsent = f", {report.unsent:,} were not" if report.unsent else ""
    yield "answered", f"{tally.answered:,}", f"of {tally.issued:,} asked{unsent}", ""
    yield "a second", rate_words(report.rate.achieved), _asked(report), ""
    yield "p50", time_words(report.latency["p50"]), "half were faster", ""
    yield "p99", time_words(report.latency["p99"]), "1 of 100 was slower", ""
    yield "slowest", time_words(report.latency["max"]), "of all", ""


def _troubles(report: Report) -> Iterator[tuple[str, str, str, str]]:
    """What must be 0: red when it is not."""
    tally, events = report.tally, report.events
    wrong = sum(getattr(tally, name) for name in OPERATION_FAULTS)
    yield "operations", f"{wrong:,}", "lost or wrong", "bad" if wrong else ""
    gone = tally.dropped + tally.refused
    yield "connections", f"{gone:,}", "dropped or refused", "bad" if gone else ""
    if events:
        loud = sum(bool(stands_out(event, report)) for event in events)
        unknown = all(stands_out(event, report) is None for event in events)
        note = f"stand out, of {len(events):,}"
        yield "events", "?" if unknown else f"{loud:,}", note, "poor" if loud else ""


def _asked(report: Report) -> str:
    asked = report.rate.asked
    return "closed loop" if asked is None else f"of {rate_words(asked)} asked"


def _chart(name: str, label: str) -> Element:
    return el("div", class_=f"chart {name}", id=f"chart-{name}", role="figure", aria_label=label)


def _key(*names: tuple[str, str]) -> Element:
    """A legend; the script writes the values under the pointer into it, by their places.

    Of many the first ones and the last stand for all.
    """
    entries = [
        el("li", el("i", class_=f"swatch {style}"), el("span", name), el("output", data_k=str(k)))
        for k, (style, name) in enumerate(names)
    ]
    if (more := len(entries) - _NAMED) > 0:
        entries[_NAMED - 1 : -1] = [el("li", f"{more:,} more")]
    return el("ul", *entries, class_="key")


def _line(report: Report, drawing: Drawing) -> Element:
    versions = [(f"v{k % 6}", f"version {name}") for k, name in enumerate(drawing.line.by_version)]
    achieved = rate_words(report.rate.achieved)
    return el(
        "section",
        el("h2", "Time line"),
        el("p", _ABOUT_THE_LINE, class_="quiet"),
        *_latency(drawing),
        el("h3", "Answers a second"),
        _key(*(versions or [("v0", "all")])),
        _chart("rate", f"Answers a second by time: {achieved} on the average"),
        *_connections(drawing, versions),
        *_closed(drawing),
        *_wrong(report, drawing),
        class_="card",
    )


def _latency(drawing: Drawing) -> Iterator[Element]:
    within = f"the slowest took {time_words(_most(drawing.line.max_us))}"
    within += f"; {events_words(len(drawing.marks))} marked" if drawing.marks else ""
    yield el("h3", "Latency")
    yield _key(("p50", "p50"), *([("p99", "p99")] if drawing.p99 else ()), ("max", "slowest"))
    yield _chart("latency", f"Latency by time: {within}")


def _closed(drawing: Drawing) -> Iterator[Element]:
    """Only where the server announced ends of connections."""
    if number := sum(drawing.line.closed):
        yield el("h3", "Connections closed in order")
        yield _key(("closed", "announced by the server"))
        yield _chart("closed", f"Connections closed in order by time: {number:,}")


def _wrong(report: Report, drawing: Drawing) -> Iterator[Element]:
    kinds = {name: sum(counts) for name, counts in drawing.line.kinds.items()}
    yield el("h3", "Faults")
    yield _key(*((_fault_style(name), name.replace("_", " ")) for name in kinds))
    yield _chart("faults", f"Faults by time: {fault_words(kinds) or 'none'}")
    yield from _untimed(report.tally.faults() - sum(kinds.values()))


def _untimed(number: int) -> Iterator[Element]:
    if number > 0:
        words = (
            f"{number:,} more have no time here: before the start, or found by comparing at the end"
        )
        yield el("p", words, class_="quiet")


def _fault_style(name: str) -> str:
    return f"fault-{name}" if name in _FAULTS_NAMED else "fault-other"


def _connections(drawing: Drawing, versions: list[tuple[str, str]]) -> Iterator[Element]:
    """Only where answers tell their version."""
    if drawing.line.connections:
        last = {name: counts[-1] for name, counts in drawing.line.connections.items()}
        words = ", ".join(f"version {name} answered {count:,} last" for name, count in last.items())
        yield el("h3", "Connections that are there, by the version that answered them last")
        yield _key(*versions)
        yield _chart("connections", f"Connections by version and time: {words}")


def _percentiles(report: Report) -> Element:
    is_closed = report.interval_ns > 0
    corrected = [("corrected", *_times(report.corrected))] if is_closed else []
    rows = [
        ("latency", *_times(report.latency)),
        *corrected,
        ("service time", *_times(report.service)),
        ("sent late", *_times(report.late)),
    ]
    return el(
        "section",
        el("h2", "Percentiles"),
        el("p", _ABOUT_THE_PERCENTILES["closed" if is_closed else "open"], class_="quiet"),
        *_curves(report),
        table("Percentiles", ("", *_NAMES), rows),
        class_="card",
    )  # fmt: skip


def _curves(report: Report) -> Iterator[Element]:
    if report.latency["max"] is None:
        yield el("p", "Nothing was answered.")
        return
    yield _key(("p50", "latency"), ("p99", "corrected" if report.interval_ns else "service time"))
    yield _chart("percentiles", f"Share of operations by latency: {spread_words(report.latency)}")


def _times(spread: Spread) -> list[str]:
    return [time_words(spread[name]) for name in _NAMES]


def _versions(report: Report) -> Element:
    tally = report.tally
    total = sum(tally.by_version.values())
    rows: list[tuple[Child, ...]] = [
        (f"version {number}", f"{count:,}", _meter(count / total))
        for number, count in sorted(tally.by_version.items())
    ] or [("no version told", f"{tally.answered:,}", "")]
    told = ("connected", "closed", *CONNECTION_FAULTS)
    lines = [(name, f"{getattr(tally, name):,}") for name in told]
    asked = f"{report.plan.connections:,} at once"
    return el(
        "section",
        el("h2", "Versions and connections"),
        table("Answers by version", ("answers by", "count", "share"), rows),
        table("Connections", ("connections", asked), lines),
        class_="card",
    )


def _meter(share: float) -> Element:
    bar = el("i", style=f"width:{share:.2%}")
    return el("span", el("span", bar, class_="meter"), f" {share:.1%}", class_="share")


def _faults(report: Report) -> Element:
    """What went wrong, with examples; what did not, in a sentence."""
    counts: dict[str, int] = {name: getattr(report.tally, name) for name in FAULTS}
    rows = [(name.replace("_", " "), el("strong", f"{n:,}", class_="bad"))
            for name, n in counts.items() if n]  # fmt: skip
    none = ", ".join(name.replace("_", " ") for name, n in counts.items() if not n)
    section = el("section", el("h2", "Continuity"), class_="card")
    if rows:
        section.append(table("Faults", ("fault", "count"), rows))
    section.append(el("p", f"{'None else' if rows else 'No fault'}: 0 {none}.", class_="quiet"))
    if report.tally.examples:
        section.append(el("h3", "The first of them"))
        section.append(el("ul", *map(_example, report.tally.examples), class_="reasons"))
    return section


def _example(fault: Fault) -> Element:
    operation = f", operation {fault.sequence}" if fault.sequence >= 0 else ""
    what = fault.what.replace("_", " ")
    return el("li", f"{what} on connection {fault.connection}{operation}: {fault.detail}")


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
