"""websocket: messages go both ways, whatever is swapped meanwhile; driven by another's client."""

from __future__ import annotations

import asyncio
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close, Frame, Opcode

from netswap import State
from netswap.http import (
    App,
    Channel,
    HttpError,
    Request,
    Response,
    WebSocketClosedError,
    websocket,
)
from netswap.supervisor.certificates import read_files
from netswap.tls import TlsFiles, context_of
from protocols.http import limits
from protocols.http import v1 as http
from protocols.http import v2 as http_v2
from protocols.websocket import v1, v2
from tests.authority import Authority
from tests.masked import closing, deflated, frame
from tests.protocols.conftest import Server, until

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
    server = await serve(limits, http, v1, *(apps or (module,)), kind="http.connection")
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


async def test_a_session_knows_who_is_at_its_other_end(serve):
    """The request is that of the connection, which is of another kind by then."""

    class Who(App[Nothing]):
        @websocket("/")
        def tell(self, channel: Channel, message: str | bytes) -> None:
            channel.send_nowait(f"{channel.request.peer} {channel.request.scheme}")

    _, address = await site(serve, SimpleNamespace(Who=Who))
    async with connect(address) as client:
        await client.send("who am I")
        assert await client.recv() == f"{client.local_address} http"


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
        await head_of(client)
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
        await server.swap(v2, http_v2)
        await client.send(talk[cut:])
        assert await heard(client) == whole, cut


# -- keeping alive, closing, flow ------------------------------------------------------------------


async def head_of(client) -> bytes:
    """The answer to the handshake."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await client.read(1)
    return head


async def greeted(serve, first: Any):
    """A server and a client, after the greeting."""
    server, client = await opened(serve, module, b"/calls", first)
    await head_of(client)
    await client.read(len(b"\x81\x0cwelcome None"))
    return server, client


PING = b"\x89\x07netswap"
SILENT = {v1: b"no pong came to a ping", v2: b"nothing has come for 20 s, not even a pong"}


@UP_AND_DOWN
async def test_a_ping_that_is_outstanding_survives_a_swap(serve, steps):
    """Its pong counts afterwards; without one, the client is given up with 1011."""
    first, second = steps
    server, client = await greeted(serve, first)
    client.entry.target.keepalive()
    assert await client.read(9) == PING
    await server.swap(second)
    await client.send(frame(Opcode.PONG, b"netswap"))
    client.entry.target.keepalive()
    assert await client.read(9) == PING
    await server.swap(first)
    client.entry.target.keepalive()
    assert await client.read_all() == Frame(
        Opcode.CLOSE, Close(1011, SILENT[first].decode()).serialize()
    ).serialize(mask=False)


@pytest.mark.parametrize(("version", "stays"), [(v1, False), (v2, True)])
async def test_a_client_whose_pong_stands_behind_a_long_message_stays(serve, version, stays):
    """Version 1 took nothing but a pong for a sign of life."""
    _, client = await greeted(serve, version)
    client.entry.target.keepalive()
    await client.send(frame(Opcode.BINARY, b"x" * 100)[:50])
    client.entry.target.keepalive()
    assert await client.read(9) == PING
    assert await client.read(2) == (PING[:2] if stays else b"\x88\x18")


async def test_a_client_that_takes_nothing_of_what_it_is_sent_is_dropped(serve):
    """It may be slow; but one that sleeps would hold messages, and who sends them, for ever."""
    server = await serve(http, v2, module, kind="http.connection")
    client = await server.connect(buffer=4096)
    await client.send(asking(b"/calls"))
    await until(lambda: client.entry is not None and client.entry.kind == KIND)
    entry = client.entry
    connection = entry.target
    channel = connection.state.channel
    channel.send_nowait(b"x" * 10_000_000)
    for _ in range(3):
        connection.keepalive()
        while connection.outstanding() == connection.state.taken:
            await client.read(50_000)
            await asyncio.sleep(0)
            assert entry.target is connection
    assert connection.reading_paused
    connection.keepalive()
    connection.keepalive()
    await until(lambda: entry.target is None)
    assert channel.closed


@UP_AND_DOWN
async def test_a_swap_within_the_closing_handshake(serve, steps):
    """We have closed and wait for the client's close; what it says until then is not lost."""
    first, second = steps
    server, client = await greeted(serve, first)
    await client.send(frame(Opcode.TEXT, b"end"))
    farewell = Frame(Opcode.CLOSE, Close(4000, "as you like").serialize()).serialize(mask=False)
    assert await client.read(5 + len(farewell)) == b"\x81\x03end" + farewell
    await server.swap(second)
    await client.send(closing(4000)[:3])
    await server.swap(first)
    await client.send(closing(4000)[3:])
    assert await client.read_all() == b""


