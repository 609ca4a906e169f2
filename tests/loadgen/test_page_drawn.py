"""The page in a real browser, offline: charts with their marks are drawn, in light and in dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadgen.findings import build_report
from loadgen.judging import judge
from loadgen.output.page import render_page
from tests.loadgen.chromium import Tab, browsing
from tests.loadgen.seen import MS, pushed_at, steady_run

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium here: NO PAGE WAS LOOKED AT (apt-get install chromium)"
)

COPY = """
var copy = (canvas) => {
  const { width, height } = canvas;
  const made = Object.assign(document.createElement("canvas"), { width, height });
  const context = made.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  return context;
};
"""
PIXELS = """
[...document.querySelectorAll(".chart canvas")].map((canvas) => {
  const { data } = copy(canvas).getImageData(0, 0, canvas.width, canvas.height);
  const seen = new Set();
  let inked = 0;
  for (let k = 0; k < data.length; k += 4)
    if (data[k + 3]) { inked++; seen.add((data[k] << 16) | (data[k + 1] << 8) | data[k + 2]); }
  return { inked, colours: seen.size };
})
"""
MARK_COLUMNS = """
drawn.marked.filter((mark) => mark.chart === "chart-latency").map((mark) => {
  const chart = drawn.charts.get(document.getElementById(mark.chart));
  const { left, top, height } = chart.bbox;
  const column = (x) => copy(chart.ctx.canvas).getImageData(x, top + 2, 1, height - 4).data;
  let inked = 0;
  const on = column(mark.x), off = column(mark.x - 5);
  for (let k = 3; k < on.length; k += 4) if (on[k] > 200 && off[k] < 200) inked++;
  return [mark.number, inked / (on.length / 4)];
})
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six seconds with two pushes, of which one failed, a slow operation, and connections
    that were closed in order.
    """
    seen = steady_run(6, pushed_at(2000), pushed_at(4000, 20), slow={2100: 77})
    for seen.tally.now in (2050 * MS, 2051 * MS, 2300 * MS):
        seen.tally.close()
    report = build_report(seen)
    written = tmp_path_factory.mktemp("page") / "report.html"
    written.write_text(render_page(seen, report, judge(report)), encoding="utf-8")
    return written


@pytest.fixture(scope="module")
def tab(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """The page, open."""
    assert CHROMIUM is not None
    with browsing(CHROMIUM, tmp_path_factory.mktemp("chromium")) as opened:
        opened.open(file)
        yield opened


def test_every_chart_is_drawn(tab: Tab) -> None:
    """Latency, rate, closes, faults, a window for each event, percentiles: in several colours."""
    canvases = tab.evaluate(COPY + PIXELS)
    assert len(canvases) == tab.evaluate("document.querySelectorAll('.chart').length") == 8
    assert all(canvas["inked"] > 500 and canvas["colours"] > 2 for canvas in canvases), canvases


def test_closes_in_order_are_bars(tab: Tab) -> None:
    """As high as there are, where they were, in the colour that the legend has."""
    bars = "drawn.charts.get(document.getElementById('chart-closed'))"
    counts = tab.evaluate(f"{bars}.data[1].flatMap((n, k) => n ? [[{bars}.data[0][k], n]] : [])")
    assert [(at // 0.1, n) for at, n in counts] == [(20, 2), (23, 1)]
    shown = tab.evaluate(f"""{COPY} (() => {{
      const swatch = document.querySelector(".swatch.closed");
      const wanted = getComputedStyle(swatch).backgroundColor.match(/[0-9]+/g).map(Number);
      const {{ ctx }} = {bars};
      const at = ["x", "y"].map((axis, k) => {bars}.valToPos([{counts[0][0]}, 1][k], axis, true));
      const seen = copy(ctx.canvas).getImageData(Math.round(at[0]), Math.round(at[1]), 1, 1).data;
      return [wanted.slice(0, 3), [...seen].slice(0, 3)];
    }})()""")
    assert shown[0] == shown[1]


def test_every_event_is_marked(tab: Tab) -> None:
    """A line from top to bottom in the chart, and a flag above it that leads to the event."""
    columns = dict(tab.evaluate(COPY + MARK_COLUMNS))
    assert {*columns} == {1, 2}
    assert all(share > 0.9 for share in columns.values()), columns
    flags = "[...document.querySelectorAll('#chart-latency .flag')]"
    assert tab.evaluate(f"{flags}.map((flag) => flag.textContent)") == ["1", "2"]
    assert tab.evaluate(f"{flags}.map((flag) => flag.matches('.failed'))") == [False, True]
    told = tab.evaluate(f"{flags}.map((flag) => flag.title)")
    assert told[1] == "push v2.py, at 4.00 s: exit 20 after 0.20 s"
    assert tab.evaluate(f"{flags}.every((flag) => document.querySelector(flag.hash))")


def test_nothing_jumps(tab: Tab) -> None:
    """What is there first stays where it is: the charts' places are kept for them."""
    shifts = "(list) => done(list.getEntries().reduce((sum, shift) => sum + shift.value, 0))"
    watch = f"new PerformanceObserver({shifts}).observe({{type: 'layout-shift', buffered: true}})"
    none = "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(0), 50)))"
    assert tab.evaluate(f"new Promise((done) => {{ {watch}; {none}; }})") == 0


