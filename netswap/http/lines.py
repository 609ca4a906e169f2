"""The lines of an answer's head, and the one place that judges what an application says in them.

What a client could take for something else than was meant raises ValueError: a status that is none
or that is no answer's, a name that is no token (RFC 9110 section 5.1), a control character in a
value (section 5.5), a length that is not one number.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

__all__ = [
    "NO_BODY",
    "Headers",
    "final_line",
    "header_lines",
    "length_of",
    "status_line",
    "status_of",
]

Headers = Iterable[tuple[bytes, bytes]]

NO_BODY: Final = frozenset({204, 304})
"""The statuses of answers that have none."""

_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in HTTPStatus
}
_CONTROLS: Final = bytes({*range(32), 127} - {ord("\t")})
_is_token = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_name_of = operator.itemgetter(0)


class Status(int):
    """A status with a phrase of its own."""

    reason = b""


def status_of(status: int, reason: bytes) -> int:
    """A status that goes out with this phrase."""
    if status_line(status) == b"HTTP/1.1 %d %b\r\n" % (status, reason):
        return status
    found = Status(status)
    found.reason = reason
    return found


def status_line(status: int) -> bytes:
    """The first line of an answer; a status that RFC 9110 does not know has no phrase."""
    if type(status) is Status:
        return b"HTTP/1.1 %d %b\r\n" % (status, status.reason)
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def final_line(status: int) -> bytes:
    """The same of an answer that is no interim one. Raises ValueError."""
    if not 200 <= status <= 999:
        raise ValueError(f"{status} is not the status of an answer")
    return status_line(status)


def header_lines(headers: Headers) -> bytes:
    """``name: value`` lines. Raises ValueError where a name or value would be more than that."""
    rows = list(headers)
    block = b"".join([b"%b: %b\r\n" % row for row in rows])
    controls = len(block) - len(block.translate(None, _CONTROLS))
    if controls != 2 * len(rows) or not all(map(_is_token, map(_name_of, rows))):
        raise ValueError(f"the header {_wrong_of(rows)} is none that HTTP has")
    return block


def _wrong_of(rows: Iterable[tuple[bytes, bytes]]) -> str:
    for name, value in rows:
        if not _is_token(name) or bytes(value).translate(None, _CONTROLS) != value:
            return f"{bytes(name)!r}: {bytes(value)!r}"
    raise AssertionError("a block of headers is wrong, and none of them")


def length_of(headers: Headers) -> int | None:
    """What an application says of the length of its answer. Raises ValueError."""
    found = [value for name, value in headers if name.lower() == b"content-length"]
    if not found:
        return None
    if len(found) > 1 or not found[0].isdigit():
        raise ValueError(f"content-length is {b', '.join(sorted(found))!r}, not one number")
    return int(found[0])
