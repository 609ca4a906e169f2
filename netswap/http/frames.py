"""The frames of one WebSocket (RFC 6455): bytes in, messages out, and the reverse. No I/O.

The parsing is that of the ``websockets`` package's ``Protocol``, whose parser is a suspended
generator: it can be neither copied nor encoded. So it lives in an object that belongs to no
version, and moves by reference. The canonical form is the raw bytes of the data frames since the
last message boundary, which a new parser is fed with, and how far the closing is.

* A small message in one plain frame, the usual case, is not parsed at all, and one that goes out is
  put together here.
* A chunk of a megabyte can hold two hundred thousand frames. Who must not hold the loop for so long
  takes some (``most``) and comes back for those that wait, before anything else is fed.
* The parser is fed a frame at a time. What a message makes somebody say stands before what is said
  to the frames behind it, and a cut of the stream anywhere changes nothing. This is also how the
  bytes since the boundary are known; control frames are no part of them.
* A deflate window can't be taken out of zlib. Compression is therefore agreed on with
  ``server_no_context_takeover`` and ``client_no_context_takeover`` (RFC 7692 section 7.1.1), so
  every message begins with an empty window, and the bytes since the boundary say all there is.
  A stream of small alike messages is compressed less than it could be, and an idle connection has
  no window in memory (up to 300 kB otherwise).
* Text is checked to be UTF-8 when the message is whole.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from enum import StrEnum
from typing import Any, Final

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import SERVER, Protocol, State

try:
    from websockets.speedups import apply_mask
except ImportError:  # the package was built without it
    from websockets.utils import apply_mask

__all__ = ["MESSAGE_LIMIT", "Arrival", "Frames", "check_code"]

MESSAGE_LIMIT: Final = 1_048_576
"""Bytes of a message, after it was inflated, unless more are asked for."""
RAW_LIMIT: Final = 65_536
"""Bytes that a message may take beyond that on the wire: a peer can send empty fragments."""
DEFLATE_FROM: Final = 256
"""Messages of fewer bytes go out as they are, whatever was agreed on."""
NO_STATUS: Final = 1005

_COMPRESS: Final = {"memLevel": 5}
_log = logging.getLogger("netswap.websocket")
_log.setLevel(logging.CRITICAL)  # connections say for themselves what there is to say


class Arrival(StrEnum):
    """What came."""

    MESSAGE = "message"
    PING = "ping"
    PONG = "pong"
    CLOSE = "close"
    FAILURE = "failure"
    """The peer broke the rules; nothing is understood of it any more."""
    OVER = "over"
    """Nothing is to come or to be said any more: the connection is to be closed."""


Arrived = tuple[Arrival, Any]
"""With a str or bytes; the bytes of a ping or pong; the code and reason of an end; or None."""


def deflate(client_bits: int = 15, server_bits: int = 15) -> PerMessageDeflate:
    """Compression whose every message stands alone."""
    return PerMessageDeflate(True, True, client_bits, server_bits, _COMPRESS)


class Frames:
    """The server's end of one WebSocket, after the opening handshake.

    ``compression`` are the window bits of client and server that were agreed on, or None;
    ``limit`` are the bytes that a message may have.
    """

    __slots__ = (
        "_compression",
        "_frame",
        "_left",
        "_limit",
        "_message",
        "_opcode",
        "_parts",
        "_protocol",
        "_short",
        "_talks",
        "_waiting",
        "asked",
    )

    def __init__(
        self, compression: tuple[int, int] | None = None, limit: int = MESSAGE_LIMIT
    ) -> None:
        self._compression = compression
        self._limit = limit
        self._protocol = Protocol(SERVER, max_size=limit, logger=_log)
        if compression is not None:
            self._protocol.extensions = [deflate(*compression)]
        self._frame = bytearray()
        """The raw bytes of the frame that has not come whole,"""
        self._left = 0
        """how many are missing of it (0: not known yet),"""
        self._message = bytearray()
        """and those of the frames before it of the same message."""
        self._opcode = Opcode.TEXT
        self._parts: list[bytes] = []
        self._waiting = b""
        """What has come and was not looked at."""
        self._short = -1
        """The largest payload that ``alone`` takes without another look; -1: look."""
        self._talks = False
        """Known that messages may go out."""
        self.asked = False
        """The connection's note that it has asked for a turn to take what waits."""

    # what comes

    def alone(self, data: bytes) -> str | bytes | None:
        """The message, if ``data`` is just one short one in one plain frame, as most chunks are.

        None: it is anything else, or wrong, and nothing was done. Then ``feed`` takes it.
        """
        size = len(data) - 6  # a head of two bytes, and the mask
        if not 0 <= size <= self._short and not 0 <= size <= self._look():
            return None
        if data[1] != 0x80 | size:
            return None
        payload = apply_mask(data[6:], data[2:6])
        if data[0] == 0x81:
            try:
                return payload.decode()
            except UnicodeDecodeError:
                return None
        return payload if data[0] == _BINARY else None

    def _look(self) -> int:
        """Where a message may begin: the bytes that a short one may have; else -1."""
        if self._is_at_boundary() and not self._waiting:
            self._short = min(self._limit, _EXTENDED - 1)
        return self._short

    def _changes(self) -> None:
        """What was known of the parser has to be looked at again."""
        self._short, self._talks = -1, False

    def feed(self, data: bytes, most: int = 0) -> Iterator[Arrived]:
        """Take bytes cut anywhere; what came whole, one after the other as it is asked for.

        After each, ``output()`` may have something that is to be sent before anything else. With
        ``most``, what is behind so many frames is kept: while ``waits``, go on with ``feed(b"")``.
        """
        self._changes()
        if self._waiting:
            data, self._waiting = self._waiting + data, b""
        at, end, count = 0, len(data), 0
        while at < end and not self.is_over():
            if most and count == most:
                self._waiting = data[at:]
                return
            count += 1
            size = self._plain_size(data, at) if self._is_at_boundary() else 0
            message = self._plain(data, at, size) if size else None
            if message is not None:
                at += size
                yield Arrival.MESSAGE, message
                continue
            at += yield from self._parse(data, at)

    def _parse(self, data: bytes, at: int) -> Generator[Arrived, None, int]:
        """Let the parser have the rest of a frame, or what there is of it; says how much it was."""
        self._changes()
        size = self._left or _missing(self._frame, data, at)
        raw = data[at : at + size]
        self._left = size - len(raw)
        self._frame += raw
        self._protocol.receive_data(raw)
        yield from self._arrived()
        if not self._left and _is_whole(self._frame):
            self._frame_ended()
            if len(self._message) > self._limit + RAW_LIMIT:
                yield self.fail(1009, "too many fragments")
        if self.is_over():
            yield Arrival.OVER, None
        return len(raw)

    @property
    def waits(self) -> bool:
        """Whether something has come that was not looked at."""
        return bool(self._waiting) and not self.is_over()

    def _is_at_boundary(self) -> bool:
        """Whether the next byte is the first of a message, or of a control frame."""
        return not (self._frame or self._message or self._protocol.eof_sent)

    def _plain_size(self, data: bytes, at: int) -> int:
        """The bytes of the frame at ``at``, if it is here, plain, and not long; else 0."""
        if len(data) - at < _PLAIN_HEAD or data[at] not in _WHOLE:
            return 0
        size = data[at + 1] - 0x80
        if size == _EXTENDED:
            size = int.from_bytes(data[at + 2 : at + 4], "big") + 2
        elif not 0 <= size < _EXTENDED:
            return 0
        size += _PLAIN_HEAD
        return size if size <= len(data) - at else 0

    def _plain(self, data: bytes, at: int, size: int) -> str | bytes | None:
        """The message in a frame of that size. None: it is for the parser to say what is wrong."""
        head = _PLAIN_HEAD if data[at + 1] != 0x80 | _EXTENDED else _PLAIN_HEAD + 2
        payload = data[at + head : at + size]
        return self._unmasked(data[at], payload, data[at + head - _MASK : at + head])

    def _unmasked(self, first: int, payload: bytes, mask: bytes) -> str | bytes | None:
        if len(payload) > self._limit:
            return None
        return _read(first, apply_mask(payload, mask))

    def _arrived(self) -> Iterator[Arrived]:
        for frame in self._protocol.events_received():
            assert isinstance(frame, Frame)
            yield from _ARRIVALS[frame.opcode](self, frame)
        failure = self._protocol.parser_exc
        if failure is not None:
            yield self._failed()

    def _failed(self) -> Arrived:
        sent = self._protocol.close_sent
        return Arrival.FAILURE, (1006, "") if sent is None else (int(sent.code), sent.reason)

    def _data(self, frame: Frame) -> Iterator[Arrived]:
        if frame.opcode is not Opcode.CONT:
            self._opcode = frame.opcode
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            return
        parts, self._parts = self._parts, []
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        if self._opcode is Opcode.BINARY:
            yield Arrival.MESSAGE, whole
            return
        try:
            text = whole.decode()
        except UnicodeDecodeError as error:
            yield self.fail(1007, f"{error.reason} at position {error.start}")
        else:
            yield Arrival.MESSAGE, text

    def _ping(self, frame: Frame) -> Iterator[Arrived]:
        yield Arrival.PING, bytes(frame.data)

    def _pong(self, frame: Frame) -> Iterator[Arrived]:
        yield Arrival.PONG, bytes(frame.data)

    def _close(self, _frame: Frame) -> Iterator[Arrived]:
        said = self._protocol.close_rcvd
        if said is not None and self._protocol.parser_exc is None:
            yield Arrival.CLOSE, (int(said.code), said.reason)

    def _frame_ended(self) -> None:
        """It belongs to what a new parser has to be fed with, unless a message ended here."""
        first = self._frame[0]
        if first & 0x88 == 0x80:
            self._message.clear()
        elif not first & 0x08:
            self._message += self._frame
        self._frame.clear()

    # what goes out

    def output(self) -> bytes:
        """What the protocol itself has to say: pongs, and its part of the closing handshake."""
        return b"".join(self._protocol.data_to_send())

    def message(self, data: str | bytes, is_text: bool = False) -> bytes:
        """A whole message; b"" when the closing handshake has begun.

        ``is_text``: the bytes are the UTF-8 of a text.
        """
        if not self._talks:
            protocol = self._protocol
            if protocol.close_sent is not None or protocol.eof_sent:  # it is not open
                return b""
            self._talks = True
        if isinstance(data, str):
            payload, heads = data.encode(), _TEXT_HEADS
        else:
            payload, heads = bytes(data), _TEXT_HEADS if is_text else _BINARY_HEADS
        size = len(payload)
        if size < _EXTENDED:
            return heads[size] + payload
        frame = Frame(Opcode.TEXT if heads is _TEXT_HEADS else Opcode.BINARY, payload)
        extensions = self._protocol.extensions if size >= DEFLATE_FROM else []
        return frame.serialize(mask=False, extensions=extensions)

    def text(self, payload: bytes) -> bytes:
        """``message`` of a text whose UTF-8 is at hand."""
        size = len(payload)
        if self._talks and size < 126:
            return _TEXT_HEADS[size] + payload
        return self.message(payload, is_text=True)

    def ping(self, data: bytes) -> bytes:
        """A ping with at most 125 bytes; b"" when nothing is answered any more."""
        if self._protocol.state is not State.OPEN:
            return b""
        return Frame(Opcode.PING, data).serialize(mask=False)

    def close(self, code: int, reason: str = "") -> bytes:
        """Begin the closing handshake, unless it has begun.

        The reason is cut to what a frame can hold. Raises what ``check_code`` raises.
        """
        check_code(code)
        self._changes()
        if self._protocol.state is not State.OPEN:
            return b""
        if code == NO_STATUS:
            self._protocol.send_close()
        else:
            self._protocol.send_close(code, _short(reason))
        return self.output()

    def fail(self, code: int, reason: str = "") -> Arrived:
        """The peer has broken the rules: nothing of it is looked at any more."""
        self._changes()
        self._protocol.fail(code, _short(reason))
        self._parts.clear()
        return Arrival.FAILURE, (code, reason)

    # how far it is

    @property
    def open(self) -> bool:
        """Whether messages can be sent."""
        return self._protocol.state is State.OPEN

    def is_over(self) -> bool:
        """Whether nothing is to come or to be said any more."""
        return self._protocol.eof_sent

    # the canonical form

    @staticmethod
    def to_canonical(frames: Frames) -> Any:
        """Window bits, the limit, raw bytes since the last boundary, and how far the closing is."""
        protocol = frames._protocol
        return [
            frames._compression,
            frames._limit,
            b"" if protocol.eof_sent else bytes(frames._message + frames._frame),
            int(protocol.state),
            _plain(protocol.close_rcvd),
            _plain(protocol.close_sent),
            protocol.close_rcvd_then_sent,
            protocol.eof_sent,
            frames._waiting,
        ]

    @staticmethod
    def from_canonical(plain: Any) -> Frames:
        """Frames with a parser of its own, as far as the other."""
        compression, limit, raw, state, received, sent, order, eof_sent, *waiting = plain
        bits = None if compression is None else (compression[0], compression[1])
        frames = Frames(bits, limit)
        for _ in frames.feed(raw):
            raise ValueError("bytes since a boundary hold a whole message")
        frames._waiting = waiting[0] if waiting else b""  # of one that was noted by an older server
        protocol = frames._protocol
        protocol.state = State(state)
        protocol.close_rcvd = None if received is None else Close(*received)
        protocol.close_sent = None if sent is None else Close(*sent)
        protocol.close_rcvd_then_sent = order
        frames._changes()
        if eof_sent:
            protocol.eof_sent = True
            protocol.parser = protocol.discard()
            next(protocol.parser)
        return frames


