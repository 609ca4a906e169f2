"""Answers: what an application says of its answer, checked, and how that goes over the wire.

An application may say anything; what a client would take for something else than was meant raises
ValueError here, before a byte of it is written, and is the application's failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from netswap.http.lines import NO_BODY, final_line, header_lines, length_of, status_line
from netswap.http.message import Request, Response, date_line

if TYPE_CHECKING:
    from netswap.http.exchange import Exchange
    from netswap.http.lines import Headers

__all__ = ["Outline"]

Rows = list[tuple[bytes, bytes]]

CHUNKED: Final = "chunked"
LENGTH: Final = "length"
KNOWN: Final = 512
"""Heads of answers in parts that are remembered."""
KNOWN_SIZE: Final = 1024
"""Bytes of the longest of them."""
TO_THE_END: Final = "to the end"
NOTHING: Final = "nothing"

_OWN: Final = frozenset({b"connection", b"transfer-encoding", b"keep-alive"})
"""What a connection says for itself, whatever an application may have said."""


class Whole(NamedTuple):
    """The lines of a head, and whether the application wants the connection closed."""

    lines: bytes
    says_last: bool


class Start(NamedTuple):
    """The lines of a head, how its body is delimited, and whether it is the connection's last."""

    lines: bytes
    framing: dict[str, Any]
    says_last: bool


def interim(status: int, headers: Headers) -> bytes:
    """All of a 1xx. Raises ValueError for another status, and for 101."""
    if not 100 <= status <= 199 or status == 101:
        raise ValueError(f"{status} is not the status of an interim answer")
    return status_line(status) + header_lines(headers) + b"\r\n"


def whole(request: Request, response: Response) -> Whole:
    """What goes around the body of a whole answer. Raises ValueError."""
    rows, says_last = _rows(response.headers)
    said, length = length_of(rows), len(response.body)
    empty = request.method == "HEAD" or response.status in NO_BODY
    if said is not None and said != length and not (empty and not length):
        raise ValueError(f"the answer has {length} bytes and says that it has {said}")
    rows = [row for row in rows if row[0].lower() != b"content-length"]
    lines = final_line(response.status) + header_lines(rows) + _dated(rows)
    if response.status == 204 or (response.status == 304 and said is None):
        return Whole(lines, says_last)
    lines += b"content-length: %d\r\n" % (length if said is None else said)
    return Whole(lines, says_last)


def start(request: Request, status: int, headers: Headers) -> Start:
    """The head of an answer that comes in parts. Raises ValueError.

    Of equal heads only the first is looked at.
    """
    rows = list(headers)
    version, is_head = request.head.version, request.head.method == "HEAD"
    key = (status, version, is_head, tuple(rows))
    try:
        known = _starts.get(key) if type(status) is int else None
    except TypeError:  # of what can't be a key
        known = None
    if known is None:
        known = _made(request, status, rows)
        if type(status) is int and len(known.lines) <= KNOWN_SIZE:
            _remember(key, known)
    date = b"" if known.is_dated else date_line()
    lines = b"".join((known.lines, date, known.last_line))
    return Start(lines, known.framing.copy(), known.says_last)


class _Start(NamedTuple):
    """What is the same for all heads that say the same."""

    lines: bytes
    is_dated: bool
    last_line: bytes
    framing: dict[str, Any]
    says_last: bool


_starts: dict[tuple[Any, ...], _Start] = {}


def _made(request: Request, status: int, headers: Rows) -> _Start:
    rows, says_last = _rows(headers)
    framing, line = _framing(request, status, length_of(rows))
    if status == 204:
        rows = [row for row in rows if row[0].lower() != b"content-length"]
    noted = framing | {"status": status, "sent": 0}
    last = says_last or framing["how"] == TO_THE_END
    return _Start(final_line(status) + header_lines(rows), _is_dated(rows), line, noted, last)


def _remember(key: tuple[Any, ...], known: _Start) -> None:
    if len(_starts) >= KNOWN:
        _starts.clear()
    try:
        _starts[key] = known
    except TypeError:  # of a value that is a bytearray
        return


def part(exchange: Exchange, data: bytes) -> bytes:
    """Some bytes of a body as they go over the wire. Raises ValueError beyond the length."""
    framing = exchange.framing
    how = framing["how"]
    if not data or how == NOTHING or exchange.request.head.method == "HEAD":
        return b""
    size = len(data)
    if how == LENGTH:
        if size > framing["left"]:
            more = size - framing["left"]
            raise ValueError(f"the answer is {more} bytes longer than it said")
        framing["left"] -= size
    framing["sent"] += size
    return b"%x\r\n%b\r\n" % (size, data) if how == CHUNKED else data


def end(exchange: Exchange) -> bytes:
    """What stands behind a body. Raises ValueError when some of it is missing."""
    framing = exchange.framing
    if exchange.request.head.method == "HEAD":
        return b""
    if framing["how"] == LENGTH and framing["left"]:
        raise ValueError(f"the answer is {framing['left']} bytes shorter than it said")
    trailers = framing.get("trailers", b"")
    return b"0\r\n%b\r\n" % trailers if framing["how"] == CHUNKED else b""


def _rows(headers: Headers) -> tuple[Rows, bool]:
    """The headers but for those that are the connection's own, and whether they say close."""
    given = list(headers)
    rows = [row for row in given if row[0].lower() not in _OWN]
    values = [value.lower() for name, value in given if name.lower() == b"connection"]
    return rows, any(b"close" in map(bytes.strip, value.split(b",")) for value in values)


def _is_dated(rows: Rows) -> bool:
    return any(name.lower() == b"date" for name, _ in rows)


def _dated(rows: Rows) -> bytes:
    return b"" if _is_dated(rows) else date_line()


def _framing(request: Request, status: int, length: int | None) -> tuple[dict[str, Any], bytes]:
    """How the body of an answer in parts is delimited, and the line that says so."""
    if status in NO_BODY:
        return {"how": NOTHING}, b""
    if request.method == "HEAD":
        chunked = length is None and request.version == "1.1"
        return {"how": NOTHING}, b"transfer-encoding: chunked\r\n" if chunked else b""
    if length is not None:
        return {"how": LENGTH, "left": length}, b""
    if request.version == "1.1":
        return {"how": CHUNKED}, b"transfer-encoding: chunked\r\n"
    return {"how": TO_THE_END}, b""


class Outline:
    """What goes around a body, and how it is delimited."""

    NO_BODY: Final = NO_BODY
    LENGTH: Final = LENGTH

    whole = staticmethod(whole)
    start = staticmethod(start)
    part = staticmethod(part)
    end = staticmethod(end)
    interim = staticmethod(interim)
