"""What a request of aiohttp calls its protocol and its transport, in front of an exchange.

Applications look at both: who the client is, whether it is still there, what TLS has agreed on.
What goes over the wire is not theirs to say, since a connection that is swapped has to know it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from netswap.http import Exchange
from netswap.http.exchange import Phase

__all__ = ["Line", "Transport", "peer_of", "taken_apart"]


class Line:
    """What a request calls its protocol."""

    __slots__ = ("_transport", "exchange", "peername")

    max_field_size = 8190
    max_headers = 128
    max_line_size = 8190
    keepalive_timeout = 75.0
    _timeout_ceil_threshold = 5.0

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._transport: Transport | None = None
        target = exchange.entry.target
        self.peername = None if target is None else peer_of(target)

    def target(self) -> Any:
        """The connection, while somebody is there."""
        exchange = self.exchange
        return None if exchange.phase is Phase.GONE else exchange.entry.target

    @property
    def transport(self) -> Transport | None:
        """None when the client is gone."""
        if self.target() is None:
            return None
        if self._transport is None:
            self._transport = Transport(self)
        return self._transport

    @property
    def connected(self) -> bool:
        """Whether the client is there."""
        return self.target() is not None

    @property
    def ssl_context(self) -> Any:
        """None without TLS."""
        return self.extra("sslcontext")

    @property
    def sockname(self) -> Any:
        """Our own address."""
        return self.extra("sockname")

    @property
    def writing_paused(self) -> bool:
        """Whether the client does not read."""
        target = self.target()
        return target is not None and bool(target.writing_paused)

    def extra(self, name: str, default: Any = None) -> Any:
        """What the transport itself knows."""
        target = self.target()
        return default if target is None else target.transport.get_extra_info(name, default)

    def interim(self, data: bytes) -> None:
        """Send ``HTTP/1.1 100 Continue`` or its like. Raises RuntimeError for anything else."""
        head, _, rest = data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 1") or rest:
            raise RuntimeError(
                "a hosted application writes by its response, not to the transport: "
                "use web.StreamResponse"
            )
        status, _, headers = taken_apart(head)
        self.exchange.request.body.on_wanted = None
        self.exchange.inform(status, headers)

    def close(self) -> None:
        """Close the connection, after what was written."""
        target = self.target()
        if target is not None:
            target.close()

    force_close = close

    def abort(self) -> None:
        """Close the connection at once."""
        target = self.target()
        if target is not None:
            target.abort()


def peer_of(target: Any) -> Any:
    """Who it is; whoever is at a Unix socket has no name for aiohttp."""
    name = target.peername
    return "" if isinstance(name, str) else name


def taken_apart(head: bytes) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, reason and headers of an answer."""
    first, *lines = head.split(b"\r\n")
    rows = (line.partition(b": ") for line in lines)
    return int(first[9:12]), first[13:], [(name, value) for name, _, value in rows]


class Transport(asyncio.Transport):
    """What a request calls its transport: it can be looked at and closed."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    @property
    def _sendfile_compatible(self) -> Any:
        """asyncio's loop asks; what it hears makes aiohttp read the file itself, as on uvloop."""
        raise NotImplementedError("a file goes through the exchange")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As of the transport itself; the peer is who it is to the connection."""
        return self._line.peername if name == "peername" else self._line.extra(name, default)

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        target = self._line.target()
        return target is None or bool(target.transport.is_closing())

    def get_write_buffer_size(self) -> int:
        """Bytes that the client has not taken."""
        target = self._line.target()
        return 0 if target is None else target.transport.get_write_buffer_size()

    def write(self, data: Any) -> None:
        """An interim answer, as a handler of ``Expect`` writes one. Raises RuntimeError."""
        self._line.interim(bytes(data))

    def close(self) -> None:
        """Close the connection, after what was written."""
        self._line.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._line.abort()
