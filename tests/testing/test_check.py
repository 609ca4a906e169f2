"""What a check asks of its caller, and what it says of itself."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import netswap.testing
from netswap.errors import BundleError, UsageError
from netswap.testing import Difference, Do, NotSwappable, Transcript, Wait, check_swappable

from .lines import OLD, V1, V2, changed, module

PROTOCOLS = Path(__file__).parents[2] / "protocols"
NEW = module(V2)
SHORT = [b"one\n", b"two"]


def test_every_name_at_the_door_can_be_had() -> None:
    """They are imported when they are asked for, and there is no other."""
    assert all(getattr(netswap.testing, name) for name in netswap.testing.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        netswap.testing.nothing  # noqa: B018 - the access is the test


WRONG = [
    ((OLD, NEW), {}, "no transcript"),
    ((OLD, NEW, [Wait(1)]), {}, "transcript 1 has no step of a client"),
    ((OLD, OLD, SHORT), {}, "the same code"),
    ((OLD, PROTOCOLS / "echo/v1.py", SHORT), {}, "have no kind in common"),
    ((PROTOCOLS / "timers/loop.py", PROTOCOLS / "timers/wheel.py", SHORT), {}, "no connection"),
    ((OLD, NEW, SHORT), {"over": "tsl"}, "over=.'tsl'.: what there is is plain, tls"),
    ((OLD, NEW, SHORT), {"tried": ["all"]}, "tried=.'all'.: what there is is swaps, wire"),
    ((OLD, NEW, SHORT), {"served": "http.connection"}, "none of the connections: lines.connection"),
    ((OLD, changed(V1, ("seen: list[bytes]", "seen: set[bytes]")), SHORT), {}, "can't go from old"),
]


@pytest.mark.parametrize(("given", "options", "why"), WRONG, ids=[row[2] for row in WRONG])
def test_a_wrong_call_is_refused(given: tuple[Any, ...], options: Any, why: str) -> None:
    """Before anything is played, with what is wrong."""
    with pytest.raises(UsageError, match=why):
        check_swappable(*given, **options)


async def test_a_check_does_not_run_inside_of_a_loop() -> None:
    """It has loops of its own, which can't be nested."""
    with pytest.raises(UsageError, match="from a plain function"):
        check_swappable(OLD, NEW, SHORT)


def test_a_module_that_a_push_would_refuse_is_refused() -> None:
    """By the same rules, with file and line."""
    with pytest.raises(BundleError, match="v2.py:5"):
        check_swappable(OLD, changed(V2, ("\n\nclass Talk", "\nALL = []\n\nclass Talk")), SHORT)


def test_a_version_that_fails_alone_fails_the_check() -> None:
    """A transcript in which nothing works would prove nothing."""
    bad = changed(V2, ("self.state.total += 1", "self.state.totl += 1"))
    with pytest.raises(NotSwappable, match="new alone, no swap\n  logged: .*AttributeError"):
        check_swappable(OLD, bad, SHORT)


def test_what_the_author_expects_is_asked_about_and_counted() -> None:
    """Each difference, with what both versions answer alone."""
    asked: list[Difference] = []
    polite = changed(V2, ("still there?", "are you still there?"))

    def expect(difference: Difference) -> bool:
        asked.append(difference)
        return difference.new == b"are you still there?\n"

    with pytest.raises(NotSwappable, match="the versions answer differently"):
        check_swappable(OLD, polite, [b"x", Wait(6)])
    report = check_swappable(OLD, polite, [b"x", Wait(6)], expect=expect)
    assert report.explained == len(asked) > 0
    assert {(one.client, one.step, one.old) for one in asked} == {("client", 1, b"still there?\n")}


def test_a_report_says_how_much_was_tried_of_how_much() -> None:
    """Cuts beyond the limit are left out evenly, and said so."""
    report = check_swappable(OLD, NEW, [b"one\n" * 10], loops=["uvloop"], limit=8)
    assert (report.cuts, report.possible) == (8, 41)
    assert list(report.plays) == ["uvloop"]
    assert "8 cuts of 41 (raise limit= for more)" in str(report)


