"""WebSockets of aiohttp applications: as under aiohttp's own server, and across swaps."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from websockets.frames import Opcode

from protocols.http import v1 as http
from protocols.websocket import v1, v2
from tests.hosting.conftest import Site, vanish
from tests.masked import frame
from tests.protocols.conftest import until

pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")


def application(handler: Any, *more: Any) -> web.Application:
    app = web.Application()
    app.add_routes([web.get("/", handler), *more])
    return app


async def served(site: Any, value: Any) -> Site:
    """With a connection that can become a WebSocket."""
    here: Site = await site(value)
    await here.server.swap(v1)
    return here


async def echo(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)
        else:
            await ws.send_bytes(message.data)
    return ws


@pytest.mark.parametrize("compress", [0, 15])
async def test_messages_of_every_sort_come_back(site, compress):
    """Text, bytes and JSON, short and long; the client's close ends the loop."""
    here = await served(site, application(echo))
    async with here.session.ws_connect("/", compress=compress) as ws:
        for text in ("", "grüß €", "x" * 300_000):
            await ws.send_str(text)
            assert await ws.receive_str() == text
        await ws.send_bytes(b"\0\1" * 1000)
        assert await ws.receive_bytes() == b"\0\1" * 1000
        await ws.send_json({"a": [1]})
        assert await ws.receive_json() == {"a": [1]}
        await ws.ping(b"are you there")
        assert here.started.open == 1
    await until(lambda: not here.started.open)
    assert ws.close_code == 1000


async def test_what_a_handler_sees_of_its_socket(site):
    """Sub-protocol, headers, close codes, transport; what is sent after the end raises."""
    seen: dict[str, Any] = {}

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(protocols=("chat", "news"), heartbeat=20)
        ws.headers["X-A"] = "1"
        assert ws.can_prepare(request)
        await ws.prepare(request)
        assert (ws.ws_protocol, ws.prepared, ws.closed) == ("news", True, False)
        assert request.transport is not None
        assert ws.get_extra_info("peername") == request.get_extra_info("peername") is not None
        message = await ws.receive()
        seen["first"] = tuple(message)
        message = await ws.receive()
        seen["last"] = tuple(message)
        seen["code"] = ws.close_code
        with pytest.raises(ConnectionResetError):
            await ws.send_str("late")
        assert ws.closed
        seen["after"] = (await ws.receive()).type
        return ws

    here = await served(site, application(handler))
    ws = await here.session.ws_connect("/", protocols=("other", "news"))
    assert ws.protocol == "news"
    assert ws._response.headers["X-A"] == "1"
    await ws.send_str("hello")
    await ws.close(code=4001, message=b"enough")
    await until(lambda: not here.started.open)
    assert seen == {
        "first": (WSMsgType.TEXT, "hello", ""),
        "last": (WSMsgType.CLOSE, 4001, "enough"),
        "code": 4001,
        "after": WSMsgType.CLOSED,
    }


async def test_the_application_closes_with_a_code(site):
    """close() waits for the client's answer, and returns."""
    codes: list[Any] = []

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.send_str("bye")
        assert await ws.close(code=4000, message=b"as you like")
        codes.append(ws.close_code)
        return ws

    here = await served(site, application(handler))
    async with here.session.ws_connect("/") as ws:
        assert await ws.receive_str() == "bye"
        message = await ws.receive()
        assert (message.type, message.data, message.extra) == (
            WSMsgType.CLOSE,
            4000,
            "as you like",
        )
    await until(lambda: codes)
    assert codes == [1000]  # that of the client's answer


async def test_another_task_closes_a_socket_that_waits(site):
    """As on_shutdown does with all of them: the loop of the handler ends."""
    sockets: list[web.WebSocketResponse] = []
    ended: list[str] = []

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        sockets.append(ws)
        async for _ in ws:
            pass
        ended.append("loop")
        return ws

    here = await served(site, application(handler))
    async with here.session.ws_connect("/") as ws:
        await until(lambda: sockets)
        closing = asyncio.ensure_future(sockets[0].close(code=1001, message=b"restart"))
        message = await ws.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
        await closing
    await until(lambda: not here.started.open)
    assert ended == ["loop"]