async def test_a_client_that_never_answers_a_close_is_cut_off(serve):
    """It has its time, and no more."""
    _, client = await greeted(serve, v1)
    await client.send(frame(Opcode.TEXT, b"end"))
    assert client.entry.target.timers.remaining("close_late") == pytest.approx(10, abs=1)
    client.entry.target.close_late()
    await until(lambda: client.entry is None)


async def test_the_server_says_that_it_restarts_when_it_stops(serve):
    """1012, and it waits for the client's answer."""
    _, client = await greeted(serve, v2)
    client.entry.target.on_drain()
    farewell = Close(1012, "the server restarts").serialize()
    assert await client.read(2 + len(farewell)) == bytes([0x88, len(farewell)]) + farewell
    await client.send(closing(1012))
    assert await client.read_all() == b""


async def test_a_client_that_does_not_read_is_not_read(serve):
    """What is answered to it is bounded by the transport's buffer, and all of it arrives."""
    server = await serve(http, v1, module, kind="http.connection")
    client = await server.connect(buffer=4096)
    await client.send(asking(b"/calls"))
    await until(lambda: client.entry is not None and client.entry.kind == KIND)
    message = frame(Opcode.BINARY, b"x" * 60_000)
    sent = 0
    while not client.entry.target.writing_paused:
        await client.send(message, read=False)
        sent += 1
        await asyncio.sleep(0)
    connection = client.entry.target
    assert connection.reading_paused
    await server.swap(v2)
    assert client.entry.target.reading_paused
    await head_of(client)
    data = await client.read(14 + sent * 60_004)
    assert len(data) == 14 + sent * 60_004
    await until(lambda: not client.entry.target.reading_paused)


class Slow(App[Nothing]):
    """Receives when it is told to."""

    @websocket("/slow")
    async def slow(self, channel: Channel) -> None:
        assert await channel.receive() == "first"
        await told["go"].wait()
        async for message in channel:
            await channel.send(message)


slow: Any = SimpleNamespace(Slow=Slow)
told: dict[str, asyncio.Event] = {}


async def test_messages_that_nobody_receives_stop_the_reading(serve):
    """And when they are received they are all there, in order, across a swap."""
    told["go"] = asyncio.Event()
    server, client = await opened(serve, slow, b"/slow", v1)
    await head_of(client)
    await client.send(frame(Opcode.TEXT, b"first"))
    many = [b"%04d" % number for number in range(200)]
    for text in many:
        await client.send(frame(Opcode.TEXT, text), read=False)
    await until(lambda: client.entry.target.reading_paused)
    await server.swap(v2)
    told["go"].set()
    assert await client.read(6 * 200) == b"".join(b"\x81\x04" + text for text in many)
    assert not client.entry.target.reading_paused


# -- refusals --------------------------------------------------------------------------------------


GET = b"GET /calls HTTP/1.1\r\nHost: here\r\n\r\n"
REFUSED = {
    "no upgrade": (GET, 426, b"upgrade: websocket\r\n"),
    "another version": (asking(b"/calls", version=b"12"), 426, b"sec-websocket-version: 13\r\n"),
    "a bad key": (asking(b"/calls").replace(KEY, b"x"), 400, b"invalid Sec-WebSocket-Key"),
    "no key": (asking(b"/calls").replace(b"Sec-WebSocket-Key", b"X"), 400, b"missing"),
    "two keys": (asking(b"/calls", b"Sec-WebSocket-Key: " + KEY), 400, b"multiple values"),
    "another origin": (asking(b"/calls", b"Origin: http://evil.example"), 403, b"evil.example"),
    "by the application": (asking(b"/calls?no"), 403, b"not you"),
    "another path": (asking(b"/nothing"), 404, b""),
    "another method": (GET.replace(b"GET", b"POST"), 405, b"allow: GET\r\n"),
}


