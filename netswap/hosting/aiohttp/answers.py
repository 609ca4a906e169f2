"""What an aiohttp application answers, on its way to an exchange.

A ``web.Response`` that is bytes already goes out as a whole, without a writer. Every other answer
goes through a ``Writer``, so that it crosses a swap of the connection like any other: a stream, a
file, an answer of which ``on_response_prepare`` wants to see the head.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final
from weakref import WeakKeyDictionary

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_exceptions import ClientConnectionResetError
from multidict import CIMultiDict

from netswap.hosting.aiohttp.line import Line
from netswap.hosting.aiohttp.private import (
    SERVER_SOFTWARE,
    ZLibCompressor,
    must_be_empty_body,
    rfc822_formatted_time,
    serialize_headers,
)
from netswap.http import Response
from netswap.http.exchange import Phase
from netswap.http.lines import status_of

__all__ = ["Writer", "signed", "whole"]

OWN: Final = (hdrs.CONTENT_LENGTH, hdrs.DATE, hdrs.CONNECTION, hdrs.TRANSFER_ENCODING)
"""What a connection says of an answer, unless the application has said it."""
_OWN_IN_LOWER_CASE: Final = frozenset(name.lower() for name in OWN)
LINES: Final = 1024
"""Header lines that are remembered; of an application they are few."""


_STARTED: Final = Phase.STARTED


class _Whole(Response):
    """A whole answer whose head was put together by aiohttp."""

    lines: bytes = b""

    is_plain = True

    def head(self) -> bytes:
        """The status line and the header lines, but for those that are the connection's."""
        return self.lines


def _bytes_of(response: Any) -> bytes | None:
    """The body of an answer that is bytes already and has begun in no way; None for all others."""
    if (
        not (type(response) is web.Response or _is_plain(type(response)))
        or response.prepared
        or response._compression
        or response._chunked
        or response._keep_alive is False
    ):
        return None
    body = response._body
    if body is None:
        return b""
    return body if type(body) is bytes else None


def whole(response: Any, method: str) -> Response | None:
    """An answer that needs no writer; None for all others."""
    body = _bytes_of(response)
    if body is None:
        return None
    headers = response._headers
    status, reason = response._status, response._reason
    if len(headers) == 1 and response._cookies is None and hdrs.CONTENT_TYPE in headers:
        return _Whole(body, status, (), _simple_lines(status, reason, headers[hdrs.CONTENT_TYPE]))
    if _says_what_is_not_its(headers):
        return None
    if response._cookies:
        headers = headers.copy()
    _complete(response, headers, body, method)
    return _Whole(body, status, (), _head(f"HTTP/1.1 {status} {reason}", headers))


async def signed(response: Any, asked: Any) -> Response | None:
    """The same for an application whose hooks want to see the head.

    When they have said in it what is not theirs, it has gone out by the request's writer.
    """
    body = _bytes_of(response)
    if body is None or asked.method == hdrs.METH_HEAD or _says_what_is_not_its(response._headers):
        return None
    headers = response._headers
    length = headers[hdrs.CONTENT_LENGTH] = str(len(body))
    _complete(response, headers, body, asked.method)
    date = headers[hdrs.DATE] = rfc822_formatted_time()
    response._keep_alive = asked.keep_alive
    writer = response._payload_writer = asked._payload_writer  # from here on it counts as prepared
    await asked._prepare_hook(response)
    status_line = f"HTTP/1.1 {response._status} {response._reason}"
    if (
        headers.get(hdrs.DATE) is date
        and headers.get(hdrs.CONTENT_LENGTH) is length
        and hdrs.CONNECTION not in headers
        and hdrs.TRANSFER_ENCODING not in headers
    ):
        return _Whole(body, response._status, (), _head(status_line, headers))
    await writer.write_headers(status_line, headers)
    await writer.write_eof(body)
    response._eof_sent = True
    return None


def _says_what_is_not_its(headers: CIMultiDict[str]) -> bool:
    return any(name in headers for name in OWN)


def _complete(response: Any, headers: CIMultiDict[str], body: bytes, method: str) -> None:
    """As aiohttp does: cookies, the server's name, and a type for what has none."""
    if response._cookies:
        for cookie in response._cookies.values():
            headers.add(hdrs.SET_COOKIE, cookie.output(header="")[1:])
    if body and not must_be_empty_body(method, response._status):
        headers.setdefault(hdrs.CONTENT_TYPE, "application/octet-stream")
    headers.setdefault(hdrs.SERVER, SERVER_SOFTWARE)


_METHODS: Final = ("prepare", "_start", "_prepare_headers", "_write_headers", "write_eof", "body")
_plain: WeakKeyDictionary[type, bool] = WeakKeyDictionary()
"""Weak, since a class of an application's keeps its code."""


def _is_plain(cls: type) -> bool:
    """Whether a class writes as ``web.Response`` does, or is something else that writes."""
    found = _plain.get(cls)
    if found is None:
        found = all(getattr(cls, name, None) is getattr(web.Response, name) for name in _METHODS)
        _plain[cls] = found
    return found


def _head(status_line: str, headers: CIMultiDict[str]) -> bytes:
    """The head of an answer without what its connection will say."""
    lines = [_line(name, value) for name, value in headers.items()]
    return _first_line(status_line) + b"".join(lines)


@lru_cache(maxsize=64)
def _first_line(status_line: str) -> bytes:
    return serialize_headers(status_line, CIMultiDict())[:-2]


