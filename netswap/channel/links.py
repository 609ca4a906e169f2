"""A link: one stream socket that carries messages both ways, on any event loop.

``send`` never blocks: bytes wait in the transport, up to a bound, after which ``send`` raises and
queues nothing. A peer that sends what can't be read ends the link, and ``on_lost`` is told why.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from netswap.channel.frames import FrameError, FrameReader, encode_frame
from netswap.channel.messages import Message
from netswap.errors import ChannelError

__all__ = ["Link", "LinkClosed", "LinkOverload"]

BUFFER_LIMIT = 1 << 30
FLUSH_LOOK = 0.001
"""Seconds between two looks at whether the peer's socket has taken all."""


class LinkClosed(ChannelError):
    """``send`` on a link that is lost or was closed; the message was not sent."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(name, message)
        self.name = name
        self.message = message

    def __str__(self) -> str:
        return f"the link to {self.name} is closed: {self.message} was not sent"


class LinkOverload(ChannelError):
    """The peer does not read: more than ``limit`` bytes wait; the message was not sent."""

    def __init__(self, name: str, waiting: int, limit: int) -> None:
        super().__init__(name, waiting, limit)
        self.name = name
        self.waiting = waiting
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.name} does not read: {self.waiting} bytes wait, the limit is {self.limit}"


class Link(asyncio.Protocol):
    """One end of a channel.

    ``on_message(message)`` is called once per message, in the order sent; ``on_lost(error)`` once,
    when the link is gone for whatever reason: None for an orderly end, a ``FrameError`` for bytes
    that can't be read, an ``OSError`` from the socket. An exception out of ``on_message`` ends the
    link too, and is its ``on_lost`` error: half a conversation is worse than none.
    """

    def __init__(
        self,
        name: str,
        on_message: Callable[[Message], None],
        on_lost: Callable[[Exception | None], None],
        buffer_limit: int = BUFFER_LIMIT,
    ) -> None:
        self.name = name
        self._on_message = on_message
        self._on_lost = on_lost
        self._limit = buffer_limit
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._error: Exception | None = None
        self._closed = False

    @classmethod
    async def over(cls, sock: socket.socket, link: Link) -> Link:
        """Start ``link`` on a connected stream socket, which it owns from here on."""
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: link, sock=sock)
        return link

    @classmethod
    async def to_path(cls, path: str, link: Link) -> Link:
        """Connect ``link`` to the Unix socket at ``path``.

        :raises OSError: nobody listens there.
        """
        await asyncio.get_running_loop().create_unix_connection(lambda: link, path)
        return link

    @property
    def open(self) -> bool:
        """Whether a message can be sent."""
        return self._transport is not None and not self._closed

    @property
    def waiting(self) -> int:
        """Bytes that the peer has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(self, message: Message) -> None:
        """Queue ``message``; return at once.

        :raises LinkClosed: the link is not open.
        :raises LinkOverload: too much waits already.
        :raises FrameError: the message can't be framed.
        """
        transport = self._transport
        if transport is None or self._closed:
            raise LinkClosed(self.name, type(message).__name__)
        frame = encode_frame(message)
        waiting = transport.get_write_buffer_size()
        if waiting and waiting + len(frame) > self._limit:
            raise LinkOverload(self.name, waiting, self._limit)
        transport.write(frame)

    async def flushed(self) -> None:
        """Return when the peer's socket has all that was sent, or the link is gone."""
        while self.waiting and not self._closed:
            await asyncio.sleep(FLUSH_LOOK)

    def close(self) -> None:
        """End the link once everything queued is written; ``on_lost(None)`` follows."""
        self._closed = True
        if self._transport is not None:
            self._transport.close()

    def abort(self, error: Exception | None = None) -> None:
        """End the link at once; ``on_lost(error)`` follows."""
        self._closed = True
        self._error = self._error or error
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop's callback: the socket is ready."""
        # A cast, no assert: uvloop's transports are not instances of asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """The loop's callback: deliver the messages that ``data`` completes."""
        try:
            for message in self._reader.feed(data):
                if self._closed:
                    return
                self._on_message(message)
        except Exception as error:
            self.abort(error)

    def eof_received(self) -> bool:
        """The loop's callback: the peer is done. A frame cut in the middle is an error."""
        if self._reader.pending:
            self._error = self._error or FrameError("cut off in the middle", self._reader.pending)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The loop's callback: the socket is gone."""
        self._closed = True
        self._on_lost(self._error or error)