@pytest.fixture
def nothing_frozen() -> Iterator[None]:
    """The collector as authors have it; elsewhere what came before the first test is frozen."""
    gc.unfreeze()
    yield
    gc.collect()
    gc.freeze()


@pytest.mark.usefixtures("nothing_frozen")
def test_a_check_goes_the_same_way_each_time_and_leaves_the_caller_as_it_was() -> None:
    """Random numbers, too: those of the modules are seeded, those of the caller go on."""
    random.seed(7)
    expected = random.random()
    random.seed(7)
    reports = [check_swappable(OLD, NEW, SHORT, limit=5) for _ in range(2)]
    assert random.random() == expected
    assert reports[0] == reports[1]
    assert gc.get_freeze_count() == 0


def test_several_transcripts_are_several_and_are_named() -> None:
    """By their own names, or by their number."""
    bad = changed(V2, ('b"".join(self.state.pieces))', 'b"x")'))
    named = Transcript([b"half", Do.END], "an end in the middle of a line")
    for transcript, name in ((named, named.name), ([b"half", Do.END], "transcript 2")):
        with pytest.raises(NotSwappable) as failed:
            check_swappable(OLD, bad, SHORT, transcript, loops=["uvloop"], limit=5)
        (failure,) = failed.value.report.failures
        assert failure.transcript == name


def test_over_tls_a_version_that_goes_past_the_session_fails() -> None:
    """What does well over a plain connection need not do so over a session."""
    past = (
        "self.write(reply)",
        'os.write(self.transport.get_extra_info("socket").fileno(), reply)',
    )
    bad = changed(V2, ("from netswap", "import os\n\nfrom netswap"), past)
    quick: dict[str, Any] = {"tried": ["swaps"], "limit": 6}
    check_swappable(OLD, bad, [b"one\n"], loops=["asyncio"], **quick)
    with pytest.raises(NotSwappable, match="nothing, then it was broken off") as failed:
        check_swappable(OLD, bad, [b"one\n"], loops=["asyncio"], over=["plain", "tls"], **quick)
    assert set(failed.value.report.plays) == {"asyncio", "asyncio over TLS"}


def test_without_trustme_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only TLS needs it, so netswap does not bring it along."""
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(UsageError, match="trustme, which makes one, is not installed") as refused:
        check_swappable(OLD, NEW, SHORT, over="tls")
    assert refused.value.advice == "pip install trustme"


def test_over_tls_there_is_a_cut_behind_each_byte_of_the_wire() -> None:
    """Beside those of the steps."""
    report = check_swappable(OLD, NEW, SHORT, over="tls", tried=["swaps", "wire"])
    cuts, wire = len(Transcript(SHORT).cuts), len(Transcript(SHORT).wire_cuts)
    assert report.cuts == report.possible == 2 * (cuts + wire)
    assert min(report.plays.values()) > 2 * (cuts + wire)


def test_time_can_pass_in_the_middle_of_a_swap_at_each_cut() -> None:
    """What is due then is done once, by one of the versions."""
    plays = [
        check_swappable(OLD, NEW, SHORT, loops=["uvloop"], tried=["due"], due=due).plays["uvloop"]
        for due in (0, 6)
    ]
    assert plays[1] - plays[0] == (4 + 2) * len(Transcript(SHORT).cuts)
    old = changed(
        V1, ("    def too_quiet", "    quiet = lambda self: self.too_quiet()\n\n    def too_quiet")
    )
    forgets = (
        "    def too_quiet(self):",
        "    def too_quiet(self):\n        pass\n\n    def quiet(self):",
    )
    new = changed(V2, ('arm("too_quiet"', 'arm("quiet"'), forgets)
    check_swappable(old, new, SHORT, loops=["uvloop"], tried=["swaps"])
    with pytest.raises(NotSwappable, match=r"after slice 0\) before step 2 of 4 \(6 s pass\)"):
        check_swappable(old, new, SHORT, loops=["uvloop"], tried=["due"], due=6)
