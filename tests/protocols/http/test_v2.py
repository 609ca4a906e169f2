"""http.connection, version 2: what version 1 does not do, and how connections end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace

import pytest

from netswap import State
from netswap.http import App, Limits, Request, Response, route
from netswap.stack import Service
from protocols.http import limits, v1, v2
from tests.protocols.conftest import until
from tests.protocols.http import answering
from tests.protocols.http.test_http import KIND, LAST, get, parsed, talk


class Strict(State, kind="http.limits", version=1):
    """No state."""


class StrictLimits(Service[Strict]):
    """Little of everything."""

    def present(self) -> Limits:
        """What is in force."""
        return Limits(head=4096, body=1000, head_s=0.05, body_s=0.05, linger_s=0.1, drain=100)


class Bad(State, kind="http.app", version=1):
    """No state."""


class BadApp(App[Bad]):
    """Says what can't be said."""

    @route("GET", "/now")
    def now(self, request: Request) -> Response:
        """At once."""
        return Response("x", 200, [(b"x", b"a\r\nset-cookie: b")])

    @route("GET", "/later")
    async def later(self, request: Request) -> Response:
        """As a coroutine."""
        return Response("x", 200, [(b"content-length", b"7")])

    @route("GET", "/parts")
    async def parts(self, request: Request) -> None:
        """In parts."""
        request.exchange.start(200, [(b"x\n", b"y")])

    @route("GET", "/last")
    def last(self, request: Request) -> Response:
        """With the end of the connection."""
        return Response("x", 200, [(b"connection", b"close")])


STRICT = SimpleNamespace(StrictLimits=StrictLimits)
BAD = SimpleNamespace(BadApp=BadApp)


async def client_of(serve, *modules):
    server = await serve(v2, *(modules or (limits, answering)), kind=KIND)
    return server, await server.connect()


def post(path: bytes, length: int, body: bytes = b"", more: bytes = b"") -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n"
    return head % (path, length, more) + body


@pytest.mark.parametrize(("version", "wrong"), [(v1, True), (v2, False)], ids=["v1", "v2"])
async def test_head_answered_by_a_stream_has_no_last_chunk(serve, version, wrong):
    """Version 1 sends one, and a client takes it for the beginning of the next answer."""
    server = await serve(version, limits, answering, kind=KIND)
    client = await server.connect()
    await client.send(b"HEAD /long HTTP/1.1\r\nHost: x\r\n\r\n" + get(b"/", LAST))
    first, _, second = (await client.read_all()).partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert second.startswith(b"0\r\n\r\nHTTP/1.1" if wrong else b"HTTP/1.1")


async def test_what_an_application_may_not_say_is_its_failure(serve):
    """The client gets 500s and the connection goes on."""
    server, client = await client_of(serve, limits, BAD)
    found = await talk(client, get(b"/now") + get(b"/later") + get(b"/parts") + get(b"/no", LAST))
    assert [status for status, _ in found] == [500, 500, 500, 404]
    assert len(server.log.errors) == 3
    assert {row["kind"] for row in server.log.errors} == {"http.app"}
    server.log.errors.clear()


async def test_a_short_body_that_nobody_wanted_is_read_and_the_connection_goes_on(serve):
    """Only what is left of it counts."""
    _, client = await client_of(serve)
    found = await talk(client, post(b"/early", 10), b"0123456789" + get(b"/", LAST))
    assert found == [(403, b"no, thanks"), (200, b"hello")]


async def test_before_a_long_body_that_nobody_wanted_the_answer_says_that_it_is_the_last(serve):
    """And is there to be read, though the client is still sending: nothing is reset."""
    _, client = await client_of(serve)
    await client.send(post(b"/early", 1 << 24, b"x" * 1000))
    await client.send(b"y" * 500_000)
    answer = await client.read_all()
    assert b"connection: close" in answer
    assert parsed(answer) == [(403, b"no, thanks")]
    entry = client.entry
    await client.send(b"z" * 100_000)
    await client.finish()
    await until(lambda: entry is None or entry.target is None)


