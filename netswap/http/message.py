"""What is asked and what is answered: requests, their bodies as bounded streams, responses."""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from netswap.errors import HttpError
from netswap.http.lines import NO_BODY, Headers, header_lines, status_line
from netswap.mediator import present

if TYPE_CHECKING:
    from ssl import SSLObject

__all__ = [
    "BODY_LIMIT",
    "CHUNKED",
    "EMPTY",
    "NO_PARAMS",
    "Body",
    "Head",
    "Request",
    "Response",
    "Session",
    "Upgrade",
    "date_line",
    "refusal",
]

BODY_LIMIT: Final = 1_048_576
"""Bytes that ``Body.read()`` collects, unless it is asked for more."""

LENGTHS: Final = 256
"""Lengths of plain answers whose heads are remembered for the rest of the second."""
_PLAIN_TEXT: Final = ((b"content-type", b"text/plain; charset=utf-8"),)
_OK_PLAIN_TEXT: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\n"


def _by_the_second() -> tuple[Callable[[], bytes], Callable[[Response], bytes | None]]:
    """What is put together once a second: as closures, which look nothing up."""
    since = until = 0.0
    date = start = b""
    heads: dict[int, bytes] = {}
    time_of = time.time

    def renew(now: float) -> None:
        nonlocal since, until, date, start
        since = now // 1
        until = since + 1
        date = b"date: %b\r\n" % formatdate(now, usegmt=True).encode()
        start = b"%b%bcontent-length: " % (_OK_PLAIN_TEXT, date)
        heads.clear()

    def date_line() -> bytes:
        """``date: ...`` of now, RFC 9110 section 6.6.1."""
        now = time_of()
        if now >= until or now < since:
            renew(now)
        return date

    def remember(length: int) -> bytes:
        head = b"%b%d\r\n" % (start, length)
        if len(heads) < LENGTHS:
            heads[length] = head
        return head

    def ready_lines(response: Response) -> bytes | None:
        """``head()`` with a date and the body's length, if it can go out as it is; else None."""
        if response.headers is not _PLAIN_TEXT or response.status != 200:
            return response._put_together()
        now = time_of()
        if now >= until or now < since:
            renew(now)
        length = len(response.body)
        return heads.get(length) or remember(length)

    return date_line, ready_lines


date_line, _ready_lines = _by_the_second()


