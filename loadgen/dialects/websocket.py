"""WebSocket: the numbered frames of echo, each in a binary message (RFC 6455), unchanged back.

The opening handshake goes out with the first operation, at ``/echo``. Pings are answered at
once, and so is a closing handshake that the server begins: it may drop whoever does not. Nothing is
compressed, since what is judged are bytes. A server may send a message in several frames (RFC 6455,
5.4), but where a message ends is part of what was sent.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Sequence

from loadgen.continuity import Operation
from loadgen.dialects.conversation import Conversation, Opening
from loadgen.dialects.framed import Echo

__all__ = ["WebSocket"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HEAD_LIMIT = 16_384
_BINARY, _CLOSE, _PING, _PONG = 0x82, 0x88, 0x89, 0x8A
_BEGUN, _ON, _LAST = 0x02, 0x00, 0x80  # a message in several frames
_MASKED, _SIZE = 0x80, 0x7F  # in the second byte
_LENGTHS = {126: 2, 127: 8}
_BYE = b"\x03\xe8"  # 1000
_ACCEPT, _EXTENSIONS = b"sec-websocket-accept", b"sec-websocket-extensions"
_MASK = b"\x5a\xc3\x17\x8e"


class _Messages(Echo):
    """Takes a message at a time, which has to be a frame of echo and no more."""

    __slots__ = ()

    def _receive_cut(self, data: bytes) -> list[Operation]:
        whole, tally = not self._chunks, self.continuity.tally
        corrupted = tally.corrupted
        settled = super()._receive_cut(data)
        if whole and len(data) != self._size and tally.corrupted == corrupted:
            detail = f"a message of {len(data)} bytes, {self._size} were sent"
            self.continuity.fault("corrupted", -1, detail)
        return settled


class WebSocket(Conversation):
    """One connection's messages."""

    __slots__ = (
        "_asked",
        "_closed",
        "_closing",
        "_echo",
        "_key",
        "_open",
        "_parts",
        "_rest",
        "_say",
        "continuity",
    )

    def __init__(self, opening: Opening) -> None:
        self._echo = _Messages(opening)
        self.continuity = self._echo.continuity
        self._key = base64.b64encode(os.urandom(16))
        self._asked = False
        self._open = False
        self._closing = False
        self._closed = False
        self._parts: list[bytes] = []
        self._rest = b""
        self._say: Callable[[bytes], None] = _unheard

    def opened(self, say: Callable[[bytes], None]) -> None:
        """Where pongs go."""
        self._say = say

    def request(self, intended: int, sent: int) -> bytes:
        """The next message, before the first of them the handshake."""
        frame = masked(_BINARY, self._echo.request(intended, sent))
        if self._asked:
            return frame
        self._asked = True
        return self._handshake() + frame

    def receive(self, data: bytes) -> Sequence[Operation]:
        """Judge what came, cut anywhere."""
        data = self._rest + data if self._rest else data
        at = 0 if self._open else self._head(data)
        settled: list[Operation] = []
        while self._open and (end := _end_of(data, at)) > 0:
            if data[at + 1] >= _MASKED:
                self.continuity.fault("corrupted", -1, "a frame with a mask, as no server sends it")
            else:
                settled += self._frame(data[at], data[end - _payload_of(data, at) : end])
            at = end
        self._rest = data[at:]
        return settled

    def expects(self) -> bool:
        """The other half of the closing handshake."""
        return self._closing and not self._closed

    def leftover(self) -> bytes:
        """What is no whole message yet, unless its first half was counted as one."""
        return b"".join([*self._parts, self._rest])

    def farewell(self) -> bytes:
        """The closing handshake begins, if the server has not begun it."""
        self._closing = self._open
        return masked(_CLOSE, _BYE) if self._open and not self._closed else b""

    def _handshake(self) -> bytes:
        return (
            b"GET /echo HTTP/1.1\r\nHost: load\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n" % self._key
        )

    def _head(self, data: bytes) -> int:
        """Where the first frame begins, if the answer to the handshake is whole and as it must."""
        head, end, _ = data.partition(b"\r\n\r\n")
        if not end:
            if len(head) > _HEAD_LIMIT:
                self.continuity.fault("corrupted", -1, "the answer to the handshake has no end")
                return len(data)
            return 0
        status, *lines = head.split(b"\r\n")
        fields = dict(map(_field, lines))
        accept = base64.b64encode(hashlib.sha1(self._key + _GUID).digest())
        right = status.startswith(b"HTTP/1.1 101 ") and fields.get(_ACCEPT) == accept
        if not right or _EXTENSIONS in fields:  # none was offered
            self.continuity.fault("corrupted", -1, f"no WebSocket: {head[:200].decode('latin-1')}")
            return len(data)
        self._open = True
        return len(head) + 4

    def _frame(self, first: int, payload: bytes) -> Sequence[Operation]:
        if first == _BINARY:
            return self._echo.receive(payload)
        if (first == _BEGUN and not self._parts) or (first in (_ON, _LAST) and self._parts):
            return self._part(first, payload)
        if first not in (_PING, _PONG, _CLOSE):
            self.continuity.fault("corrupted", -1, f"a frame that begins with {first:#04x}")
        if first == _PING and not self._closing and not self._closed:
            self._say(masked(_PONG, payload))
        if first == _CLOSE and not self._closed:
            self._close(payload)
        return ()

    def _close(self, payload: bytes) -> None:
        """The server's half; ours, too, if it was first: then it ends the connection, which is
        counted where connections are.
        """
        self._closed = True
        if not self._closing:
            self._say(masked(_CLOSE, payload))

    def _part(self, first: int, payload: bytes) -> Sequence[Operation]:
        self._parts.append(payload)
        if first != _LAST:
            return ()
        message, self._parts = b"".join(self._parts), []
        return self._echo.receive(message)


def masked(first: int, payload: bytes) -> bytes:
    """A frame of a client, RFC 6455 section 5.2."""
    size = len(payload)
    short = size if size < 126 else 126 if size < 65_536 else 127
    length = size.to_bytes(_LENGTHS[short], "big") if short in _LENGTHS else b""
    key = (_MASK * (size // 4 + 1))[:size]
    body = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return bytes([first, short | 0x80]) + length + _MASK + body.to_bytes(size, "big")


def _unheard(words: bytes) -> None:
    """What is said before the connection is there."""


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip()


def _payload_of(data: bytes, at: int) -> int:
    """How long the payload is of the frame at ``at``, whose head is there."""
    size = data[at + 1] & _SIZE
    more = _LENGTHS.get(size, 0)
    return int.from_bytes(data[at + 2 : at + 2 + more], "big") if more else size


def _end_of(data: bytes, at: int) -> int:
    """Where the frame at ``at`` ends; 0 when it is not whole."""
    if len(data) < at + 2:
        return 0
    mask = len(_MASK) if data[at + 1] >= _MASKED else 0
    head = at + 2 + _LENGTHS.get(data[at + 1] & _SIZE, 0)
    if len(data) < head:
        return 0
    end = head + mask + _payload_of(data, at)
    return end if end <= len(data) else 0
