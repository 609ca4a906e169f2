"""How a worker accepts: by the loop's own server, or by an accept loop of ours.

A plain listener is the loop's: it accepts and makes the connection in one go. An ``Acceptor`` is
for those where something comes in between:

* a **Unix socket**, which all workers share: each takes one connection at a time and leaves the
  next to the others;
* **TLS**: the context is looked up at each connection, so new certificates are one assignment,
  after which every handshake that begins has the new set as a whole, and nothing is closed.
  Replacing the loop's server around a duplicate of the socket does that too, with a moment in which
  two servers accept. OpenSSL's callback for the server's name changes the certificate and ALPN,
  but leaves the lowest version and what is asked of clients as they were;
* the **PROXY protocol**: its header is looked at in the kernel and taken out to the byte, so that
  the loop's transport, or its TLS, begins behind it. Who sends it slowly holds up nobody else.

What arrives is served by an ``Arriving`` until its transport is there: the implementation is looked
up then, and not when the socket was accepted, so that no swap in between is missed and no old code
is held.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from netswap.address import BACKLOG, Trusted
from netswap.channel.messages import ListenerSpec
from netswap.errors import ProtocolError
from netswap.stack import Connection, Host
from netswap.tls import Context
from netswap.unixsocket import peer_of
from netswap.worker.proxyheader import HeaderReader

__all__ = ["Acceptor", "Arriving", "begin", "listen"]

_AT_ONCE = 64
"""Connections that are accepted before the loop does something else."""
HEADER_S = 5.0
"""Seconds in which a proxy has to have sent its header."""
FAREWELL_S = 600.0
"""Seconds from the close of a TLS session to its end: all that was written has to get through.

The loops' own is 30, after which what a slow client has not read yet is lost.
"""
_PAUSE_S = 1.0
"""Seconds without accepting after that has failed: the kernel would call again at once."""

Make = Callable[[Any], "Connection[Any]"]
"""Makes the connection of a peername, None for what the transport says."""
Ask = Callable[[], "Context | None"]
"""What a TLS session that begins now begins with; None: plain."""


def _plain() -> None:
    """No TLS."""


class Entrance(NamedTuple):
    """What comes between accepting and serving: the context of TLS, and proxies."""

    context: Ask = _plain
    proxies: Trusted | None = None


_OPEN = Entrance()


class Arriving(asyncio.Protocol):
    """What a transport is given until it is there."""

    def __init__(self, make: Make, peername: Any) -> None:
        self._make = make
        self._peername = peername

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It can be served: by what is present now."""
        connection = self._make(self._peername)
        cast("asyncio.Transport", transport).set_protocol(cast("asyncio.Protocol", connection))
        connection.connection_made(transport)


