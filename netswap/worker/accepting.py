"""How a worker accepts: by the loop's own server, or by an accept loop of ours.

A plain listener is the loop's: it accepts and makes the connection in one go. An ``Acceptor`` is
for those where something comes in between: a Unix socket, which all workers share, so that each
takes one connection at a time and leaves the next to the others.

What arrives is served by an ``Arriving`` until its transport is there: the implementation is looked
up then, and not when the socket was accepted, so that no swap in between is missed and no old code
is held.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

from netswap.stack import Connection, Host
from netswap.unixsocket import peer_of

__all__ = ["BACKLOG", "Acceptor", "listen"]

BACKLOG = 4096
_AT_ONCE = 64
"""Connections that are accepted before the loop does something else."""
_PAUSE_S = 1.0
"""Seconds without accepting after that has failed: the kernel would call again at once."""

Make = Callable[[Any], "Connection[Any]"]
"""Makes the connection of a peername, None for what the transport says."""


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

    def __init__(self, host: Host, name: str, sock: socket.socket, make: Make) -> None:
        self._host = host
        self._loop = host.loop
        self._name = name
        self._sock = sock
        self._make = make
        self._shared = sock.family == socket.AF_UNIX
        self._arriving: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
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
        try:  # the loop closes the socket of what fails
            await self._loop.connect_accepted_socket(lambda: Arriving(self._make, peername), sock)
        except OSError as error:
            self._host.log.info("arrival_failed", listener=self._name, error=str(error))


def _unix_peer(sock: socket.socket) -> str:
    """Who is at the other end of a Unix socket; who has no address has a user and a process."""
    peer = peer_of(sock)
    return f"unix:{peer.uid}:{peer.pid}"


async def listen(host: Host, name: str, sock: socket.socket, make: Make) -> Any:
    """Accept on ``sock`` until the returned object is closed."""
    if sock.family == socket.AF_UNIX:
        return Acceptor(host, name, sock, make)
    return await host.loop.create_server(
        lambda: make(None),  # type: ignore[arg-type, return-value]  # a protocol by its methods
        sock=sock,
        backlog=BACKLOG,
    )
