"""ASGI 3: answers requests with an application that knows nothing of netswap.

Theory. The application is a coroutine that is called with a *scope*, what is known of the request,
and with two functions: ``receive`` gives the request's body, and then waits until nobody wants an
answer any more; ``send`` takes the answer. The connection runs that coroutine as the one task of
the request. The head is kept back until the first bytes of the body: an answer that is whole by
then, as most are, goes out in one write.

What an exchange has to say of its client is told as the specification (HTTP 2.5) has it:
``http.disconnect`` out of ``receive``, an OSError out of ``send``. A client that has ended its
side of the connection is said to be gone, too; one that still reads gets the answer all the same.
What the application raises after it was told so is no fault of it.

What this does not know: how bytes are framed, who starts and stops applications (``hosting``).
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping, MutableMapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from httptools import parse_url

from netswap.blame import describe
from netswap.errors import HttpError
from netswap.hosting.asgi.lifespan import Application, Lifespan
from netswap.hosting.asgi.sockets import Conversation
from netswap.http import Channel, Exchange, OpenFile, Request, Response, Sending
from netswap.http.exchange import Phase
from netswap.http.handshake import is_asked_for
from netswap.http.lines import NO_BODY, final_line, header_lines, length_of
from netswap.http.message import Head
from netswap.mediator import present
from netswap.ott import Entry
from netswap.stack import Host
from netswap.steps import Around

__all__ = ["AsgiAdapter"]

Message = MutableMapping[str, Any]

_STARTED: Final = Phase.STARTED
_GONE: Final = Phase.GONE

PEERS: Final = 4096
"""Connections of which it is remembered who is at their ends."""
HEADS: Final = 512
"""Heads of answers that are remembered."""
HEAD_SIZE: Final = 1024
"""Bytes of one of them."""

FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"keep-alive"})
"""Headers that a connection says for itself when it knows the whole answer."""
BY_THE_CONNECTION: Final = frozenset({b"date", b"connection"})
"""Headers of which the connection has to know."""


class AsgiAdapter:
    """Answers with one load of an ASGI application."""

    __slots__ = ("_application", "_host", "_lifespan", "_peers", "_state", "open")

    def __init__(self, application: Application, host: Host) -> None:
        self._application = application
        self._host = host
        self._lifespan = Lifespan(application, host)
        self._state = self._lifespan.state
        self._peers: dict[Entry, _Ends] = {}
        self.open = 0

    async def start(self, limit: Around) -> None:
        """Run the start-up. Raises what refuses the push."""
        await self._lifespan.start(limit)

    async def stop(self) -> None:
        """Run the shutdown."""
        await self._lifespan.stop()

    def answer(self, request: Request) -> Coroutine[Any, Any, None]:
        """Let the application answer, through the request's exchange."""
        return self._call(request, None)

    def resume(self, channel: Channel) -> Coroutine[Any, Any, None]:
        """Go on with a WebSocket of other code."""
        assert channel.request is not None
        return self._call(channel.request, channel)

    async def _call(self, request: Request, channel: Channel | None) -> None:
        cycle: _Cycle | Conversation = _Cycle(request)
        entry = request.exchange.entry if channel is None else channel.entry
        scope = self._scope(request.head, entry)
        if channel is not None or (request.head.upgrade and is_asked_for(request)):
            cycle = Conversation(request, cycle, channel)
            scope = cycle.scope_after(scope)
        self.open += 1
        try:
            await self._application(scope, cycle.receive, cycle.send)
            cycle.returned()
        except Exception as error:
            if not cycle.told:
                raise
            self._host.log.info("request_abandoned", path=request.path, error=describe(error))
            request.exchange.abandon()
        finally:
            self.open -= 1

    def _scope(self, head: Head, entry: Entry) -> Message:
        ends = self._peers.get(entry) or self._look_at(entry)
        target = head.target
        path = head.path
        if target[:1] != b"/":
            path, target = _origin_form(path, target)
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": head.version,
            "method": head.method,
            "scheme": ends.scheme,
            "path": path,
            "raw_path": target.partition(b"?")[0] if head.query else target.rstrip(b"?"),
            "query_string": head.query,
            "root_path": "",
            "headers": list(head.headers),
            "client": ends.client,
            "server": ends.server,
            "state": self._state.copy(),
            "extensions": {
                "http.response.early_hint": {},
                "http.response.pathsend": {},
                "http.response.trailers": {},
            },
        }
        if ends.tls is not None:
            scope["extensions"]["tls"] = ends.tls.copy()
        return scope

    def _look_at(self, entry: Entry) -> _Ends:
        """Who is at the ends of a connection; it is asked once."""
        if len(self._peers) >= PEERS:
            self._peers.clear()
        found = self._peers[entry] = _ends_of(entry)
        return found


class _Ends(NamedTuple):
    """What a scope says of a connection."""

    scheme: str = "http"
    client: tuple[str, int] | None = None
    server: tuple[str, int | None] | None = None
    tls: dict[str, Any] | None = None


