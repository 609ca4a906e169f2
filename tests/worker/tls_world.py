"""A host in this process behind a TLS listener: real transports on both loops, real handshakes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

from netswap.address import Trusted
from netswap.supervisor.certificates import read_files
from netswap.tls import Context, TlsFiles, context_of
from netswap.worker.accepting import Acceptor, Entrance
from tests.authority import Authority
from tests.interpose.conftest import World, until

__all__ = ["RawClient", "TlsWorld"]

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class TlsWorld(World):
    """``context`` is what new sessions get; ``proxies`` are those who send PROXY headers."""

    def __init__(self, classes: Any, kind: str, folder: Path, **settings: Any) -> None:
        super().__init__(classes, kind)
        self.authority = Authority(folder)
        self.context = self.fresh(**settings)
        self.first_mark = self.context.terms.fingerprint
        self.proxies: Trusted | None = None

    def fresh(self, into: str = "server", **settings: Any) -> Context:
        """A new context, of a new certificate."""
        pair = self.authority.issue(into=into)
        files = TlsFiles(cert=pair.cert, key=pair.key, **settings)
        return context_of(read_files(files, "echo").terms)

    async def listen(self) -> TlsWorld:
        """Accept on a free port."""
        sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.at = sock.getsockname()

        def make(peername: Any) -> Any:
            return self.host.present[self.kind].accepted(self.host, "test", peername)  # type: ignore[attr-defined]

        entrance = Entrance(lambda: self.context, self.proxies)
        self.server = Acceptor(self.host, "test", sock, make, entrance)
        return self

    async def connect(self, context: ssl.SSLContext | None = None) -> Streams:
        """A client that is served by a live object."""
        before = len(self.entries)
        streams = await self.dial(context)
        await until(lambda: len(self.entries) > before)
        return streams

    async def dial(self, context: ssl.SSLContext | None = None) -> Streams:
        """A client whose handshake is done on its side."""
        context = context or self.authority.client()
        streams = await asyncio.open_connection(
            *self.at, ssl=context, server_hostname="localhost", limit=1 << 24
        )
        self.writers.append(streams[1])
        return streams

    async def raw(self) -> RawClient:
        """A client that decides about every byte on the wire."""
        before = len(self.entries)
        client = RawClient(self.at, self.authority.client())
        await client.connect()
        await until(lambda: len(self.entries) > before)
        return client


class RawClient:
    """A TLS client over a plain socket: what it would send is bytes, to be sent in pieces."""

    def __init__(self, at: Any, context: ssl.SSLContext) -> None:
        self._at = at
        self._loop = asyncio.get_running_loop()
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.heard = bytearray()

    async def connect(self) -> None:
        """Shake hands, and take what the server sends after that (tickets)."""
        await self._loop.sock_connect(self.sock, self._at)
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self.send(self._out.read())
                await self._fill()
        await self.send(self._out.read())

    def sealed(self, data: bytes) -> bytes:
        """The records of ``data``."""
        self.tls.write(data)
        return self._out.read()

    def farewell(self) -> bytes:
        """close_notify."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._out.read()

    async def send(self, data: bytes) -> None:
        """Bytes on the wire."""
        if data:
            await self._loop.sock_sendall(self.sock, data)

    async def _fill(self) -> bool:
        data = await self._loop.sock_recv(self.sock, 1 << 16)
        self._in.write(data) if data else self._in.write_eof()
        return bool(data)

    async def read(self, size: int) -> bytes:
        """``size`` bytes of the session, or what comes before its end."""
        async with asyncio.timeout(20):
            while len(self.heard) < size:
                try:
                    data = self.tls.read(1 << 16)
                except ssl.SSLWantReadError:
                    if not await self._fill():
                        break
                    continue
                except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                    break
                if not data:
                    break
                self.heard += data
        found = bytes(self.heard[:size])
        del self.heard[:size]
        return found

    def close(self) -> None:
        """Gone, without a word."""
        self.sock.close()