async def test_who_is_refused_while_it_sends_reads_why(serve):
    """The socket is not closed over unread bytes."""
    _, client = await client_of(serve)
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nno header\r\n\r\n" + b"x" * 200_000)
    await client.send(b"y" * 200_000)
    assert [status for status, _ in parsed(await client.read_all())] == [400]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post(b"/length", 1001), 413),
        (post(b"/echo", 1001), 413),
        (
            b"POST /length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"7d0\r\n" + b"x" * 1500,
            413,
        ),
        (get(b"/", b"X: " + b"y" * 5000 + b"\r\n"), 431),
        (b"GET / HTTP/1.1\r\n", 408),
        (post(b"/length", 1000, b"x"), 408),
        (post(b"/length", 5, more=b"Expect: 100-continue\r\n"), 408),
    ],
)
async def test_limits(serve, sent, status):
    """Each has its status, and ends the connection in order."""
    _, client = await client_of(serve, STRICT, answering)
    await client.send(sent)
    answer = (await client.read_all()).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert [found for found, _ in parsed(answer)] == [status]
    assert b"connection: close" in answer


async def test_a_head_has_its_own_time(serve):
    """It begins with its first byte, however slow the one before it was."""
    server, client = await client_of(serve)
    timers = server.host.service("timer.service")
    for _ in range(2):
        await client.send(b"GET / HTTP/1.1\r\n")
        await until(lambda: timers.target.remaining(client.entry, "head_late"))
        await client.send(b"Host: x\r\n\r\n")
        await until(lambda: timers.target.remaining(client.entry, "head_late") is None)


async def test_who_does_not_read_is_not_answered_further_and_not_read(serve):
    """What waits for it is bounded: by the transport's limit and one answer."""
    _, client = await client_of(serve)
    entry = client.entry
    client.sock.setblocking(False)
    sent = 0
    more = get(b"/nowhere/" + b"x" * 60) * 500
    while not entry.target.reading_paused:
        with suppress(BlockingIOError):
            sent += client.sock.send(more[sent % len(more) :])
        await asyncio.sleep(0)
    assert entry.target.transport.get_write_buffer_size() < 400_000
    assert entry.target.writing_paused
    client.sock.shutdown(1)
    body = await client.read_all()
    assert body.count(b"HTTP/1.1 404") >= sent // len(more) * 500


