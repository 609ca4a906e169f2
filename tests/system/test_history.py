"""Changes that the bundled protocols went through, as pushes: a part of ``benchmarks.history``."""

from __future__ import annotations

import pytest

from benchmarks.history import Replay, shares
from benchmarks.load import FAULTS
from benchmarks.past import Moment, patched, read_past
from netswap.modules import Bundle, check_source

PAST = read_past()
CHANGES = [moment for moment in PAST.values() if moment.follows]

PUSHED = {
    ("kv/v1.py", "kv version 2"): "as is",
    ("kv/v2.py", "kv version 2"): "by migration",
    ("timers/wheel.py", "Buffers"): "automatic",
    ("kv/v1.py", "kv: RESP3"): "refused",
}
"""Some of each sort: the path and how the subject begins, and what it goes in as."""


def found(path: str, subject: str) -> Moment:
    """The change of a path whose subject begins so."""
    return next(m for m in CHANGES if m.path == path and m.subject.startswith(subject))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_history_goes_in_under_load() -> None:
    """Each onto what it followed; a shape changed under the same version is refused."""
    with Replay(PAST) as replay:
        outcomes = [replay.push(found(*which)) for which in PUSHED]
    assert [outcome.verdict for outcome in outcomes] == list(PUSHED.values()), outcomes
    assert shares(outcomes)["refused"] == 25
    refused = outcomes[-1]
    assert "the shape of version 1 changed (protocol)" in refused.what
    assert "v1.py:" in refused.what
    assert refused.adapted == "automatic"
    for load in replay.loads:
        counts = load.report["counts"]
        assert counts["answered"] == counts["issued"] > 0, load.report
        assert {name: counts[name] for name in FAULTS} == dict.fromkeys(FAULTS, 0), load.report


def test_the_past_is_whole() -> None:
    """Every change follows an earlier one, differs from it, and is a module."""
    assert list(PAST) == list(range(1, len(PAST) + 1))
    assert len(CHANGES) >= 20
    for moment in CHANGES:
        assert moment.follows < moment.number
        assert moment.text != PAST[moment.follows].text
    for moment in PAST.values():
        assert check_source(Bundle(moment.path, {"m.py": moment.text.encode()})) == [], moment.title


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        ("a\nb\nc\n", "--- x\n+++ x\n@@ -2,1 +2,1 @@\n-b\n+B\n", "a\nB\nc\n"),
        ("a\n", "--- x\n+++ x\n@@ -1 +1,2 @@\n a\n+b\n", "a\nb\n"),
        ("a\nb\n", "--- x\n+++ x\n@@ -0,0 +1 @@\n+z\n", "z\na\nb\n"),
        ("a\nb\n", "--- x\n+++ x\n@@ -1 +0,0 @@\n-a\n", "b\n"),
    ],
)
def test_a_patch_is_applied(before: str, patch: str, after: str) -> None:
    """Lines go, stay and come where the hunks say."""
    assert patched(before, patch) == after


def test_a_patch_for_another_text_is_refused() -> None:
    """It would make a module that never was."""
    with pytest.raises(AssertionError):
        patched("c\n", "--- x\n+++ x\n@@ -1 +1 @@\n-a\n+b\n")
