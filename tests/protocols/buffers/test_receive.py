"""buffer.receive: both versions do what one string of bytes would, and turn into each other."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from netswap import ProtocolError
from netswap.transfer import decode, encode, plan_transfer
from protocols.buffers import chunked, contiguous

CLASSES = (contiguous.Contiguous, chunked.Chunked)
ROWS = chunked.__netswap_migrations__
BOTH = pytest.mark.parametrize("cls", CLASSES)


def new(cls, state=None):
    """A buffer that no connection owns; what it does with bytes needs none."""
    return cls.born(SimpleNamespace(), SimpleNamespace(), state)


def model_line(held: bytes, limit: int) -> tuple[bytes | None, bytes]:
    """The next line of ``held`` and what is left, or ProtocolError."""
    end = held.find(b"\n")
    if (len(held) if end < 0 else end) > limit:
        raise ProtocolError("too long")
    return (None, held) if end < 0 else (held[:end].removesuffix(b"\r"), held[end + 1 :])


# Few different bytes, so that line ends are frequent and chunks are cut inside CRLF.
text = st.lists(st.sampled_from([b"\n", b"\r", b"a", b"b" * 9]), max_size=8).map(b"".join)


class ReceiveBuffer(RuleBasedStateMachine):
    """Any sequence of calls and swaps, against a string of bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.held = b""
        self.buffers = [new(cls) for cls in CLASSES]

    @rule(data=text)
    def feed(self, data):
        self.held += data
        for buffer in self.buffers:
            buffer.feed(data)

    @rule(n=st.integers(0, 30))
    def take(self, n):
        expected = self.held[:n] if len(self.held) >= n else None
        self.held = self.held[n:] if expected is not None else self.held
        for buffer in self.buffers:
            assert buffer.take(n) == expected

    @rule(limit=st.integers(0, 20))
    def take_line(self, limit):
        try:
            expected, self.held = model_line(self.held, limit)
        except ProtocolError:
            for buffer in self.buffers:
                with pytest.raises(ProtocolError):
                    buffer.take_line(limit)
            return
        for buffer in self.buffers:
            assert buffer.take_line(limit) == expected

    @rule()
    def take_all(self):
        for buffer in self.buffers:
            assert buffer.take_all() == self.held
        self.held = b""

    @rule(n=st.integers(0, 30))
    def peek(self, n):
        for buffer in self.buffers:
            assert buffer.peek(n) == self.held[:n]

    @rule()
    def swap(self):
        """Each becomes the other, and the old state is left whole."""
        for place, buffer in enumerate(self.buffers):
            other = CLASSES[type(buffer) is CLASSES[0]]
            before = encode(buffer.state)
            way = plan_transfer(type(buffer.state), other.state_type, ROWS)
            self.buffers[place] = new(other, way.convert(buffer.state))
            assert encode(buffer.state) == before

    @rule()
    def canonical(self):
        for place, buffer in enumerate(self.buffers):
            state = decode(encode(buffer.state), type(buffer.state))
            self.buffers[place] = new(type(buffer), state)

    @invariant()
    def size_is_what_was_fed_and_not_taken(self):
        assert [buffer.size() for buffer in self.buffers] == [len(self.held)] * 2


TestReceiveBuffer = ReceiveBuffer.TestCase


@BOTH
@given(data=st.data())
def test_any_cut_of_a_stream_gives_the_same_lines(cls, data):
    """Lines depend on the bytes and not on the chunks that they came in."""
    stream = data.draw(text) + b"\n"
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6).map(sorted))
    buffer, lines = new(cls), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        buffer.feed(stream[start:end])
        while (line := buffer.take_line(100)) is not None:
            lines.append(line)
    assert lines == [line.removesuffix(b"\r") for line in stream.split(b"\n")[:-1]]


@BOTH
def test_a_line_over_the_limit_is_refused_and_stays(cls):
    """ProtocolError takes nothing, so the handler can skip the line in its own way."""
    buffer = new(cls)
    buffer.feed(b"x" * 10 + b"\n")
    assert buffer.take_line(10) == b"x" * 10
    for data in (b"x" * 11, b"\n"):
        buffer.feed(data)
        with pytest.raises(ProtocolError):
            buffer.take_line(10)
    assert buffer.size() == 12


def test_a_large_chunk_taken_whole_is_not_copied():
    """What version 2 is for: the very object that came in goes out."""
    buffer, large = new(chunked.Chunked), bytes(1_000_000)
    buffer.feed(b"head")
    buffer.feed(large)
    assert buffer.take(4) == b"head"
    assert buffer.take(len(large)) is large
    buffer.feed(large)
    assert buffer.take_all() is large


@BOTH
def test_a_line_that_trickles_in_is_searched_once(cls):
    """A line of 60,000 single bytes does not cost a search of the whole at each of them."""
    buffer = new(cls)
    for _ in range(60_000):
        buffer.feed(b"x")
        assert buffer.take_line(65_536) is None
    searched = buffer.state.searched if cls is CLASSES[0] else buffer.size()
    assert searched == 60_000
    buffer.feed(b"\n")
    assert buffer.take_line(65_536) == b"x" * 60_000
