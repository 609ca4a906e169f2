"""Framing: where in a stream of messages a parser is, in a few words.

httptools' parser can be neither copied nor encoded, and the bytes that it has seen of a long body
would be as long as that. A ``Place`` is what a new parser has to be told instead: the head so far,
or how much of a body is left, or where in the chunked coding the stream stands. It is found by
walking over bytes that the parser has accepted, so it judges nothing: what it looks at is known to
be well formed (lines end in CR LF, no line is folded, sizes are numbers).

It walks when somebody asks, or when many bytes have come since; the way of a usual request, whose
bytes come at once, is not burdened with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["Place"]

HEAD, LENGTH, SIZE, DATA, AFTER, TRAILER = "head", "length", "size", "data", "after", "trailer"

_LAST: Final = b"connection: close\r\n"
_START: Final = b"POST / HTTP/1.1\r\nhost: x\r\n"
_CHUNKED: Final = b"transfer-encoding: chunked\r\n\r\n"


class Place:
    """``phase``, with ``left`` bytes of it to come, or the ``raw`` bytes of it that have come.

    ``extra`` are the bytes of chunk extensions and trailers of the present message, which nobody
    wants and a peer could send for ever.
    """

    __slots__ = ("extra", "left", "phase", "raw")

    def __init__(self, phase: str = HEAD, left: int = 0, raw: bytes = b"", extra: int = 0) -> None:
        self.phase = phase
        self.left = left
        self.raw = raw
        self.extra = extra

    def plain(self) -> list[Any]:
        """What ``Place(*plain)`` is made of again."""
        return [self.phase, self.left, self.raw, self.extra]

    def advance(self, data: bytes) -> None:
        """Walk over bytes that the parser has accepted."""
        buffer = self.raw + data
        at, end = 0, len(buffer)
        while at < end:
            following = _STEPS[self.phase](self, buffer, at)
            if following < 0:
                break
            at = following
        self.raw = buffer[at:]

    def room(self, head: int, extra: int) -> int:
        """How many bytes may be taken at once, so that none of these limits is passed in them.

        0: the head is as long as it may be, and has not ended.
        """
        if self.phase == HEAD:
            return max(min(head - len(self.raw), extra), 0)
        rest = max(extra - self.extra - len(self.raw), 1)
        return self.left if self.phase == LENGTH else max(self.left, rest)

    def opening(self, keep_alive: bool) -> bytes:
        """What brings a new parser here."""
        if self.phase == HEAD:
            return self.raw
        start = _START if keep_alive else _START + _LAST
        if self.phase == LENGTH:
            return start + b"content-length: %d\r\n\r\n" % self.left
        return start + _CHUNKED + _WITHIN[self.phase](self.left) + self.raw

    def _head(self, buffer: bytes, at: int) -> int:
        while buffer[at : at + 1] in (b"\r", b"\n"):
            at += 1
        end = buffer.find(b"\r\n\r\n", at)
        if end < 0:
            return -1
        self.extra = 0
        self.phase, self.left = _framing(buffer[at:end])
        return end + 4

    def _length(self, buffer: bytes, at: int) -> int:
        return self._walk(buffer, at, HEAD)

    def _size(self, buffer: bytes, at: int) -> int:
        end = buffer.find(b"\r\n", at)
        if end < 0:
            return -1
        size = buffer[at:end].partition(b";")[0]
        self.extra += end - at - len(size)
        self.left = int(size, 16)
        self.phase = DATA if self.left else TRAILER
        return end + 2

    def _data(self, buffer: bytes, at: int) -> int:
        return self._walk(buffer, at, AFTER)

    def _after(self, buffer: bytes, at: int) -> int:
        if len(buffer) - at < 2:
            return -1
        self.phase = SIZE
        return at + 2

    def _trailer(self, buffer: bytes, at: int) -> int:
        end = buffer.find(b"\r\n", at)
        if end < 0:
            return -1
        self.extra += end - at
        if end == at:
            self.phase = HEAD
        return end + 2

    def _walk(self, buffer: bytes, at: int, then: str) -> int:
        step = min(self.left, len(buffer) - at)
        self.left -= step
        if not self.left:
            self.phase = then
        return at + step


_STEPS: Final[dict[str, Callable[[Place, bytes, int], int]]] = {
    HEAD: Place._head,
    LENGTH: Place._length,
    SIZE: Place._size,
    DATA: Place._data,
    AFTER: Place._after,
    TRAILER: Place._trailer,
}
_WITHIN: Final[dict[str, Callable[[int], bytes]]] = {
    SIZE: lambda _: b"",
    DATA: lambda left: b"%x\r\n" % left,
    AFTER: lambda _: b"1\r\nx",
    TRAILER: lambda _: b"0\r\n",
}


def _framing(head: bytes) -> tuple[str, int]:
    """The phase behind a whole head, and how much there is of it."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"transfer-encoding":
            return SIZE, 0
        if name == b"content-length" and int(value):
            return LENGTH, int(value)
    return HEAD, 0
