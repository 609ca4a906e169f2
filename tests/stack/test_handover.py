"""A handover: a live connection becomes that of an object of another kind."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from netswap import Connection, Service, Session, State
from netswap.interpose import Figures, Monitor, put_in
from netswap.stack import FACTORY, Host
from protocols.buffers import contiguous


class Door(State, kind=FACTORY, version=1):
    """How many came and went."""

    admitted: int = 0
    gone: int = 0


class Factory(Service[Door]):
    """Admits everybody."""

    def admit(self, peer: str) -> str | None:
        self.state.admitted += 1
        return None

    def released(self, peer: str) -> None:
        self.state.gone += 1


class Asking(State, kind="asking.connection", version=1):
    """What came after the change was asked for."""

    more: bytes = b""
    asked: bool = False


class Ask(Connection[Asking]):
    """Becomes another one at the first line."""

    def on_data(self, data: bytes) -> None:
        state = self.state
        if state.asked:
            state.more += data
            return
        line, _, state.more = data.partition(b"\n")
        state.asked = True
        self.write(b"yes\n")
        kind, _, name = line.decode().partition(" ")
        self.become(kind, name=name)

    def on_handover(self) -> bytes:
        return self.state.more


class Named(State, kind="named.connection", version=1):
    """Its name."""

    name: str = ""


class Name(Connection[Named]):
    """Says its name before everything."""

    def on_connect(self) -> None:
        self.write(f"I am {self.state.name}\n".encode())

    def on_data(self, data: bytes) -> None:
        self.write(self.state.name.encode() + b": " + data)


class Sat(State, kind="sat.connection", version=1):
    """Its name."""

    name: str = ""


class Sit(Session[Sat]):
    """The same in a coroutine."""

    async def run(self) -> None:
        while line := await self.swap_point(self.read_line()):
            self.write(self.state.name.encode() + b": " + line + b"\n")


@pytest.fixture
async def world():
    """A host with a listener on port 0, and what it has logged as errors."""
    errors: list[Any] = []
    log = SimpleNamespace(
        info=lambda *_words, **_more: None,
        error=lambda *words, **more: errors.append((words, more)),
    )
    loop = asyncio.get_running_loop()
    host = Host(loop, log)
    for cls in (Factory, Ask, Name, Sit, contiguous.Contiguous):
        host.install(cls)
    host.add_listener("test")
    server = await loop.create_server(lambda: Ask.accepted(host, "test"), "127.0.0.1", 0)
    yield SimpleNamespace(host=host, port=server.sockets[0].getsockname()[1], errors=errors)
    server.close()
    assert [e for e in host.table if e.target is not None and e.target.scope != "worker"] == []


async def closed(world, writer) -> None:
    """Close a client and wait until the server has seen it."""
    writer.close()
    await writer.wait_closed()
    while world.host.factories["test"].target.state.gone < 1:
        await asyncio.sleep(0)


async def test_the_client_goes_on_with_the_other_kind(world):
    """Bytes behind the question are the new object's, and the factory counts one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(b"named.connection x\nfirst")
    assert await reader.readexactly(len(b"yes\nI am x\nx: first")) == b"yes\nI am x\nx: first"
    writer.write(b"second")
    assert await reader.readexactly(len(b"x: second")) == b"x: second"
    assert [e.kind for e in world.host.table if e.kind.endswith(".connection")] == [
        "named.connection"
    ]
    door = world.host.factories["test"].target.state
    assert (door.admitted, door.gone) == (1, 0)
    await closed(world, writer)
    assert (door.admitted, door.gone) == (1, 1)


async def test_a_session_takes_over(world):
    """A coroutine begins where the object with callbacks ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(b"sat.connection s\none\n")
    assert await reader.readline() == b"yes\n"
    assert await reader.readline() == b"s: one\n"
    await closed(world, writer)


async def test_what_stands_in_front_does_not_come_along(world):
    """An interposer belongs to the object that ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    while not (rows := [e for e in world.host.table if e.kind == "asking.connection"]):
        await asyncio.sleep(0)
    put_in(rows[0], Monitor(Figures()))
    writer.write(b"named.connection x\n")
    assert await reader.readline() == b"yes\n"
    assert await reader.readline() == b"I am x\n"
    await closed(world, writer)


@pytest.mark.parametrize("kind", ["nobody.connection", "connection.factory"])
async def test_a_kind_that_can_not_be_had_costs_the_connection(world, kind):
    """The failure is told, and the client sees an end and not silence."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(kind.encode() + b" x\n")
    assert await reader.read() == b"yes\n"
    await closed(world, writer)
    assert world.errors
