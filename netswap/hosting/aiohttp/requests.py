"""A request as aiohttp's applications know it: its head and its body in their terms.

Nothing is parsed twice. A ``Head`` becomes a message, once for heads that clients repeat; a
``Body`` becomes a reader that pulls, so that a client is read no faster than the application reads.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion10, HttpVersion11
from aiohttp.http_exceptions import ContentEncodingError
from aiohttp.streams import StreamReader
from multidict import CIMultiDict, CIMultiDictProxy, istr
from yarl import URL

from netswap.errors import HttpError
from netswap.hosting.aiohttp.answers import Writer
from netswap.hosting.aiohttp.line import Line
from netswap.hosting.aiohttp.private import EMPTY_PAYLOAD, DeflateBuffer, RawRequestMessage
from netswap.http import Body, Request
from netswap.http.message import Head

__all__ = ["Asked", "Payload", "give_back", "message_of", "request_of"]

READ_AHEAD: Final = 65_536
"""Bytes of a body that a reader takes from its connection before they are asked for."""
REMEMBERED: Final = 256
"""Messages, and blocks of headers, that are kept."""
SMALL: Final = 2048
"""Bytes of the header values of one that is."""

CODINGS: Final = frozenset({"gzip", "deflate", "br", "zstd"})
VERSIONS: Final = {"1.0": HttpVersion10, "1.1": HttpVersion11}
NAMES: Final = {
    name.lower().encode(): name for name in vars(hdrs).values() if isinstance(name, istr)
}
"""Header names as aiohttp spells them."""


class _Block:
    """The headers of a request in aiohttp's terms."""

    __slots__ = ("chunked", "coding", "fields", "rows")

    def __init__(self, rows: tuple[tuple[bytes, bytes], ...]) -> None:
        self.rows = rows
        named = [(NAMES.get(name) or name.decode(), value) for name, value in rows]
        try:
            decoded = [(name, value.decode()) for name, value in named]
        except UnicodeDecodeError:
            decoded = [(name, value.decode("utf-8", "surrogateescape")) for name, value in named]
        fields = CIMultiDict(decoded)
        self.fields = CIMultiDictProxy(fields)
        coding = fields.get(hdrs.CONTENT_ENCODING)
        self.coding = coding.lower() if coding and coding.lower() in CODINGS else None
        self.chunked = hdrs.TRANSFER_ENCODING in fields


# kept by identity, which holds as long as what it is of is kept beside
_blocks: dict[int, _Block] = {}
_messages: dict[int, tuple[Head, RawRequestMessage]] = {}
_equal: dict[tuple[tuple[bytes, bytes], ...], _Block] = {}


def message_of(head: Head) -> RawRequestMessage:
    """A head in aiohttp's terms. Raises HttpError (400) for a target that is no URL."""
    known = _messages.get(id(head))
    if known is not None:
        return known[1]
    block = _blocks.get(id(head.headers))
    if block is not None:  # this head was put together of what is known, and nobody shares it
        return _message(head, block)
    if head.has_body:
        return _message(head, _block_of(head.headers))
    block = _Block(head.headers)
    message = _message(head, block)
    if not head.upgrade:
        _remember(head, block, message)
    return message


def _message(head: Head, block: _Block) -> RawRequestMessage:
    target = head.target.decode("utf-8", "surrogateescape")
    return RawRequestMessage(
        head.method,
        target,
        VERSIONS[head.version],
        block.fields,
        head.headers,
        not head.keep_alive,
        block.coding,
        head.upgrade,
        block.chunked,
        _url(head.method, target),
    )


def _block_of(rows: tuple[tuple[bytes, bytes], ...]) -> _Block:
    """That of a head which is never shared, with its body; equal headers are."""
    block = _equal.get(rows)
    if block is None:
        block = _Block(rows)
        if sum(len(value) for _, value in rows) <= SMALL:
            if len(_equal) >= REMEMBERED:
                _equal.clear()
            _equal[rows] = block
    return block


def _remember(head: Head, block: _Block, message: RawRequestMessage) -> None:
    """Heads without a body are those that may be shared by many requests."""
    if len(head.target) + sum(len(value) for _, value in head.headers) > SMALL:
        return
    if len(_messages) >= REMEMBERED:
        _messages.clear()
        _blocks.clear()
    _messages[id(head)] = head, message
    _blocks[id(head.headers)] = block


@lru_cache(maxsize=REMEMBERED)
def _url(method: str, target: str) -> URL:
    """As aiohttp's parser makes it (RFC 9112 section 3.2)."""
    try:
        if target.startswith("/"):
            before, _, fragment = target.partition("#")
            path, _, query = before.partition("?")
            return URL.build(path=path, query_string=query, fragment=fragment, encoded=True)
        if method == "CONNECT":
            return URL.build(authority=target, encoded=True)
        return URL(target, encoded=True)
    except ValueError as error:
        raise HttpError(400, f"the target of the request is no URL: {error}") from None


