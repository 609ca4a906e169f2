"""What an aiohttp application answers, on its way to an exchange.

A ``web.Response`` that is bytes already goes out as a whole, without a writer. Every other answer
goes through a ``Writer``, so that it crosses a swap of the connection like any other: a stream, a
file, an answer of which ``on_response_prepare`` wants to see the head.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_exceptions import ClientConnectionResetError
from multidict import CIMultiDict

from netswap.http.aiohttp_line import Line, taken_apart
from netswap.http.aiohttp_private import (
    SERVER_SOFTWARE,
    ZLibCompressor,
    must_be_empty_body,
    serialize_headers,
)
from netswap.http.message import Response

__all__ = ["Writer", "whole"]

OWN: Final = (hdrs.CONTENT_LENGTH, hdrs.DATE, hdrs.CONNECTION, hdrs.TRANSFER_ENCODING)
"""What a connection says of an answer, unless the application has said it."""


class Writer(AbstractStreamWriter):
    """What a response writes to, which is its exchange."""

    length: int | None = None
    chunked = False

    def __init__(self, line: Line) -> None:
        self._line = line
        self._head = b""
        self._ended = False
        self._compressor: ZLibCompressor | None = None

    @property
    def transport(self) -> Any:
        """None when the client is gone."""
        return self._line.transport

    def enable_chunking(self) -> None:
        """How a body is framed is the connection's business."""
        self.chunked = True

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        """Compress what is written from here on."""
        self._compressor = ZLibCompressor(encoding=encoding, strategy=strategy)

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        """The head; it goes out with the first bytes of the body."""
        self._head = serialize_headers(status_line, headers)

    def send_headers(self) -> None:
        """It goes out now."""
        head, self._head = self._head, b""
        if head:
            self._check()
            self.output_size += len(head)
            self._start(*taken_apart(head[:-4]))

    def _start(self, status: int, _reason: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self._line.exchange.start(status, headers)

    async def write(self, chunk: Any, *, drain: bool = True, LIMIT: int = 0) -> None:
        """Some bytes of the body; waits while the client does not read.

        Raises ClientConnectionResetError when it is gone.
        """
        data = bytes(chunk)
        if not self._head and not self.output_size:
            self._line.interim(data)
            return
        if self._compressor is not None:
            data = await self._compressor.compress(data)
        self._send(data)
        if drain:
            await self.drain()

    async def write_eof(self, chunk: Any = b"") -> None:
        """The last bytes, and the end."""
        if self._ended:
            return
        data = bytes(chunk)
        if self._compressor is not None:
            data = await self._compressor.compress(data) if data else b""
            data += self._compressor.flush()
        self._send(data)
        await self.drain()
        self._ended = True

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
        target = self._line.target()
        if target is None or target.transport.is_closing():
            raise ClientConnectionResetError("Cannot write to closing transport")


class _Whole(Response):
    """A whole answer whose head was put together by aiohttp."""

    __slots__ = ("lines",)

    def __init__(self, body: bytes, status: int, lines: bytes) -> None:
        self.body = body
        self.status = status
        self.headers = ()
        self.lines = lines

    def head(self) -> bytes:
        """The status line and the header lines, but for those that are the connection's."""
        return self.lines


def whole(response: Any, method: str) -> Response | None:
    """An answer that is bytes already and has begun in no way; None for all others."""
    if (
        not _is_plain(type(response))  # type: ignore[arg-type]  # a class can be hashed
        or response.prepared
        or response._compression
        or response._chunked
        or response._keep_alive is False
    ):
        return None
    body = response._body
    if body is None:
        body = b""
    elif type(body) is not bytes:
        return None
    headers = response._headers
    if len(headers) == 1 and response._cookies is None and hdrs.CONTENT_TYPE in headers:
        lines = _simple_lines(response._status, response._reason, headers[hdrs.CONTENT_TYPE])
        return _Whole(body, response._status, lines)
    for name in OWN:
        if name in headers:
            return None
    return _Whole(body, response._status, _lines(response, method, bool(body)))


@lru_cache(maxsize=64)
def _is_plain(cls: Hashable) -> bool:
    """Whether a class writes as ``web.Response`` does, or is something else that writes."""
    methods = ("prepare", "_start", "_prepare_headers", "_write_headers", "write_eof", "body")
    return all(getattr(cls, name, None) is getattr(web.Response, name) for name in methods)


@lru_cache(maxsize=256)
def _simple_lines(status: int, reason: str, content_type: str) -> bytes:
    headers = CIMultiDict({hdrs.CONTENT_TYPE: content_type, hdrs.SERVER: SERVER_SOFTWARE})
    return serialize_headers(f"HTTP/1.1 {status} {reason}", headers)[:-2]


def _lines(response: web.Response, method: str, has_body: bool) -> bytes:
    """As aiohttp has them: cookies, the server's name, and a type for what has none."""
    headers = response._headers
    status = response._status
    if response._cookies:
        headers = headers.copy()
        for cookie in response._cookies.values():
            headers.add(hdrs.SET_COOKIE, cookie.output(header="")[1:])
    if has_body and not must_be_empty_body(method, status):
        headers.setdefault(hdrs.CONTENT_TYPE, "application/octet-stream")
    headers.setdefault(hdrs.SERVER, SERVER_SOFTWARE)
    return serialize_headers(f"HTTP/1.1 {status} {response._reason}", headers)[:-2]