def _ends_of(entry: Entry) -> _Ends:
    connection = present(entry)
    if connection is None:  # it was closed meanwhile
        return _Ends()
    peer, transport = connection.peername, connection.transport
    own = transport.get_extra_info("sockname")
    secured = transport.get_extra_info("ssl_object")
    return _Ends(
        "http" if secured is None else "https",
        (peer[0], peer[1]) if isinstance(peer, tuple) else None,
        (own[0], own[1]) if isinstance(own, tuple) else (own, None) if own else None,
        None if secured is None else _tls_of(secured),
    )


def _tls_of(secured: Any) -> dict[str, Any]:
    """The extension ``tls`` of ASGI, as far as Python tells."""
    names = secured.getpeercert() or {}
    subject = [pair for names_ in names.get("subject", ()) for pair in names_]
    return {
        "server_cert": None,
        "client_cert_chain": _chain_of(secured),
        "client_cert_name": ",".join(f"{key}={value}" for key, value in subject) or None,
        "client_cert_error": None,
        "tls_version": _TLS_VERSIONS.get(secured.version()),
        "cipher_suite": None,
    }


_TLS_VERSIONS: Final = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


def _chain_of(secured: Any) -> list[str]:
    certificate = secured.getpeercert(binary_form=True)
    return [] if certificate is None else [ssl.DER_cert_to_PEM_cert(certificate)]


def _origin_form(path: str, target: bytes) -> tuple[str, bytes]:
    """Path and target of a request that names the whole URL, as a proxy is asked."""
    if b"://" not in target:
        return path, target
    raw = parse_url(target).path or b"/"
    return unquote(raw.decode("latin-1")), raw


class _Head(NamedTuple):
    """The head of an answer. ``lines`` is None where it can't be sent as it is."""

    status: int
    headers: list[tuple[bytes, bytes]]
    length: int | None
    lines: bytes | None


_heads: dict[tuple[int, tuple[Any, ...]], _Head] = {}


def _head_of(status: int, headers: Iterable[Any]) -> _Head:
    """A head; what is equal need not be looked at again. Raises ValueError for what is none."""
    rows = tuple(headers)
    try:
        known = _heads.get((status, rows))
    except TypeError:  # lists
        known, rows = None, tuple(tuple(row) for row in rows)
    if known is None:
        known = _made_head(status, [(bytes(name).lower(), bytes(value)) for name, value in rows])
        if len(_heads) >= HEADS:
            _heads.clear()
        if known.lines is not None and len(known.lines) <= HEAD_SIZE:
            _heads[status, rows] = known
    return known


def _made_head(status: int, headers: list[tuple[bytes, bytes]]) -> _Head:
    first = final_line(status)
    lines = header_lines([row for row in headers if row[0] not in FRAMING])
    length = length_of(set(headers))  # one that is said twice is one
    if status in NO_BODY or any(name in BY_THE_CONNECTION for name, _ in headers):
        return _Head(status, headers, length, None)
    return _Head(status, headers, length, first + lines)


class _Whole(Response):
    """An answer whose head was put together already."""

    lines: bytes = b""

    is_plain = True

    def head(self) -> bytes:
        """The status line and the header lines."""
        return self.lines


