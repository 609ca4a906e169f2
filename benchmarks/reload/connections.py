"""A connection of each class, held open over a reload, and what became of it.

Each ``hold_*`` is a coroutine with two halves: up to ``await point.open`` it brings its connection
to where the reload is to find it; what comes after looks at what the server does and finishes what
was begun. It returns a sentence that begins with *ok* when the client got everything that it was
owed, and otherwise says what happened and when. Nothing of netswap is used here.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

__all__ = ["CLASSES", "PATIENCE_S", "Outcome", "Point", "hold", "one_answer"]

PATIENCE_S = 35.0
"""Seconds after the reload for which an idle connection is looked at."""
LATER_S = 3.0
"""Seconds after the reload when what was begun is finished."""
STREAMED = b"".join(b"%06d\n" % number for number in range(60))
BIG = 16 * 1024 * 1024


class Broken(Exception):
    """The server did what it must not."""


class Outcome(NamedTuple):
    """What became of one connection: ``ok``, or what was wrong, and when."""

    text: str
    at: float | None = None


class Point:
    """The reload: connections come to it one by one, and go on when it is over."""

    def __init__(self, count: int) -> None:
        self.missing = count
        self.ready = asyncio.Event()
        self.over = asyncio.Event()
        self.at = 0.0

    async def reached(self) -> None:
        """This connection is where the reload is to find it."""
        self.missing -= 1
        if self.missing == 0:
            self.ready.set()
        await self.over.wait()

    def reload(self) -> None:
        """It begins."""
        self.at = time.monotonic()
        self.over.set()

    def since(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.at


class Client:
    """One connection, with what was read and not used."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Write; loopback takes it."""
        self.writer.write(data)

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of one answer. Raises Broken for one that ends in the middle."""
        status, headers = await self._head()
        if headers.get("transfer-encoding") == "chunked":
            return status, await self._chunked()
        if "content-length" in headers:
            return status, await self._exactly(int(headers["content-length"]))
        return status, await self.reader.read()

    async def _head(self) -> tuple[int, dict[str, str]]:
        line = await self._line()
        headers = {}
        while row := await self._line():
            name, _, value = row.partition(":")
            headers[name.lower()] = value.strip()
        return int(line.split()[1]), headers

    async def _chunked(self) -> bytes:
        found = []
        while size := int(await self._line(), 16):
            found.append(await self._exactly(size))
            await self._line()
        await self._line()
        return b"".join(found)

    async def _line(self) -> str:
        line = await self.reader.readline()
        if not line.endswith(b"\n"):
            raise Broken("closed" if not line else "cut off in a head")
        return line.rstrip(b"\r\n").decode("latin-1")

    async def _exactly(self, size: int) -> bytes:
        try:
            return await self.reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise Broken(f"cut off after {len(error.partial)} of {size} bytes") from None

    async def frame(self) -> tuple[int, bytes]:
        """Opcode and payload of one WebSocket frame."""
        head = await self._exactly(2)
        size = head[1] & 127
        if size == 126:
            size = int.from_bytes(await self._exactly(2), "big")
        return head[0] & 15, await self._exactly(size)


TEXT, CLOSE, PING, PONG, FINAL = 1, 8, 9, 10, 128


def masked(first: int, payload: bytes) -> bytes:
    """A client's frame, RFC 6455 section 5.2; payloads are short."""
    mask = os.urandom(4)
    body = bytes(byte ^ mask[number % 4] for number, byte in enumerate(payload))
    return bytes((first, 128 | len(payload))) + mask + body


async def connected(port: int, tls: ssl.SSLContext | None, buffer: int = 0) -> Client:
    """A new connection to loopback; ``buffer`` is its receive buffer's size, if given."""
    sock = socket.socket()
    sock.setblocking(False)
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    name = "localhost" if tls else None
    limit = buffer or 2**16
    return Client(
        *await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=name, limit=limit)
    )