@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits(tab: Tab, width: int) -> None:
    """No sideways scrolling on a desk or on a telephone, and the charts are as wide as they can."""
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1,
             mobile=False)  # fmt: skip
    tab.wait("[...drawn.charts].every(([holder, chart]) => chart.width === holder.clientWidth)")
    assert tab.evaluate("document.documentElement.scrollWidth") == width


def test_it_is_drawn_anew_in_the_dark(tab: Tab) -> None:
    """Where a reader prefers dark colours, page and charts have them."""
    ground = "getComputedStyle(document.body).backgroundColor"
    light, before = tab.evaluate(ground), tab.evaluate("drawn.charts.size")
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    tab.call("Emulation.setEmulatedMedia", features=dark)
    assert tab.evaluate(ground) != light
    assert tab.evaluate("drawn.charts.size") == before
    assert all(canvas["inked"] > 500 for canvas in tab.evaluate(COPY + PIXELS))


KEYS = """
(async (...keys) => {
  const holder = document.getElementById("chart-latency");
  holder.focus();
  for (const key of keys) {
    holder.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    await new Promise(requestAnimationFrame);
  }
  const { min, max } = drawn.charts.get(holder).scales.x;
  const rate = drawn.charts.get(document.getElementById("chart-rate")).scales.x;
  const outputs = [...holder.previousElementSibling.querySelectorAll("output")];
  const told = outputs.map((output) => output.textContent);
  return [document.activeElement.id, max - min, rate.max - rate.min, told];
})
"""


def test_it_is_read_and_enlarged_with_keys(tab: Tab) -> None:
    """Arrows go from bucket to bucket, + looks closer in all charts of the line, Escape ends it."""
    focused, whole, _, told = tab.evaluate(f"{KEYS}('Home')")
    assert (focused, told) == ("chart-latency", ["1 ms", "1 ms"])
    _, half, other, _ = tab.evaluate(f"{KEYS}('ArrowRight', '+')")
    assert (round(half / whole, 2), round(other / whole, 2)) == (0.5, 0.5)
    _, again, other, _ = tab.evaluate(f"{KEYS}('Escape')")
    assert again == other == whole


def test_on_paper_it_is_light(tab: Tab) -> None:
    """Who reads in the dark prints in ink: page and charts."""
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    ink = "getComputedStyle(document.documentElement).getPropertyValue('--ink')"
    drawings = "drawn.charts.get(document.getElementById('chart-rate'))"
    tab.call("Emulation.setEmulatedMedia", features=dark, media="screen")
    in_the_dark, before = tab.evaluate(ink), tab.evaluate(f"(window.before = {drawings}, 1)")
    tab.call("Emulation.setEmulatedMedia", features=dark, media="print")
    tab.wait(f"{drawings} !== window.before")
    assert tab.evaluate(ink) != in_the_dark
    assert before


def test_nothing_was_asked_of_a_network_and_nothing_went_wrong(tab: Tab, file: Path) -> None:
    """The file itself is all that was loaded; no error, no warning."""
    asked = [p["request"]["url"] for name, p in tab.events if name == "Network.requestWillBeSent"]
    assert asked == [file.as_uri()]
    wrong = [
        (name, told)
        for name, told in tab.events
        if name in {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}
    ]
    assert not wrong