class _Cycle:
    """One call of the application. ``told``: it knows that nobody waits for the answer."""

    __slots__ = (
        "_body",
        "_exchange",
        "_file",
        "_head",
        "_over",
        "_reading",
        "_rest",
        "_takes",
        "_trailers",
        "told",
    )

    def __init__(self, request: Request) -> None:
        self._exchange: Exchange = request.exchange
        self._body = request.body
        self._head: _Head | None = None
        self._file: Sending | None = None
        self._over: asyncio.Event | None = None
        self._trailers: list[tuple[bytes, bytes]] | None = None
        self._reading: asyncio.Lock | None = None
        self._rest = True
        self._takes = _AT_FIRST
        self.told = False

    # what the application calls

    async def receive(self) -> Message:
        """The next part of the body; ``http.disconnect`` when nobody waits for the answer."""
        if self._exchange.phase is _GONE or self._takes is _AFTER_ALL:
            return self._disconnect()
        if not self._rest:
            if not self._exchange.left:
                await self._wait_over()
            return self._disconnect()
        body = self._body
        if body.complete or body.size:
            data = body.take_nowait()
            self._rest = not body.complete
            return {"type": "http.request", "body": data, "more_body": self._rest}
        return await self._receive_late()

    async def send(self, message: Message) -> None:
        """A part of the answer. Raises OSError when nobody waits for it."""
        exchange = self._exchange
        if exchange.phase is _GONE:
            self.told = True
            raise ConnectionResetError("the client is gone")
        take = self._takes.get(message["type"])
        if take is None:
            raise RuntimeError(
                f"{message['type']} was sent where {' or '.join(self._takes) or 'nothing'} may be"
            )
        take(self, message)
        if exchange.phase is _STARTED:
            if self._file is not None:
                await self._send_file(self._file)
                await exchange.drained()
            elif exchange.entry.target.writing_paused:
                await exchange.drained()

    # receiving

    async def _receive_late(self) -> Message:
        """Some bytes of the body when they have come; one reader after the other."""
        if self._reading is None:
            self._reading = asyncio.Lock()
        async with self._reading:
            if not self._rest:
                return await self.receive()
            try:
                data = await self._body.chunk()
            except (ConnectionResetError, HttpError):  # nothing more will come
                return self._disconnect()
            self._rest = not self._body.complete
            return {"type": "http.request", "body": data, "more_body": self._rest}

    async def _wait_over(self) -> None:
        """Wait until the answer is out, or the client has left."""
        over = self._over
        if over is None:
            over = self._over = asyncio.Event()
            self._exchange.on_left(over.set)
        await over.wait()

    def _disconnect(self) -> Message:
        self.told = self.told or self._takes is not _AFTER_ALL
        return {"type": "http.disconnect"}

    # sending

    def _hint(self, message: Message) -> None:
        self._exchange.inform(103, [(b"link", bytes(link)) for link in message["links"]])

    def _start(self, message: Message) -> None:
        self._head = _head_of(message["status"], message.get("headers", ()))
        if message.get("trailers", False):
            self._trailers = []
        self._takes = _WITH_HEAD

    def _first(self, message: Message) -> None:
        head = self._head
        assert head is not None
        data = message.get("body", b"")
        is_whole = self._trailers is None and not message.get("more_body", False)
        if head.lines is not None and is_whole:
            if head.length in (None, len(data)) and (data or not self._is_head()):
                self._end()
                self._exchange.respond(_Whole(data, head.status, head.headers, head.lines))
                return
            if not self._is_head():
                raise RuntimeError(f"the answer has {len(data)} bytes and says {head.length}")
        self._exchange.start(head.status, head.headers)
        self._takes = _STREAMING
        self._next(message)

    def _is_head(self) -> bool:
        return self._exchange.request.head.method == "HEAD"

    def _next(self, message: Message) -> None:
        self._exchange.write_nowait(message.get("body", b""))
        if not message.get("more_body", False):
            self._over_with_body()

    def _over_with_body(self) -> None:
        if self._trailers is None:
            self._end()
            self._exchange.finish()
        else:
            self._takes = _TRAILING

    def _trail(self, message: Message) -> None:
        assert self._trailers is not None
        self._trailers += [(bytes(name), bytes(value)) for name, value in message["headers"]]
        if not message.get("more_trailers", False):
            self._exchange.trail(self._trailers)
            self._end()
            self._exchange.finish()

    def _path(self, message: Message) -> None:
        """A file is the body; it is sent past the transport where there is a way past it."""
        head = self._head
        assert head is not None
        file = OpenFile(os.open(message["path"], os.O_RDONLY | os.O_CLOEXEC))
        size = file.size if head.length is None else head.length
        if size > file.size:
            raise RuntimeError(
                f"{message['path']} has {file.size} bytes, and the answer says {size}"
            )
        headers = [row for row in head.headers if row[0] != b"content-length"]
        headers.append((b"content-length", b"%d" % size))
        self._exchange.start(head.status, headers)
        self._takes = _STREAMING
        parts = () if self._is_head() or head.status in NO_BODY else ((0, size),)
        self._file = Sending(self._exchange.request, head.status, headers, file, parts)

    async def _send_file(self, file: Sending) -> None:
        self._file = None
        await file.body()
        self._over_with_body()

    def _end(self) -> None:
        """All of the answer was sent: whoever still waits to receive waits for nothing."""
        self._takes = _AFTER_ALL
        if self._over is not None:
            self._over.set()
        if self._reading is not None and not self._body.complete:
            self._body.fail(ConnectionResetError("it was answered"))

    def returned(self) -> None:
        """The application has returned. Raises RuntimeError when something is missing."""
        if self._takes is not _AFTER_ALL and self.told:
            self._exchange.abandon()
        elif self._takes is not _AFTER_ALL:
            began = "begun" if self._takes in (_AT_FIRST, _WITH_HEAD) else "ended"
            raise RuntimeError(f"the application returned, and its answer has not {began}")


Takes = Mapping[str, Callable[[_Cycle, Message], None]]

_AT_FIRST: Takes = {
    "http.response.start": _Cycle._start,
    "http.response.early_hint": _Cycle._hint,
}
_WITH_HEAD: Takes = {"http.response.body": _Cycle._first, "http.response.pathsend": _Cycle._path}
_STREAMING: Takes = {"http.response.body": _Cycle._next}
_TRAILING: Takes = {"http.response.trailers": _Cycle._trail}
_AFTER_ALL: Takes = {}
