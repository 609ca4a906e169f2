"""websocket: messages go both ways, whatever is swapped meanwhile; driven by another's client."""

from __future__ import annotations

import zlib
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close, Frame, Opcode

from netswap import State
from netswap.http import App, Channel, HttpError, Request, Response, websocket
from protocols.http import v1 as http
from protocols.websocket import v1, v2
from tests.masked import closing, deflated, frame
from tests.protocols.conftest import until

KIND = "websocket.connection"


class Nothing(State, kind="http.app", version=1):
    """No state."""


class Site(App[Nothing]):
    """Speaks in both ways."""

    @websocket("/calls", subprotocols=("echo", "other"), origins=("same", "https://good.example"))
    def echo(self, channel: Channel, message: str | bytes) -> None:
        channel.send_nowait(message)
        if message == "end":
            channel.close(4000, "as you like")
        if message == "fail":
            raise ValueError("no")

    @websocket("/calls", on="open")
    def greet(self, channel: Channel) -> None:
        channel.send_nowait(f"welcome {channel.subprotocol}")

    @websocket("/calls", on="request")
    def refuse(self, request: Request) -> Response | None:
        if request.query == b"no":
            raise HttpError(403, "not you")
        return None

    @websocket("/session/{name}")
    async def session(self, channel: Channel) -> None:
        await channel.send(f"welcome {channel.request.params['name']}")
        async for message in channel:
            await channel.send(message)
            if message == "end":
                channel.close(4000, "as you like")
            if message == "leave":
                return
            if message == "fail":
                raise ValueError("no")


module: Any = SimpleNamespace(Site=Site)


async def site(serve, *apps):
    """A server, and the address of its WebSockets."""
    server = await serve(http, v1, *(apps or (module,)), kind="http.connection")
    return server, "ws://{}:{}".format(*server._server.sockets[0].getsockname())


PATHS = pytest.mark.parametrize("path", ["/calls", "/session/x"])


@PATHS
@pytest.mark.parametrize("message", ["", "grüß €", b"\0\1", "x" * 100_000, b"y" * 300])
async def test_what_is_said_comes_back(serve, path, message):
    """Text as text, bytes as bytes, short and long, to a client that deflates."""
    _, address = await site(serve)
    async with connect(address + path) as client:
        assert "welcome" in await client.recv()
        await client.send(message)
        assert await client.recv() == message


@PATHS
async def test_the_application_ends_it_with_a_code(serve, path):
    """What the client sees is what was said."""
    _, address = await site(serve)
    async with connect(address + path) as client:
        await client.recv()
        await client.send("end")
        assert await client.recv() == "end"
        with pytest.raises(ConnectionClosedError):
            await client.recv()
    assert (client.close_code, client.close_reason) == (4000, "as you like")


@PATHS
async def test_a_failure_costs_the_session_alone_and_is_told(serve, path):
    """1011 to the client, the fault to the operator."""
    server, address = await site(serve)
    async with connect(address + path) as client:
        await client.recv()
        await client.send("fail")
        assert await client.recv() == "fail"
        with pytest.raises(ConnectionClosedError):
            await client.recv()
    assert client.close_code == 1011
    assert [row["doing"] for row in server.log.errors] == ["websocket"]
    server.log.errors.clear()


# -- a raw client: every byte counts ---------------------------------------------------------------


KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def asking(path: bytes, *more: bytes, version: bytes = b"13") -> bytes:
    """An opening handshake."""
    lines = (
        b"GET %b HTTP/1.1" % path,
        b"Host: here",
        b"Upgrade: websocket",
        b"Connection: keep-alive, Upgrade",
        b"Sec-WebSocket-Key: " + KEY,
        b"Sec-WebSocket-Version: " + version,
        *more,
    )
    return b"\r\n".join(lines) + b"\r\n\r\n"


DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


LONG = b"ab" * 200
SQUEEZED = deflated(LONG)
TALK = (
    asking(b"/calls", DEFLATE, b"Sec-WebSocket-Protocol: other, echo")
    + frame(Opcode.TEXT, "grüß".encode())
    + frame(Opcode.TEXT, b"one ", fin=False)
    + frame(Opcode.PING, b"between")
    + frame(Opcode.CONT, b"", fin=False)
    + frame(Opcode.CONT, b"two")
    + frame(Opcode.BINARY, SQUEEZED[:3], fin=False, rsv1=True)
    + frame(Opcode.CONT, SQUEEZED[3:])
    + frame(Opcode.BINARY, b"x" * 130)
    + frame(Opcode.PONG, b"netswap")
    + frame(Opcode.TEXT, b"last")
    + closing(1000, "bye")
)


