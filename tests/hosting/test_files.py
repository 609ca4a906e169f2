"""Files that applications answer with go past the transport, and are exact under any swap."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse
from starlette.routing import Route

from netswap.http import Exchange
from protocols.http import limits, v1, v2
from tests.authority import Authority
from tests.hosting.site import get
from tests.protocols.static.conftest import Answers, digest
from tests.protocols.test_tls import context

SIZE = 6_000_001
"""Bytes: more than the buffers of both sockets hold."""
LAST = "Connection: close"


def aiohttp(path: Path) -> Any:
    """By a handler, and by a static route."""

    async def file(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    app = web.Application()
    app.add_routes([web.get("/file", file), web.static("/static", path.parent)])
    return app


async def _through(request: Any, call: Any) -> Any:
    return await call(request)


def starlette(path: Path, *middleware: Middleware) -> Any:
    """By Starlette's own class."""

    async def file(_request: Any) -> FileResponse:
        return FileResponse(path)

    routes = [Route("/file", file), Route("/static/large.bin", file)]
    return Starlette(routes=routes, middleware=middleware)


def wrapped(path: Path) -> Any:
    """The same within what stands in front of most applications."""
    through = Middleware(BaseHTTPMiddleware, dispatch=_through)
    return starlette(path, Middleware(GZipMiddleware), through)


APPS = pytest.mark.parametrize("make", [aiohttp, starlette, wrapped])


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file."""
    path = tmp_path / "root/large.bin"
    path.parent.mkdir()
    path.write_bytes(random.Random(7).randbytes(SIZE))
    return path


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that went past a transport, each time."""
    counts: list[int] = []
    sendfile = os.sendfile

    def counting(out: int, source: int, offset: int, size: int) -> int:
        count = sendfile(out, source, offset, size)
        counts.append(count)
        return count

    monkeypatch.setattr(os, "sendfile", counting)
    return counts


async def read_all(here: Any, requests: bytes, pushes: Any = (), terms: Any = None) -> Any:
    """The answers to some requests, while other code comes."""
    reader, writer = await asyncio.open_connection(
        *here.server.address, limit=4096, **(terms or {})
    )
    writer.write(requests)
    read = bytearray()
    for stage, push in enumerate(pushes):
        while len(read) < stage * 1_500_000 + 1:
            read += await reader.read(4096)
        await push()
    read += await reader.read()
    writer.close()
    await writer.wait_closed()
    return Answers(bytes(read)).all


@APPS
@pytest.mark.parametrize("connection", [v1, v2], ids=["v1", "v2"])
async def test_a_file_goes_past_the_transport(site, make, large, sent, connection):
    """Every byte of it, and what is asked for behind it is answered."""
    here = await site(make(large), connection)
    found = await read_all(here, get("/file") + get("/static/large.bin", LAST))
    whole = digest(large.read_bytes())
    assert [(status, digest(body)) for status, _, body in found] == [(200, whole)] * 2
    assert sum(sent) == 2 * SIZE


@APPS
async def test_pushes_while_it_is_sent_change_nothing(site, make, large, sent):
    """Of the connection and of the application, one after the other."""
    here = await site(make(large))
    versions = iter((v2, v1, v2))

    async def connection() -> None:
        await here.server.swap(limits, next(versions))

    async def application() -> None:
        await here.push(make(large))

    pushes = [connection, application, connection, application]
    requests = get("/file") + get("/file", "Range: bytes=1000-2000999") + get("/file", LAST)
    found = await read_all(here, requests, pushes)
    data = large.read_bytes()
    assert [status for status, _, _ in found] == [200, 206, 200]
    assert [digest(body) for _, _, body in found] == [
        digest(part) for part in (data, data[1000:2001000], data)
    ]
    assert sum(sent) >= 2 * SIZE


@APPS
async def test_over_tls_it_is_read_and_written(site, make, large, sent, tmp_path):
    """Nothing goes past what encrypts."""
    authority = Authority(tmp_path)
    here = await site(make(large), v2, context(authority))
    terms = {"ssl": authority.client(), "server_hostname": "localhost"}
    [(status, _, body)] = await read_all(here, get("/file", LAST), terms=terms)
    assert (status, digest(body), sent) == (200, digest(large.read_bytes()), [])


@APPS
async def test_the_head_alone_sends_no_file(site, make, large, sent):
    """And says how long it is."""
    here = await site(make(large))
    path = "/file" if make is aiohttp else "/static/large.bin"
    answer = await here.ask(get(path, LAST, method="HEAD"))
    assert b"content-length: %d" % SIZE in answer.lower()
    assert (answer.endswith(b"\r\n\r\n"), sent) == (True, [])


@APPS
@pytest.mark.parametrize("past", [True, False], ids=["past", "through"])
@pytest.mark.parametrize("connection", [v1, v2], ids=["v1", "v2"])
async def test_a_file_that_becomes_shorter_is_taken_for_whole_by_nobody(
    site, make, large, past, connection, monkeypatch
):
    """The connection is reset, whether the bytes go past the transport or through it."""
    if not past:
        monkeypatch.setattr(Exchange, "way_past", lambda _: None)
    here = await site(make(large), connection)
    client = await here.raw(buffer=4096)
    await client.send(get("/file"))
    first = await client.read(100_000)
    os.truncate(large, 200_000)
    rest = await client.read_all()
    assert len(first + rest) < SIZE
    assert client.was_reset
    faults = [here.faults.pop()["error"] for _ in range(len(here.faults))]
    by_aiohttp = [] if past or make is not aiohttp else ["shorter than it said"]
    assert [fault[-len("shorter than it said") :] for fault in faults] == by_aiohttp


async def test_a_path_that_is_none_is_the_failure_of_its_application(site):
    """Before anything of the answer is out."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": "/nowhere/at/all"})

    here = await site(app)
    assert (await here.ask(get("/", LAST))).startswith(b"HTTP/1.1 500 ")
    assert "FileNotFoundError" in here.faults.pop()["error"]


async def test_a_path_is_sent_with_its_length_and_its_trailers_nowhere(site, large):
    """An application need not know how long its file is."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.pathsend", "path": str(large)})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})

    here = await site(app)
    [(status, headers, body)] = await read_all(here, get("/", LAST))
    assert (status, headers["content-length"], len(body)) == (200, str(SIZE), SIZE)
