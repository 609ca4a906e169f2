"""On watch: what fails in new code before it has said anything is asked of the version before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from aiohttp import web
from starlette.applications import Starlette
from starlette.requests import Request as Asked
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from netswap import State
from netswap.errors import HttpError
from netswap.http import App, Request, Response, route
from netswap.http.exchange import REPEATED
from netswap.worker.watch import Watch
from protocols.http import limits, v1, v2
from tests.protocols.conftest import serve

__all__ = ["serve"]

Serves = Callable[[str], Any]
METHODS = ["GET", "PUT", "POST", "DELETE"]


class Failed(Exception):
    """What new code raises."""


def function(version: str) -> Any:
    """A coroutine of one request."""

    async def app(request: Request) -> Response | None:
        body = await request.body.read(1 << 20)
        if request.path == "/late":
            request.exchange.start(200, [(b"content-length", b"9")])
        if version == "new" and request.path == "/refuses":
            raise HttpError(503, "closed")
        if version == "new" and request.path == "/says":
            return Response("new says 500", 500)
        if version == "new" or request.path == "/never":
            raise Failed
        return Response(b"%b %d" % (version.encode(), len(body)))

    return app


def aiohttp(version: str) -> web.Application:
    """Its own code answers for what fails, and then raises."""

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        if version == "new" or request.path == "/never":
            raise Failed
        return web.Response(text=f"{version} {len(body)}")

    app = web.Application(client_max_size=1 << 20)
    app.router.add_route("*", "/{name:.*}", handle)
    return app


def starlette(version: str) -> Starlette:
    """So does this one."""

    async def handle(request: Asked) -> PlainTextResponse | StreamingResponse:
        body = await request.body()
        if version == "new" or request.url.path == "/never":
            raise Failed
        return PlainTextResponse(f"{version} {len(body)}")

    return Starlette(routes=[Route("/{name:path}", handle, methods=METHODS)])


class Patient:
    """A policy that bears everything."""

    def judge(self, _figures: dict[str, Any]) -> None:
        """Nothing is wrong."""


class Probation:
    """New code of an application on watch behind guards."""

    def __init__(self, site: Any, watch: Watch) -> None:
        self.site = site
        self.watch = watch

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
        """Status and body of an answer."""
        async with self.site.session.request(method, path, data=body or None) as answer:
            return answer.status, await answer.text()

    @property
    def fired(self) -> list[bool]:
        """Of each time that a guard has acted: whether the version before has answered."""
        return [row["answered"] for row in self.site.faults if row["event"] == "guard_fired"]


Enter = Callable[..., Awaitable[Probation]]


@pytest.fixture
async def on_watch(site: Any) -> Any:
    """``await on_watch(serves)``: its new version, after the old one."""
    entered: list[Probation] = []

    async def enter(serves: Serves, connection: Any = v2, guarded: bool = True) -> Probation:
        here = await site(serves("old"), connection)
        swap = here.server.prepare(await here.load(serves("new")))
        take_back = swap.take_back_now if guarded else None
        watch = Watch(here.server.host, swap.changes.values(), Patient(), take_back)
        await watch.enter()
        swap.slice(10**10)
        entered.append(Probation(here, watch))
        return entered[-1]

    yield enter
    for one in entered:
        await one.watch.leave()
        one.site.faults.clear()


SERVED = pytest.mark.parametrize("serves", [function, aiohttp, starlette])


@SERVED
@pytest.mark.parametrize("connection", [v1, v2], ids=["v1", "v2"])
async def test_the_version_before_answers(on_watch, serves, connection):
    """The client sees nothing of it; from then on it is asked alone."""
    here = await on_watch(serves, connection)
    assert await here.ask("GET", "/") == (200, "old 0")
    assert here.fired == [True]
    assert await here.ask("POST", "/", b"abc") == (200, "old 3")
    assert here.fired == [True]


@SERVED
async def test_it_gets_the_body_that_was_read(on_watch, serves):
    """As long as that was bounded."""
    here = await on_watch(serves)
    assert await here.ask("PUT", "/", bytes(REPEATED)) == (200, f"old {REPEATED}")


@SERVED
async def test_a_body_that_is_too_long_is_not_kept(on_watch, serves):
    """Its client is told of the failure."""
    here = await on_watch(serves)
    status, _ = await here.ask("PUT", "/", bytes(REPEATED + 1))
    assert (status, here.fired) == (500, [])


@SERVED
async def test_what_may_not_be_repeated_is_not(on_watch, serves):
    """Nobody knows what new code has done already."""
    here = await on_watch(serves)
    status, _ = await here.ask("POST", "/", b"abc")
    assert (status, here.fired) == (500, [])


@SERVED
async def test_without_guards_nobody_is_asked(on_watch, serves):
    """The watch only counts."""
    here = await on_watch(serves, guarded=False)
    status, _ = await here.ask("GET", "/")
    assert (status, here.fired) == (500, [])


@SERVED
async def test_what_fails_in_both_is_a_failure(on_watch, serves):
    """Once, and not for ever."""
    here = await on_watch(serves)
    status, _ = await here.ask("GET", "/never")
    assert status == 500
    assert len(here.fired) == 1


async def test_what_an_application_says_itself_is_its_answer(on_watch):
    """A 500 or a refusal that it has not raised by accident is no failure."""
    here = await on_watch(function)
    assert await here.ask("GET", "/says") == (500, "new says 500")
    assert await here.ask("GET", "/refuses") == (503, "503: closed\n")
    assert not here.site.faults


async def test_an_answer_that_has_begun_is_not_made_again(on_watch):
    """What is out is out: the connection is broken."""
    here = await on_watch(function)
    client = await here.site.raw()
    await client.send(b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, rest = (await client.read_all()).partition(b"\r\n\r\n")
    assert (head[:15], rest, here.fired) == (b"HTTP/1.1 200 OK", b"", [])


class Count(State, kind="http.app", version=1):
    """How many have been answered."""

    count: int = 0


class Old(App[Count]):
    """Answers, now or when the door is open."""

    door: ClassVar[asyncio.Event]

    @route("GET", "/")
    async def root(self, request: Request) -> Response:
        self.state.count += 1
        return Response(f"old {self.state.count}")

    @route("GET", "/wait")
    async def wait(self, request: Request) -> Response:
        await self.door.wait()
        return await self.root(request)


class New(Old):
    """Fails when it has written to the state."""

    @route("GET", "/")
    async def root(self, request: Request) -> Response:
        self.state.count += 10
        raise Failed


async def test_what_has_written_to_the_state_has_written_to_it(serve):
    """The state crosses the way back as it is; coroutines that are inside go on."""
    Old.door = asyncio.Event()
    server = await serve(v2, limits, SimpleNamespace(Old=Old), kind="http.connection")
    swap = server.prepare(SimpleNamespace(New=New))
    watch = Watch(server.host, swap.changes.values(), Patient(), swap.take_back_now)
    await watch.enter()
    swap.slice(10**10)
    client, inside = await server.connect(), await server.connect()
    await inside.send(b"GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await client.read_all()).endswith(b"old 11")
    Old.door.set()
    assert b"HTTP/1.1 200 OK" in await inside.read_all()
    await watch.leave()
    assert [row["event"] for row in server.log.errors] == [
        "callback_failed",
        "guard_fired",
        "callback_failed",
        "guard_fired",
    ]
    server.log.errors.clear()
