"""A worker in this process with a hosted application behind ``http.connection``: a ``Site``."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from netswap.hosting import Application, hosted, sort_of
from protocols.http import limits, v1
from tests.protocols.conftest import Client, Server, until

KIND = "http.connection"


class Site:
    """An application that is served, with a client of aiohttp's and raw ones."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.session = aiohttp.ClientSession(self.url("/"), cookie_jar=aiohttp.DummyCookieJar())
        self.loads: list[Any] = []

    @property
    def started(self) -> Any:
        """What the present load of the application has started."""
        return self.loads[-1]

    @property
    def faults(self) -> list[dict[str, Any]]:
        """What was logged as failed; what is left in it fails the test."""
        return self.server.log.errors

    def url(self, path: str) -> str:
        """Where it is."""
        host, port = self.server._server.sockets[0].getsockname()
        return f"http://{host}:{port}{path}"

    async def load(self, value: Any) -> SimpleNamespace:
        """Start another application, as the first phase of a push does: a module for ``swap``."""
        host = self.server.host
        cls = hosted(Application(__name__, "it", value, sort_of(value, "it")))
        host.started[cls] = await cls.on_prepare(host)  # type: ignore[attr-defined]
        self.loads.append(host.started[cls])
        return SimpleNamespace(App=cls)

    async def push(self, value: Any) -> None:
        """Replace the application; the one before is stopped when its last request has ended."""
        module = await self.load(value)
        await self.server.swap(module)  # type: ignore[arg-type]

    async def retire(self, load: Any) -> None:
        """What a worker does when a load of the code has been replaced."""
        await until(lambda: not load.open)
        self.loads.remove(load)
        await load.stop()

    async def raw(self, **options: Any) -> Client:
        """A raw socket."""
        return await self.server.connect(**options)

    async def ask(self, data: bytes) -> bytes:
        """All that comes back for these bytes until the connection is closed."""
        client = await self.raw()
        await client.send(data)
        return await client.read_all()

    async def close(self) -> None:
        """The end: nothing may be in flight."""
        await self.session.close()
        await self.server.stop()
        for load in list(self.loads):
            await self.retire(load)


def vanish(client: Client) -> None:
    """Reset the connection, as a client does that has crashed."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()


Hosting = Callable[..., Awaitable[Site]]


@pytest.fixture
async def site() -> AsyncIterator[Hosting]:
    """``await site(app)``: an application, served."""
    sites: list[Site] = []

    async def make(value: Any, connection: Any = v1, tls: Any = None) -> Site:
        server = Server([connection, limits], KIND, {})
        await server.start(tls)
        made = Site(server)
        sites.append(made)
        server.host.install((await made.load(value)).App)
        return made

    yield make
    for one in sites:
        await one.close()


Own = Callable[[web.Application], Awaitable[Callable[[bytes], Awaitable[bytes]]]]


@pytest.fixture
async def own() -> AsyncIterator[Own]:
    """``ask = await own(app)``: the same under aiohttp's own server, which is the oracle."""
    runners: list[web.AppRunner] = []

    async def make(app: web.Application) -> Callable[[bytes], Awaitable[bytes]]:
        runner = web.AppRunner(app, access_log=None)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]

        async def ask(data: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(data)
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

        return ask

    yield make
    for runner in runners:
        await runner.cleanup()