class Acceptor:
    """Accepts on one listening socket, which it owns, and hands each connection to its maker."""

    def __init__(
        self,
        host: Host,
        name: str,
        sock: socket.socket,
        make: Make,
        entrance: Entrance = _OPEN,
    ) -> None:
        self._host = host
        self._entrance = entrance
        self.turned_away: Counter[str] = Counter()
        self._loop = host.loop
        self._name = name
        self._sock = sock
        self._make = make
        self._shared = sock.family == socket.AF_UNIX
        self._arriving: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._told = float("-inf")
        sock.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Accept no more; those that are on their way in are dropped. The queue stays."""
        if self._pause is not None:
            self._pause.cancel()
        else:
            self._loop.remove_reader(self._sock.fileno())
        for task in self._arriving:
            task.cancel()
        self._sock.close()

    def _listen(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(1 if self._shared else _AT_ONCE):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return  # another worker was faster, or the client has gone
            except OSError as error:
                self._rest(error)
                return
            task = self._loop.create_task(self._arrive(sock, address))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    def _rest(self, error: OSError) -> None:
        """The system is out of descriptors or memory; the queue stays where it is."""
        advice = "raise the limit of open files: LimitNOFILE, ulimit -n"
        self._host.log.error(
            "accept_failed", listener=self._name, error=error.strerror, advice=advice
        )
        self._loop.remove_reader(self._sock.fileno())
        self._pause = self._loop.call_later(_PAUSE_S, self._listen)

    async def _arrive(self, sock: socket.socket, address: Any) -> None:
        sock.setblocking(False)
        peername = _unix_peer(sock) if sock.family == socket.AF_UNIX else address
        if self._entrance.proxies is not None:
            try:
                peername = await self._passed_on(sock, peername, self._entrance.proxies)
            except (ProtocolError, OSError) as error:
                sock.close()
                self._turn_away("proxy", peername, error)
                return
            except asyncio.CancelledError:
                sock.close()
                raise
        await self._begin(sock, peername)

    async def _passed_on(self, sock: socket.socket, peername: Any, trusted: Trusted) -> Any:
        """Whose connection it is that a proxy passes on.

        :raises ProtocolError: it is no proxy that may, or its header is none.
        """
        if not trusted.includes(peername):
            raise ProtocolError("it is no trusted proxy")
        reader = HeaderReader()
        async with asyncio.timeout(HEADER_S):
            while not reader.done:
                data = await self._look(sock, reader.wanted)
                if not data:
                    raise ProtocolError("it ended in its PROXY header")
                _drop(sock, reader.feed(data))
        return peername if reader.peer is None else reader.peer

    async def _look(self, sock: socket.socket, size: int) -> bytes:
        """Some bytes that stay where they are; b"" at the end."""
        while True:
            try:
                return sock.recv(size, socket.MSG_PEEK)
            except BlockingIOError:
                readable = self._loop.create_future()
                self._loop.add_reader(sock.fileno(), readable.set_result, None)
                try:
                    await readable
                finally:
                    self._loop.remove_reader(sock.fileno())

    async def _begin(self, sock: socket.socket, peername: Any) -> None:
        context = self._entrance.context()
        try:  # the loop closes the socket of what fails
            await begin(self._loop, sock, lambda: Arriving(self._make, peername), context)
        except OSError as error:
            self._turn_away("handshake", peername, error)

    def _turn_away(self, reason: str, peername: Any, error: Exception) -> None:
        """Count it, and say so at most once a second: strangers knock all the time."""
        self.turned_away[reason] += 1
        now = self._loop.time()
        if now - self._told >= 1.0:
            self._told = now
            said = getattr(error, "reason", None) or str(error) or type(error).__name__
            self._host.log.info(
                "turned_away",
                listener=self._name,
                reason=reason,
                peer=str(peername),
                error=said,
                so_far=self.turned_away[reason],
            )


async def begin(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    protocol: Callable[[], asyncio.Protocol],
    context: Context | None,
) -> asyncio.Transport:
    """Give an accepted socket its transport, after the handshake when there is a context.

    :raises OSError: the handshake has failed, or the socket.
    """
    limits: dict[str, Any] = {}
    if context is not None:
        limits["ssl_handshake_timeout"] = context.terms.handshake
        limits["ssl_shutdown_timeout"] = FAREWELL_S
    transport, _ = await loop.connect_accepted_socket(protocol, sock, ssl=context, **limits)
    return transport


def _drop(sock: socket.socket, size: int) -> None:
    """Take bytes out of a socket that are in it."""
    while size:
        size -= len(sock.recv(size))


def _unix_peer(sock: socket.socket) -> str:
    """Who is at the other end of a Unix socket; who has no address has a user and a process."""
    peer = peer_of(sock)
    return f"unix:{peer.uid}:{peer.pid}"


async def listen(
    host: Host, spec: ListenerSpec, make: Make, contexts: Callable[[str], Context | None]
) -> Any:
    """Accept on a listener's socket until the returned object is closed."""
    sock = socket.socket(fileno=spec.fd)
    proxies = None if spec.proxy is None else Trusted(spec.proxy)
    if spec.tls is not None or proxies is not None or sock.family == socket.AF_UNIX:
        entrance = Entrance(lambda: contexts(spec.name), proxies)
        return Acceptor(host, spec.name, sock, make, entrance)
    return await host.loop.create_server(
        lambda: make(None),  # type: ignore[arg-type, return-value]  # a protocol by its methods
        sock=sock,
        backlog=BACKLOG,
    )
