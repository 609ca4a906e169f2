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


def test_the_wire_has_a_cut_behind_every_byte_of_the_two_records_of_a_step() -> None:
    """Of steps that are bytes alone; the place is told."""
    transcript = Transcript([b"hello", Do.END, b"x"])
    cuts = transcript.wire_cuts
    assert cuts[0] == Cut(0, 1, wire=True)
    assert [cut.byte for cut in cuts if cut.step == 0] == [*range(1, 5 + 2 * 22)]
    assert [cut.byte for cut in cuts if cut.step == 2] == [*range(1, 1 + 22)]
    assert len(cuts) == 48 + 22
    told = transcript.describe(Cut(0, 7, wire=True))
    assert told == "behind byte 7 of the 49 on the wire of step 1 of 3 (client sends b'hello')"


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.data())
def test_a_pause_at_a_cut_changes_no_byte(sizes: list[int], data: st.DataObject) -> None:
    """What stands before it and behind it is all there is, and it is one step."""
    transcript = Transcript([bytes(range(size)) for size in sizes])
    cut = data.draw(st.sampled_from(transcript.cuts))
    longer, here = transcript.pause(cut, 3)
    assert longer.steps[here.step].what == Wait(3)
    sent = [step.what for step in longer.steps if isinstance(step.what, bytes)]
    assert b"".join(sent) == b"".join(bytes(range(size)) for size in sizes)
    before = [step.what for step in longer.steps[: here.step] if isinstance(step.what, bytes)]
    assert len(b"".join(before)) == sum(sizes[: cut.step]) + cut.byte
    assert longer.clients == transcript.clients
