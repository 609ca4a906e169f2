"""What is seen while a run goes on, at a terminal and elsewhere."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import msgspec
import pytest

from loadgen.findings import build_report
from loadgen.judging import judge
from loadgen.messages import Progress
from loadgen.output.live import Row, rows, watching
from loadgen.output.sparkline import event_lines, sparkline
from loadgen.output.summary import render
from loadgen.plan import Event
from loadgen.progress import Moment, Recent, merge_progress
from loadgen.samples import Rows, pack_row
from tests.loadgen.seen import pushed_at, steady_run

PLAN = steady_run(6).plan
LATENCY = {"p50": 100.0, "p99": 900.0, "max": 4000.0}


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


def second(number: int, **more: object) -> Moment:
    moment = Moment(
        seconds=float(number), duration_s=6.0, answered=1000 * number, faults=0, rate=1000.0,
        latency=LATENCY, by_version={1: 900 * number, 2: 100 * number}, lately={1: 250, 2: 750},
    )  # fmt: skip
    return msgspec.structs.replace(moment, **more)


def test_the_view_has_rate_latency_versions_faults_and_events() -> None:
    """One line each, and one for each event, whether it has ended or not."""
    push = Event("push", 0, ("v3.py",))
    happened = (pushed_at(1000), pushed_at(2000, 20, "it says why"))
    shown = list(rows([second(1), second(2, faults=3, happened=happened, happening=(push,))]))
    assert [row.label for row in shown] == [
        "rate", "latency", "slowest", "versions", "faults", "event", "event", "event",
    ]  # fmt: skip
    text = dict(enumerate(row.text for row in shown))
    assert "1,000 a second  ██" in text[0]
    assert text[1] == "p50 100 us  p99 900 us  max 4 ms"
    assert text[3] == "v1 1,800 (25% now)  v2 200 (75% now)"
    assert shown[4] == Row("faults", "3", "bad")
    assert [row.tone for row in shown[5:]] == ["", "bad", "quiet"]
    assert text[6] == "push v2.py: exit 20 after 0.20 s: it says why"
    assert text[7] == "push v3.py: under way"


def test_a_terminal_shows_the_view_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is drawn anew each second, and the summary comes to a clean screen."""
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with watching(PLAN, "auto", terminal) as show:
        assert show is not None
        show(second(1))
        show(second(2, happened=(pushed_at(1000),)))
    assert "verify on h:1" in terminal.getvalue()
    assert "2 of 6 s" in terminal.getvalue()
    assert "push v2.py: exit 0" in terminal.getvalue()
    assert terminal.getvalue().rstrip().endswith("\x1b[2K"), "the last that it does is to erase"


def test_the_view_fits_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute of seconds and a long command take no second line on eighty columns."""
    monkeypatch.setenv("COLUMNS", "80")
    long = Event("run", 0, ("reload", "x" * 200))
    terminal = Terminal()
    with watching(PLAN, "live", terminal) as show:
        assert show is not None
        for number in range(1, 61):
            show(second(number, happening=(long,)))
    last = re.split(r"\x1b\[2K", terminal.getvalue())
    frames = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text) for text in last]
    lines = [line for text in frames for line in text.splitlines()]
    assert max(map(len, lines)) <= 80
    assert any(line.count("█") == 46 for line in lines), "the blocks take what there is"
    assert any(line.endswith("…") for line in lines)


@pytest.mark.parametrize("columns", ["40", "80"])
def test_nothing_that_matters_is_cut_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    """The slowest of the last second and all versions are there, on another line if need be."""
    monkeypatch.setenv("COLUMNS", columns)
    terminal = Terminal()
    with watching(PLAN, "live", terminal) as show:
        assert show is not None
        show(second(1, latency={"p50": 1234.0, "p99": 56_789.0, "max": 123_456.0}))
    text = " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).split())
    for words in ("verify on h:1", "1 of 6 s", "max 123 ms", "v2 100 (75% now)"):
        assert words in text


def test_a_terminal_that_can_not_draw_anew_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """No escape sequence goes to a dumb one."""
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    with watching(PLAN, "auto", terminal) as show:
        assert show is not None
        show(second(5))
    assert "5,000 answered" in terminal.getvalue()
    assert "\x1b" not in terminal.getvalue()


def test_without_colour_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR is kept: what is red is told in words, too."""
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    with watching(PLAN, "live", terminal) as show:
        assert show is not None
        show(second(1, faults=3, happened=(pushed_at(1000, 20),)))
    assert not re.search(r"\x1b\[[0-9;]*3[0-7][0-9;]*m", terminal.getvalue())
    assert "exit 20" in terminal.getvalue()