async def test_continue_is_said_once_when_the_body_is_awaited(serve):
    """And not when it has come, nor to HTTP/1.0."""
    _, client = await client_of(serve)
    await client.send(post(b"/length", 3, more=b"Expect: 100-continue\r\n"))
    assert await client.read(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    found = await talk(client, b"abc" + post(b"/length", 1, b"x", b"Expect: 100-continue\r\n"
                                             b"Connection: close\r\n"))  # fmt: skip
    assert found == [(200, b"3"), (200, b"1")]


async def test_http_1_0_is_kept_alive_when_it_asks(serve):
    """And closed else; a stream without a length goes to the end of the connection."""
    _, client = await client_of(serve)
    await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    await client.send(b"GET /long HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    first, _, rest = (await client.read_all()).partition(b"\r\n\r\n")
    assert b"connection: keep-alive" in first
    assert b"connection: close" in rest
    assert b"transfer-encoding" not in rest
    assert rest.endswith(b"00019\n")


async def test_a_drain_closes_the_idle_and_makes_the_next_answer_the_last(serve):
    """Nothing that was begun is dropped."""
    server, idle = await client_of(serve)
    busy, half = await server.connect(), await server.connect()
    await busy.send(get(b"/slow/0.05"))
    await half.send(get(b"/")[:10])
    for client in (idle, busy, half):
        client.entry.target.on_drain()
    assert await idle.read_all() == b""
    assert b"connection: close" in await busy.read_all()
    await half.send(get(b"/")[10:])
    assert b"connection: close" in await half.read_all()


async def test_a_drain_closes_behind_an_answer_whose_head_is_out(serve):
    """It could not say that it is the last, and there will be no other."""
    _, client = await client_of(serve)
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    await client.send(head + b"3\r\nabc\r\n")
    await client.read(len(b"HTTP/1.1 200 OK\r\n"))
    client.entry.target.on_drain()
    await client.send(b"0\r\n\r\n")
    assert (await client.read_all()).endswith(b"abc\r\n0\r\n\r\n")


async def test_pushed_limits_are_in_force_for_live_connections(serve):
    """They are asked for when they are needed, not when a connection begins."""
    server, client = await client_of(serve)
    await server.swap(STRICT)
    found = await talk(client, get(b"/"), post(b"/length", 1001))
    assert [status for status, _ in found] == [200, 413]


async def test_behind_an_answer_that_says_that_it_is_the_last_the_connection_ends(serve):
    """Requests that had come behind it do not hold it open."""
    _, client = await client_of(serve, limits, BAD)
    assert len(await talk(client, get(b"/last") * 3)) == 1


async def test_a_body_that_is_too_long_is_refused_behind_the_answers_that_are_owed(serve):
    """It waits in the queue, and what waits before it is answered."""
    _, client = await client_of(serve, STRICT, answering)
    chunked = b"POST /length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    asked = get(b"/slow/0.01") + get(b"/item/a") + chunked
    found = await talk(client, asked, b"800\r\n" + bytes(0x800) + b"\r\n")
    assert [status for status, _ in found] == [200, 200, 413]


async def test_a_late_head_is_refused_behind_the_answers_that_are_owed(serve):
    """Never before them, or inside of one."""
    _, client = await client_of(serve, STRICT, answering)
    found = await talk(client, get(b"/slow/0.2") * 2 + b"GET / HTT")
    assert [status for status, _ in found] == [200, 200, 408]


class Large(State, kind="http.app", version=1):
    """No state."""


class LargeApp(App[Large]):
    """Answers that no buffer of the system holds."""

    @route("GET", "/whole")
    def whole(self, request: Request) -> Response:
        """At once."""
        return Response(b"x" * 30_000_000)

    @route("GET", "/last")
    def last(self, request: Request) -> Response:
        """At once, and nothing behind it."""
        return Response(b"x" * 30_000_000, 200, [(b"connection", b"close")])

    @route("GET", "/parts")
    async def parts(self, request: Request) -> None:
        """As fast as it is taken."""
        request.exchange.start(200, [])
        for _ in range(300):
            await request.exchange.write(b"x" * 100_000)


LARGE = SimpleNamespace(LargeApp=LargeApp)


class Hasty(State, kind="http.limits", version=1):
    """No state."""


class HastyLimits(Service[Hasty]):
    """Who does nothing is soon told good-bye."""

    def present(self) -> Limits:
        """What is in force."""
        return Limits(idle_s=0.1, linger_s=0.1)


HASTY = SimpleNamespace(HastyLimits=HastyLimits)


@pytest.mark.parametrize("path", [b"/whole", b"/last", b"/parts"])
async def test_a_client_that_takes_nothing_of_an_answer_is_dropped(serve, path):
    """Else whoever asks for something large and goes to sleep holds that memory for ever."""
    _, client = await client_of(serve, HASTY, LARGE)
    await client.send(get(path))
    await until(lambda: client.entry is None)


async def test_a_client_that_takes_an_answer_slowly_is_not(serve):
    """Each look finds that it has taken something, however little."""
    server, client = await client_of(serve, limits, LARGE)
    await client.send(get(b"/whole"))
    entry = client.entry
    connection = entry.target
    for _ in range(3):
        connection.idle()
        while connection.outstanding() == connection.state.taken:
            await client.read(50_000)
            await asyncio.sleep(0)
            assert entry.target is connection
    connection.idle()
    connection.idle()
    await until(lambda: entry.target is None)
    assert server.log.errors == []


async def test_blank_lines_are_no_sign_of_life(serve):
    """A client may send them for ever between two requests, and wants nothing by it."""
    _, client = await client_of(serve, limits, answering)
    await client.send(get(b"/"))
    connection = client.entry.target
    connection.idle()
    assert not connection.transport.is_closing()
    await client.send(b"\r\n")
    connection.idle()
    assert connection.transport.is_closing()
