"""The chat over WebSocket: in the same rooms as over TCP, whatever is swapped meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedOK, InvalidStatus

from protocols.chat import v1, v2, web
from protocols.http import v1 as http

TCP = "chat.connection"
HTTP = "http.connection"


async def chat(serve, rooms: Any):
    """A server with both doors to the same rooms: a TCP client and the address of the other."""
    server = await serve(http, rooms, web, kind=TCP)
    host = server.host
    host.add_listener("web")

    def accept() -> Any:
        return host.present[HTTP].accepted(host, "web")

    listening = await server.loop.create_server(accept, "127.0.0.1", 0)
    host_and_port = "{}:{}".format(*listening.sockets[0].getsockname())
    return SimpleNamespace(server=server, listening=listening, address=host_and_port)


@pytest.fixture
async def talk(serve):
    """What makes such servers, and ends them."""
    made = []

    async def make(rooms: Any):
        made.append(await chat(serve, rooms))
        return made[-1]

    yield make
    for one in made:
        one.listening.close()


@pytest.mark.parametrize(("first", "second"), [(v1, v2), (v2, v1)], ids=["up", "down"])
async def test_both_see_each_other_across_swaps_of_everything(talk, first, second):
    """Nicks, rooms and the order of lines are those of one chat."""
    served = await talk(first)
    tcp = await served.server.connect()
    async with connect(f"ws://{served.address}/chat") as browser:
        await tcp.send(b"/nick ann\n")
        assert (await browser.recv()).endswith(" is now ann")
        await browser.send("/nick bob")
        assert (await browser.recv()).endswith(" is now bob")
        await served.server.swap(second, web, http)
        await tcp.send("grüß\n".encode())
        assert await browser.recv() == "<ann> grüß"
        await browser.send("one\ntwo")
        assert [await browser.recv() for _ in "12"] == ["<bob> one", "<bob> two"]
        await browser.send("/who")
        assert await browser.recv() == "* in lobby: ann, bob"
        await browser.send("/dance")
        assert (await browser.recv()).startswith("! there is no /dance")
        await browser.send(b"bytes")
        assert await browser.recv() == "! a line is text"
        await served.server.swap(first)
        await browser.send("/quit")
        assert await browser.recv() == "* bob left"
        with pytest.raises(ConnectionClosedOK):
            await browser.recv()
    lines = await tcp.read_lines(6)
    assert lines[0].endswith(" is now ann")
    assert lines[1].endswith(" is now bob")
    assert lines[2:] == ["<ann> grüß", "<bob> one", "<bob> two", "* bob left"]


async def test_pages_of_other_hosts_may_not_chat(talk):
    """A browser says whose page it is."""
    served = await talk(v2)
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws://{served.address}/chat", origin="https://evil.example"):
            pass
    assert refused.value.response.status_code == 403
    async with connect(f"ws://{served.address}/chat", origin=f"http://{served.address}"):
        pass