class Body(msgspec.Struct, eq=False):
    """The body of one request as it arrives: the connection feeds it, one coroutine reads it.

    ``on_taken`` is called when something was read, and ``on_wanted`` when a reader first waits,
    which is when a client that expects "100 Continue" is told to go on. ``size`` bytes wait to be
    read, ``seen`` have come altogether.
    """

    complete: bool = False
    seen: int = 0
    size: int = 0
    on_taken: Callable[[], None] | None = None
    on_wanted: Callable[[], None] | None = None
    _chunks: list[bytes] = []
    _dropped: bool = False
    _failure: Exception | None = None
    _kept: list[bytes] | None = None
    _most: int = 0
    _waiter: asyncio.Future[None] | None = None

    @classmethod
    def whole(cls, data: bytes) -> Body:
        """One that has come at once."""
        size = len(data)
        return cls(True, size, size, None, None, [data])

    def feed(self, data: bytes) -> None:
        """Some bytes have come."""
        self.seen += len(data)
        if not self._dropped:
            self._chunks.append(data)
            self.size += len(data)
            if self._kept is not None:
                self._kept = [*self._kept, data] if self.seen <= self._most else None
            self._wake()

    def drop(self) -> None:
        """Nobody will read it: what comes is thrown away."""
        self._dropped = True
        self._chunks.clear()
        self.size = 0

    def end(self) -> None:
        """All of it has come."""
        self.complete = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """No more will come; whoever reads gets ``error``."""
        if not self.complete:
            self._failure = error
            self._wake()

    @property
    def dropped(self) -> bool:
        """Whether nobody will read it."""
        return self._dropped

    @property
    def failed(self) -> bool:
        """Whether no more will come, though it is not complete."""
        return self._failure is not None

    def keep(self) -> Callable[[], None]:
        """What makes this body again as it is now; a reader that was woken then waits again."""
        chunks, kept = list(self._chunks), self._kept
        rest = (self.complete, self.seen, self.size, self.on_wanted, self._dropped, self._failure)

        def again() -> None:
            self._chunks, self._kept = list(chunks), kept
            self.complete, self.seen, self.size, self.on_wanted, self._dropped, self._failure = rest

        return again

    def take_nowait(self) -> bytes:
        """What is here, perhaps b""."""
        chunks, self._chunks = self._chunks, []
        self.size = 0
        if chunks and self.on_taken is not None:
            self.on_taken()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def here(self) -> bytes:
        """What has come and was not taken."""
        return b"".join(self._chunks)

    def remember(self, most: int) -> None:
        """Keep what is taken from here on, so that all can be read once more: ``most`` bytes."""
        if not self._dropped and self.seen <= most:
            self._kept, self._most = list(self._chunks), most

    def rewind(self) -> bool:
        """Begin where it was when it was to be remembered; False when it was too long."""
        if self._kept is None:
            return False
        self._chunks, self._kept = self._kept, None
        self.size = sum(map(len, self._chunks))
        self._dropped = False
        return True

    def put_back(self, data: bytes) -> None:
        """Give back what was taken, in front of the rest."""
        if data:
            self._chunks.insert(0, data)
            self.size += len(data)

    async def chunk(self) -> bytes:
        """The next bytes; b"" at the end. Raises ConnectionResetError when the client is gone."""
        while not self._chunks:
            if self.complete:
                return b""
            if self._failure is not None:
                raise self._failure
            await self._more()
        return self.take_nowait()

    async def read(self, limit: int = BODY_LIMIT) -> bytes:
        """All of it. Raises HttpError (413) beyond ``limit`` bytes, and what ``chunk`` raises."""
        found: list[bytes] = []
        size = 0
        while data := await self.chunk():
            size += len(data)
            if size > limit:
                raise HttpError(413, f"the body is longer than {limit} bytes")
            found.append(data)
        return b"".join(found)

    async def _more(self) -> None:
        if self.on_wanted is not None:
            wanted, self.on_wanted = self.on_wanted, None
            wanted()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


EMPTY: Final = Body(complete=True)
"""Of all requests without one. Who makes many requests names it: a default is a call."""
NO_PARAMS: Final = MappingProxyType[str, str]({})


def _of_head(name: str) -> Any:
    return property(operator.attrgetter(f"head.{name}"))


CHUNKED: Final = -1
"""The length of a body that does not say how long it is."""


class Head(msgspec.Struct, frozen=True):
    """What stands in front of a request's body; equal bytes may share one.

    ``target`` is as it came, header names are in lower case, in the order in which they came.
    """

    method: str
    target: bytes
    path: str
    query: bytes
    version: str
    headers: tuple[tuple[bytes, bytes], ...]
    keep_alive: bool = True
    upgrade: bool = False
    has_body: bool = False
    length: int = 0
    """Of the body, in bytes, or CHUNKED."""


