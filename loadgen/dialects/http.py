"""http: POST /echo of a numbered body, which must come back unchanged with status 200.

The body begins with the name of the run, its connection and number (``5d0c11ae:3:17:...``). So each
answer says which question it answers, also when many are open on a connection (``--depth``), and
one that was kept from another run is told. A head that can't be read, an error, or a body without
its number, answers the oldest open operation, corrupted; the next answer is looked for behind it.
What is said in between (100, 103: RFC 9110, 15.2) answers nothing. A body is compared as it came:
one with a ``Content-Encoding`` was asked for by nobody.

An answer with ``Connection: close``, or one of HTTP/1.0 without ``keep-alive``, announces that the
connection ends behind it, and that of what was sent behind its question nothing is done (RFC 9112,
9.3 and 9.6).

A header ``x-version`` with a number says which version has answered; several of them, or several
numbers in one, are of the parts that made the answer together, and have to agree. In the trailer of
a chunked answer it says which version has ended what another may have begun.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from loadgen.continuity import STRIDES, Continuity, Operation, stretch
from loadgen.dialects.chunks import read_chunked
from loadgen.dialects.conversation import Conversation, Opening

__all__ = ["Http"]

_START = b"HTTP/1."
_OK = re.compile(rb"HTTP/1\.[01] 200(?: .*)?")  # the reason may be empty, as hypercorn's is
_INTERIM = re.compile(rb"HTTP/1\.1 1(?!01)\d\d(?: .*)?")  # 101 is the end of this protocol
_ERROR = re.compile(rb"HTTP/1\.[01] (?!200)[2-5]\d\d(?: .*)?")
_BODILESS = re.compile(rb"HTTP/1\.[01] (?:204|304)\b")
_ELSEWHERE = re.compile(rb"HTTP/1\.[01] (?:30[12378]|404|405)\b")
_HEAD_LIMIT = 16_384
_CHUNKED = -1
_OLD = b"HTTP/1.0 "
_END_TELLERS = (b"transfer-encoding", b"content-length")
_NUMBER = re.compile(rb"[0-9]{1,9}")
_NUMBERED = re.compile(rb"([0-9]{1,18}):")


class Http(Conversation):
    """One connection's requests."""

    __slots__ = (
        "_asked", "_asked_length", "_asks", "_astray", "_head", "_name", "_payload", "_pending",
        "_rest", "_shift", "_size", "_stretch", "_tell_end", "_versions", "continuity",
    )  # fmt: skip

    def __init__(self, opening: Opening) -> None:
        self.continuity = Continuity(opening.connection, opening.tally)
        self._pending = self.continuity.pending
        self._payload = opening.payload
        self._stretch = stretch(opening.payload)
        self._shift = opening.connection * 31
        self._name = f"{opening.nonce}:{opening.connection}:".encode()
        url = opening.url.replace("%", "%%").encode()
        self._asks = b"POST %b HTTP/1.1\r\nHost: load\r\nContent-Length: %%d\r\n\r\n" % url
        self._asked, self._asked_length = b"", -1  # the last head, and the length that it says
        self._rest = b""
        self._astray = -1  # how many were answered when the stream was lost, and not found since
        self._head, self._size = b"", 0  # of the last answer; its whole size
        self._versions: tuple[int, ...] = ()
        self._tell_end: Callable[[], None] = _untold

    def ends(self, tell: Callable[[], None]) -> None:
        """Who hears of a close that is announced."""
        self._tell_end = tell

    def request(self, intended: int, sent: int) -> bytes:
        """The next request."""
        line = self.continuity
        sequence = line.issued
        start = (self._shift + sequence * 7) % STRIDES  # pattern(), without its calls
        payload = self._stretch[start : start + self._payload]
        body = b"%b%d:%b" % (self._name, sequence, payload)
        line.issue(intended, sent, body)
        if self._asked_length != len(body):
            self._asked, self._asked_length = self._asks % len(body), len(body)
        return self._asked + body

    def receive(self, data: bytes) -> Sequence[Operation]:
        """Judge what came. The usual case, the last answer's head and the very bytes of the oldest
        open operation, needs no parsing: their length is the one that the head says.
        """
        pending = self._pending
        if (
            len(data) == self._size
            and pending
            and data == self._head + pending[0].body
            and not self._rest
        ):
            operation = self.continuity.settle_oldest()
            if self._versions:
                self.continuity.answered_by(operation, *self._versions)
            return (operation,)
        return self._receive_any(data)

    def _receive_any(self, data: bytes) -> list[Operation]:
        """Judge the answers that are whole."""
        data = self._rest + data if self._rest else data
        settled: list[Operation] = []
        at = 0
        while at < len(data):
            after, operation = self._cut(data, at)
            if after == at:
                break
            at = after
            if operation is not None:
                settled.append(operation)
        self._rest = data[at:]
        return settled

    def leftover(self) -> bytes:
        """What is no whole answer yet, unless it is of a mistake that is counted already."""
        return b"" if self._counted(self._rest) else self._rest

    def _cut(self, data: bytes, at: int) -> tuple[int, Operation | None]:
        """Where the next answer begins, and what the one at ``at`` settles; ``at``: not whole."""
        after = at + self._size
        if self._size and after <= len(data) and data.startswith(self._head, at):
            return after, self._judge(data[at + len(self._head) : after], self._versions)
        end = data.find(b"\r\n\r\n", at)
        if end < 0 and len(data) - at <= _HEAD_LIMIT:
            return at, None
        head = data[at : end if end >= 0 else len(data)]
        read = _read_head(head)
        if read is None:
            return self._cut_bad(data, at, end)
        start = end + 4
        if read.length == _CHUNKED:
            return self._cut_chunked(data, at, start, read)
        after = start + read.length
        if after > len(data):
            return at, None
        if read.plain:
            self._head, self._size, self._versions = data[at:start], after - at, read.versions
        return after, self._judge_whole(read, data[start:after], read.versions)

    def _cut_bad(self, data: bytes, at: int, end: int) -> tuple[int, Operation | None]:
        """What is no answer with status 200: it is passed over whole, if it tells its end."""
        head = data[at : end if end >= 0 else len(data)]
        status = head.partition(b"\r\n")[0]
        if end >= 0 and _INTERIM.fullmatch(status) and self._goes_on(data, end + 4):
            return end + 4, None
        if end >= 0 and _ERROR.fullmatch(status):
            after = _end_of_error(data, head, end + 4)
            if after is not None:
                return max(at, after), self._judge_error(head) if after > at else None
        if self._counted(head):
            return self._find_start(data, at + 1), None
        start = data.find(_START, at)
        if start > at and b"\r\n\r\n" not in data[at:start]:  # no head of its own: stray bytes
            stray = f"{data[at:start][:60]!r} stands before an answer, and is of none"
            self.continuity.fault("corrupted", -1, stray)
            return start, None
        operation = self._unreadable(_why_bad(status), head)
        return self._find_start(data, at + 1), operation

    def _goes_on(self, data: bytes, after: int) -> bool:
        """Whether what is said in between is of an answer that is owed, or is there and is judged:
        one that is late or comes twice.
        """
        return self.continuity.outstanding() > 0 or len(data) > after

    def _counted(self, rest: bytes) -> bool:
        """Whether these bytes are of a mistake that is counted already."""
        return self._astray == self.continuity.answered and not rest.startswith(_START)

    def _find_start(self, data: bytes, at: int) -> int:
        """Where an answer may begin; what is before that is of a mistake that is counted."""
        found = data.find(_START, at)
        self._astray = self.continuity.answered if found < 0 else -1
        if found >= 0:
            return found
        cut = (size for size in range(len(_START) - 1, 0, -1) if data.endswith(_START[:size], at))
        return len(data) - next(cut, 0)

    def _cut_chunked(
        self, data: bytes, at: int, start: int, head: _Head
    ) -> tuple[int, Operation | None]:
        try:
            read = read_chunked(data, start)
        except ValueError as error:
            operation = self._unreadable("is cut into chunks wrongly", str(error).encode())
            return self._find_start(data, start), operation
        if read is None:
            return at, None
        ended = _versions(_fields(read.trailer.split(b"\r\n")))
        return read.after, self._judge_whole(head, read.body, head.versions + ended)

    def _unreadable(self, why: str, shown: bytes) -> Operation | None:
        line = self.continuity
        sequence = line.pending[0].sequence if line.pending else -1
        line.fault("corrupted", sequence, f"{why}: {shown[:60]!r}")
        return line.settle(sequence) if line.pending else None

    def _judge_error(self, head: bytes) -> Operation | None:
        operation = self._unreadable(_why_bad(head.partition(b"\r\n")[0]), head)
        if _closes(head.partition(b"\r\n")[0], _fields(head.split(b"\r\n")[1:])):
            self._tell_end()
        return operation

    def _judge_whole(self, head: _Head, body: bytes, versions: tuple[int, ...]) -> Operation | None:
        if head.coding:
            operation = self._unreadable("has a Content-Encoding, not asked for", head.coding)
        else:
            operation = self._judge(body, versions)
        if head.closes:
            self._tell_end()
        return operation

    def _judge(self, body: bytes, versions: tuple[int, ...]) -> Operation | None:
        line = self.continuity
        operation: Operation | None
        if line.pending and body == line.pending[0].body:  # the usual case
            operation = line.settle_oldest()
        else:
            operation = self._judge_other(body)
        if operation is not None and versions:
            line.answered_by(operation, *versions)
        return operation

    def _judge_other(self, body: bytes) -> Operation | None:
        line = self.continuity
        numbered = _NUMBERED.match(body, len(self._name))
        if numbered is None or not body.startswith(self._name):
            return self._unreadable("has not the body of a question", body)
        operation = line.settle(int(numbered[1]))
        if operation is not None and body != operation.body:
            detail = f"{body[:40]!r} came back for {operation.body[:40]!r}"
            line.fault("corrupted", operation.sequence, detail)
        return operation


