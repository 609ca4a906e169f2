"""The time lines of several runs, one under the other, as an SVG that needs no browser to be made.

All panels have one scale of time and one of latency (logarithmic), so the eye compares them. A
panel has the latency of a run by when operations were due: the median, the slowest as a shade up to
it, and the 99th percentile where there are enough operations to tell it from the slowest; below it
the faults, with how many each event cost, behind them the connections that were closed in order
(which is no fault), and the shares of the versions that answered. Events are
lines through it, red when they failed, and a shade until their last trace.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple
from xml.etree.ElementTree import Element

from loadgen.findings.timeline import Buckets
from loadgen.findings.wording import time_words
from loadgen.output.markup import el, svg
from loadgen.output.result import Result

__all__ = ["draw_picture"]

_WIDTH, _LEFT, _RIGHT, _TOP = 960, 186, 26, 44
_PLOT, _FAULTS, _VERSIONS, _GAP = 110, 34, 14, 26
_UNDER = _FAULTS + _VERSIONS
_PANEL = _PLOT + _UNDER + _GAP
_GOOD = ("issued", "answered")
_KEY = {
    "p50": "median",
    "p99": "99 of 100",
    "worst": "slowest",
    "fault": "faults",
    "closed": "closed",
    "mark": "event",
}
_BOXES = ("worst", "fault", "closed")
_LEAST_US = 0.1  # a timer's answer may come before its time: the scale has no place for that
_TOLD_APART = 100  # operations that a bucket needs for a p99 that is not its slowest
_LABEL_WIDE = 20.0

_STYLE = """
svg { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; }
.back { fill: #ffffff; } text { fill: #191c1f; } .quiet { fill: #5d646b; }
.name { font-weight: 600; font-size: 15px; }
.small { font-size: 10px; } .on { fill: #ffffff; font-size: 10px; font-weight: 600; }
.span { fill: #3c4650; fill-opacity: .08; } .end { text-anchor: end; } .mid { text-anchor: middle; }
.rule { stroke: #e3e3de; } .mark { stroke: #3c4650; stroke-dasharray: 3 3; }
.mark.failed { stroke: #c62828; }
.p50 { stroke: #2463c4; stroke-width: 1.6; fill: none; } .p99 { stroke: #b85a0a; fill: none; }
.worst { fill: #a32a6a; fill-opacity: .16; stroke: #a32a6a; stroke-width: .7; }
.fault { fill: #c62828; } .closed { fill: #8a939b; }
.bad { fill: #c62828; font-weight: 600; } .good { fill: #17693f; }
rect { shape-rendering: crispEdges; }
.v0 { fill: #2f6db5; } .v1 { fill: #1f7a5c; } .v2 { fill: #936511; }
.v3 { fill: #7350b8; } .v4 { fill: #3c7583; } .v5 { fill: #9a4f67; }
@media (prefers-color-scheme: dark) {
.back { fill: #14181b; } text { fill: #e7e9ea; }
.quiet { fill: #9ea6ad; } .rule { stroke: #2d3337; } .span { fill: #c3cad0; fill-opacity: .12; }
.on { fill: #ffffff; }
.mark { stroke: #c3cad0; } .p50 { stroke: #74aaff; } .p99 { stroke: #f0a050; }
.worst { fill: #ef7fb5; stroke: #ef7fb5; } .fault, .bad { fill: #ff6b6b; }
.closed { fill: #77818a; } .good { fill: #7fd8a5; }
}
"""


class _Axes(NamedTuple):
    """Where a time (s) and a latency (us) are; ``top`` is that of the panel. ``tells_p99`` says
    whether buckets have enough operations for one, ``closes`` whether a connection was closed in
    order.
    """

    seconds: float
    low: float
    high: float
    tells_p99: bool
    closes: bool
    top: float = 0.0

    def told(self) -> Iterator[str]:
        """What is drawn."""
        absent = {"p99": not self.tells_p99, "closed": not self.closes}
        return (style for style in _KEY if not absent.get(style))

    def x(self, at_s: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * min(at_s / self.seconds, 1.0)

    def y(self, us: float) -> float:
        return self.top + _PLOT * (
            1 - math.log(max(us, self.low) / self.low) / math.log(self.high / self.low)
        )


def draw_picture(runs: Mapping[str, Result], title: str) -> str:
    """The picture of these runs, by the name that stands beside each."""
    axes = _axes(list(runs.values()))
    height = _TOP + _PANEL * len(runs) + 14
    words = (f"{name}: {', '.join(said for said, _ in _beside(run))}" for name, run in runs.items())
    picture = el(
        "svg", el("title", title), el("desc", "; ".join(words)), el("style", _STYLE),
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH} {height}", role="img",
    )  # fmt: skip
    picture.append(_box("back", 0, 0, _WIDTH, height))
    picture.append(_text(16, 22, title, "name"))
    picture.append(_text(_LEFT, _TOP - 6, "latency by the time when due", "quiet small"))
    picture.extend(_key([*axes.told()]))
    for number, (name, run) in enumerate(runs.items()):
        picture.extend(_panel(name, run, axes._replace(top=_TOP + number * _PANEL)))
    picture.extend(_time(axes, _TOP + _PANEL * len(runs) - _GAP + 14))
    return svg(picture)


def _axes(runs: Sequence[Result]) -> _Axes:
    lines = [run.timeline for run in runs]
    known = (us for line in lines for us in line.p50_us if us)
    low = max(min(known, default=100.0), _LEAST_US)
    high = max((us for line in lines for us in line.max_us if us), default=1e6)
    full = all(sum(line.answered) >= _TOLD_APART * len(line.answered) for line in lines)
    seconds = max(run.duration_s for run in runs)
    closes = any(any(line.closed) for line in lines)
    return _Axes(seconds, low / 1.3, max(high, low * 10) * 1.3, full, closes)


def _key(styles: Sequence[str]) -> Iterator[Element]:
    x = _WIDTH - _RIGHT - 84 * len(styles)
    for style in styles:
        yield (
            _box(style, x, 14, 14, 8)
            if style in _BOXES
            else el("path", class_=style, d=f"M{x} 18h14")
        )
        yield _text(x + 19, 22, _KEY[style], "quiet")
        x += 84


def _panel(name: str, run: Result, axes: _Axes) -> Iterator[Element]:
    line = run.timeline
    yield from _grid(axes)
    yield from _marks(run, axes)
    at = [line.begin_s + (k + 0.5) * line.width_s for k in range(len(line.answered))]
    yield el("path", class_="worst", d=_shade(axes, at, line.p50_us, line.max_us))
    if axes.tells_p99:
        yield el("path", class_="p99", d=_trace(axes, at, line.p99_us))
    yield el("path", class_="p50", d=_trace(axes, at, line.p50_us))
    yield from _faults(run, axes)
    yield from _versions(run, axes)
    yield _text(16, axes.top + 22, name, "name")
    for number, (words, style) in enumerate(_beside(run)):
        yield _text(16, axes.top + 42 + 18 * number, words, style)


def _beside(run: Result) -> Iterator[tuple[str, str]]:
    """What stands under the name of a run, and its style: two kinds of fault at most."""
    faults = _worst_first(run)
    for name, n in faults[:2]:
        yield f"{n:,} {name.replace('_', ' ')}", "bad"
    if not faults:
        yield "no fault", "good"
    if closed := sum(run.timeline.closed):
        yield f"{closed:,} closed in order", "quiet"
    yield f"p99 {time_words(run.latency_us['p99'])}", "quiet"
    yield f"slowest {time_words(run.latency_us['max'])}", "quiet"


def _worst_first(run: Result) -> list[tuple[str, int]]:
    """The kinds of fault that there are, the most frequent first."""
    faults = [(name, n) for name, n in run.counts.items() if n and name not in _GOOD]
    return sorted(faults, key=lambda pair: -pair[1])


def _grid(axes: _Axes) -> Iterator[Element]:
    for power in range(math.ceil(math.log10(axes.low)), math.floor(math.log10(axes.high)) + 1):
        y = axes.y(10.0**power)
        yield el("path", class_="rule", d=f"M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}")
        yield _text(_LEFT - 6, y + 4, time_words(10.0**power), "quiet end")


def _time(axes: _Axes, y: float) -> Iterator[Element]:
    step = next(step for step in (1, 2, 5, 10, 30, 60, 300, 1800, 1e9) if axes.seconds / step < 13)
    for number in range(int(axes.seconds / step) + 1):
        yield _text(axes.x(number * step), y, f"{number * step:g} s", "quiet mid")


def _marks(run: Result, axes: _Axes) -> Iterator[Element]:
    """From the start of each event to its last trace; the line is where it began."""
    for event in run.events:
        x, tall = axes.x(event.start_s), _PLOT + _UNDER
        until = axes.x(max(event.end_s, event.over_s or 0.0))
        yield _box("span", x, axes.top, until - x, tall)
        style = "mark" if event.exit_code == 0 else "mark failed"
        yield el("path", class_=style, d=f"M{x:.1f} {axes.top}v{tall}")


def _faults(run: Result, axes: _Axes) -> Iterator[Element]:
    """Bars by time, and above them how many each event cost."""
    foot = axes.top + _PLOT + _FAULTS
    yield _text(_LEFT - 6, foot - 3, "faults", "quiet end small")
    yield from _bars("closed", run.timeline, run.timeline.closed, axes)
    yield from _bars("fault", run.timeline, run.timeline.faults, axes)
    free = -math.inf
    for event in run.events:
        cost = sum(event.window.faults.values()) if event.window else 0
        x = axes.x(event.start_s) + 4
        if cost and x > free:
            yield _text(x, axes.top + _PLOT + 12, f"{cost:,}", "bad small")
            free = x + _LABEL_WIDE


def _bars(style: str, line: Buckets, counts: Sequence[int], axes: _Axes) -> Iterator[Element]:
    """The highest bucket fills the band, and the least is seen."""
    foot, most = axes.top + _PLOT + _FAULTS, max(counts, default=0)
    for k, count in enumerate(counts):
        if count:
            tall = max(4.0, (_FAULTS - 18) * count / most)
            begin = line.begin_s + k * line.width_s
            yield _bar(style, axes, begin, line.width_s, tall, foot - tall)


def _versions(run: Result, axes: _Axes) -> Iterator[Element]:
    """The share of each version in the answers, bucket by bucket, and its number where it fits."""
    line, top, tall = run.timeline, axes.top + _PLOT + _FAULTS + 1, _VERSIONS - 2
    if line.by_version:
        yield _text(_LEFT - 6, top + 10, "version", "quiet end small")
    for number, (name, shares) in enumerate(_shares(line)):
        stretches = list(_stretches(shares))
        for k, long, (under, share) in stretches:
            begin = line.begin_s + k * line.width_s
            yield _bar(f"v{number % 6}", axes, begin, long * line.width_s, tall * share,
                       top + tall * under)  # fmt: skip
        alone = [(long, k) for k, long, (_, share) in stretches if share == 1.0]
        long, k = max(alone, default=(0, 0))
        if axes.x(long * line.width_s) - axes.x(0) > _LABEL_WIDE:
            middle = line.begin_s + (k + long / 2) * line.width_s
            yield _text(axes.x(middle), top + 10, name, "on mid")


def _shares(line: Buckets) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Of each version the share of the answers that stands under its own, and its own, a bucket."""
    under = [0] * len(line.answered)
    for name, counts in line.by_version.items():
        each = zip(under, counts, line.answered, strict=True)
        yield name, [(round(low / (n or 1), 2), round(own / (n or 1), 2)) for low, own, n in each]
        under = [low + own for low, own in zip(under, counts, strict=True)]


def _stretches(
    shares: Sequence[tuple[float, float]],
) -> Iterator[tuple[int, int, tuple[float, float]]]:
    """Where shares begin, over how many buckets, and what they are; those of nothing left out."""
    for value, group in groupby(range(len(shares)), key=shares.__getitem__):
        ks = list(group)
        if value[1]:
            yield ks[0], len(ks), value


def _bar(style: str, axes: _Axes, begin: float, long: float, tall: float, y: float) -> Element:
    x = axes.x(begin)
    return _box(style, x, y, max(2.0, axes.x(begin + long) - x), tall)


def _trace(axes: _Axes, at: Sequence[float], values: Sequence[float | None]) -> str:
    """A line through the known values; where nothing was due it is interrupted."""
    points = [
        None if us is None else f"{axes.x(s):.1f} {axes.y(us):.1f}"
        for s, us in zip(at, values, strict=True)
    ]
    strokes = [list(group) for known, group in groupby(points, key=bool) if known]
    return "".join(f"M{'L'.join(str(point) for point in stroke)}" for stroke in strokes)


def _shade(
    axes: _Axes,
    at: Sequence[float],
    below: Sequence[float | None],
    above: Sequence[float | None],
) -> str:
    known = [
        (axes.x(s), axes.y(low), axes.y(high))
        for s, low, high in zip(at, below, above, strict=True)
        if low is not None and high is not None
    ]
    there = [f"{x:.1f} {high:.1f}" for x, _, high in known]
    back = [f"{x:.1f} {low:.1f}" for x, low, _ in reversed(known)]
    return f"M{'L'.join([*there, *back])}Z" if known else ""


def _box(style: str, x: float, y: float, width: float, height: float) -> Element:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{width:.1f}", "height": f"{height:.1f}"}
    return el("rect", class_=style, **place)


def _text(x: float, y: float, words: str, style: str) -> Element:
    return el("text", words, class_=style, x=f"{x:.1f}", y=f"{y:.1f}")