async def heard(client) -> bytes:
    """All that is said until the end, without what is different each time."""
    data = await client.read_all()
    head, _, frames = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"sec-websocket-accept: " + ACCEPT in head
    return frames


async def without_a_swap(serve, talk: bytes) -> bytes:
    server, _ = await site(serve)
    client = await server.connect()
    await client.send(talk)
    return await heard(client)


async def test_the_answers_stand_in_the_order_of_the_frames(serve):
    """A pong between two messages, a compressed answer, the close last."""
    said = await without_a_swap(serve, TALK)
    packer = zlib.compressobj(wbits=-15, memLevel=5)
    squeezed = (packer.compress(LONG) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
    big = bytearray(Frame(Opcode.BINARY, squeezed).serialize(mask=False))
    big[0] |= 0x40
    plain = [
        Frame(Opcode.TEXT, b"welcome echo"),
        Frame(Opcode.TEXT, "grüß".encode()),
        Frame(Opcode.PONG, b"between"),
        Frame(Opcode.TEXT, b"one two"),
        None,
        Frame(Opcode.BINARY, b"x" * 130),
        Frame(Opcode.TEXT, b"last"),
        Frame(Opcode.CLOSE, Close(1000, "bye").serialize()),
    ]
    assert said == b"".join(bytes(big) if f is None else f.serialize(mask=False) for f in plain)


SHORT = (
    frame(Opcode.TEXT, "ü".encode())
    + frame(Opcode.TEXT, b"1", fin=False)
    + frame(Opcode.PING, b"b")
    + frame(Opcode.CONT, b"2")
    + frame(Opcode.BINARY, SQUEEZED[:3], fin=False, rsv1=True)
    + frame(Opcode.CONT, SQUEEZED[3:])
    + frame(Opcode.TEXT, b"last")
    + closing(1000)
)
CUTS = range(0, len(SHORT) + 1)
UP_AND_DOWN = pytest.mark.parametrize("steps", [(v1, v2), (v2, v1)], ids=["up", "down"])


async def opened(serve, module_of_app, path: bytes, first: Any):
    """A client whose WebSocket is open and has been greeted."""
    server = await serve(http, first, module_of_app, kind="http.connection")
    client = await server.connect()
    await client.send(asking(path, DEFLATE))
    await until(lambda: client.entry is not None and client.entry.kind == KIND)
    return server, client


def sorted_out(said: bytes) -> tuple[list[bytes], list[bytes]]:
    """The messages, and the control frames; all are short."""
    rows: tuple[list[bytes], list[bytes]] = [], []
    while said:
        end = 2 + said[1]
        rows[bool(said[0] & 0x08)].append(said[:end])
        said = said[end:]
    return rows


@UP_AND_DOWN
async def test_a_swap_at_any_byte_changes_no_byte(serve, steps):
    """Inside a frame's head, a character, a fragmented or a deflated message, in the closing."""
    first, second = steps
    _, client = await opened(serve, module, b"/calls", first)
    await client.send(SHORT)
    whole = await heard(client)
    for cut in CUTS:
        server, client = await opened(serve, module, b"/calls", first)
        await client.send(SHORT[:cut])
        await server.swap(second)
        await client.send(SHORT[cut:])
        assert await heard(client) == whole, cut


@UP_AND_DOWN
async def test_a_swap_at_any_byte_changes_nothing_for_a_coroutine(serve, steps):
    """Pongs may overtake what it says, but nothing is lost, doubled or turned around."""
    first, second = steps
    talk, end = SHORT[: -len(closing(1000))], closing(1000)
    whole = sorted_out(await without_a_swap(serve, asking(b"/calls", DEFLATE) + talk + end))
    for cut in range(len(talk) + 1):
        server, client = await opened(serve, module, b"/session/None", first)
        await client.send(talk[:cut])
        await server.swap(second)
        await server.swap(first)
        await client.send(talk[cut:])
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await client.read(1)
        said = await client.read(sum(map(len, whole[0])) + len(whole[1][0]))
        await client.send(end)
        assert sorted_out(said + await client.read_all()) == whole, cut


async def test_a_swap_between_the_handshake_and_the_first_frame_changes_no_byte(serve):
    """At every byte of the request too, with frames that came in the same packet."""
    talk = asking(b"/calls", DEFLATE) + SHORT
    whole = await without_a_swap(serve, talk)
    for cut in range(1, len(talk) - len(SHORT) + 1):
        server, _ = await site(serve)
        client = await server.connect()
        await client.send(talk[:cut])
        await server.swap(v2, http)
        await client.send(talk[cut:])
        assert await heard(client) == whole, cut
