"""What was parsed before: clients repeat themselves, and what is equal need not be parsed again.

Two things are remembered, each of them a pure function of bytes that begin and end at a message
boundary, so that a parser that has not seen them is none the wiser:

* a chunk of whole requests without bodies, and the heads that it gave;
* a block of header lines behind a request line, and the headers that it gave. Another request line
  of the plainest form may stand in front of it; whatever is not of that form goes to the parser.

Nothing that was refused, has a body, asks for an upgrade or is the last of its connection is
remembered.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from netswap.http.message import Head

__all__ = ["METHODS", "recall", "remember"]

LIMIT: Final = 256
"""Chunks, and as many blocks."""
SIZE: Final = 2048
"""Bytes of one chunk."""

METHODS: Final = MappingProxyType(
    {
        name.encode(): name
        for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
    }
)
_match_line = re.compile(
    rb"(GET|HEAD|DELETE) (/[A-Za-z0-9\-._~!$&'()*+,;=:@/]*)"
    rb"(?:\?([A-Za-z0-9\-._~!$&'()*+,;=:@/%?]*))? HTTP/1\.1\r\n"
).match
"""A request line whose target is nothing but what RFC 3986 has in a path and a query, unescaped."""


Rows = tuple[tuple[bytes, bytes], ...]

_chunks: dict[bytes, tuple[Head, ...]] = {}
_blocks: dict[bytes, Rows] = {}


def recall(data: bytes) -> tuple[Head, ...] | None:
    """The heads that ``data`` is known to give."""
    if len(data) > SIZE:
        return None
    heads = _chunks.get(data)
    if heads is not None:
        return heads
    line = _match_line(data)
    if line is None:
        return None
    end = line.end()
    block = _blocks.get(data[end:])
    if block is None:
        return None
    method, path, query = line.groups(b"")
    return (
        Head(
            METHODS[method],
            data[len(method) + 1 : end - 11],
            path.decode("ascii"),
            query,
            "1.1",
            block,
        ),
    )


def _is_usual(head: Head) -> bool:
    return head.keep_alive and not head.has_body and not head.upgrade


def remember(data: bytes, heads: tuple[Head, ...]) -> None:
    """Remember that ``data``, from boundary to boundary, gave these heads."""
    if len(data) > SIZE or not all(map(_is_usual, heads)):
        return
    if len(_chunks) >= LIMIT:
        _chunks.clear()
    _chunks[data] = heads
    line = _match_line(data)
    if line is not None and len(heads) == 1:
        if len(_blocks) >= LIMIT:
            _blocks.clear()
        _blocks[data[line.end() :]] = heads[0].headers