@pytest.mark.parametrize("version", [http, http_v2])
@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_refused_is_told_and_the_connection_goes_on(serve, name, version):
    """The status and headers of RFC 6455 section 4.4, and the next request is answered."""
    request, status, words = REFUSED[name]
    server = await serve(limits, version, v1, module, kind="http.connection")
    client = await server.connect()
    await client.send(request + b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await client.read_all()
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert words in answer
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 404 " in answer[9:]


@pytest.mark.parametrize("origin", [b"http://here", b"https://here", b"https://good.example"])
async def test_pages_of_the_same_host_and_of_named_ones_may_connect(serve, origin):
    """The scheme is that of whatever stands in front."""
    server, _ = await site(serve)
    client = await server.connect()
    await client.send(asking(b"/calls", b"Origin: " + origin))
    assert (await head_of(client)).startswith(b"HTTP/1.1 101 ")


async def test_without_somebody_who_speaks_it_there_is_no_websocket(serve):
    """501 instead of an answer that nobody follows up."""
    server = await serve(http, module, kind="http.connection")
    client = await server.connect()
    await client.send(asking(b"/session/x") + b"x")
    assert (await head_of(client)).startswith(b"HTTP/1.1 501 ")


# -- the application is swapped --------------------------------------------------------------------


def bundled(session):
    """A coroutine as one of a pushed file: where it is suspended is told by that file's line."""
    session.__code__ = session.__code__.replace(co_filename="counting.py@0123456789ab")
    return session


def carrying(name: str) -> Any:
    """An application that counts messages and says by whom; what it has counted it carries on."""

    class Counting(App[Nothing]):
        @websocket("/count")
        @bundled
        async def count(self, channel: Channel) -> None:
            number = channel.carry or 0
            async for message in channel:
                number += 1
                if message != "stay":
                    channel.carry = number
                await channel.send(f"{name} {number}")

        @websocket("/calls")
        def said(self, channel: Channel, message: str) -> None:
            channel.send_nowait(name)

    return SimpleNamespace(Counting=Counting)


old_app, new_app = carrying("old"), carrying("new")


async def test_a_coroutine_that_waits_goes_on_in_the_new_code_with_what_it_carries(serve):
    """Back again as well, and the client sees one session."""
    server, address = await site(serve, old_app)
    async with connect(address + "/count") as client:
        for app, answer in [(None, "old 1"), (new_app, "new 2"), (old_app, "old 3")]:
            if app is not None:
                await server.swap(app)
            await client.send("x")
            assert await client.recv() == answer
    assert client.close_code == 1000


async def test_a_coroutine_that_carries_nothing_stays_and_is_listed(serve):
    """It is told apart by `netswap blockers`, ends when it is cancelled, and may still carry."""
    server, address = await site(serve, old_app)
    app = server.host.service("http.app")
    async with connect(address + "/count") as client, connect(address + "/count") as other:
        for one in (client, other):
            await one.send("stay")
            assert await one.recv() == "old 1"
        assert app.target.blockers() == []
        await server.swap(new_app)
        await client.send("stay")
        assert await client.recv() == "old 2"
        rows = app.target.blockers()
        assert len(rows) == 2
        assert rows[0].kind == "http.app"
        assert rows[0].where.startswith("counting.py:")
        await client.send("x")
        assert await client.recv() == "old 3"
        await client.send("x")
        assert await client.recv() == "new 4"
        (row,) = app.target.blockers()
        (acted,) = app.target.cancel_suspended(int(row.id.partition("#")[2]))
        assert acted.done
        with pytest.raises(ConnectionClosedError):
            await other.recv()
        assert other.close_code == 1012
        assert app.target.blockers() == []


async def test_calls_go_to_whatever_is_present(serve):
    """They are pinned to nothing."""
    server, address = await site(serve, old_app)
    async with connect(address + "/calls") as client:
        await client.send("")
        assert await client.recv() == "old"
        await server.swap(new_app)
        await client.send("")
        assert await client.recv() == "new"


async def test_a_message_that_came_before_the_swap_is_the_new_codes(serve):
    """A coroutine that was about to receive it has not."""
    server, client = await opened(serve, old_app, b"/count", v1)
    await head_of(client)
    await client.send(frame(Opcode.TEXT, b"x"))
    assert await client.read(7) == b"\x81\x05old 1"
    channel = client.entry.target.state.channel
    await until(lambda: channel.waiter is not None)
    await client.send(frame(Opcode.TEXT, b"x"))
    channel.follow(SimpleNamespace())
    assert channel.moving
    await server.swap(new_app)
    assert await client.read(7) == b"\x81\x05new 2"


async def test_what_a_coroutine_of_the_past_says_goes_nowhere(serve):
    """Its clean-up closes nothing, sends nothing and receives nothing."""
    heard: list[str] = []

    class Cleaning(App[Nothing]):
        @websocket("/count")
        async def count(self, channel: Channel) -> None:
            channel.carry = 1
            try:
                await channel.receive()
            finally:
                await channel.send("I am leaving")
                channel.close(4001)
                with pytest.raises(WebSocketClosedError):
                    await channel.receive()
                heard.append("cleaned up")

    server, address = await site(serve, SimpleNamespace(Cleaning=Cleaning))
    async with connect(address + "/count") as client:
        await client.ping()
        await server.swap(new_app)
        await client.send("x")
        assert await client.recv() == "new 2"
    assert heard == ["cleaned up"]


# -- many frames in one chunk ---------------------------------------------------------------------

MANY = 5_000


def numbers(data: bytes) -> list[int]:
    """What short texts say, in order, of frames that the server has sent."""
    found, at = [], 0
    while at < len(data):
        size = data[at + 1]
        found.append(int(data[at + 2 : at + 2 + size]))
        at += 2 + size
    return found


def in_turns(turns: list[int]) -> Any:
    """An application that says all back; ``turns`` has the messages of each turn of the loop."""

    class Turning(App[Nothing]):
        @websocket("/calls")
        def said(self, channel: Channel, message: str) -> None:
            if not turns[-1]:
                asyncio.get_running_loop().call_soon(turns.append, 0)
            turns[-1] += 1
            channel.send_nowait(message)

        @websocket("/session")
        async def session(self, channel: Channel) -> None:
            async for message in channel:
                await channel.send(message)

    return SimpleNamespace(Turning=Turning)


@pytest.mark.parametrize("version", [v1, v2])
@pytest.mark.parametrize("path", [b"/calls", b"/session"])
async def test_many_frames_of_one_chunk_do_not_hold_the_loop(serve, path, version):
    """So many in a turn; nothing is lost or out of order, also when it is swapped there."""
    turns = [0]
    server, client = await opened(serve, in_turns(turns), path, version)
    await head_of(client)
    frames = b"".join(frame(Opcode.TEXT, b"%d" % number) for number in range(MANY))
    back = sum(2 + len(str(number)) for number in range(MANY))
    sending = asyncio.ensure_future(client.send(frames, read=False))
    answered = b""
    for other in (v2, v1, v2):
        answered += await client.read(200)
        await server.swap(other)
    answered += await client.read(back - len(answered))
    await sending
    assert numbers(answered) == list(range(MANY))
    assert max(turns) <= v2.AT_ONCE
    assert path == b"/session" or len(turns) > MANY // v2.AT_ONCE


async def test_what_waits_for_its_turn_is_answered_before_the_end_of_the_stream(serve):
    """The client sends its end behind a chunk of many frames."""
    _, client = await opened(serve, in_turns([0]), b"/calls", v2)
    await head_of(client)
    frames = b"".join(frame(Opcode.TEXT, b"%d" % number) for number in range(1000))
    await client.send(frames, read=False)
    await client.finish()
    assert numbers(await client.read_all()) == list(range(1000))


def without_turns() -> Any:
    """Version 1 as it was when a chunk was taken at once."""
    text = Path(str(v1.__file__)).read_text()
    for now, then in (
        ("if data:\n", "if True:\n"),
        ("def proceed(", "def unknown("),
        ("feed(data, AT_ONCE)", "feed(data)"),
    ):
        assert now in text
        text = text.replace(now, then, 1)
    older = ModuleType("older")
    sys.modules["older"] = older
    try:
        exec(compile(text, "older.py", "exec"), vars(older))
    finally:
        del sys.modules["older"]
    return older


async def test_what_waits_is_taken_by_a_version_that_knows_of_no_turns(serve):
    """It was written before there were any: swapped in while frames wait."""
    server, client = await opened(serve, in_turns([0]), b"/calls", v1)
    await head_of(client)
    frames = b"".join(frame(Opcode.TEXT, b"%d" % number) for number in range(1000))
    await client.send(frames, read=False)
    connection = client.entry
    await until(lambda: connection.target.state.frames.waits)
    await server.swap(without_turns())
    await client.finish()
    assert numbers(await client.read_all()) == list(range(1000))


def noting(heard: list[str]) -> Any:
    """An application that answers what it hears, whether that arrives or not."""

    class Noting(App[Nothing]):
        @websocket("/calls")
        def said(self, channel: Channel, message: str) -> None:
            heard.append(message)
            if channel.is_open:
                channel.send_nowait(message)

        @websocket("/calls", on="close")
        def over(self, channel: Channel) -> None:
            heard.append(f"over {channel.code}")

        @websocket("/session")
        async def session(self, channel: Channel) -> None:
            async for message in channel:
                heard.append(message)
                with suppress(WebSocketClosedError):
                    await channel.send(message)
            heard.append(f"over {channel.code}")

    return SimpleNamespace(Noting=Noting)


@pytest.mark.parametrize("version", [v1, v2])
@pytest.mark.parametrize("path", [b"/calls", b"/session"])
async def test_what_came_before_the_client_was_gone_is_heard(serve, path, version):
    """It closes behind 200 messages; the first answers are met with a reset."""
    heard: list[str] = []
    _, client = await opened(serve, noting(heard), path, version)
    await head_of(client)
    sent = [str(number) for number in range(200)]
    await client.send(b"".join(frame(Opcode.TEXT, one.encode()) for one in sent), read=False)
    client.sock.close()
    await until(lambda: len(heard) > 200)
    assert heard == [*sent, "over 1006"]


# -- another client, and TLS -----------------------------------------------------------------------


@PATHS
async def test_the_client_of_aiohttp_says_the_same(serve, path):
    """It masks, deflates and closes in its own way."""
    server, address = await site(serve)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(address + path, compress=15) as client,
    ):
        assert "welcome" in await client.receive_str()
        for message in ("grüß €", "x" * 70_000):
            await client.send_str(message)
            assert await client.receive_str() == message
            await server.swap(v2)
        await client.send_bytes(b"y" * 5000)
        assert await client.receive_bytes() == b"y" * 5000
        await client.ping(b"there?")
        await client.close(code=4002, message=b"done")
        assert client.close_code == 4002


async def test_over_tls_a_session_is_swapped_and_closed_in_order(tmp_path):
    """TLS has no half of a connection to close: it is closed at once, after the last words."""
    authority = Authority(tmp_path)
    pair = authority.issue()
    tls = context_of(read_files(TlsFiles(cert=pair.cert, key=pair.key), "web").terms)
    server = Server((http, v1, module), "http.connection", {})
    await server.start(tls)
    address = f"wss://localhost:{server.address[1]}/calls"
    async with connect(address, ssl=authority.client()) as client:
        await client.recv()
        await client.send("one")
        assert await client.recv() == "one"
        await server.swap(v2, http)
        await client.send("end")
        assert await client.recv() == "end"
        with pytest.raises(ConnectionClosedError):
            await client.recv()
    assert client.close_code == 4000
    await server.stop()
