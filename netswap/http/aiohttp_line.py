"""What a request of aiohttp calls its protocol and its transport, in front of an exchange.

Applications look at both: who the client is, whether it is still there, what TLS has agreed on.
What goes over the wire is not theirs to say, since a connection that is swapped has to know it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netswap.http.exchange import Exchange

__all__ = ["Line", "Transport", "interim", "taken_apart"]


class Line:
    """What a request calls its protocol."""

    __slots__ = ("_exchange", "_transport", "peername")

    max_field_size = 8190
    max_headers = 128
    max_line_size = 8190
    keepalive_timeout = 75.0
    _timeout_ceil_threshold = 5.0

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._transport: Transport | None = None
        target = exchange.entry.target
        self.peername = None if target is None else _peer(target)

    @property
    def transport(self) -> Transport | None:
        """None when the client is gone."""
        exchange = self._exchange
        if exchange.gone or exchange.entry.target is None:
            return None
        if self._transport is None:
            self._transport = Transport(exchange)
        return self._transport

    @property
    def connected(self) -> bool:
        """Whether the client is there."""
        return self.transport is not None

    @property
    def ssl_context(self) -> Any:
        """None without TLS."""
        return _extra(self._exchange, "sslcontext")

    @property
    def sockname(self) -> Any:
        """Our own address."""
        return _extra(self._exchange, "sockname")

    @property
    def writing_paused(self) -> bool:
        """Whether the client does not read."""
        target = self._exchange.entry.target
        return target is not None and bool(target.writing_paused)

    def close(self) -> None:
        """Close the connection, after what was written."""
        if self.transport is not None:
            self.transport.close()

    force_close = close


def _peer(target: Any) -> Any:
    """Who it is; whoever is at a Unix socket has no name for aiohttp."""
    name = target.peername
    return name if isinstance(name, tuple) else target.transport.get_extra_info("peername")


def _extra(exchange: Exchange, name: str, default: Any = None) -> Any:
    target = exchange.entry.target
    return default if target is None else target.transport.get_extra_info(name, default)


class Transport(asyncio.Transport):
    """What a request calls its transport: it can be looked at and closed.

    What goes over the wire is the connection's to say: ``write`` takes an interim answer (as a
    handler of ``Expect`` writes one) and nothing else.
    """

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self._exchange = exchange

    @property
    def _sendfile_compatible(self) -> Any:
        """asyncio's loop asks; what it hears makes aiohttp read the file itself, as on uvloop."""
        raise NotImplementedError("a file goes through the exchange")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As of the transport itself; the peer is who it is to the connection."""
        target = self._exchange.entry.target
        if target is None:
            return default
        if name == "peername":
            return _peer(target)
        return target.transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        target = self._exchange.entry.target
        return target is None or bool(target.transport.is_closing())

    def get_write_buffer_size(self) -> int:
        """Bytes that the client has not taken."""
        target = self._exchange.entry.target
        return 0 if target is None else target.transport.get_write_buffer_size()

    def write(self, data: Any) -> None:
        """An interim answer. Raises RuntimeError for anything else."""
        interim(self._exchange, bytes(data))

    def close(self) -> None:
        """Close the connection, after what was written."""
        target = self._exchange.entry.target
        if target is not None:
            target.close()

    def abort(self) -> None:
        """Close the connection at once."""
        target = self._exchange.entry.target
        if target is not None:
            target.abort()


def interim(exchange: Exchange, data: bytes) -> None:
    """``HTTP/1.1 100 Continue`` and its like, as bytes."""
    head, _, rest = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 1") or rest:
        raise RuntimeError(
            "a hosted application writes by its response, not to the transport: "
            "use web.StreamResponse"
        )
    status, _, headers = taken_apart(head)
    exchange.request.body.on_wanted = None
    exchange.inform(status, headers)


def taken_apart(head: bytes) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, reason and headers."""
    first, *lines = head.split(b"\r\n")
    rows = (line.partition(b": ") for line in lines)
    return int(first[9:12]), first[13:], [(name, value) for name, _, value in rows]
