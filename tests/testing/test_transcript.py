"""Transcripts: who does what, and where it can be cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netswap.testing import Do, Transcript, Wait
from netswap.testing.transcript import Cut, shorten, thin


def test_a_transcript_can_be_cut_at_its_boundaries_and_behind_every_byte() -> None:
    """Of bytes between all of them, of anything else before it, and behind the last step."""
    transcript = Transcript([b"abc", Wait(1), ("bob", b"d"), Do.END])
    assert transcript.boundaries == [Cut(0), Cut(1), Cut(2), Cut(3), Cut(4)]
    assert transcript.cuts == [Cut(0), Cut(0, 1), Cut(0, 2), Cut(1), Cut(2), Cut(3), Cut(4)]


def test_clients_are_there_from_the_beginning_unless_they_connect() -> None:
    """Time passes for everybody and is nobody's."""
    transcript = Transcript([Wait(1), ("bob", Do.CONNECT), b"x", ("bob", b"y")])
    assert transcript.clients == ["bob", "client"]
    assert transcript.present == ["client"]


def test_cuts_are_described_for_people_who_count_from_one() -> None:
    """The step, and the bytes on both sides."""
    transcript = Transcript([b"hello\n", ("bob", Do.END)])
    assert transcript.describe(Cut(0)) == "before step 1 of 2 (client sends b'hello\\n')"
    assert transcript.describe(Cut(0, 2)) == "behind byte 2 of step 1 of 2 (b'he' | b'llo\\n')"
    assert transcript.describe(Cut(1)) == "before step 2 of 2 (bob sends its end)"
    assert transcript.describe(Cut(2)) == "behind the last of 2 steps"


def test_a_step_that_is_none_is_refused() -> None:
    """With what it was."""
    with pytest.raises(TypeError, match="not 'text'"):
        Transcript([b"bytes", "text"])  # type: ignore[list-item]  # the mistake


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 60))
def test_thinned_cuts_are_cuts_in_order_and_boundaries_first(sizes: list[int], most: int) -> None:
    """As many as asked for, no boundary given up while there is a cut inside a step."""
    cuts = Transcript([b"x" * size for size in sizes]).cuts
    kept = thin(cuts, most)
    assert len(kept) == min(most, len(cuts))
    assert kept == sorted(set(kept) & set(cuts))
    boundaries = [cut for cut in kept if not cut.byte]
    assert len(boundaries) == min(most, len(sizes) + 1)


def test_bytes_are_shown_in_bounded_length() -> None:
    """From their beginning, or from their end."""
    assert shorten(b"short") == "b'short'"
    assert shorten(b"x" * 100, 3) == "b'xxx'... (100 bytes)"
    assert shorten(b"x" * 100 + b"end", -3) == "...b'end'"