_ARRIVALS: Final = {
    Opcode.TEXT: Frames._data,
    Opcode.BINARY: Frames._data,
    Opcode.CONT: Frames._data,
    Opcode.PING: Frames._ping,
    Opcode.PONG: Frames._pong,
    Opcode.CLOSE: Frames._close,
}

_TEXT: Final = 0x81
_BINARY: Final = 0x82
_WHOLE: Final = bytes((_TEXT, _BINARY))
"""The first bytes of a text and of a binary message in one frame, not deflated."""
_EXTENDED: Final = 126
"""The length that says that it stands behind, in two bytes; what is less says how long it is."""
_TEXT_HEADS: Final = tuple(bytes((_TEXT, size)) for size in range(_EXTENDED))
_BINARY_HEADS: Final = tuple(bytes((_BINARY, size)) for size in range(_EXTENDED))
_LENGTHS: Final = {126: 2, 127: 8}
_HEAD: Final = 2
_MASK: Final = 4
_PLAIN_HEAD: Final = _HEAD + _MASK


def _read(first: int, payload: bytes) -> str | bytes | None:
    """The message of a whole frame that begins with ``first``; None for what is none."""
    if first == _TEXT:
        try:
            return payload.decode()
        except UnicodeDecodeError:
            return None
    return payload if first == _BINARY else None