class _Head(NamedTuple):
    """What is needed of the head of an answer; the length may be ``_CHUNKED``. ``coding`` is that
    of the body, when it has one; ``closes``: it announces the end of the connection.
    """

    length: int
    versions: tuple[int, ...]
    coding: bytes
    closes: bool

    @property
    def plain(self) -> bool:
        """Whether an answer with this very head may be followed by another one, and be right."""
        return not self.coding and not self.closes


@lru_cache(maxsize=256)  # heads differ by their date, if at all
def _read_head(head: bytes) -> _Head | None:
    """None when it is no head of an answer with status 200, and one way to tell its end."""
    status = head.partition(b"\r\n")[0]
    return _read_fields(head) if _OK.fullmatch(status) else None


def _read_fields(head: bytes) -> _Head | None:
    """None when there is not one way to tell the end of the body."""
    status, *lines = head.split(b"\r\n")
    fields = _fields(lines)
    told = {(name, value.lower()) for name, value in fields if name in _END_TELLERS}
    if len(told) != 1:
        return None
    ((name, value),) = told
    chunked = name == b"transfer-encoding"
    if value != b"chunked" if chunked else not _NUMBER.fullmatch(value):
        return None
    codings = b", ".join(sorted(_words(fields, b"content-encoding") - {b"identity"}))
    length = _CHUNKED if chunked else int(value)
    return _Head(length, _versions(fields), codings, _closes(status, fields))