@lru_cache(maxsize=64)
def _status(status_line: str) -> int:
    return status_of(int(status_line[9:12]), _first_line(status_line)[13:-2])


@lru_cache(maxsize=LINES)
def _line(name: str, value: str) -> bytes:
    if name.lower() in _OWN_IN_LOWER_CASE:
        return b""
    return serialize_headers("", CIMultiDict({name: value}))[2:-2]


def _rows(headers: CIMultiDict[str]) -> list[tuple[bytes, bytes]]:
    """All headers as bytes. Raises ValueError for one that would be two."""
    return [_row(name, value) for name, value in headers.items()]


@lru_cache(maxsize=LINES)
def _row(name: str, value: str) -> tuple[bytes, bytes]:
    key, _, text = serialize_headers("", CIMultiDict({name: value}))[2:-4].partition(b": ")
    return key, text


@lru_cache(maxsize=256)
def _simple_lines(status: int, reason: str, content_type: str) -> bytes:
    headers = CIMultiDict({hdrs.CONTENT_TYPE: content_type, hdrs.SERVER: SERVER_SOFTWARE})
    return _head(f"HTTP/1.1 {status} {reason}", headers)


class _Date:
    """The date as aiohttp has said it last."""

    said = ""


def _is_aiohttps(date: str | None) -> bool:
    """Whether a date is what aiohttp says now, and not the application's own."""
    if date is not _Date.said:
        if date != rfc822_formatted_time():
            return False
        _Date.said = date
    return True


class Writer(AbstractStreamWriter):
    """What a response writes to, which is its exchange."""

    length: int | None = None
    chunked = False

    def __init__(self, line: Line) -> None:
        self._line = line
        self._head: tuple[str, CIMultiDict[str]] | None = None
        self._ended = False
        self._compressor: ZLibCompressor | None = None
        self._is_bare = False
        """The head is out, and the body goes out as it is."""

    @property
    def transport(self) -> Any:
        """None when the client is gone."""
        return self._line.transport

    @property
    def exchange(self) -> Any:
        """What it writes to."""
        return self._line.exchange

    def passed(self, size: int) -> None:
        """So many bytes of the body have gone another way."""
        self.output_size += size
        if self.length is not None:
            self.length -= size

    def enable_chunking(self) -> None:
        """How a body is framed is the connection's business."""
        self.chunked = True

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        """Compress what is written from here on."""
        self._compressor = ZLibCompressor(encoding=encoding, strategy=strategy)

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        """The head; it goes out with what is written first."""
        self._head = status_line, headers

    def send_headers(self) -> None:
        """It goes out now."""
        if self._head is not None:
            status_line, headers = self._head
            self._head = None
            self._check()
            self.output_size += len(status_line)
            self._start(_status(status_line), _rows(headers))
            self._is_bare = self._compressor is None and self.length is None

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._line.exchange.start(status, headers)

    async def write(self, chunk: Any, *, drain: bool = True, LIMIT: int = 0) -> None:
        """Some bytes of the body; waits while the client does not read.

        Raises ClientConnectionResetError when it is gone.
        """
        data = chunk if type(chunk) is bytes else bytes(chunk)
        if self._head is None and not self.output_size:
            self._line.interim(data)
            return
        exchange = self._line.exchange
        if self._is_bare and exchange.phase is _STARTED:  # what a long stream does most
            exchange.write_nowait(data)
            self.output_size += len(data)
            if drain and exchange.entry.target.writing_paused:
                await exchange.drained()
            return
        if self._compressor is not None:
            data = await self._compressor.compress(data)
        self._send(data)
        if drain and self._line.writing_paused:
            await self._line.exchange.drained()

    async def write_eof(self, chunk: Any = b"") -> None:
        """The last bytes, and the end."""
        if self._ended:
            return
        data = bytes(chunk)
        if self._compressor is not None:
            data = await self._compressor.compress(data) if data else b""
            data += self._compressor.flush()
        if self._head is None or not self._at_once(*self._head, data):
            self._send(data)
            if self._line.writing_paused:
                await self.drain()
        self._ended = True

    def _at_once(self, status_line: str, headers: CIMultiDict[str], data: bytes) -> bool:
        """Send it as a whole, if the connection would say of it what aiohttp has said."""
        exchange = self._line.exchange
        if (
            exchange.request.head.method == "HEAD"
            or self.length not in (None, len(data))
            or hdrs.CONNECTION in headers
            or not _is_aiohttps(headers.get(hdrs.DATE))
        ):
            return False
        self._head = None
        lines = _head(f"HTTP/1.1{status_line[8:]}", headers)
        self.output_size += len(lines) + len(data)
        exchange.respond(_Whole(data, int(status_line[9:12]), (), lines))
        return True

    def set_eof(self) -> None:
        """The end, with no more bytes."""
        self.send_headers()
        self._ended = True

    async def drain(self) -> None:
        """Wait while the client does not read."""
        if self._line.writing_paused:
            await self._line.exchange.drained()

    def _send(self, data: bytes) -> None:
        self.send_headers()
        if self.length is not None:  # what is beyond the length that was promised is dropped
            data = data[: self.length]
            self.length -= len(data)
        if data:
            self._check()
            self.output_size += len(data)
            self._line.exchange.write_nowait(data)

    def _check(self) -> None:
        if self._line.target() is None:
            raise ClientConnectionResetError("Cannot write to closing transport")
