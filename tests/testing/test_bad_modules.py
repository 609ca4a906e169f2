"""What the kit is for: each of these new versions has one mistake, and none gets through."""

from __future__ import annotations

import pytest

from netswap.testing import NotSwappable, Transcript, check_swappable

from .lines import OLD, STEPS, V2, changed, module

UP = 'return {"total": old["count"], "pieces": pieces, "seen": old["seen"], '

MISTAKES = {
    "loses a half line": (
        [('[old["partial"]] if old["partial"] else []', "[]")],
        "behind byte 1 of step 1 of 10 (b'o' | b'ne\\ntw')",
        "got       b'1 of 1: ne\\n'",
    ),
    "loses a half line, both ways alike": (
        [('[old["partial"]] if old["partial"] else []', "[]"), ('b"".join(new["pieces"])', 'b""')],
        "a swap from old to new behind byte 1 of step 1 of 10",
        "got       b'1 of 1: ne\\n'",
    ),
    "answers the last line again": (
        [("pieces = [old", 'pieces = [old["seen"][-1] + b"\\n"] if old["seen"] else [old')],
        "a swap from old to new behind byte 4 of step 1 of 10 (b'one\\n' | b'tw')",
        "got       b'2 of 2: one\\n3 of 3: two\\n'",
    ),
    "forgets that writing is paused": (
        [
            ("    backlog: list", "    paused: bool = False\n    backlog: list"),
            ("if self.writing_paused", "if self.state.paused"),
            (
                "    def on_eof",
                "    def on_pause_writing(self):\n        self.state.paused = True\n\n"
                "    def on_eof",
            ),
            ("        backlog, self", "        self.state.paused = False\n        backlog, self"),
        ],
        "a swap from old to new before step 7 of 10 (client sends b'five\\nsi')",
        "got       b'3 of 3: three\\n5 of 5: five\\n4 of 4: four\\n'",
    ),
    "has no method for a timer that is armed": (
        [("too_quiet", "idle")],
        "a swap from old to new behind byte 1 of step 1 of 10",
        "too_quiet: callback_missing (keep the methods that timers",
    ),
    "forgets a field on the way down": (
        [('"count": new["total"]', '"count": 0')],
        "a swap from new to old behind byte 4 of step 1 of 10",
        "got       b'1 of 2: two\\n'",
    ),
    "drops a field on the way down without a word": (
        [('        "seen": new["seen"],\n', "")],
        "a swap from new to old behind byte 4 of step 1 of 10",
        "got       b'2 of 1: two\\n'",
    ),
    "changes what it shares with the old object": (
        [
            (
                UP,
                "seen = list(old['seen']); old['seen'].clear(); "
                + UP.replace('old["seen"]', "seen"),
            )
        ],
        "a swap in which the conversion of object 1 raises",
        "seen was [b'one'] and is []",
    ),
    "shares what it keeps between two objects": (
        [
            ("invariant, migration", "invariant, migration, reference"),
            ("    backlog: list", "    marks: list[int] = reference(list)\n    backlog: list"),
            ('return {"total"', 'return {"marks": vars(up).setdefault("it", []), "total"'),
        ],
        "",
        "are one object",
    ),
    "remembers only how many lines there were": (
        [('        "seen": new["seen"],', '        "seen": [b""] * new["total"],')],
        "a swap to new and at once back to old behind byte 4 of step 1 of 10",
        "seen was [b'one'] and is [b'']",
    ),
    "breaks its invariant": (
        [('"total": old["count"]', '"total": old["count"] + 1')],
        "a swap from old to new before step 1 of 10",
        "the invariant Talk.every_line_was_seen does not hold",
    ),
    "can't convert a half line": (
        [("    pieces = [old", '    assert not old["partial"]\n    pieces = [old')],
        "a swap from old to new behind byte 1 of step 1 of 10",
        "v2.py:19",
    ),
    "can't go back with a half line": (
        [("    partial = b", '    assert not new["pieces"]\n    partial = b')],
        "a swap from new to old behind byte 1 of step 1 of 10",
        "AssertionError",
    ),
    "answers only when more comes": (
        [
            ('        if b"\\n" in data:', '        if b"\\n" in self.state.pieces[0]:'),
        ],
        "the versions answer differently",
        "replies=",
    ),
    "answers otherwise than the old one": (
        [("%d of %d: %s", "%d from %d: %s")],
        "the versions answer differently",
        "new alone b'1 from 1: one\\n'",
    ),
    "does not come back whole from its canonical form": (
        [
            ("invariant, migration", "invariant, migration, reference"),
            (
                "    seen: list[bytes] = []",
                "    seen: list[bytes] = reference(list, list, lambda told: told[1:])",
            ),
        ],
        "a swap from old to new behind byte 4 of step 1 of 10",
        "after a round trip through its canonical form",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_new_version_that(mistake: str) -> None:
    """It is found on both loops alike, and the first failure names the cut and what happened."""
    changes, where, what = MISTAKES[mistake]
    for loop in ("asyncio", "uvloop"):
        with pytest.raises(NotSwappable) as failed:
            check_swappable(OLD, changed(V2, *changes), STEPS, loops=[loop])
        first = str(failed.value.report.failures[0])
        print(first)
        assert first.startswith(f"{loop}, transcript 1: ")
        assert where in first.splitlines()[0]
        assert what in str(failed.value)


def test_the_pair_that_they_were_made_from_is_swappable() -> None:
    """Without a mistake there is no failure: what is found above is what was put in."""
    report = check_swappable(OLD, module(V2), STEPS)
    assert not report.failures
    assert report.plays["asyncio"] == report.plays["uvloop"] > 200
    assert report.cuts == report.possible == 2 * len(Transcript(STEPS).cuts)
