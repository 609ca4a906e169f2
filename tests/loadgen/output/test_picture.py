"""The picture of several runs: one scale, every event, every fault, and nothing but an SVG."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from click.testing import CliRunner

from loadgen.cli import main
from loadgen.findings import build_report
from loadgen.judging import judge
from loadgen.output.picture import draw_picture
from loadgen.output.result import Result, build_result
from tests.loadgen.seen import go_wrong, pushed_at, steady_run

SVG = "{http://www.w3.org/2000/svg}"


def result(*events: Any, slow: dict[int, int] | None = None, faults: int = 0) -> Result:
    seen = steady_run(6, *events, slow=slow)
    go_wrong(seen, "lost", *[3000] * faults)
    report = build_report(seen)
    return msgspec.convert(build_result(seen, report, judge(report)), Result)


def drawn(text: str, style: str) -> list[ElementTree.Element]:
    return [each for each in ElementTree.fromstring(text).iter() if each.get("class") == style]


def lowest_and_highest(path: str) -> tuple[float, float]:
    ys = [float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", path)]
    return min(ys), max(ys)


def test_all_panels_have_one_scale() -> None:
    """A spike of 400 ms in one run makes the other's line lower, not its own higher."""
    quiet, loud = result(), result(slow={3000: 400})
    text = draw_picture({"quiet": quiet, "loud": loud}, "Two")
    paths = [each.get("d") for each in drawn(text, "worst")]
    shades = [lowest_and_highest(path) for path in paths if path]  # the key's is no path
    tops = [low - 44 - 184 * number for number, (low, _) in enumerate(shades)]
    assert 0 <= tops[1] < 8, "the spike reaches the top of its panel"
    assert tops[0] > 80, "and a run without one stays at the bottom"


def test_a_run_before_its_time_is_drawn_at_the_bottom() -> None:
    """A timer's answers may come less than a millisecond early: there is no logarithm of that."""
    seen = steady_run(6)
    for row in range(6000):
        seen.samples.done[row] = seen.samples.intended[row] - 1000
    report = build_report(seen)
    early = msgspec.convert(build_result(seen, report, judge(report)), Result)
    assert "nan" not in draw_picture({"early": early, "else": result()}, "Two")


def test_every_event_and_every_fault_is_drawn() -> None:
    """Events as lines, red when they failed; faults as bars, counted beside their event."""
    text = draw_picture({"a": result(pushed_at(1000), pushed_at(2800, 20), faults=3)}, "One")
    lines = [each for each in drawn(text, "mark") if "v158" in (each.get("d") or "")]
    assert (len(lines), len(drawn(text, "mark failed"))) == (1, 1)
    assert len([each for each in drawn(text, "fault") if each.get("height") == "16.0"]) == 1
    assert [each.text for each in drawn(text, "bad")] == ["3 lost"]
    (cost,) = drawn(text, "bad small")
    assert (cost.text, round(float(cost.get("x") or 0))) == ("3", 186 + 748 * 2800 // 6000 + 4)
    assert [each.text for each in drawn(draw_picture({"a": result()}, "One"), "good")] == [
        "no fault"
    ]


def test_connections_that_were_closed_in_order_are_drawn_as_no_fault() -> None:
    """Behind the faults, with a key of their own; where there are none, nothing tells of them."""
    run = result(faults=3)
    counts = [2 * (k == 5) + (k == 9) for k in range(len(run.timeline.answered))]
    line = msgspec.structs.replace(run.timeline, closed=counts)
    text = draw_picture({"a": msgspec.structs.replace(run, timeline=line), "b": run}, "Two")
    assert [each.get("height") for each in drawn(text, "closed")] == ["8.0", "16.0", "8.0"]
    words = [each.text for each in drawn(text, "quiet")]
    assert words.count("3 closed in order") == words.count("closed") == 1
    assert drawn(draw_picture({"b": run}, "One"), "closed") == []


def test_the_versions_are_told_apart() -> None:
    """Half of the run by each: two stretches, each with its number."""
    text = draw_picture({"a": result()}, "One")
    wide = {
        style: [each for each in drawn(text, style) if float(each.get("width") or 0) > 100]
        for style in ("v0", "v1", "v2")
    }
    assert {style: len(bars) for style, bars in wide.items()} == {"v0": 1, "v1": 1, "v2": 0}
    assert [each.text for each in drawn(text, "on mid")] == ["1", "2"]


def test_two_versions_at_once_are_two_shares() -> None:
    """Where each second answer is of old code, each has half of the height."""
    mixed = result()
    counts = [total // 2 for total in mixed.timeline.answered]
    by_version = {"1": counts, "2": counts}
    line = msgspec.structs.replace(mixed.timeline, by_version=by_version)
    text = draw_picture({"a": msgspec.structs.replace(mixed, timeline=line)}, "One")
    heights = {each.get("height") for each in (*drawn(text, "v0"), *drawn(text, "v1"))}
    assert heights <= {"5.9", "6.0"}, "a bucket may have an odd number of answers"
    assert drawn(text, "on mid") == []


def test_who_hears_the_picture_is_told_the_same() -> None:
    """A title, and a sentence of each run."""
    tree = ElementTree.fromstring(draw_picture({"a": result(faults=2)}, "One"))
    (described,) = (each for each in tree.iter() if each.tag == f"{SVG}desc")
    assert described.text == "a: 2 lost, p99 1 ms, slowest 1 ms"


def test_a_name_is_text_and_nothing_is_fetched() -> None:
    """No link, no script, no style from elsewhere."""
    text = draw_picture({"<script>": result()}, "a & b")
    tags = {each.tag.removeprefix(SVG) for each in ElementTree.fromstring(text).iter()}
    assert tags == {"svg", "title", "desc", "style", "rect", "text", "path"}
    assert "href" not in text
    assert "url(" not in text


def test_the_command_writes_a_file(tmp_path: Path) -> None:
    """From runs that were saved, by name."""
    saved, out = tmp_path / "run.json", tmp_path / "lines.svg"
    saved.write_bytes(msgspec.json.encode(result()))
    words = ["picture", f"mine={saved}", f"again={saved}", "--title", "T", "--out", str(out)]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert [each.text for each in drawn(out.read_text(), "name")] == ["T", "mine", "again"]
    assert CliRunner().invoke(main, ["picture", "mine=nothing", "--out", str(out)]).exit_code == 2


@pytest.mark.parametrize("runs", [["a.json"], ["=a.json"], ["a=a.json", "a=b.json"]])
def test_each_run_of_a_picture_has_a_name_of_its_own(runs: list[str], tmp_path: Path) -> None:
    """A name that is missing, or there twice, is a sentence: no run is left out in silence."""
    done = CliRunner().invoke(main, ["picture", *runs, "--out", str(tmp_path / "x.svg")])
    assert done.exit_code == 2
    assert "write before=a.json" in done.output
