"""The wire at any cut: the same events come out, and its canonical form is enough, and short."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netswap.http import Request, Wire, wire
from netswap.http.framing import Place
from netswap.http.wire import EXTRA_LIMIT, HEAD_LIMIT

TOKENS = st.text("abcXYZ-09", min_size=1, max_size=8).map(str.encode)
VALUES = st.binary(max_size=12).map(lambda raw: bytes(33 + byte % 94 for byte in raw))
HEADERS = st.lists(st.tuples(TOKENS.map(lambda name: b"x-" + name), VALUES), max_size=3)
DATA = st.binary(max_size=40) | st.sampled_from([b"\r\n\r\n", b"GET / HTTP/1.1\r\n", b"0\r\n\r\n"])
OPTIONAL = st.sampled_from([b"", b";a", b";a=b", b";a=b;c"])


def lines(rows: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % row for row in rows)


@st.composite
def bodies(draw) -> tuple[bytes, bytes]:
    """The headers that frame a body, and the body."""
    how = draw(st.sampled_from(["none", "length", "chunked"]))
    if how == "none":
        return b"", b""
    data = draw(st.lists(DATA, max_size=4))
    if how == "length":
        whole = b"".join(data)
        return b"Content-Length: %d\r\n" % len(whole), whole
    chunks = [
        b"%x%b\r\n%b\r\n" % (len(piece), draw(OPTIONAL), piece) for piece in data if piece
    ]  # fmt: skip
    last = b"0%b\r\n%b\r\n" % (draw(OPTIONAL), lines(draw(HEADERS)))
    return b"Transfer-Encoding: chunked\r\n", b"".join(chunks) + last


@st.composite
def messages(draw, last: bool = False, blank: bool = True) -> bytes:
    """One request as it stands on the wire."""
    framing, body = draw(bodies())
    method = draw(st.sampled_from([b"GET", b"POST", b"PROPFIND"]))
    target = draw(st.sampled_from([b"/", b"/a%20b?c=d", b"http://other:8/x?y"]))
    before = draw(st.sampled_from([b"", b"\r\n"])) if blank else b""
    more = [] if not draw(st.booleans()) else [(b"Connection", b"upgrade"), (b"Upgrade", b"h2c")]
    if last:
        more = [(b"Connection", b"close")]
    head = b"%b%b %b HTTP/1.1\r\nHost: x\r\n" % (before, method, target)
    return head + lines(draw(HEADERS) + more) + framing + b"\r\n" + body


@st.composite
def streams(draw) -> bytes:
    """Some requests, perhaps one that is the last, perhaps something that is no HTTP."""
    found = b"".join(draw(st.lists(messages(), min_size=1, max_size=4)))
    end = draw(st.sampled_from(["", "last", "garbage"]))
    if end == "last":
        found += draw(messages(last=True)) + b"whatever"
    elif end == "garbage":
        found += draw(st.binary(max_size=30))
    return found


CUTS = st.lists(st.integers(0, 400), max_size=6).map(sorted)


class Reader:
    """Feeds a wire and notes what it says; upgrades are not made."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.taken: list[Request] = []

    def feed(self, data: bytes) -> None:
        self.taken += self.wire.feed(data)
        while self.wire.rest is not None:
            self.taken += self.wire.resume()

    def move(self) -> None:
        """Go on with another wire, from the canonical form."""
        plain = Wire.to_canonical(self.wire)
        sent = msgspec.msgpack.decode(msgspec.msgpack.encode(plain), strict=False)
        again = Wire.from_canonical(sent)
        assert Wire.to_canonical(again) == plain
        if again.receiving is not None:
            self.taken[-1] = again.receiving
        self.wire = again

    @property
    def heard(self) -> list[object]:
        rows = [(r.head, r.body.here(), r.body.complete) for r in self.taken]
        return [*rows, self.wire.failure is not None, self.wire.ended]


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]


@given(streams(), CUTS)
def test_any_cut_gives_the_same_events(stream, cuts):
    """Requests, bodies and refusals do not depend on where the bytes were cut."""
    whole, cut = Reader(), Reader()
    whole.feed(stream)
    for piece in pieces(stream, cuts):
        cut.feed(piece)
    assert cut.heard == whole.heard


@given(streams(), CUTS)
def test_the_canonical_form_is_enough_at_any_cut(stream, cuts):
    """Another wire goes on from it, with a parser that has seen none of what came before."""
    whole, moved = Reader(), Reader()
    whole.feed(stream)
    for piece in pieces(stream, cuts):
        moved.feed(piece)
        moved.move()
    assert moved.heard == whole.heard