def _missing(frame: bytearray, data: bytes, at: int = 0) -> int:
    """How many more bytes the frame has of which ``frame`` came before what is at ``at``.

    As long as its head does not say how long it is: as many as its head needs.
    """
    have = len(frame)
    head = frame[: _HEAD + 8] + data[at : at + max(_HEAD + 8 - have, 0)]
    if len(head) < _HEAD:
        return _HEAD - have
    length = head[1] & 0x7F
    more = _LENGTHS.get(length, 0)
    if len(head) < _HEAD + more:
        return _HEAD + more - have
    if more:
        length = int.from_bytes(head[_HEAD : _HEAD + more], "big")
    masked = _MASK if head[1] & 0x80 else 0
    return _HEAD + more + masked + length - have


def _is_whole(frame: bytearray) -> bool:
    """Whether nothing is missing of a frame of which as much came as was known to be missing."""
    return len(frame) >= _HEAD and not _missing(frame, b"")


def check_code(code: int) -> None:
    """Raise ValueError for a code that a close can't have; 1005 stands for none."""
    if code not in _SENT and not 3000 <= code < 5000:
        raise ValueError(f"{code} is no code for a close: take 1000, or one of 3000 to 4999")


_SENT: Final = frozenset({*range(1000, 1004), NO_STATUS, *range(1007, 1015)})


def _short(reason: str) -> str:
    """At most 123 bytes of UTF-8."""
    return reason.encode()[:123].decode(errors="ignore")


def _plain(close: Close | None) -> Any:
    return None if close is None else [int(close.code), close.reason]