async def test_a_client_that_is_gone_ends_the_loop(site):
    """Without a closing handshake: 1006."""
    seen: list[Any] = []

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for _ in ws:
            pass
        seen.extend([ws.close_code, request.transport, ws.closed])
        return ws

    here = await served(site, application(handler))
    client = await here.raw()
    await client.send(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        read=False,
    )
    assert (await client.read(12)) == b"HTTP/1.1 101"
    await until(lambda: here.started.open)
    vanish(client)
    await until(lambda: seen)
    assert seen == [1006, None, True]


def noting_aiohttp(heard: list[Any]) -> Any:
    """It answers what it hears, whether that arrives or not."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            heard.append(message.data)
            with suppress(ConnectionError):
                await ws.send_str(message.data)
        heard.append(ws.close_code)
        return ws

    return application(handler)


def noting_asgi(heard: list[Any]) -> Any:
    """The same."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            heard.append(message["text"])
            with suppress(OSError):
                await send({"type": "websocket.send", "text": message["text"]})
        heard.append(message["code"])

    return app


@pytest.mark.parametrize("make", [noting_aiohttp, noting_asgi])
@pytest.mark.parametrize("version", [v1, v2], ids=["v1", "v2"])
async def test_what_came_before_the_client_was_gone_is_heard(site, make, version):
    """It closes behind 200 messages; the first answers are met with a reset."""
    heard: list[Any] = []
    here = await served(site, make(heard))
    await here.server.swap(version)
    client = await here.raw()
    await client.send(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        read=False,
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await client.read(1)
    sent = [str(number) for number in range(200)]
    await client.send(b"".join(frame(Opcode.TEXT, one.encode()) for one in sent), read=False)
    client.sock.close()
    await until(lambda: len(heard) > 200)
    assert heard == [*sent, 1006]


async def test_a_handler_that_fails_closes_with_1011(site):
    """The fault is told, the client as well."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.receive()
        raise ValueError("secret")

    here = await served(site, application(handler))
    async with here.session.ws_connect("/") as ws:
        await ws.send_str("x")
        message = await ws.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1011)
    assert [row["event"] for row in here.faults] == ["callback_failed"]
    here.faults.clear()


async def test_what_is_no_upgrade_is_refused(site):
    """A plain request to a WebSocket's handler, and an upgrade to something else."""
    here = await served(site, application(echo))
    async with here.session.get("/") as answer:
        assert answer.status == 400
    upgrade = {"Connection": "Upgrade", "Upgrade": "h2c"}
    async with here.session.get("/", headers=upgrade) as answer:
        assert answer.status == 400
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await here.session.ws_connect("/none")
    assert refused.value.status == 404


async def test_a_timeout_of_receive_leaves_the_socket_open(site):
    """receive(timeout) raises TimeoutError and may be called again."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        with pytest.raises(asyncio.TimeoutError):
            await ws.receive(timeout=0.001)
        await ws.send_str("late")
        await ws.send_str(await ws.receive_str())
        return ws

    here = await served(site, application(handler))
    async with here.session.ws_connect("/") as ws:
        assert await ws.receive_str() == "late"
        await ws.send_str("still there")
        assert await ws.receive_str() == "still there"


@pytest.mark.parametrize("size", [1000, 1001])
async def test_a_message_may_have_so_many_bytes(site, size):
    """max_msg_size of the response is the connection's limit."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(max_msg_size=1000)
        await ws.prepare(request)
        async for message in ws:
            await ws.send_bytes(message.data)
        return ws

    here = await served(site, application(handler))
    async with here.session.ws_connect("/") as ws:
        await ws.send_bytes(b"x" * size)
        message = await ws.receive()
        expected = (WSMsgType.BINARY, b"x" * 1000) if size == 1000 else (WSMsgType.CLOSE, 1009)
        assert (message.type, message.data) == expected


async def test_text_may_be_had_as_bytes(site):
    """decode_text=False."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(decode_text=False)
        await ws.prepare(request)
        message = await ws.receive()
        await ws.send_json([message.type is WSMsgType.TEXT, message.json(), repr(message.data)])
        return ws

    here = await served(site, application(handler))
    async with here.session.ws_connect("/") as ws:
        await ws.send_str("1")
        assert await ws.receive_json() == [True, 1, "b'1'"]


def counting(name: str, carries: bool) -> web.Application:
    """Counts messages; the count is what is carried."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        carry = request.get("netswap.carry") or {"count": 0}
        if carries:
            request["netswap.carry"] = carry
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        try:
            async for message in ws:
                carry["count"] += 1
                await ws.send_json([name, carry["count"], message.data, request.match_info["who"]])
        finally:
            request.app["ended"].append(name)
        return ws

    app = web.Application()
    app["ended"] = []
    app.router.add_get("/{who}", handler)
    return app


async def test_a_session_that_carries_moves_to_the_new_code(site):
    """At its wait for the next message; no handshake is made again, and no message is lost."""
    one, two = counting("one", True), counting("two", True)
    here = await served(site, one)
    old = here.started
    async with here.session.ws_connect("/me") as ws:
        await ws.send_str("a")
        assert await ws.receive_json() == ["one", 1, "a", "me"]
        await here.push(two)
        await here.retire(old)
        assert one["ended"] == ["one"]
        await ws.send_str("b")
        assert await ws.receive_json() == ["two", 2, "b", "me"]
        assert here.started.open == 1
        await here.server.swap(http, v2)
        await ws.send_str("c")
        assert await ws.receive_json() == ["two", 3, "c", "me"]
    await until(lambda: two["ended"])
    assert ws.close_code == 1000


async def test_a_session_that_does_not_carry_stays(site):
    """In the old code, which is stopped when it has ended; new ones begin in the new code."""
    one, two = counting("one", False), counting("two", True)
    here = await served(site, one)
    old = here.started
    async with here.session.ws_connect("/me") as ws:
        await ws.send_str("a")
        assert await ws.receive_json() == ["one", 1, "a", "me"]
        await here.push(two)
        async with here.session.ws_connect("/you") as other:
            await other.send_str("x")
            assert await other.receive_json() == ["two", 1, "x", "you"]
        await ws.send_str("b")
        assert await ws.receive_json() == ["one", 2, "b", "me"]
        assert old.open == 1
    await here.retire(old)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_session_for_which_the_new_code_has_nothing_is_closed(site, fails):
    """With 1012, after which clients come again; a handler that fails closes with 1011."""

    async def handler(request: web.Request) -> web.Response:
        if fails:
            raise ValueError("no")
        return web.Response(text="not a WebSocket any more")

    here = await served(site, counting("one", True))
    old = here.started
    async with here.session.ws_connect("/me") as ws:
        await ws.send_str("a")
        await ws.receive()
        app = web.Application()
        app.router.add_get("/me", handler)
        await here.push(app)
        message = await ws.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1011 if fails else 1012)
    await here.retire(old)
    assert len(here.faults) == fails
    here.faults.clear()


async def test_what_can_not_be_carried_is_a_fault(site):
    """Plain data alone crosses versions."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        request["netswap.carry"] = object()
        assert (await ws.receive()).type is WSMsgType.ERROR
        return ws

    here = await served(site, application(handler))
    async with here.session.ws_connect("/") as ws:
        assert (await ws.receive()).data == 1011
    assert "object" in json.dumps(here.faults.pop())


@pytest.mark.parametrize("by", ["send_str", "receive_json"])
async def test_that_the_client_has_gone_is_no_fault_of_the_handler(site, by):
    """Whoever writes to it, or waits for JSON, is told by an error; a watch is not violated."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.receive()
        gone.set()
        if by == "receive_json":
            await ws.receive_json()
        while True:
            await ws.send_str("x")
            await asyncio.sleep(0)

    gone = asyncio.Event()
    here = await served(site, application(handler))
    async with here.session.ws_connect("/") as ws:
        await ws.send_str("x")
        await gone.wait()
    await until(lambda: not here.started.open)
    assert not here.faults
