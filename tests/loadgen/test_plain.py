"""What a command prints, and its own words, stand in a line and do nothing to the terminal."""

from __future__ import annotations

import pytest

from loadgen.events import EventRecord
from loadgen.findings.wording import deed_words, rate_words
from loadgen.plain import plain_words
from loadgen.plan import Event


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("as it is: ünï <b>", "as it is: ünï <b>"),
        ("\x1b[1;31mred\x1b[0m\x07", "red"),
        ("\x1b]0;a title\x07then", "then"),
        ("\x1b]0;a title\x1b\\then", "then"),
        ("nul\x00and\rback\x1b", "nul and back"),
        ("two\n  lines\t", "two lines"),
    ],
)
def test_words_of_others_are_plain(text: str, plain: str) -> None:
    """Letters of any language stay."""
    assert plain_words(text) == plain


def test_a_long_deed_is_cut() -> None:
    """All of it stands in the page and in JSON."""
    words = ("/usr/bin/sh", "-c", "echo first\necho second; : " + "x" * 300)
    told = deed_words(Event("run", 0, words))
    assert told.startswith("run sh -c echo first echo second; : xxx")
    assert (len(told), told[-1]) == (100, "…")


@pytest.mark.parametrize(
    ("stdout", "stderr", "reason"),
    [
        ("", "first\n\x1b[31mlast\x1b[0m\n\x1b[0m\n", "last"),
        ("\x00\n", "", "it said nothing"),
        ('{"what": "two\\nlines", "where": "v2.py:3"}', "", "v2.py:3: two lines"),
    ],
)
def test_why_it_failed_is_plain(stdout: str, stderr: str, reason: str) -> None:
    """The last line that has something to read."""
    record = EventRecord(Event("run", 0, ("x",)), ["x"], 0, 1, 3, stdout, stderr)
    assert record.reason == reason


@pytest.mark.parametrize(
    ("rate", "words"),
    [(0, "0"), (0.5, "0.5"), (0.4567, "0.457"), (9.99, "9.99"), (10, "10"), (12345.6, "12,346")],
)
def test_a_low_rate_has_its_digits(rate: float, words: str) -> None:
    """Half an operation a second is not none."""
    assert rate_words(rate) == words
