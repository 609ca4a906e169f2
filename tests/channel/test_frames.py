"""Frames: whatever the cut, the same messages; whatever the bytes, a clear error."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netswap.canary import Canary
from netswap.channel import FrameError, FrameReader, encode_frame, messages
from netswap.events import Refusal, VerdictLine, WatchRow, WorkerReceipt
from netswap.tls import Terms

REFUSAL = Refusal("prepare", "no", file="a.py", line=3)
ROW = WatchRow(0, "k", 2, True, 3, 40, 1, 2.5, 90.0, 1.5, 1 << 20)
EVERY_MESSAGE: list[messages.Message] = [
    messages.Hello(0, 10),
    messages.Boot(
        [0, 1],
        [messages.ListenerSpec("echo", "echo", "127.0.0.1:7000", 9)],
        {"echo.connection": "ab"},
        "bundles",
        {0: "mesh-0", 1: "mesh-1"},
        {"static": {"main": "/srv/www"}},
    ),
    messages.Ready(1),
    messages.Unbooted(1, Refusal("prepare", "no pool", "app.py", 3)),
    messages.Prepare(
        1, {"echo.connection": "ab"}, "worker=0", 2.5, True, True, Canary("2.5%", 250, 1), True
    ),
    messages.Prepared(1, 0, [VerdictLine("k", "as is", "same", 1, 2, ["seen"])], {"k": 3}, 3),
    messages.Refused(1, 0, REFUSAL),
    messages.Hold(1),
    messages.Held(1, 0),
    messages.Swap(1, True, 9000),
    messages.Begun(1, 0),
    messages.Swapped(1, 0, WorkerReceipt(0, {"k": 2}, 1, 0, 3.5), True),
    messages.SwapFailed(1, 0, REFUSAL),
    messages.Watch(1, 10.0, 1.0, True),
    messages.Watching(1, 0, [ROW], True),
    messages.Watched(1, 0, [ROW], True),
    messages.WatchFailed(1, 0, REFUSAL, [ROW], True),
    messages.Finish(1),
    messages.Finished(1, 0, 12.5),
    messages.Revert(1),
    messages.Reverted(1, 0, REFUSAL),
    messages.Query(7, "objects", "kind=k"),
    messages.Intervene(8, "nudge", "7#3"),
    messages.Rekey(9, 2, {"kv": Terms(b"PEM", "ab", "CA", "required", ["http/1.1"])}, True),
    messages.Answer(7, 0, b"\xc0"),
    messages.Heartbeat(0, 12),
    messages.Drain(3.0),
    messages.Drained(0),
    messages.Join(1),
    messages.Cast("chat.rooms", "say", [None, True, 1, 1.5, "x", b"y", [1], {"a": 1}]),
    messages.Request(5, "kv.store", "get", [b"key"]),
    messages.Reply(5, b"value"),
    messages.Quiet(3, 7, True),
]


def names(union: object) -> set[str]:
    return {member.__name__ for member in union.__args__}  # type: ignore[attr-defined]


def test_every_message_is_in_the_sample() -> None:
    """A message added to the channel must be added to these tests."""
    assert {type(message).__name__ for message in EVERY_MESSAGE} == names(messages.Message)


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=lambda m: type(m).__name__)
def test_round_trip(message: messages.Message) -> None:
    """A message arrives as it was sent."""
    assert list(FrameReader().feed(encode_frame(message))) == [message]


@given(
    st.lists(st.sampled_from(EVERY_MESSAGE), max_size=6),
    st.lists(st.integers(min_value=0, max_value=600), max_size=12),
)
def test_split_invariance(sent: list[messages.Message], cuts: list[int]) -> None:
    """Any cut of the byte stream gives the same messages, and leaves no bytes over."""
    stream = b"".join(encode_frame(message) for message in sent)
    marks = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = FrameReader()
    received: list[messages.Message] = []
    for start, end in zip(marks, marks[1:], strict=False):
        received.extend(reader.feed(stream[start:end]))
    assert received == sent
    assert reader.pending == 0


def test_frame_over_the_limit_is_refused_from_its_head() -> None:
    """Four bytes are enough to refuse a frame: nothing is buffered for it."""
    with pytest.raises(FrameError, match="longer than 10 bytes"):
        list(FrameReader(limit=10).feed((11).to_bytes(4, "big")))


def test_message_over_the_limit_is_not_sent() -> None:
    """The sender finds out, not the receiver."""
    with pytest.raises(FrameError, match="Cast is longer than 16 bytes"):
        encode_frame(messages.Cast("k", "m", [b"x" * 100]), limit=16)


def test_argument_that_msgpack_cannot_carry_is_the_senders_error() -> None:
    """An object in a cast is refused where it is sent."""
    with pytest.raises(FrameError, match="Cast can't be encoded"):
        encode_frame(messages.Cast("k", "m", [object()]))


@pytest.mark.parametrize(
    "body",
    [b"\xc1", b"", msgspec.msgpack.encode(["Nonsense", 1]), msgspec.msgpack.encode(["Swap", "x"])],
    ids=["not msgpack", "empty", "unknown tag", "wrong type"],
)
def test_bytes_that_are_no_message(body: bytes) -> None:
    """What is not a message is a FrameError, after the good messages before it."""
    reader = FrameReader()
    stream = reader.feed(encode_frame(messages.Swap(1)) + len(body).to_bytes(4, "big") + body)
    assert next(stream) == messages.Swap(1)
    with pytest.raises(FrameError, match="unreadable frame"):
        next(stream)


@given(st.binary(max_size=200))
def test_any_bytes_give_messages_or_a_frame_error(data: bytes) -> None:
    """No input raises anything but FrameError."""
    with contextlib.suppress(FrameError):
        list(FrameReader().feed(data))