class Asked(web.Request):
    """A request that asks its line when it is asked, and gets a writer when it needs one."""

    @property
    def _transport_sslcontext(self) -> Any:
        return self._protocol.ssl_context

    @_transport_sslcontext.setter
    def _transport_sslcontext(self, _value: Any) -> None:
        """See above."""

    @property
    def _transport_sockname(self) -> Any:
        return self._protocol.sockname

    @_transport_sockname.setter
    def _transport_sockname(self, _value: Any) -> None:
        """See above."""

    @property
    def _payload_writer(self) -> Any:
        writer = self.__dict__.get("writer")
        if writer is None:
            writer = self.__dict__["writer"] = self.make_writer()
        return writer

    @_payload_writer.setter
    def _payload_writer(self, writer: Any) -> None:
        if writer is not None:  # it is a clone
            self.__dict__["writer"] = writer

    def make_writer(self) -> Any:
        """What its answer is written to."""
        line: Any = self._protocol
        return Writer(line)


class _Unborn:
    """What a request is told of its protocol before it has one: asking costs a system call."""

    ssl_context = None
    peername = None
    sockname = None


_UNBORN: Any = _Unborn()


def request_of(app: web.Application, request: Request, loop: asyncio.AbstractEventLoop) -> Any:
    """A ``web.Request`` of ``app`` for ``request``, which has its exchange."""
    head = request.head
    message = message_of(head)
    line: Any = Line(request.exchange)
    asked = Asked(
        message,
        Payload(request.body, message.compression, loop) if head.has_body else EMPTY_PAYLOAD,
        line if message.url.absolute else _UNBORN,
        None,  # type: ignore[arg-type]  # it makes one when it needs it
        request.exchange.task,
        loop,
        client_max_size=app._client_max_size,
        client_max_fields=app._client_max_fields,
    )
    asked._protocol = line
    asked._transport_peername = line.peername
    return asked


def give_back(request: web.Request) -> None:
    """It is answered: its files are closed, and its body can't be read any more."""
    if request._post is not None:
        request._finish()
    if request._payload is not EMPTY_PAYLOAD:
        request._payload.set_exception(web.PayloadAccessError())


class _NoFlow:
    """What a StreamReader tells its protocol, which there is nothing to be done about."""

    connected = True

    def pause_reading(self) -> None:
        """A Payload has asked for what it holds."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """It asks when it wants more."""


_NO_FLOW: Any = _NoFlow()


class Payload(StreamReader):
    """A request's body as aiohttp's reader; it takes of the Body when somebody reads."""

    __slots__ = ("_body", "_decoder", "_more", "_pulls")

    def __init__(self, body: Body, coding: str | None, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(_NO_FLOW, READ_AHEAD, loop=loop)
        self._body = body
        self._decoder = None if coding is None else DeflateBuffer(self, coding)
        self._more = False
        self._pulls = False
        if coding is None and body.complete:
            data = body.take_nowait()
            self._buffer.append(data)
            self._size = self.total_bytes = len(data)
            self._eof = True
        else:
            self._catch_up()

    def is_eof(self) -> bool:
        """Whether all of it has come."""
        self._catch_up()
        return super().is_eof()

    def at_eof(self) -> bool:
        """Whether all of it has come and was read."""
        self._catch_up()
        return super().at_eof()

    def read_nowait(self, n: int = -1) -> bytes:
        """What is here."""
        self._catch_up()
        return super().read_nowait(n)

    async def wait_eof(self) -> None:
        """Return when all of it has come."""
        while not self.is_eof() and not self._pulls and self._size <= self._high_water:
            await self._wait("wait_eof")
        await super().wait_eof()  # which is somebody else's reading

    async def _wait(self, func_name: str) -> None:
        """Where a reader finds its buffer empty."""
        if self._pulls:
            raise RuntimeError(
                f"{func_name}() called while another coroutine is already waiting for incoming data"
            )
        self._pulls = True
        try:
            data = b"" if self._more else await self._body.chunk()
        finally:
            self._pulls = False
        if self._exception is not None:
            raise self._exception
        self._take(data)

    def _catch_up(self) -> None:
        """Take what has come already, if nothing is here."""
        body = self._body
        if self._eof or self._pulls or self._more or self._buffer or self._exception is not None:
            return
        if body.size:
            self._take(body.take_nowait())
        self._end_with(body)

    def _end_with(self, body: Body) -> None:
        if body.complete and not body.size and not self._more and self._exception is None:
            self._take(b"")

    def _take(self, data: bytes) -> None:
        """Some bytes of the body; b"" at its end, or while the decoder has more to give."""
        if self._decoder is None:
            if data:
                self.feed_data(data)
            else:
                self.feed_eof()
            return
        try:
            if data or self._more:
                self._more = self._decoder.feed_data(data, len(data))
            else:
                self._decoder.feed_eof()
        except ContentEncodingError as error:
            self._more = False
            self.set_exception(web.RequestPayloadError(str(error)), error)
