"""http: requests are answered in order, whatever is swapped meanwhile."""

from __future__ import annotations

import asyncio

import httptools
import pytest

from netswap import State
from netswap.http import App, Request, Response, route
from protocols.http import v1

KIND = "http.connection"


class Nothing(State, kind="http.app", version=1):
    """No state."""


class Site(App[Nothing]):
    """Answers in every way."""

    @route("GET", "/")
    @route("HEAD", "/")
    def hello(self, request: Request) -> Response:
        return Response("hello")

    @route("POST", "/length")
    def length(self, request: Request) -> Response:
        return Response(str(request.body.size))

    @route("POST", "/echo")
    async def echo(self, request: Request) -> None:
        request.exchange.start(200, [(b"content-type", b"application/octet-stream")])
        while data := await request.body.chunk():
            await request.exchange.write(data)

    @route("GET", "/item/{name}")
    async def item(self, request: Request, name: str) -> Response:
        await asyncio.sleep(0)
        return Response(name)

    @route("GET", "/fails")
    async def fails(self, request: Request) -> Response:
        raise ValueError("no")


class module:  # noqa: N801 - stands for one
    """What ``serve`` takes apart."""

    Site = Site


def get(path: bytes, more: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (path, more)


async def client_of(serve):
    server = await serve(v1, module, kind=KIND)
    return server, await server.connect()


LAST = b"Connection: close\r\n"


def parsed(data: bytes) -> list[tuple[int, bytes]]:
    """Status and body of each answer."""
    found: list[tuple[int, bytes]] = []

    class Answers:
        body = b""

        def on_body(self, data: bytes) -> None:
            self.body += data

        def on_message_complete(self) -> None:
            found.append((parser.get_status_code(), self.body))
            self.body = b""

    parser = httptools.HttpResponseParser(Answers())
    parser.feed_data(data)
    return found


async def talk(client, *chunks: bytes) -> list[tuple[int, bytes]]:
    """All answers until the connection is closed."""
    for chunk in chunks:
        await client.send(chunk)
    return parsed(await client.read_all())


async def test_pipelined_requests_are_answered_in_order(serve):
    """Plain functions and coroutines mixed keep the order of the requests."""
    _, client = await client_of(serve)
    asked = get(b"/item/a") + get(b"/") + get(b"/item/b") + get(b"/item/c") + get(b"/", LAST)
    bodies = [body for _, body in await talk(client, asked)]
    assert bodies == [b"a", b"hello", b"b", b"c", b"hello"]


POSTED = (
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nfour" + get(b"/item/z", LAST)
)


@pytest.mark.parametrize("cut", range(1, len(POSTED), 3))
async def test_a_swap_at_a_cut_changes_nothing(serve, cut):
    """Half a head, inside a chunk, with a request in flight: the answers are the same."""
    server, client = await client_of(serve)
    await client.send(POSTED[:cut])
    await server.swap(v1)
    assert await talk(client, POSTED[cut:]) == [(200, b"abcde"), (200, b"4"), (200, b"z")]


async def test_a_failing_coroutine_is_a_500_and_the_connection_goes_on(serve):
    """The client is told, without a word of the server's inside."""
    server, client = await client_of(serve)
    found = await talk(client, get(b"/fails") + get(b"/", LAST))
    assert found == [(500, b"500: Internal Server Error\n"), (200, b"hello")]
    assert server.log.errors.pop()["event"] == "callback_failed"


async def test_what_is_no_http_is_refused_behind_the_answers_that_are_owed(serve):
    """A good request before the bad one is answered first."""
    _, client = await client_of(serve)
    found = await talk(client, get(b"/item/a") + b"GET / HTTP/1.1\r\nno header\r\n\r\n")
    assert [status for status, _ in found] == [200, 400]


async def test_a_body_that_ends_too_early_is_refused(serve):
    """Nobody waits for the rest of it for ever."""
    server, client = await client_of(serve)
    await client.send(b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nfour")
    await client.finish()
    assert [status for status, _ in parsed(await client.read_all())] == [400]
    assert not server.log.errors
