"""Heads: what is asked of a request's head beyond what the parser asks of it.

RFC 9112 and RFC 9110 leave no choice where two readers of the same bytes could take them for
different requests. The parser refuses most of that; this refuses the rest, and says with which
status.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

from netswap.errors import HttpError
from netswap.http.message import CHUNKED, Head

__all__ = ["LOOKED_AT", "head_of"]

Rows = list[tuple[bytes, bytes]]

LOOKED_AT: Final = frozenset(
    {
        *(b"connection", b"content-length", b"expect", b"host", b"proxy-connection"),
        *(b"transfer-encoding", b"upgrade"),
    }
)
"""Headers that decide how a request is taken."""

_HOST: Final = frozenset(
    b"!$%&'()*+,-.0123456789:;=ABCDEFGHIJKLMNOPQRSTUVWXYZ[]_abcdefghijklmnopqrstuvwxyz~"
)


def head_of(
    line: tuple[str, bytes, Rows], version: str, looked_at: Rows, keep_alive: bool, upgrade: bool
) -> Head:
    """The head of a request. Raises HttpError for what may not be.

    ``line`` has the method, the target and all headers, ``looked_at`` those that decide.
    """
    method, target, headers = line
    length = _checked(version, looked_at)
    if target[:1] != b"/":
        path_and_query, headers = _unusual(method, target, headers)
    else:
        path_and_query = target
    path, _, query = path_and_query.partition(b"?")
    return Head(
        method,
        target,
        path.decode("latin-1") if b"%" not in path else unquote(path.decode("latin-1")),
        query,
        version,
        tuple(headers),
        keep_alive,
        upgrade and not length,
        length != 0,
        length,
    )


def _checked(version: str, headers: Rows) -> int:
    """How long a body follows, ``CHUNKED`` if in chunks. Raises HttpError for what may not be."""
    if version not in ("1.0", "1.1"):
        raise HttpError(505, f"HTTP/{version} is not spoken here")
    hosts = length = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
        check = _CHECKS.get(name)
        if check is not None:
            length = check(version, value) or length
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise HttpError(400, "a request of HTTP/1.1 has exactly one Host header")
    return length


def _host(_version: str, value: bytes) -> int:
    if not _HOST.issuperset(value):
        raise HttpError(400, "the Host header names no host")
    return 0


def _transfer_encoding(version: str, value: bytes) -> int:
    if value.lower() != b"chunked":
        raise HttpError(501, "no transfer coding but chunked is understood")
    if version == "1.0":
        raise HttpError(400, "HTTP/1.0 has no Transfer-Encoding")
    return CHUNKED


def _content_length(_version: str, value: bytes) -> int:
    return int(value)


def _expect(version: str, value: bytes) -> int:
    if version == "1.1" and value.lower() != b"100-continue":
        raise HttpError(417, "nothing but 100-continue may be expected")
    return 0


_CHECKS: Final[dict[bytes, Callable[[str, bytes], int]]] = {
    b"host": _host,
    b"transfer-encoding": _transfer_encoding,
    b"content-length": _content_length,
    b"expect": _expect,
}


def _unusual(method: str, target: bytes, headers: Rows) -> tuple[bytes, Rows]:
    """Path and query of a target that is no path, and the headers that go with it."""
    if method == "CONNECT":
        raise HttpError(501, "CONNECT is for proxies")
    if target == b"*" and method == "OPTIONS":
        return target, headers
    scheme, _, rest = target.partition(b"://")
    if scheme.lower() not in (b"http", b"https") or not rest:
        raise HttpError(400, "the target is neither a path nor an address")
    ends = [at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0]
    end = min(ends, default=len(rest))
    host, path = rest[:end], rest[end:]
    if not host or b"@" in host or not _HOST.issuperset(host):
        raise HttpError(400, "the target names no host")
    # RFC 9112 3.2.2: the host of the target counts, whatever the header says
    rows = [(name, host if name == b"host" else value) for name, value in headers]
    return path if path[:1] == b"/" else b"/" + path, rows
