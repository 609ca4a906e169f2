"""The chunked coding of an HTTP body (RFC 9112, 7.1), as far as a client reads it. No I/O."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Chunked", "read_chunked"]

_SIZE = re.compile(rb"0*([0-9a-fA-F]{1,8})[ \t]*(;.*)?")
_LINE_LIMIT = 16_384


class Chunked(NamedTuple):
    """A body, the lines of its trailer, and where the stream goes on after them."""

    body: bytes
    trailer: bytes
    after: int


def read_chunked(data: bytes, at: int) -> Chunked | None:
    """The body that begins at ``at``; None when it is not whole. ValueError: it is none."""
    parts: list[bytes] = []
    while (line := _line(data, at)) is not None:
        said = _SIZE.fullmatch(line)
        if said is None:
            raise ValueError(f"{line[:40]!r} is no size of a chunk")
        size, start = int(said[1], 16), at + len(line) + 2
        if not size:
            return _ended(b"".join(parts), data, start)
        at = start + size + 2
        if len(data) < at:
            return None
        if data[at - 2 : at] != b"\r\n":
            raise ValueError(f"a chunk of {size} bytes goes on with {data[at - 2 : at + 38]!r}")
        parts.append(data[start : at - 2])
    return None


def _ended(body: bytes, data: bytes, start: int) -> Chunked | None:
    """What comes after the last chunk: lines of the trailer, and an empty one."""
    at = start
    while line := _line(data, at):
        at += len(line) + 2
    return None if line is None else Chunked(body, data[start : max(start, at - 2)], at + 2)


def _line(data: bytes, at: int) -> bytes | None:
    end = data.find(b"\r\n", at)
    if end < 0 and len(data) - at > _LINE_LIMIT:
        raise ValueError(f"a line without an end: {data[at : at + 40]!r}")
    return None if end < 0 else data[at:end]
