"""Frames: the same messages come out however the bytes are cut, and whichever parser goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Opcode

from netswap.http import Arrival, Frames
from netswap.http.frames import MESSAGE_LIMIT
from tests.masked import closing, deflated, frame

BITS = (15, 15)
SQUEEZED = deflated(b"ab" * 200)
ALL = (
    frame(Opcode.TEXT, "grüß".encode())
    + frame(Opcode.TEXT, b"one ", fin=False)
    + frame(Opcode.PING, b"between")
    + frame(Opcode.CONT, b"", fin=False)
    + frame(Opcode.CONT, b"two")
    + frame(Opcode.BINARY, SQUEEZED[:3], fin=False, rsv1=True)
    + frame(Opcode.PONG)
    + frame(Opcode.CONT, SQUEEZED[3:])
    + frame(Opcode.BINARY, b"x" * 130)
    + frame(Opcode.BINARY, b"y" * 70_000)
    + closing(4001, "enough")
)
OF_ALL = [
    (Arrival.MESSAGE, "grüß"),
    (Arrival.PING, b"between"),
    (Arrival.MESSAGE, "one two"),
    (Arrival.PONG, b""),
    (Arrival.MESSAGE, b"ab" * 200),
    (Arrival.MESSAGE, b"x" * 130),
    (Arrival.MESSAGE, b"y" * 70_000),
    (Arrival.CLOSE, (4001, "enough")),
    (Arrival.OVER, None),
]
CUTS = [*range(1, 290), 300, 40_000, 70_000, *range(len(ALL) - 20, len(ALL))]


def again(frames: Frames) -> Frames:
    """What a rehearsal and a guard make of it; its plain form is the same."""
    plain = Frames.to_canonical(frames)
    new = Frames.from_canonical(plain)
    assert Frames.to_canonical(new) == plain
    return new


def taken(chunks, *, renew: bool = False) -> tuple[list, bytes]:
    """What comes out and what is to be sent, perhaps with new frames before each chunk."""
    frames, found, said = Frames(BITS), [], b""
    for chunk in chunks:
        if renew:
            frames = again(frames)
        for arrived in frames.feed(chunk):
            found.append(arrived)
            said += frames.output()
    return found, said


WHOLE = taken([ALL])


def test_each_message_and_each_control_frame_comes_out_in_order():
    """Fragments are put together, what is deflated is inflated."""
    assert WHOLE[0] == OF_ALL


@pytest.mark.parametrize("renew", [False, True])
@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_changes_nothing(cut, renew):
    """Nor do new frames from the plain form, at every byte of a frame's head and of a message."""
    assert taken([ALL[:cut], ALL[cut:]], renew=renew) == WHOLE


@given(st.lists(st.integers(1, len(ALL) - 1), max_size=20))
def test_many_cuts_change_nothing(cuts):
    """With new frames at each of them."""
    places = [0, *sorted(set(cuts)), len(ALL)]
    chunks = [ALL[a:b] for a, b in zip(places, places[1:], strict=False)]
    assert taken(chunks, renew=True) == WHOLE


@given(st.lists(st.integers(1, len(ALL) - 1), max_size=5), st.integers(1, 5))
def test_what_comes_in_turns_is_the_same(cuts, most):
    """So many frames in each, the rest waits; with new frames between any two turns."""
    places = [0, *sorted(set(cuts)), len(ALL)]
    frames, found, said = Frames(BITS), [], b""
    for a, b in zip(places, places[1:], strict=False):
        chunk = ALL[a:b]
        while chunk or frames.waits:
            before = len(found)
            for arrived in frames.feed(chunk, most):
                found.append(arrived)
                said += frames.output()
            assert len([what for what, _ in found[before:] if what is not Arrival.OVER]) <= most
            frames, chunk = again(frames), b""
    assert (found, said) == WHOLE


def test_a_message_alone_is_taken_only_where_nothing_is_before_it():
    """Neither a frame that has begun, nor a message, nor what waits for its turn, nor the end."""
    text = frame(Opcode.TEXT, b"text")
    assert Frames().alone(text) == "text"
    assert Frames(limit=3).alone(text) is None
    begun = {
        "half a frame": text[:3],
        "half a message": frame(Opcode.TEXT, b"x", fin=False),
        "the end": closing(1000),
    }
    for name, data in begun.items():
        frames = Frames()
        list(frames.feed(data))
        assert frames.alone(text) is None, name
    frames = Frames()
    list(frames.feed(text * 3, 1))
    assert frames.waits
    assert frames.alone(text) is None
    assert list(frames.feed(text)) == [(Arrival.MESSAGE, "text")] * 3


def test_an_older_note_of_frames_is_read():
    """It does not say what waits, as nothing did."""
    plain = Frames.to_canonical(Frames(BITS))
    assert not Frames.from_canonical(plain[:-1]).waits


