"""A server of files below a folder of the test's own."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import httptools
import pytest

from protocols.cache import file as cached_file
from protocols.cache import lru
from protocols.http import limits
from protocols.http import v1 as http
from protocols.static import site, v1

LARGE = 9_000_001
"""Bytes: more than the buffers of both sockets hold."""


class Answers:
    """What a client has read, taken apart by a parser that is not the server's."""

    def __init__(self, data: bytes, heads: int = 0) -> None:
        self.all: list[tuple[int, dict[str, str], bytes]] = []
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._heads = heads
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        row = (self._parser.get_status_code(), self._headers, b"".join(self._body))
        self.all.append(row)
        self._headers, self._body = {}, []


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers, "", ""]
    return "\r\n".join(lines).encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Some files, and others outside that must not be seen."""
    root = tmp_path / "root"
    (root / "docs").mkdir(parents=True)
    (root / "hello.txt").write_bytes(b"hello, world\n")
    (root / "docs/index.html").write_bytes(b"<p>docs</p>")
    (root / "empty").write_bytes(b"")
    (root / ".secret").write_bytes(b"secret")
    (root / "large.bin").write_bytes(random.Random(7).randbytes(LARGE))
    (tmp_path / "outside.txt").write_bytes(b"outside")
    (root / "out").symlink_to(tmp_path / "outside.txt")
    (root / "up").symlink_to(tmp_path)
    (root / "in").symlink_to(root / "hello.txt")
    (root / "to_secret").symlink_to(root / ".secret")
    return root


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


Site = Callable[..., Awaitable[Any]]


@pytest.fixture
async def serve_folder(serve: Any, folder: Path) -> AsyncIterator[Site]:
    """``await serve_folder()``: a server of that folder; other modules may be given."""
    servers: list[Any] = []

    async def make(*modules: ModuleType, tls: Any = None) -> Any:
        modules = modules or (limits, http, v1, cached_file, lru, site)
        server = await serve(*modules, kind="http.connection", tls=tls)
        files = server.host.services["http.static"].target
        if "root" in files.state.__struct_fields__:
            files.state.root = str(folder)
        else:
            files.state.roots = {"main": str(folder)}
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.host.services["http.static"].target.clear()


async def ask(server: Any, *requests: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """The answers to some requests over one connection, which the last one closes."""
    client = await server.connect()
    *first, last = requests
    closing = last.replace(b"\r\nHost", b"\r\nConnection: close\r\nHost", 1)
    await client.send(b"".join([*first, closing]), read=False)
    return Answers(await client.read_all()).all
