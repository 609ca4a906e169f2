"""Frames: a big-endian 32-bit length, then that many bytes of msgpack.

Nothing here does I/O: bytes go in, messages come out, however the bytes were cut.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from netswap.channel.messages import Message
from netswap.errors import ChannelError

__all__ = ["FRAME_LIMIT", "FrameError", "FrameReader", "encode_frame"]

FRAME_LIMIT = 1 << 30
"""A gibibyte: a batch of answers may hold several values of the largest size that redis allows."""

_HEAD = 4

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


class FrameError(ChannelError):
    """A frame is too long or is not a message; the stream can't be read any further."""

    def __init__(self, reason: str, size: int) -> None:
        super().__init__(reason, size)
        self.reason = reason
        self.size = size

    def __str__(self) -> str:
        return f"unreadable frame of {self.size} bytes: {self.reason}"


def encode_frame(message: Message, limit: int = FRAME_LIMIT) -> bytes:
    """``message`` as one frame.

    :raises FrameError: it is longer than ``limit`` bytes, or holds what msgpack can't carry.
    """
    try:
        body = _encoder.encode(message)
    except (TypeError, OverflowError, ValueError) as error:
        raise FrameError(f"{type(message).__name__} can't be encoded: {error}", 0) from error
    if len(body) > limit:
        raise FrameError(f"{type(message).__name__} is longer than {limit} bytes", len(body))
    return len(body).to_bytes(_HEAD, "big") + body


class FrameReader:
    """Turns a byte stream, cut anywhere, into messages."""

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int = FRAME_LIMIT) -> None:
        self._buffer = bytearray()
        self._limit = limit

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that ``data`` completes, in order.

        Messages before a bad frame are yielded before the error is raised.

        :raises FrameError: a frame is over the limit or does not decode.
        """
        self._buffer += data
        start = 0
        try:
            while (end := self._frame_end(start)) is not None:
                message = self._decode(start + _HEAD, end)
                start = end
                yield message
        finally:
            del self._buffer[:start]

    def _frame_end(self, start: int) -> int | None:
        """Where the frame at ``start`` ends, or None while it is not complete."""
        if len(self._buffer) - start < _HEAD:
            return None
        size = int.from_bytes(self._buffer[start : start + _HEAD], "big")
        if size > self._limit:
            raise FrameError(f"longer than {self._limit} bytes", size)
        end = start + _HEAD + size
        return end if len(self._buffer) >= end else None

    def _decode(self, start: int, end: int) -> Message:
        with memoryview(self._buffer) as view, view[start:end] as body:
            try:
                return _decoder.decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise FrameError(str(error), end - start) from error