@given(
    st.sampled_from([b"\x81", b"\x82", b"\x01", b"\xc1", b"\x88", b"\x83", b"\x80"]),
    st.integers(0, 255),
    st.binary(max_size=140),
    st.integers(0, 300),
)
def test_a_chunk_that_is_one_frame_is_taken_as_the_parser_takes_it(first, second, rest, size):
    """Whatever its head says, right or wrong, whole or not, with another message behind it."""
    for length in (b"", size.to_bytes(2, "big")):
        data = first + bytes([second]) + length + rest
        message = Frames(BITS).alone(data)
        assert message is None or taken([data[:1], data[1:]])[0] == [(Arrival.MESSAGE, message)]
        more = frame(Opcode.TEXT, b"more")
        assert taken([data, more]) == taken([data[:1], data[1:], more[:1], more[1:]])


@given(st.text(max_size=400))
def test_a_text_in_one_frame_comes_out(text):
    """With each form of the length that is short."""
    raw = text.encode()
    assert taken([frame(Opcode.TEXT, raw)])[0] == [(Arrival.MESSAGE, text)]
    assert taken([frame(Opcode.BINARY, raw)])[0] == [(Arrival.MESSAGE, raw)]


BAD = {
    "not masked": (b"\x81\x01a", 1002),
    "no such opcode": (b"\x83\x80\1\2\3\4", 1002),
    "reserved bit": (b"\xa1\x81\0\0\0\0a", 1002),
    "no text": (frame(Opcode.TEXT, b"\xff"), 1007),
    "half a character": (frame(Opcode.TEXT, "ü".encode()[:1]), 1007),
    "fragmented ping": (frame(Opcode.PING, b"", fin=False), 1002),
    "long ping": (frame(Opcode.PING, b"x" * 126), 1002),
    "nothing to continue": (frame(Opcode.CONT, b"x"), 1002),
    "a message within one": (frame(Opcode.TEXT, b"x", fin=False) + frame(Opcode.TEXT, b"y"), 1002),
    "too long": (b"\x82\xff" + (MESSAGE_LIMIT + 1).to_bytes(8, "big"), 1009),
    "a bomb": (frame(Opcode.BINARY, deflated(bytes(MESSAGE_LIMIT + 1)), rsv1=True), 1009),
    "no deflate": (frame(Opcode.BINARY, b"\xff\xff\xff", rsv1=True), 1002),
    "a close of one byte": (frame(Opcode.CLOSE, b"x"), 1002),
    "a code that is never sent": (frame(Opcode.CLOSE, b"\x03\xed"), 1002),
    "no text in a reason": (frame(Opcode.CLOSE, b"\x03\xe8\xff"), 1007),
}


@pytest.mark.parametrize("name", BAD)
def test_what_breaks_the_rules_is_told_by_its_code_and_not_looked_at_further(name):
    """RFC 6455 section 7.4.1; what comes behind it is nobody's."""
    data, code = BAD[name]
    found, said = taken([data + frame(Opcode.TEXT, b"more"), b"and more"])
    frames = Frames(BITS)
    for _ in frames.feed(data):
        assert bool(frames.message("x")) is frames.open
    assert [what for what, _ in found] == [Arrival.FAILURE, Arrival.OVER]
    assert found[0][1][0] == code
    assert Close.parse(said[2:]).code == code


def test_empty_fragments_are_bounded():
    """They take no room in a message, but they do in what a new parser has to be fed with."""
    frames = Frames(limit=100)
    assert list(frames.feed(frame(Opcode.TEXT, b"", fin=False))) == []
    many = frame(Opcode.CONT, b"", fin=False) * 12_000
    found = list(frames.feed(many))
    assert [what for what, _ in found] == [Arrival.FAILURE, Arrival.OVER]
    assert found[0][1] == (1009, "too many fragments")


@pytest.mark.parametrize("begun", [False, True])
def test_the_closing_handshake_is_part_of_the_plain_form(begun):
    """Before our close nothing is closed; after it nothing is sent, and the peer's ends it."""
    frames = Frames()
    if begun:
        assert frames.close(1001, "bye")
    frames = again(frames)
    assert bool(frames.message("x")) is not begun
    assert bool(frames.close(1001)) is not begun
    assert list(frames.feed(closing(1001))) == [
        (Arrival.CLOSE, (1001, "")),
        (Arrival.OVER, None),
    ]
    assert again(frames).is_over()
    assert list(again(frames).feed(b"more")) == []


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2999, 5000])
def test_a_code_that_may_not_be_sent_is_an_error_of_the_caller(code):
    """RFC 6455 section 7.4."""
    with pytest.raises(ValueError, match=str(code)):
        Frames().close(code)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 255, 256, 65_536])
@pytest.mark.parametrize("bits", [None, BITS])
def test_a_text_of_bytes_goes_out_as_the_same_frame(bits, size):
    """From the first one on, and none does once the closing handshake has begun."""
    frames, text = Frames(bits), "x" * size
    for _ in range(2):
        assert frames.text(text.encode()) == Frames(bits).message(text)
    assert frames.close(1000)
    assert not frames.text(text.encode())


@pytest.mark.parametrize("ends", [closing(1000, ""), frame(Opcode.TEXT, b"\xff")])
def test_nothing_goes_out_nor_comes_alone_behind_the_end(ends):
    """Whatever was known of the parser before."""
    frames, hello = Frames(), frame(Opcode.TEXT, b"hello")
    assert frames.alone(hello) == "hello"
    assert frames.text(b"hello")
    assert frames.alone(ends) is None
    list(frames.feed(ends))
    assert frames.alone(hello) is None
    assert not frames.text(b"hello")
