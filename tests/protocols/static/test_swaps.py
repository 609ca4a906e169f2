"""http.static: whatever is swapped while a file is being sent, the client's bytes are exact."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from itertools import cycle

import pytest

from netswap.http import OpenFile
from protocols.cache import fifo, lru, mru
from protocols.cache import file as cached_file
from protocols.cache import random as at_random
from protocols.http import limits
from protocols.http import v1 as http
from protocols.http import v2 as http_v2
from protocols.static import site, v1, v2
from tests.authority import Authority
from tests.protocols.static.conftest import LARGE, Answers, digest, get
from tests.protocols.test_tls import context

SWAPS = {
    "http.connection": [(limits, http_v2), (http,)],
    "http.static": [(v2,), (v1,)],
    "cache.policy": [(mru,), (fifo,), (at_random,), (lru,)],
    "cache.file": [(cached_file,)],
    "http.app": [(site,)],
    "everything": [
        (limits, http_v2, v2, at_random, cached_file, site),
        (http, v1, lru, cached_file, site),
    ],
}
"""What is pushed, one after the other, again and again."""
STAGES = (0, 1, 300, 70_000, 400_000, 2_000_000, 6_000_000, LARGE)
"""So many bytes have been read when a push comes."""


async def played(server, reader, writer, pushes, requests):
    """All that a client reads while pushes come."""
    writer.write(requests)
    await writer.drain()
    read = bytearray()
    for stage, modules in zip(STAGES, cycle(pushes), strict=False):
        while len(read) < stage:
            read += await reader.read(stage - len(read))
        await server.swap(*modules)
    read += await reader.read()
    writer.close()
    await writer.wait_closed()
    return bytes(read)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("kind", SWAPS)
async def test_a_push_at_every_stage_of_a_large_file(serve_folder, folder, tmp_path, kind, tls):
    """Before its head, within it, and while it is sent; the answers behind it are there, too."""
    authority = Authority(tmp_path)
    server = await serve_folder(tls=context(authority) if tls else None)
    terms = {"ssl": authority.client(), "server_hostname": "localhost"} if tls else {}
    reader, writer = await asyncio.open_connection(*server.address, limit=4096, **terms)
    part = f"Range: bytes=1000-{LARGE - 2}"
    requests = [get("/hello.txt"), get("/large.bin", part), get("/large.bin"), get("/docs/")]
    requests[-1] = get("/docs/", "Connection: close")
    read = await played(server, reader, writer, SWAPS[kind], b"".join(requests))
    large = (folder / "large.bin").read_bytes()
    found = Answers(read).all
    assert [status for status, _, _ in found] == [200, 206, 200, 200]
    assert [digest(body) for _, _, body in found] == [
        digest(body) for body in (b"hello, world\n", large[1000:-1], large, b"<p>docs</p>")
    ]


async def test_a_long_download_keeps_no_old_code(serve_folder, folder):
    """Not of http.static, http.app nor http.connection: each has one object, and it is new."""
    server = await serve_folder()
    client = await server.connect(buffer=4096)
    await client.send(get("/large.bin", "Connection: close"))
    old = [server.host.services["http.static"].target, server.host.services["http.app"].target]
    numbers = {id(one) for one in (*old, client.entry.target)}
    kinds = (v1.StaticFiles, site.SiteApp, http.HttpConnection)
    del old
    await server.swap(http, v2, site)
    gc.collect()
    live = [one for one in gc.get_objects() if type(one) in kinds]
    assert not [one for one in live if id(one) in numbers and type(one) is v1.StaticFiles]
    assert sorted(type(one).kind for one in live) == ["http.app", "http.connection"]
    del live
    data = await client.read_all()
    assert digest(Answers(data).all[0][2]) == digest((folder / "large.bin").read_bytes())


async def test_a_file_that_is_not_in_memory_is_read_by_a_thread(serve_folder, folder, monkeypatch):
    """The loop is not held by a disk, on either way out."""
    monkeypatch.setattr(OpenFile, "read_nowait", lambda *_: None)
    server = await serve_folder()
    read = []
    pread = os.pread

    def counting(number, size, offset):
        if threading.current_thread() is not threading.main_thread():
            read.append(size)
        return pread(number, size, offset)

    monkeypatch.setattr(os, "pread", counting)
    client = await server.connect()
    await client.send(get("/large.bin", "Connection: close"), read=False)
    data = await client.read_all()
    assert digest(Answers(data).all[0][2]) == digest((folder / "large.bin").read_bytes())
    assert sum(read) >= LARGE


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_pushes_one_behind_the_other(serve_folder, folder, tmp_path, tls):
    """As fast as the loop can: at whatever a sending waits for, all kinds are replaced there."""
    authority = Authority(tmp_path)
    server = await serve_folder(tls=context(authority) if tls else None)
    terms = {"ssl": authority.client(), "server_hostname": "localhost"} if tls else {}
    reader, writer = await asyncio.open_connection(*server.address, limit=65_536, **terms)
    writer.write(get("/large.bin") * 2 + get("/large.bin", "Connection: close"))
    reading = asyncio.ensure_future(reader.read())
    pushes = 0
    for modules in cycle(SWAPS["everything"]):
        await server.swap(*modules)
        pushes += 1
        if reading.done():
            break
    writer.close()
    await writer.wait_closed()
    expected = digest((folder / "large.bin").read_bytes())
    found = [(status, digest(body)) for status, _, body in Answers(await reading).all]
    assert found == [(200, expected)] * 3
    assert pushes > 20, pushes
