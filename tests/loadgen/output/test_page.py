"""The page: whole, escaped, and nothing in it is from elsewhere."""

from __future__ import annotations

import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from loadgen.conductor import Observation
from loadgen.findings import build_report
from loadgen.judging import judge
from loadgen.output.page import __file__ as door
from loadgen.output.page import render_page
from loadgen.output.page.drawing import CARDS, build_drawing
from tests.loadgen.seen import go_wrong, pushed_at, steady_run

VENDOR = Path(door).parent / "vendor"
NASTY = "</script><img src=x onerror=alert(1)>"


def page(seen: Observation) -> str:
    report = build_report(seen)
    return render_page(seen, report, judge(report))


class Reader(HTMLParser):
    """What a browser would see: elements with their attributes, and the text of each kind."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements:
            last = self.elements[-1][0]
            self.texts[last] = self.texts.get(last, "") + data


def test_what_is_vendored_is_what_was_published() -> None:
    """The library is the npm package's, byte for byte, with its licence and version beside it."""
    lines = (VENDOR / "SHA256SUMS").read_text().split("\n")
    sums = dict(reversed(line.split()) for line in lines if line)
    assert {*sums} == {"LICENSE", "uPlot.iife.min.js", "uPlot.min.css"}
    for name, digest in sums.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
    (version,) = re.findall(r"uPlot\]\(\S+\) (\S+),", (VENDOR / "README.md").read_text())
    assert f"(v{version})" in (VENDOR / "uPlot.iife.min.js").read_text()


