"""What was parsed before: clients repeat themselves, and what is equal need not be parsed again.

Three things are remembered, each of them a pure function of bytes that begin and end at a message
boundary, so that a parser that has not seen them is none the wiser:

* a whole head: of a request without a body, or with one whose length it says. A message is taken
  by it only when it has come to its last byte, and nothing behind it;
* a chunk of several requests without bodies, and the heads that it gave;
* a block of header lines behind a request line, and what it gave. Another request line of the
  plainest form may stand in front of it; whatever is not of that form goes to the parser.

Nothing that was refused, is chunked, asks for an upgrade or is the last of its connection is
remembered.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any, Final

from netswap.http.message import EMPTY, NO_PARAMS, Body, Head, Request

__all__ = ["METHODS", "SIZE", "WHOLE", "recall", "remember"]

LIMIT: Final = 256
"""Heads, and as many chunks and blocks."""
SIZE: Final = 2048
"""Bytes of a head, or of one chunk."""

METHODS: Final = MappingProxyType(
    {
        name.encode(): name
        for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
    }
)
_match_line = re.compile(
    rb"(GET|HEAD|DELETE|POST|PUT|PATCH) (/[A-Za-z0-9\-._~!$&'()*+,;=:@/]*)"
    rb"(?:\?([A-Za-z0-9\-._~!$&'()*+,;=:@/%?]*))? HTTP/1\.1\r\n"
).match
"""A request line whose target is nothing but what RFC 3986 has in a path and a query, unescaped."""

_END: Final = b"\r\n\r\n"

WHOLE: Final[dict[bytes, Head]] = {}
"""Heads of requests without bodies, for whoever need not look further."""
_openings: dict[bytes, Head] = {}
_chunks: dict[bytes, tuple[Head, ...]] = {}
_blocks: dict[bytes, Head] = {}
"""A head that has come with these lines: another that has them differs in its first line alone."""


def recall(data: bytes, entry: Any = None) -> list[Request] | None:
    """The requests that ``data``, which is not in ``WHOLE``, is known to give.

    ``entry`` is that of the connection.
    """
    size = len(data)
    if size <= SIZE:
        heads = _chunks.get(data)
        if heads is not None:
            return [Request(head, EMPTY, NO_PARAMS, None, entry) for head in heads]
    end = data.find(_END, 0, SIZE) + len(_END)
    first = data[:end]
    head = _openings.get(first) or _behind_another_line(first)
    if head is None or head.length != size - end:
        return None
    body = Body.whole(data[end:]) if head.has_body else EMPTY
    return [Request(head, body, NO_PARAMS, None, entry)]


def _behind_another_line(data: bytes) -> Head | None:
    line = _match_line(data)
    if line is None:
        return None
    end = line.end()
    like = _blocks.get(data[end:])
    if like is None:
        return None
    method, path, query = line.groups(b"")
    return Head(
        METHODS[method],
        data[len(method) + 1 : end - 11],
        path.decode("ascii"),
        query,
        "1.1",
        like.headers,
        True,
        False,
        like.has_body,
        like.length,
    )


def remember(data: bytes, requests: list[Request]) -> None:
    """Remember that ``data``, from boundary to boundary, gave these."""
    first = requests[0].head
    size = len(data) - first.length
    if size > SIZE or not all(_is_usual(request.head) for request in requests):
        return
    if len(requests) > 1:
        if not any(request.head.has_body for request in requests):
            _put(_chunks, data, tuple([request.head for request in requests]))
        return
    if (
        first.has_body and data.find(_END) + len(_END) != size
    ):  # chunked, or something stands around
        return
    _put(_openings if first.has_body else WHOLE, data[:size], first)
    line = _match_line(data)
    if line is not None:
        _put(_blocks, data[line.end() : size], first)


def _is_usual(head: Head) -> bool:
    asks = head.upgrade or any(name == b"upgrade" for name, _ in head.headers)
    return head.keep_alive and not asks


def _put(known: dict[bytes, Any], data: bytes, what: Any) -> None:
    if len(known) >= LIMIT:
        known.clear()
    known[data] = what
