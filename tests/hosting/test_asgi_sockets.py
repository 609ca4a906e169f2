"""WebSockets of ASGI applications, asked by a client of the ``websockets`` package."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from protocols.http import v2
from protocols.websocket import v2 as websocket
from tests.hosting.site import Site, site_of
from tests.protocols.conftest import until

ACCEPT = {"type": "websocket.accept"}


async def client_of(site: Site, path: str = "/", **options: Any) -> ClientConnection:
    """A client, connected."""
    host, port = site.server._server.sockets[0].getsockname()
    return await connect(f"ws://{host}:{port}{path}", **options)


def site(app: Any) -> Any:
    """A site whose connections may become WebSockets."""
    return site_of(app, v2, websocket)


async def test_the_scope_and_the_handshake() -> None:
    """Every key of the specification; the sub-protocol and headers of the application."""
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        scopes.append(scope)
        assert await receive() == {"type": "websocket.connect"}
        await send({**ACCEPT, "subprotocol": "b", "headers": [(b"x-a", b"1")]})
        await send({"type": "websocket.close", "code": 3001, "reason": "enough"})

    async with site(app) as here:
        protocols = [Subprotocol(name) for name in ("a", "b")]
        async with await client_of(here, "/a%20b?c", subprotocols=protocols) as client:
            assert client.subprotocol == "b"
            assert client.response is not None
            assert client.response.headers["x-a"] == "1"
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert (client.close_code, client.close_reason) == (3001, "enough")
    (scope,) = scopes
    del scope["headers"], scope["client"], scope["server"]
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"c",
        "root_path": "",
        "subprotocols": ["a", "b"],
        "state": {},
        "extensions": {"websocket.http.response": {}, "netswap": {}},
    }


async def test_messages_go_both_ways_until_the_client_closes() -> None:
    """Text and bytes; the code of the end is told, and what is sent then raises an OSError."""
    heard: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        await receive()
        await send(ACCEPT)
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})
        heard.append(message)
        with pytest.raises(OSError, match="closed"):
            await send({"type": "websocket.send", "text": "late"})

    async with site(app) as here:
        async with await client_of(here) as client:
            for message in ("grüß", "", b"\0\1", "x" * 200_000):
                await client.send(message)
                assert await client.recv() == message
            await client.close(4000, "bye")
        await until(lambda: heard)
    assert heard == [{"type": "websocket.disconnect", "code": 4000, "reason": "bye"}]


@pytest.mark.parametrize("how", ["close", "denial"])
async def test_a_handshake_may_be_refused(how: str) -> None:
    """By closing before it is accepted, or with an answer of the application's own."""
    messages = {
        "close": [{"type": "websocket.close"}],
        "denial": [
            {"type": "websocket.http.response.start", "status": 429, "headers": [(b"a", b"b")]},
            {"type": "websocket.http.response.body", "body": b"later"},
        ],
    }[how]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        for message in messages:
            await send(message)

    async with site(app) as here:
        with pytest.raises(InvalidStatus) as refused:
            await client_of(here)
        answer = refused.value.response
        expected = (403, b"") if how == "close" else (429, b"later")
        assert (answer.status_code, answer.body) == expected


async def test_an_application_that_fails_closes_with_1011() -> None:
    """And it is a fault of the application."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        await send(ACCEPT)
        raise ValueError("no")

    async with site(app) as here:
        async with await client_of(here) as client:
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1011
        (row,) = here.log.errors
        here.log.errors.clear()
        assert (row["kind"], row["error"]) == ("http.app", "ValueError: no")


def counting(name: str, carries: bool) -> Any:
    """Says its name and how many messages the session has had."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        ours = scope["extensions"]["netswap"]
        count = ours.get("carry", {"count": 0})["count"]
        await receive()
        await send(ACCEPT)
        while True:
            if carries:
                ours["carry"] = {"count": count}
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            count += 1
            await send({"type": "websocket.send", "text": f"{name} {count}"})

    return app


@pytest.mark.parametrize("carries", [True, False])
async def test_a_session_goes_on_in_new_code_when_it_carries_its_state(carries: bool) -> None:
    """Without a second handshake; one that carries nothing stays where it is until it ends."""
    async with site(counting("old", carries)) as here:
        async with await client_of(here) as client:
            await client.send("1")
            assert await client.recv() == "old 1"
            await here.push(counting("new", carries))
            await until(lambda: here.started[0].open == (0 if carries else 1))
            await client.send("2")
            assert await client.recv() == ("new 2" if carries else "old 2")
            async with await client_of(here) as other:
                await other.send("1")
                assert await other.recv() == "new 1"
        await until(lambda: not any(one.open for one in here.started))


async def test_starlette_talks_and_its_client_may_leave() -> None:
    """What it raises when the client has gone is no fault of the application."""

    async def talk(ws: WebSocket) -> None:
        await ws.accept()
        while True:
            await ws.send_json({"said": await ws.receive_text(), "to": ws.path_params["name"]})

    app = Starlette(routes=[WebSocketRoute("/{name}", talk)])
    async with site(app) as here:
        async with await client_of(here, "/ann") as client:
            await client.send("hello")
            assert await client.recv() == '{"said":"hello","to":"ann"}'
        await until(lambda: not here.started[0].open)
        assert [row["event"] for row in here.log.infos][-1] == "request_abandoned"