def get(path: str, more: str = "") -> bytes:
    """A request."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


def post(more: str) -> bytes:
    """The head of a request with a body."""
    return f"POST /length HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


async def whole(client: Client, expected: bytes = b"version ") -> None:
    """One answer that is as it should be."""
    status, body = await client.answer()
    if status != 200:
        raise Broken(f"status {status}")
    if not body.startswith(expected):
        raise Broken(f"answered {body[:40]!r}")


async def undisturbed(client: Client) -> None:
    """The server does not close, and sends nothing but pings, which are answered."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            async with asyncio.timeout(max(until - time.monotonic(), 0)):
                data = await client.reader.read(1000)
        except TimeoutError:
            return
        if not data:
            raise Broken("closed")
        if data[:1] == bytes((FINAL | CLOSE,)):
            raise Broken(f"WebSocket closed with {int.from_bytes(data[2:4], 'big')}")
        if data[:1] != bytes((FINAL | PING,)):
            raise Broken(f"was sent {data[:40]!r}")
        client.send(masked(FINAL | PONG, data[2 : 2 + data[1]]))


# -- the classes --


async def hold_idle(client: Client, point: Point) -> None:
    """Keep-alive, between two requests."""
    client.send(get("/"))
    await whole(client)
    await point.reached()
    await undisturbed(client)
    client.send(get("/"))
    await whole(client)


async def hold_silent(client: Client, point: Point) -> None:
    """Accepted, and nothing was sent yet."""
    await asyncio.sleep(0.2)
    await point.reached()
    await asyncio.sleep(LATER_S)
    client.send(get("/"))
    await whole(client)


async def hold_parts(client: Client, point: Point, first: bytes, second: bytes) -> None:
    """A request of which the first part was sent."""
    client.send(first)
    await asyncio.sleep(0.2)
    await point.reached()
    await asyncio.sleep(LATER_S)
    client.send(second)


async def hold_head(client: Client, point: Point) -> None:
    """Half a request head."""
    request = get("/", "X-Long: value\r\n")
    await hold_parts(client, point, request[:30], request[30:])
    await whole(client)


async def hold_body(client: Client, point: Point) -> None:
    """Half a body."""
    await hold_parts(client, point, post("Content-Length: 10\r\n") + b"01234", b"56789")
    await whole(client, b"10")


async def hold_chunk(client: Client, point: Point) -> None:
    """Inside a chunk of a body."""
    head = post("Transfer-Encoding: chunked\r\n")
    await hold_parts(client, point, head + b"a\r\n01234", b"56789\r\n0\r\n\r\n")
    await whole(client, b"10")


async def hold_request(client: Client, point: Point) -> None:
    """A request in flight, which takes four seconds."""
    client.send(get("/slow"))
    await asyncio.sleep(0.2)
    await point.reached()
    await whole(client)


async def hold_pipelined(client: Client, point: Point) -> None:
    """Two more requests behind one in flight."""
    client.send(get("/slow") + get("/") + get("/"))
    await asyncio.sleep(0.2)
    await point.reached()
    for _ in range(3):
        await whole(client)


async def hold_stream(client: Client, point: Point) -> None:
    """A response that is written for six seconds."""
    client.send(get("/stream"))
    await asyncio.sleep(0.5)
    await point.reached()
    status, body = await client.answer()
    if status != 200 or body != STREAMED:
        raise Broken(f"{len(body)} of {len(STREAMED)} bytes")


async def hold_stopped(client: Client, point: Point) -> None:
    """A client that stopped reading in the middle of 16 MB."""
    client.send(get("/big"))
    await asyncio.sleep(0.5)
    await point.reached()
    await asyncio.sleep(LATER_S)
    _, body = await client.answer()
    if len(body) != BIG:
        raise Broken(f"{len(body)} of {BIG} bytes")


async def hold_half_closed(client: Client, point: Point) -> None:
    """A client that has sent its end behind a request in flight."""
    client.send(get("/slow"))
    client.writer.write_eof()
    await asyncio.sleep(0.2)
    await point.reached()
    await whole(client)


async def upgraded(client: Client) -> None:
    """Make it a WebSocket and see an echo."""
    key = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    client.send(get("/ws", key + "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"))
    status, _ = await client._head()
    if status != 101:
        raise Broken(f"status {status} for an upgrade")
    await echoed(client, masked(FINAL | TEXT, b"hello"), b"hello")


async def echoed(client: Client, frames: bytes, expected: bytes) -> bytes:
    """Send frames and see the message come back; the version that answered."""
    client.send(frames)
    while True:
        opcode, payload = await client.frame()
        if opcode == CLOSE:
            raise Broken(f"WebSocket closed with {int.from_bytes(payload[:2], 'big')}")
        if opcode == TEXT:
            version, _, text = payload.partition(b" ")
            if text != expected:
                raise Broken(f"echoed {payload!r}")
            return version


