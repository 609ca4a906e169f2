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
from protocols.websocket import v1

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
MASK = b"\1\2\3\4"


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


def frame(opcode: Opcode, data: bytes = b"", fin: bool = True, rsv1: bool = False) -> bytes:
    """A masked frame of a client."""
    raw = bytearray(Frame(opcode, data, fin, rsv1=False).serialize(mask=False))
    raw[0] |= 0x40 * rsv1
    head = len(raw) - len(data)
    raw[1] |= 0x80
    masked = bytes(byte ^ MASK[at % 4] for at, byte in enumerate(data))
    return bytes(raw[:head]) + MASK + masked


def deflated(data: bytes) -> bytes:
    """A message as a client compresses it that keeps no window."""
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def closing(code: int, reason: str = "") -> bytes:
    return frame(Opcode.CLOSE, Close(code, reason).serialize())


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
