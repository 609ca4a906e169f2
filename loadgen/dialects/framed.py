"""Echo and verify: numbered frames of one length.

All frames of a connection have the same length and begin with the same twelve bytes, its *mark*:
the length and the connection's name or number. So an answer that arrives alone, the usual case, is
found by a comparison; and a stream that lost bytes is found again by a search for the next mark.
"""

from __future__ import annotations

import struct
from abc import abstractmethod
from collections.abc import Sequence
from zlib import crc32

from loadgen.continuity import STRIDES, Continuity, Operation, stretch
from loadgen.dialects.conversation import Conversation, Opening

__all__ = ["Echo", "Verify"]

_MARK = struct.Struct(">IQ")
_SEQUENCE = struct.Struct(">Q")
_ECHO = struct.Struct(">IQQ")
_REQUEST = struct.Struct(">IQQQ")
_CARRIED = struct.Struct(">IQI")
_pack_carried = _CARRIED.pack

_LENGTH = 4
_AFTER_MARK = _MARK.size
_AFTER_INTENDED = _REQUEST.size
_AFTER_CARRIED = _REQUEST.size + _CARRIED.size


class _Framed(Conversation):
    """Cuts the stream into frames and finds it again when it went astray."""

    __slots__ = (
        "_astray",
        "_chunks",
        "_held",
        "_mark",
        "_payload",
        "_pending",
        "_shift",
        "_size",
        "_stretch",
        "continuity",
    )

    def __init__(self, opening: Opening, overhead: int, name: int) -> None:
        self.continuity = Continuity(opening.connection, opening.tally)
        self._pending = self.continuity.pending
        self._payload = opening.payload
        self._stretch = stretch(opening.payload)
        self._shift = opening.connection * 31
        self._size = overhead + opening.payload
        self._mark = _MARK.pack(self._size - _LENGTH, name)
        self._chunks: list[bytes] = []
        self._held = 0
        self._astray = False

    def receive(self, data: bytes) -> Sequence[Operation]:
        """Judge what came; a frame alone, the usual case, is never copied."""
        if len(data) == self._size and not self._chunks:
            operation = self._judge_usual(data)
            if operation is not None:
                return (operation,)
        return self._receive_cut(data)

    def leftover(self) -> bytes:
        """What is no frame yet, unless it is of something that is counted already."""
        return b"" if self._astray else b"".join(self._chunks)

    @abstractmethod
    def _judge_usual(self, frame: bytes) -> Operation | None:
        """The oldest open operation, when this is to the last byte what must answer it."""

    @abstractmethod
    def _judge(self, frame: bytes) -> Operation | None:
        """What any other frame with the right mark settles, and what is wrong with it."""

    def _receive_cut(self, data: bytes) -> list[Operation]:
        self._chunks.append(data)
        self._held += len(data)
        settled: list[Operation] = []
        if self._held < self._size:
            return settled
        stream, at = b"".join(self._chunks), 0
        while len(stream) - at >= self._size:
            if not stream.startswith(self._mark, at):
                at = self._find_mark(stream, at)
                continue
            self._astray = False
            frame = stream[at : at + self._size]
            operation = self._judge_usual(frame) or self._judge(frame)
            if operation is not None:
                settled.append(operation)
            at += self._size
        self._held = len(stream) - at
        self._chunks = [stream[at:]] if self._held else []
        return settled

    def _find_mark(self, stream: bytes, at: int) -> int:
        if not self._astray:
            self._astray = True
            self.continuity.fault("corrupted", -1, f"no frame: {stream[at : at + 24].hex(' ')}")
        found = stream.find(self._mark, at + 1)
        return found if found >= 0 else max(at + 1, len(stream) - len(self._mark) + 1)


class Echo(_Framed):
    """u32 length of what follows | u64 name | u64 sequence | payload, expected unchanged.

    The name is that of the run (its CRC-32, the upper half) and the connection: a frame that was
    kept from another run is none of this one.
    """

    __slots__ = ()

    def __init__(self, opening: Opening) -> None:
        run = crc32(opening.nonce.encode())
        super().__init__(opening, _ECHO.size, run << 32 | opening.connection)

    def request(self, intended: int, sent: int) -> bytes:
        """The next frame."""
        line = self.continuity
        sequence = line.issued
        start = (self._shift + sequence * 7) % STRIDES  # pattern(), without its calls
        payload = self._stretch[start : start + self._payload]
        body = self._mark + _SEQUENCE.pack(sequence) + payload
        line.issue(intended, sent, body)
        return body

    def _judge_usual(self, frame: bytes) -> Operation | None:
        pending = self._pending
        if pending and frame == pending[0].body:
            return self.continuity.settle_oldest()
        return None

    def _judge(self, frame: bytes) -> Operation | None:
        operation = self.continuity.settle(_SEQUENCE.unpack_from(frame, _AFTER_MARK)[0])
        if operation is not None and frame != operation.body:
            detail = _difference(operation.body, frame)
            self.continuity.fault("corrupted", operation.sequence, detail)
        return operation