async def hold_websocket(client: Client, point: Point) -> str:
    """A WebSocket, idle."""
    await upgraded(client)
    await point.reached()
    await undisturbed(client)
    version = await echoed(client, masked(FINAL | TEXT, b"again"), b"again")
    return "on new code" if version == b"2" else "on old code"


async def hold_fragment(client: Client, point: Point) -> None:
    """A WebSocket with a fragmented message under way."""
    await upgraded(client)
    client.send(masked(TEXT, b"half "))
    await asyncio.sleep(0.2)
    await point.reached()
    await asyncio.sleep(LATER_S)
    await echoed(client, masked(FINAL, b"a message"), b"half a message")


async def hold_ping(client: Client, point: Point) -> None:
    """A WebSocket with a ping of which half was sent."""
    await upgraded(client)
    ping = masked(FINAL | PING, b"alive")
    client.send(ping[:4])
    await asyncio.sleep(0.2)
    await point.reached()
    await asyncio.sleep(LATER_S)
    client.send(ping[4:])
    opcode, payload = await client.frame()
    if (opcode, payload) != (PONG, b"alive"):
        raise Broken(_instead(opcode, payload, "pong"))


async def hold_closing(client: Client, point: Point) -> None:
    """A WebSocket in its closing handshake."""
    await upgraded(client)
    close = masked(FINAL | CLOSE, (1000).to_bytes(2, "big"))
    client.send(close[:4])
    await asyncio.sleep(0.2)
    await point.reached()
    await asyncio.sleep(LATER_S)
    client.send(close[4:])
    opcode, payload = await client.frame()
    if opcode != CLOSE or payload[:2] != (1000).to_bytes(2, "big"):
        raise Broken(_instead(opcode, payload, "close with 1000"))


def _instead(opcode: int, payload: bytes, wanted: str) -> str:
    if opcode == CLOSE:
        return f"WebSocket closed with {int.from_bytes(payload[:2], 'big')}"
    return f"frame {opcode} {payload!r} in place of a {wanted}"


class Class(NamedTuple):
    """A class of connection."""

    name: str
    hold: Callable[[Client, Point], Awaitable[str | None]]
    buffer: int = 0
    tls: bool = False


CLASSES = (
    Class("idle keep-alive", hold_idle),
    Class("accepted, nothing sent", hold_silent),
    Class("half a request head", hold_head),
    Class("half a body", hold_body),
    Class("inside a chunk", hold_chunk),
    Class("request in flight (4 s)", hold_request),
    Class("pipelined requests", hold_pipelined),
    Class("response of 6 s", hold_stream),
    Class("client stopped reading", hold_stopped, buffer=65_536),
    Class("half-closed by the client", hold_half_closed),
    Class("WebSocket idle", hold_websocket),
    Class("WebSocket, half a message", hold_fragment),
    Class("WebSocket, half a ping", hold_ping),
    Class("WebSocket closing", hold_closing),
    Class("TLS idle keep-alive", hold_idle, tls=True),
    Class("TLS response of 6 s", hold_stream, tls=True),
    Class("TLS WebSocket idle", hold_websocket, tls=True),
)


async def hold(kind: Class, port: int, tls: ssl.SSLContext | None, point: Point) -> Outcome:
    """Hold one connection of a class over the reload; what became of it."""
    client = await connected(port, tls if kind.tls else None, kind.buffer)
    try:
        async with asyncio.timeout(60):
            remark = await kind.hold(client, point)
        return Outcome(f"ok, {remark}" if remark else "ok")
    except Broken as error:
        return _broken(point, str(error))
    except (ConnectionError, TimeoutError, ssl.SSLError) as error:
        return _broken(point, type(error).__name__)
    finally:
        client.writer.transport.abort()


def _broken(point: Point, what: str) -> Outcome:
    if not point.over.is_set():
        raise RuntimeError(f"it went wrong before the reload: {what}")
    return Outcome(what, point.since())


async def one_answer(port: int) -> int:
    """The status of one request on a connection of its own; 0 when there was no answer."""
    try:
        client = await connected(port, None)
    except OSError:
        return 0
    try:
        async with asyncio.timeout(5):
            client.send(get("/", "Connection: close\r\n"))
            return (await client.answer())[0]
    except (Broken, OSError, TimeoutError):
        return 0
    finally:
        client.writer.transport.abort()