def test_of_many_versions_the_newest_are_shown() -> None:
    """Those of a run with sixty pushes fit a line."""
    many = dict.fromkeys(range(1, 61), 100)
    shown = {row.label: row.text for row in rows([second(1, by_version=many, lately={60: 100})])}
    assert shown["versions"] == "56 older  v57 100  v58 100  v59 100  v60 100 (100% now)"


def test_elsewhere_there_are_some_lines() -> None:
    """One in five seconds at most, and one for each event; no escape sequence in a log."""
    log = io.StringIO()
    with watching(PLAN, "auto", log) as show:
        assert show is not None
        for number in range(1, 12):
            show(second(number, happened=(pushed_at(1000),) if number > 3 else ()))
    lines = log.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["4", "5", "10"]
    assert lines[0].endswith("push v2.py: exit 0 after 0.20 s")
    assert "5,000 answered, 1,000 a second, p50 100 us" in lines[1]
    assert "\x1b" not in log.getvalue()


def test_nobody_watches() -> None:
    """Then the load processes need not tell anything."""
    with watching(PLAN, "off", Terminal()) as show:
        assert show is None


def test_the_recent_worst_is_of_all_and_the_sample_is_small() -> None:
    """However many operations a slice has, its slowest is told; and then it is empty."""
    written = Rows()
    recent = Recent(written)
    for number in range(10_000):
        done = number + (7_000_000 if number == 4_321 else 1_000_000)
        written.add(pack_row(number, number, done, 1, 0))
    recent.take()
    latencies, worst = recent.hand_over()
    assert worst == 7_000_000
    assert 20 <= len(latencies) <= 25
    recent.take()
    assert recent.hand_over() == ([], 0)


def test_what_processes_tell_is_merged() -> None:
    """Counts add up, the rate is of the time since the last, the worst is the worst of all."""
    before = Moment(
        seconds=1.0, duration_s=6.0, answered=100, faults=0, by_version={1: 100}, told=10**9
    )
    told = [
        Progress(200, 1, {1: 150, 2: 50}, [1_000_000] * 99, 2_000_000, 2 * 10**9),
        Progress(100, 0, {2: 100}, [1_000_000], 5_000_000, 3 * 10**9),
    ]
    moment = merge_progress(told, 3.1, before)
    assert (moment.answered, moment.faults, moment.rate) == (300, 1, 100.0)
    assert moment.by_version == {1: 150, 2: 150}
    assert moment.lately == {1: 50, 2: 150}
    assert (moment.latency["p50"], moment.latency["max"]) == (1000.0, 5000.0)


def test_who_has_told_nothing_new_has_not_stopped() -> None:
    """Processes tell by their own clocks: a second in which none did shows the second before."""
    told = [Progress(200, 0, {1: 200}, [1_000_000], 1_000_000, 10**9)]
    first = merge_progress(told, 1.0, Moment(seconds=0.0, duration_s=6.0, answered=0, faults=0))
    again = merge_progress(told, 2.0, first)
    assert (again.seconds, again.rate, again.lately) == (2.0, 200.0, {1: 200})
    still = [Progress(200, 0, {1: 200}, [], 0, 2 * 10**9)]
    assert merge_progress(still, 2.0, first).rate == 0.0, "and this is a server that has stopped"


def test_a_block_up_is_a_factor() -> None:
    """From the least to the most, in eight steps of the logarithm; a blank where nothing was."""
    assert sparkline([1.0, 10.0, 99.0, None, 100.0], 1.0, 100.0) == "▁▅█ █"
    assert sparkline([5.0, 5.0], 5.0, 5.0) == "▁▁"


def test_what_came_before_its_time_is_drawn_at_the_bottom() -> None:
    """A timer's answer may, by less than a millisecond: there is no logarithm of that."""
    seen = steady_run(3, pushed_at(1000))
    for row in range(3000):
        seen.samples.done[row] = seen.samples.intended[row] - 1000
    (line,) = event_lines(seen, build_report(seen))
    assert set(line) == {"▁", "|"}


def test_the_summary_has_a_line_of_blocks_for_each_event() -> None:
    """All on one scale, with a bar where the event began and where it ended."""
    seen = steady_run(6, pushed_at(1000), pushed_at(4000), slow={1100: 90, 4100: 9})
    report = build_report(seen)
    sparks = event_lines(seen, report)
    loud, quiet = sparks
    assert ("█" in loud, "█" in quiet) == (True, False)
    assert all(spark.count("|") == 2 for spark in sparks)
    before, during, after = loud.split("|")
    assert "█" in during
    assert {*before, *after} == {"▁"}
    lines = render(report, judge(report), sparks).splitlines()
    assert any(loud in line and "max 90 ms" in line for line in lines)
    (worst,) = (line for line in lines if "worst window" in line)
    assert worst.endswith("at 1.00 s")


def test_rich_is_imported_only_where_it_draws() -> None:
    """A command that shows nothing does not wait for it."""
    check = "import loadgen.cli, sys; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