@given(streams(), CUTS, st.data())
def test_a_wire_can_be_told_to_be_as_it_was(stream, cuts, data):
    """Bytes that were fed for nothing leave nothing behind: neither requests nor of a body."""
    whole, reader = Reader(), Reader()
    whole.feed(stream)
    for piece in pieces(stream, cuts):
        again = reader.wire.keep()
        taken = list(reader.taken)
        reader.feed(data.draw(st.sampled_from([piece, b"\r\n", b"junk", piece * 2])))
        assert again() is reader.wire
        reader.taken = taken
        reader.feed(piece)
    assert reader.heard == whole.heard


LONG = 1 << 20
HEADS = {
    "length": b"Content-Length: %d\r\n\r\n" % (8 * LONG),
    "one long chunk": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (8 * LONG),
}


@pytest.mark.parametrize("framing", HEADS)
def test_the_canonical_form_of_a_long_body_is_short(framing):
    """Megabytes of a body that was read leave some hundred bytes to move."""
    reader = Reader()
    reader.feed(b"POST / HTTP/1.1\r\nHost: x\r\n" + HEADS[framing])
    for _ in range(8):
        reader.feed(b"x" * (LONG - 1))
        assert reader.wire.receiving is not None
        reader.wire.receiving.body.take_nowait()
        assert reader.wire._held <= HEAD_LIMIT
        assert len(msgspec.msgpack.encode(Wire.to_canonical(reader.wire))) < 500
        reader.move()


def test_many_small_chunks_keep_little():
    """The raw bytes since the last place are bounded, whatever the chunks are."""
    reader = Reader()
    reader.feed(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(300):
        reader.feed(b"1\r\nx\r\n" * 1000 + b"5\r\nab")
        reader.feed(b"cde\r\n")
        assert reader.wire._held <= HEAD_LIMIT
        reader.taken[0].body.take_nowait()
    reader.feed(b"0\r\n\r\n")
    assert reader.taken[0].body.complete


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * HEAD_LIMIT, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * HEAD_LIMIT + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * HEAD_LIMIT + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"1;e=%b\r\nx\r\n" % (b"f" * 99) * (EXTRA_LIMIT // 20),
            400,
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
            + b"T: y\r\n" * HEAD_LIMIT,
            400,
        ),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX:" + b" " * HEAD_LIMIT + b"y\r\n\r\n", 431),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"1;e=%b\r\nx\r\n0\r\n\r\n" % (b"f" * 2 * EXTRA_LIMIT),
            400,
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
            + b"T: y\r\n" * (EXTRA_LIMIT // 2)
            + b"\r\n",
            400,
        ),
    ],
    ids=["no end", "long", "long target", "extensions", "trailers", "padded", "ended", "trailed"],
)
@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_what_is_too_long_is_refused(stream, status, size):
    """A head, chunk extensions and trailers are bounded, however they are cut."""
    reader = Reader()
    for at in range(0, len(stream), size):
        reader.feed(stream[at : at + size])
    assert reader.wire.failure is not None
    assert reader.wire.failure.status == status


@pytest.mark.parametrize("limit", [3000, 40_000, HEAD_LIMIT])
@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_a_head_may_be_as_long_as_its_limit_and_no_byte_longer(limit, size):
    """Whatever its bytes are for, and whatever stands before and behind it."""
    start, end = b"GET / HTTP/1.1\r\nHost: x\r\nX:", b"y\r\n\r\n"
    for more, status in ((0, None), (1, 431)):
        head = start + b" " * (limit - len(start + end) + more) + end
        stream = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + head * 2
        reader = Reader()
        reader.wire.begin(None, limit)
        for piece in pieces(stream, list(range(size, len(stream), size))):
            reader.feed(piece)
        failure = reader.wire.failure
        assert (None if failure is None else failure.status) == status
        assert len(reader.taken) == (1 if status else 3)


@given(streams(), CUTS, st.integers(1, 9))
def test_a_look_at_every_few_bytes_changes_nothing(stream, cuts, room):
    """Where nothing is too long, it is the same as to parse all at once."""
    whole, closely = Reader(), Reader()
    whole.feed(stream)
    closely.wire.begin(None, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "LOOSE", 0)
        patch.setattr(Place, "room", lambda *_: room)
        for piece in pieces(stream, cuts):
            closely.feed(piece)
    assert closely.heard == whole.heard


def test_pipelined_requests_are_no_long_head():
    """Many requests before half a head are not counted as a part of it."""
    reader = Reader()
    reader.feed(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 4000 + b"GET /half HTTP/1.1\r\n")
    assert reader.wire.failure is None
    reader.move()
    reader.feed(b"Host: x\r\n\r\n")
    assert len(reader.taken) == 4001