def test_nothing_is_loaded_from_anywhere() -> None:
    """No element names a file, and the policy forbids what a script would fetch."""
    elements = Reader(page(steady_run(1, pushed_at(300)))).elements
    links = [
        value
        for _, attributes in elements
        for name, value in attributes.items()
        if name in {"src", "href", "action", "data", "srcset"}
    ]
    assert all(link and link.startswith("#") for link in links), links
    policy = next(a["content"] for tag, a in elements if tag == "meta" and "content" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split("style-src")[0]


def test_closes_in_order_have_a_chart_where_there_are_some() -> None:
    """Who closes nothing has nothing to show."""
    seen = steady_run(1, pushed_at(300))
    charts = [attributes.get("id") for _, attributes in Reader(page(seen)).elements]
    assert "chart-closed" not in charts
    seen.tally.now = 400_000_000
    seen.tally.close()
    label = {a.get("id"): a.get("aria-label") for _, a in Reader(page(seen)).elements}
    assert label["chart-closed"] == "Connections closed in order by time: 1"


def test_what_a_command_said_can_not_become_part_of_the_page() -> None:
    """A server's or a command's words are text, in the body and in the embedded data."""
    shown = Reader(page(steady_run(1, pushed_at(300, said=NASTY))))
    assert not [tag for tag, _ in shown.elements if tag == "img"]
    assert NASTY in shown.texts["pre"]


def test_the_text_is_whole_without_a_script() -> None:
    """Verdict, reasons, each event with what it printed, and tables are there as text."""
    seen = steady_run(2, pushed_at(500, 20, '{"outcome": "rejected"}'), slow={600: 40})
    text = page(seen)
    for words in ("swap failed", "exit 13", "push of v2.py ended with 20", "push v2.py",
                  "&quot;outcome&quot;: &quot;rejected&quot;", "40 ms", "2,000"):  # fmt: skip
        assert words in text or words.replace("&quot;", '"') in text, words
    assert text.count("<table>") >= 5


def test_what_can_be_focused_has_a_name() -> None:
    """Boxes that scroll, and figures: somebody who hears the page is told what they are."""
    elements = Reader(page(steady_run(6, pushed_at(2000)))).elements
    named = [attributes for _, attributes in elements if {"tabindex", "role"} & attributes.keys()]
    assert len(named) >= 12
    assert all(attributes.get("aria-label") for attributes in named)


def test_the_drawing_has_every_event_and_every_operation() -> None:
    """The embedded data is JSON, with the spike in its bucket and a window for each event."""
    seen = steady_run(6, pushed_at(2000), pushed_at(4000, 20), slow={2100: 77})
    script = re.search(r'<script type="application/json" id="data">(.*?)</script>', page(seen))
    assert script is not None
    drawing = json.loads(script[1])
    assert sum(drawing["line"]["answered"]) == 6000
    assert max(filter(None, drawing["line"]["max_us"])) == 77_000
    assert [(mark["number"], mark["failed"]) for mark in drawing["marks"]] == [
        (1, False),
        (2, True),
    ]
    first, second = (max(filter(None, mark["window"]["max_us"])) for mark in drawing["marks"])
    assert (first, second) == (77_000, 1000)


def test_answers_are_drawn_by_version_and_faults_by_time() -> None:
    """Each version has its answers, and each fault is in the bucket of its time."""
    seen = steady_run(6, pushed_at(3000))
    go_wrong(seen, "lost", 0, 3100)
    go_wrong(seen, "dropped", 3100)
    line = build_drawing(seen, build_report(seen)).line
    assert {name: sum(counts) for name, counts in line.by_version.items()} == {"1": 3000, "2": 3000}
    at = int(3.1 / line.width_s)
    assert line.faults[at] == 2
    assert {kind: counts[at] for kind, counts in line.kinds.items()} == {"lost": 1, "dropped": 1}


def test_each_event_is_set_beside_the_worst_of_the_quiet() -> None:
    """The page names the worst window, and says what the same run does when nothing happens."""
    text = page(
        steady_run(
            9,
            pushed_at(2000),
            pushed_at(6000),
            slow={**dict.fromkeys(range(6100, 6120), 30), 8000: 5},
        )
    )
    words = re.sub(r"<[^>]*>", "", text)
    assert "The worst window is that of event 2" in words
    assert words.count("quiet, worst") == 2
    chips = [a["class"] for tag, a in Reader(text).elements if "chip" in (a.get("class") or "")]
    assert chips == ["chip good", "chip poor"] * 2, "only the second is beyond the quiet"
    assert re.search(r"When nothing happened: p99 1 ms in the worst of \d+ windows in which", words)


def test_an_event_has_the_faults_that_came_after_its_command() -> None:
    """In the table of events and on its card, and it stands out though nobody was slow."""
    seen = steady_run(10, pushed_at(1000), pushed_at(6000))
    del seen.samples.version[:], seen.samples.connection[:]
    go_wrong(seen, "dropped", 2400, 2500)
    words = re.sub(r"<[^>]*>", " ", page(seen).split("<footer>")[0])
    assert words.count("exit 0 after 0.20 s, seen for 1.30 s more") == 3
    assert words.count("dropped 2") == 3, "the table, the card, the worst window"
    assert words.count("stands out") == 2
    assert words.count("unnoticed") == 2


def test_a_page_of_many_events_is_small() -> None:
    """All are in the table, the worst have charts; what the time line marks leads to either."""
    events = [pushed_at(300 + at) for at in range(0, 59_000, 983)]
    text = page(steady_run(60, *events, slow={30_000: 90}))
    assert len(text) < 300_000
    elements = Reader(text).elements
    ids = [a["id"] for _, a in elements if (a.get("id") or "").startswith("event-")]
    assert sorted(ids) == sorted(f"event-{number + 1}" for number in range(len(events)))
    assert sum(tag == "article" for tag, _ in elements) == CARDS < len(events)


def test_the_pages_of_short_and_busy_runs_say_when_there_is_no_p99() -> None:
    """With less than a hundred operations a bucket it would be the slowest by another name."""
    for seconds, told in ((6, False), (60, True)):
        seen = steady_run(seconds)
        assert build_drawing(seen, build_report(seen)).p99 == told
        assert ("<span>p99</span>" in page(seen)) == told


def test_a_fault_that_has_no_time_is_told_beside_the_line() -> None:
    """One before the start is on no line, and the page does not say that there was none."""
    seen = steady_run(2)
    seen.start = 10**12
    for column in seen.samples[:3]:
        column[:] = type(column)(column.typecode, (at + 10**12 for at in column))
    go_wrong(seen, "refused", 5)
    assert "1 more have no time here: before the start" in page(seen)


@pytest.mark.parametrize("seen", [Observation(steady_run(1).plan, None), steady_run(1)])
def test_a_run_without_events_or_without_anything_has_a_page(seen: Observation) -> None:
    """Nothing measured is told as such."""
    text = page(seen)
    assert "<h2>Events</h2>" not in text
    assert "<h2>Percentiles</h2>" in text


def shades(style: str) -> list[dict[str, tuple[float, ...]]]:
    """The colours by name, of light and of dark."""
    found = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    light, dark = (dict(re.findall(r"--([\w-]+): #(\w{6})", block)) for block in found[:2])
    both = ({**light}, {**light, **dark})
    return [
        {
            name: tuple(int(code[k : k + 2], 16) / 255 for k in (0, 2, 4))
            for name, code in of.items()
        }
        for of in both
    ]


def contrast(one: tuple[float, ...], two: tuple[float, ...]) -> float:
    """WCAG 2.2, section 1.4.3: from 1 to 21."""
    linear = [
        [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        for colour in (one, two)
    ]
    low, high = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in linear)
    return (high + 0.05) / (low + 0.05)


TEXTS = [("ink", "page"), ("ink", "card"), ("quiet", "page"), ("quiet", "card"), ("card", "mark"),
         ("bad", "card"), ("bad", "bad-back"), ("good", "good-back"), ("poor", "poor-back"),
         ("poor", "card"), ("card", "failed")]  # fmt: skip
FAULTS = ("dropped", "refused", "lost", "unknown", "other")
DRAWN = ["p50", "p99", "max", *(f"v{k}" for k in range(6)), *(f"fault-{name}" for name in FAULTS)]


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_everything_can_be_told_from_its_ground(mode: int) -> None:
    """Text has a contrast of 4.5 at least; what is drawn, with its name beside it, of 2.5."""
    shade = shades((VENDOR.parent / "report.css").read_text())[mode]
    weak = {pair: contrast(shade[pair[0]], shade[pair[1]]) for pair in TEXTS}
    assert {pair: round(ratio, 2) for pair, ratio in weak.items() if ratio < 4.5} == {}
    drawn = {name: round(contrast(shade[name], shade["card"]), 2) for name in DRAWN}
    assert {name: ratio for name, ratio in drawn.items() if ratio < 2.5} == {}