class Request(msgspec.Struct, eq=False):
    """One request. ``params`` are what its path names, ``exchange`` how a coroutine answers it.

    ``entry`` is the connection's, over which it came; who is at its ends is asked of that.
    """

    head: Head
    body: Body = msgspec.field(default_factory=lambda: EMPTY)
    params: Mapping[str, str] = NO_PARAMS
    exchange: Any = None
    entry: Any = None

    method = _of_head("method")
    target = _of_head("target")
    path = _of_head("path")
    query = _of_head("query")
    version = _of_head("version")
    headers = _of_head("headers")
    keep_alive = _of_head("keep_alive")
    upgrade = _of_head("upgrade")

    @property
    def peer(self) -> tuple[Any, ...] | str | None:
        """Host and port of the client, or as a Unix socket has it; None when it is gone.

        Behind a proxy that sends a PROXY header, and may, it is the proxy's client.
        """
        connection = self._connection
        found: tuple[Any, ...] | str | None = None if connection is None else connection.peername
        return found

    @property
    def local(self) -> tuple[Any, ...] | str | None:
        """Our own address, to which the client has connected; None when it is gone."""
        connection = self._connection
        return None if connection is None else connection.transport.get_extra_info("sockname")

    @property
    def tls(self) -> SSLObject | None:
        """What encrypts it (``getpeercert()``, ``version()``); None when nothing does."""
        connection = self._connection
        found: SSLObject | None = None if connection is None else connection.tls
        return found

    @property
    def scheme(self) -> str:
        """``https`` or ``http``."""
        return "http" if self.tls is None else "https"

    @property
    def _connection(self) -> Any:
        return None if self.entry is None else present(self.entry)

    @staticmethod
    def to_canonical(requests: list[Request]) -> Any:
        """What is plain of them, and of their bodies what has come."""
        return [request.plain() for request in requests]

    @staticmethod
    def from_canonical(rows: Any) -> list[Request]:
        """Requests that are equal to those, with bodies of their own."""
        return [Request.from_plain(row) for row in rows]

    @staticmethod
    def keep(requests: list[Request]) -> Callable[[], list[Request]]:
        """What makes this list, and the bodies of those in it, again as they are now."""
        now = list(requests)
        bodies = [request.body.keep() for request in now if request.head.has_body]

        def again() -> list[Request]:
            for body in bodies:
                body()
            requests[:] = now
            return requests

        return again

    def plain(self) -> Any:
        """As plain data."""
        body = self.body
        head = msgspec.to_builtins(self.head, builtin_types=(bytes,))
        return [head, body.here(), body.complete, body.dropped, body.seen]

    @classmethod
    def from_plain(cls, row: Any) -> Request:
        """The reverse."""
        head, arrived, complete, dropped, seen = row
        request = cls(msgspec.convert(head, Head))
        if request.head.has_body:
            request.body = Body(complete)
            request.body.put_back(arrived)
            request.body.seen = seen
            if dropped:
                request.body.drop()
        return request

    def header(self, name: bytes) -> bytes | None:
        """The first header of that name, which is in lower case."""
        for key, value in self.head.headers:
            if key == name:
                return value
        return None


def _in_bytes(body: Any) -> Any:
    return body.encode() if isinstance(body, str) else body


class Response(msgspec.Struct, eq=False, gc=False):
    """A whole answer. The parameters of one are its fields: a subclass adds more, no ``__init__``.

    It is a struct since an ``__init__`` costs more than all else that makes an answer of a body.
    """

    body: bytes = b""
    """A str, which it may be made with, is encoded."""
    status: int = 200
    headers: Headers = _PLAIN_TEXT

    if TYPE_CHECKING:

        def __init__(
            self, body: bytes | str = b"", status: int = 200, headers: Headers = _PLAIN_TEXT
        ) -> None: ...

    def __post_init__(self) -> None:
        if type(self.body) is not bytes:
            self.body = _in_bytes(self.body)

    ready_lines = _ready_lines

    def _put_together(self) -> bytes | None:
        if not self.is_plain:
            return None
        if self.status in NO_BODY:
            return self.head() + date_line()
        return b"%bcontent-length: %d\r\n%b" % (self.head(), len(self.body), date_line())

    @property
    def is_plain(self) -> bool:
        """Whether ``head()`` can go out as it is, with a date and the body's length behind it."""
        return self.headers is _PLAIN_TEXT and self.status == 200

    def head(self) -> bytes:
        """The status line and the header lines that the answer brings along.

        Raises ValueError for headers that can't be sent.
        """
        if self.headers is _PLAIN_TEXT and self.status == 200:
            return _OK_PLAIN_TEXT
        return status_line(self.status) + header_lines(self.headers)


class Session(Protocol):
    """What is spoken over a connection that was upgraded."""

    def lost(self) -> None:
        """The client is gone before it began."""

    def over(self, error: Exception | None) -> None:
        """The coroutine that asked for it has ended."""


class Upgrade:
    """The answer 101: the connection becomes one of ``kind``, whose state begins with ``fields``.

    ``headers`` are those of the answer.
    """

    __slots__ = ("fields", "headers", "kind", "session")

    def __init__(
        self, headers: Headers, kind: str, fields: Mapping[str, Any], session: Session
    ) -> None:
        self.headers = headers
        self.kind = kind
        self.fields = fields
        self.session = session

    def head(self) -> bytes:
        """The whole answer. Raises ValueError for headers that can't be sent."""
        return b"".join((status_line(101), header_lines(self.headers), b"\r\n"))


def refusal(error: HttpError) -> Response:
    """How a request is answered that can't be answered otherwise."""
    return Response(f"{error}\n", error.status, (*_PLAIN_TEXT, *error.headers))
