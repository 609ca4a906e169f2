"""http.connection and the access log: every answer is noted once, whatever kind it is of."""

from __future__ import annotations

import asyncio

import pytest

from netswap.http.accesslog import AccessLog
from protocols.http import v1
from tests.protocols.conftest import until
from tests.protocols.http.test_http import KIND, LAST, get, module

BAD = b"GET / HTTP/1.1\r\nno header\r\n\r\n"


@pytest.fixture
async def noted(serve, tmp_path):
    """A server with a log, and a function that gives the log's lines so far."""
    server = await serve(v1, module, kind=KIND)
    path = tmp_path / "access.log"
    path.touch()
    loop = asyncio.get_running_loop()
    server.host.access = AccessLog(loop, str(path), "combined", server.log.error)

    async def lines():
        await server.host.access.close()
        return [line.split('"')[1:3] for line in path.read_text().splitlines()]

    yield server, lines
    await server.host.access.close()


async def test_each_answer_is_noted_with_its_status_and_size(noted):
    """Whole ones, those of coroutines, streams, and refusals."""
    server, lines = noted
    client = await server.connect()
    post = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    await client.send(get(b"/") + get(b"/item/abc") + post + get(b"/none") + BAD)
    await client.read_all()
    found = await lines()
    assert [asked for asked, _ in found] == [
        "GET / HTTP/1.1",
        "GET /item/abc HTTP/1.1",
        "POST /echo HTTP/1.1",
        "GET /none HTTP/1.1",
        "-",
    ]
    sizes = [tuple(map(int, rest.split())) for _, rest in found]
    assert sizes[:4] == [(200, 5), (200, 3), (200, 5), (404, 15)]
    assert sizes[4][0] == 400


async def test_a_client_that_does_not_wait_is_noted(noted):
    """So that one can see who gave up on what."""
    server, lines = noted
    client = await server.connect()
    await client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
    await until(lambda: client.entry.target.state.current)
    client.sock.close()
    await until(lambda: not server.host.table.count(KIND))
    [(asked, rest)] = await lines()
    assert asked == "POST /echo HTTP/1.1"
    assert rest.split()[0] in {"200", "499"}


async def test_without_a_log_nothing_is_noted(noted):
    """It is off unless somebody wants it."""
    server, lines = noted
    access, server.host.access = server.host.access, None
    client = await server.connect()
    await client.send(get(b"/") + get(b"/item/a", LAST))
    await client.read_all()
    server.host.access = access
    assert await lines() == []