class Verify(_Framed):
    """The witness protocol, big endian.

    request: u32 length of what follows | u64 connection | u64 sequence | u64 intended ns | payload
    reply: the same with u32 version | u64 operations | u32 hash before the payload.

    ``operations`` counts the requests of the connection answered so far, this one included;
    ``hash`` is the rolling CRC-32 of their bodies (what follows the length). Both are followed here
    in the order of the sequence. An answer that came late says nothing new about them. Where they
    are wrong they are followed from what the server says, unless the next answer goes on from what
    was before: then one answer alone was wrong.
    """

    __slots__ = ("_before", "_followed", "_hash", "_operations", "_request_length", "_version")

    def __init__(self, opening: Opening) -> None:
        super().__init__(opening, _AFTER_CARRIED, opening.connection)
        self._request_length = _AFTER_INTENDED - _LENGTH + opening.payload
        self._followed = 0
        self._operations = 0
        self._hash = 0
        self._version = 0  # of the last answer
        self._before = (-1, 0, 0)  # what was followed, count and hash, until the last wrong answer

    def request(self, intended: int, sent: int) -> bytes:
        """The next frame."""
        line = self.continuity
        sequence = line.issued
        start = (self._shift + sequence * 7) % STRIDES  # pattern(), without its calls
        head = _REQUEST.pack(self._request_length, line.connection, sequence, intended)
        frame = head + self._stretch[start : start + self._payload]
        line.issue(intended, sent, frame)
        return frame

    def _judge_usual(self, frame: bytes) -> Operation | None:
        pending = self._pending
        if not pending or pending[0].sequence != self._followed:
            return None
        body, operations = pending[0].body, self._operations + 1
        digest = crc32(body[_LENGTH:], self._hash)
        carried = _pack_carried(self._version, operations, digest)
        if (
            frame
            != self._mark + body[_AFTER_MARK:_AFTER_INTENDED] + carried + body[_AFTER_INTENDED:]
        ):
            return None
        self._followed += 1
        self._operations, self._hash = operations, digest
        operation = self.continuity.settle_oldest()
        self.continuity.answered_by(operation, self._version)
        return operation

    def _judge(self, frame: bytes) -> Operation | None:
        operation = self.continuity.settle(_SEQUENCE.unpack_from(frame, _AFTER_MARK)[0])
        if operation is None:
            return None
        body = operation.body
        if (
            frame[_AFTER_MARK:_AFTER_INTENDED] != body[_AFTER_MARK:_AFTER_INTENDED]
            or frame[_AFTER_CARRIED:] != body[_AFTER_INTENDED:]
        ):
            expected = body[:_AFTER_INTENDED] + frame[_AFTER_INTENDED:_AFTER_CARRIED]
            detail = _difference(expected + body[_AFTER_INTENDED:], frame, skip=_LENGTH)
            self.continuity.fault("corrupted", operation.sequence, detail)
        self._follow(operation, *_CARRIED.unpack_from(frame, _AFTER_INTENDED))
        return operation

    def _follow(self, operation: Operation, version: int, operations: int, digest: int) -> None:
        self._version = version
        self.continuity.answered_by(operation, version)
        sequence = operation.sequence
        if sequence < self._followed:
            return
        first, *before = self._before
        missing = self.continuity.missing
        bodies = [missing[number].body for number in range(self._followed, sequence)]
        bodies.append(operation.body)
        expected = _folded((self._operations, self._hash), bodies)
        alone = first == self._followed and (operations, digest) == _folded(before, bodies)
        self._followed = sequence + 1
        self._operations, self._hash = operations, digest
        if (operations, digest) != expected and not alone:
            detail = (
                f"version {version} says {operations} operations and hash {digest:08x}, "
                f"expected {expected[0]} and {expected[1]:08x}"
            )
            self.continuity.fault("not_carried", sequence, detail)
            self._before = (self._followed, *expected)


def _folded(state: Sequence[int], bodies: Sequence[bytes]) -> tuple[int, int]:
    """Count and hash when these were answered, too."""
    operations, digest = state
    for body in bodies:
        digest = crc32(body[_LENGTH:], digest)
    return operations + len(bodies), digest


def _difference(expected: bytes, got: bytes, skip: int = 0) -> str:
    pairs = enumerate(zip(expected, got, strict=False))
    at = next((at for at, (want, have) in pairs if at >= skip and want != have), len(expected))
    wanted, had = expected[at : at + 8].hex(" "), got[at : at + 8].hex(" ")
    return f"differs at byte {at}: {had} where {wanted} was sent"
