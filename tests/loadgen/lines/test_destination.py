"""Where the server is: a name is looked up once, and what it leads to is tried in its order."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import pytest

from loadgen.lines.destination import Destination
from loadgen.plan import Plan

UNHEARD = "127.0.0.9"  # where nobody listens at the server's port


class Names:
    """A resolver's answer, and how often it was asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[object] = []

    async def look_up(self, host: str, port: int, **_more: object) -> list[Any]:
        self.asked.append(host)
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, 1, 6, "", (each, port)) for each in self.addresses]


async def connected(names: Names, monkeypatch: pytest.MonkeyPatch, times: int) -> list[str]:
    """The addresses that both ends of so many connections see."""
    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", names.look_up)
    loop, transports = asyncio.get_running_loop(), list[asyncio.Transport]()

    class Noted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transports.append(cast(asyncio.Transport, transport))

    server = await loop.create_server(Noted, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    plan = Plan(protocol="echo", host="many.example", port=port, connections=1, duration_ns=1)
    to = Destination(plan, None)
    try:
        for _ in range(times):
            await to.connect(Noted)
        while len(transports) < 2 * times:  # those of the server, too
            await asyncio.sleep(0)
        return [each.get_extra_info("peername")[0] for each in transports]
    finally:
        for transport in transports:
            transport.abort()
        server.close()
        await server.wait_closed()


@pytest.mark.asyncio(loop_factories=["asyncio"])  # uvloop's own names can't be replaced
async def test_a_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that takes nobody is passed over; what took one is asked first from then on."""
    names = Names(UNHEARD, "127.0.0.1")
    assert await connected(names, monkeypatch, 3) == ["127.0.0.1"] * 6
    assert names.asked == ["many.example"]


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize(
    ("addresses", "error"), [((), socket.gaierror), ((UNHEARD,), ConnectionRefusedError)]
)
async def test_a_name_that_leads_nowhere(
    addresses: tuple[str, ...], error: type[OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why is what the resolver or the last address has said."""
    with pytest.raises(error):
        await connected(Names(*addresses), monkeypatch, 1)
