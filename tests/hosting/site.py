"""An application behind http.connection, in this process: real sockets, real swaps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import httptools

from netswap.hosting import Application, hosted, sort_of
from netswap.stack import Host
from netswap.stack.host import Started
from protocols.http import limits, v2
from tests.protocols.conftest import PATIENCE, Client, Server, until

__all__ = ["Answer", "Site", "get", "parsed", "post", "site_of"]


class Answer:
    """One answer, as a parser that is not ours understands it."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.whole = True


def get(path: str = "/", *lines: str, method: str = "GET") -> bytes:
    """A request without a body."""
    head = [f"{method} {path} HTTP/1.1", "Host: x", *lines]
    return "\r\n".join([*head, "", ""]).encode()


def post(path: str, body: bytes, *lines: str) -> bytes:
    """A request with one."""
    return get(path, f"Content-Length: {len(body)}", *lines, method="POST") + body


class Site:
    """A server with one application; ``push`` replaces it, and gives what the old one started."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.host: Host = server.host
        self.log = server.log
        self.started: list[Started] = []

    async def push(self, application: Any) -> Started:
        """Start an application and let it answer."""
        cls = hosted(Application(__name__, "app", application, sort_of(application, "app")))
        started = await cls.on_prepare(self.host)
        assert started is not None
        self.host.started[cls] = started
        module = ModuleType("pushed")
        setattr(module, "App", cls)  # noqa: B010 - a module has no such attribute
        if "http.app" in self.host.present:
            await self.server.swap(module)
        else:
            self.host.install(cls)
        self.started.append(started)
        return started

    async def connect(self, **options: Any) -> Client:
        """A client."""
        client: Client = await self.server.connect(**options)
        return client

    async def ask(self, request: bytes) -> Answer:
        """What a client of its own is answered."""
        client = await self.connect()
        await client.send(request, read=False)
        data, of_head = b"", request.startswith(b"HEAD")
        while not (answer := parsed(data, of_head)).whole and (more := await _some(client)):
            data += more
        client.sock.close()
        return answer


async def _some(client: Client) -> bytes:
    async with asyncio.timeout(PATIENCE):
        try:
            return await client.loop.sock_recv(client.sock, 1 << 20)
        except ConnectionResetError:
            return b""


def parsed(data: bytes, of_head: bool = False) -> Answer:
    """The first answer in ``data``; interim ones are passed over."""
    answer = Answer()
    while data.startswith(b"HTTP/1.1 1"):
        data = data.partition(b"\r\n\r\n")[2]
    parser = httptools.HttpResponseParser(answer)
    parser.feed_data(data)
    if not data:
        return answer
    if of_head:
        answer.whole = data.endswith(b"\r\n\r\n")
    answer.status = parser.get_status_code()
    return answer


@asynccontextmanager
async def site_of(application: Any, *modules: Any) -> AsyncIterator[Site]:
    """A site that serves an application; at the end all that was started is stopped."""
    server = Server([limits, *(modules or [v2])], "http.connection", {})
    await server.start()
    site = Site(server)
    try:
        await site.push(application)
        yield site
    finally:
        await server.stop()
        for started in site.started:
            await until(lambda: not started.open)  # noqa: B023 - it is called here only
            await started.stop()