def _why_bad(status: bytes) -> str:
    """What is wrong with an answer, by its first line; and what to write where that may help."""
    if _OK.fullmatch(status):
        return "does not tell in one way where its body ends (Content-Length, chunked)"
    if _ELSEWHERE.match(status):
        return "is no answer with status 200, which a POST to --url has to get"
    return "is no answer with status 200"


def _end_of_error(data: bytes, head: bytes, start: int) -> int | None:
    """Where the body of an error ends that begins at ``start``; None: it does not tell, 0: it is
    not whole.
    """
    if _BODILESS.match(head):
        return start
    read = _read_fields(head)
    if read is None:
        return None
    if read.length != _CHUNKED:
        return start + read.length if start + read.length <= len(data) else 0
    try:
        chunks = read_chunked(data, start)
    except ValueError:
        return None
    return chunks.after if chunks else 0


def _fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value.strip()) for name, _, value in map(_split, lines)]


def _words(fields: list[tuple[bytes, bytes]], name: bytes) -> set[bytes]:
    """What the fields of this name list."""
    told = b",".join(value for each, value in fields if each == name)
    return {word.strip().lower() for word in told.split(b",")} - {b""}


def _closes(status: bytes, fields: list[tuple[bytes, bytes]]) -> bool:
    """Whether the connection ends behind this answer: RFC 9112, 9.3."""
    options = _words(fields, b"connection")
    return b"close" in options or (status.startswith(_OLD) and b"keep-alive" not in options)


def _versions(fields: list[tuple[bytes, bytes]]) -> tuple[int, ...]:
    told = [value for name, value in fields if name == b"x-version"]
    words = (word.strip() for value in told for word in value.split(b","))
    return tuple(int(word) for word in words if _NUMBER.fullmatch(word))


def _untold() -> None:
    """Nobody wants to know."""


def _split(line: bytes) -> tuple[bytes, bytes, bytes]:
    return line.partition(b":")
