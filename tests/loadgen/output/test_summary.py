"""What a person reads after a run: the worst first, a unit on each number, what to do next."""

from __future__ import annotations

import pytest

from loadgen.findings import build_report
from loadgen.judging import judge, parse_threshold
from loadgen.output.summary import EVENTS_SHOWN, render
from tests.loadgen.seen import SECOND, go_wrong, pushed_at, steady_run


def lines(seen, *thresholds):
    report = build_report(seen)
    return render(
        report, judge(report, [parse_threshold(each) for each in thresholds])
    ).splitlines()


def after(label, told):
    (found,) = (line for line in told if line.strip().startswith(label))
    return found.split(label)[1].strip()


def test_the_worst_window_comes_before_the_events():
    """The one that dropped somebody is worse than the one that was slow; then how it is else."""
    seen = steady_run(9, pushed_at(2000), pushed_at(6000), slow={6100: 90})
    del seen.samples.version[:], seen.samples.connection[:]
    go_wrong(seen, "dropped", 3100, 3100)
    go_wrong(seen, "unknown", 3100)
    told = lines(seen)
    assert after("worst window", told).endswith("at 2.00 s")
    assert after("quiet, worst", told).endswith("windows")
    places = [next(k for k, line in enumerate(told) if word in line)
              for word in ("worst window", "at 2.00 s    push", "at 6.00 s    push")]  # fmt: skip
    assert places == sorted(places)
    assert after("at 2.00 s    push", told) == "v2.py: exit 0 after 0.20 s, seen for 0.90 s more"
    assert told[places[1] + 1].strip() == "dropped 2, unknown 1, stands out"
    assert told[places[2] + 1].endswith("p99 1 ms  max 90 ms")
    assert max(map(len, told)) <= 80


def test_too_few_quiet_windows_are_told_with_what_to_do():
    """Events that fill the run leave nothing to compare with, and no event stands out."""
    told = lines(steady_run(3, *(pushed_at(at) for at in range(300, 3000, 500))))
    few = after("quiet", told)
    assert few == "0 windows, 5 needed to compare: a longer --duration or --every"
    assert not [line for line in told if "stands out" in line]


def test_of_many_events_the_worst_are_shown():
    """In the order of their times, and how many are not; the summary fits a screen or two."""
    events = [pushed_at(at) for at in range(500, 30_000, 500)]
    told = lines(steady_run(30, *events, slow={20_010: 50}))
    shown = [line for line in told if line.strip().startswith("at ")]
    assert len(shown) == EVENTS_SHOWN
    assert "at 20.00 s" in "".join(shown)
    assert any(f"{len(events) - EVENTS_SHOWN} more events, none worse" in line for line in told)


@pytest.mark.parametrize(
    ("code", "words"), [(0, ""), (10, "--report"), (11, "--report"), (13, "netswap status")]
)
def test_each_failure_says_what_to_do_next(code, words):
    """After the verdict with its exit code and the reasons; a pass says nothing more."""
    seen = steady_run(6, pushed_at(2000, 20 if code == 13 else 0))
    if code == 10:
        go_wrong(seen, "lost", 2100)
    told = lines(seen, *(["p99>1us"] if code == 11 else []))
    (verdict,) = (number for number, line in enumerate(told) if f"(exit {code})" in line)
    assert not told[verdict].startswith(" ")
    assert ("next:" in told[-1]) == bool(code)
    assert words in told[-1]
    assert len(told) - verdict == (3 if code else 1)


def test_a_run_that_was_ended_early_says_so():
    """How long it was, and how long it was to be."""
    seen = steady_run(3)
    assert lines(seen)[0] == "verify on h:1 for 3 s: steady, 2 connections, 1 load process"
    seen.asked_ns = 60 * SECOND
    assert "for 3 s, ended before its 60 s: steady" in lines(seen)[0]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ('{"where": "v2.py:17", "what": "NameError: x", "more": [1]}', "v2.py:17: NameError: x"),
        ('{"what": "another swap runs", "where": null}', "another swap runs"),
        ('{"outcome": "refused"}', '{"outcome": "refused"}'),
        ("one thing\nthe last thing", "the last thing"),
        ("", "it said nothing"),
    ],
)
def test_a_failed_event_says_why(said, reason):
    """In the words of its command: with the event, and in the verdict."""
    told = lines(steady_run(6, pushed_at(2000, 20, said)))
    place = next(k for k, line in enumerate(told) if "at 2.00 s    push" in line)
    assert told[place + 1].strip() == reason
    assert f"  push of v2.py ended with 20: {reason}" in told
