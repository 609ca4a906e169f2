"""The first moments of a connection: between accept and connection_made, and before reading."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from netswap import Connection, Service, State
from netswap.hotswap import Change, Phase, Swap
from netswap.stack import FACTORY, Host

KIND = "test.connection"


class Door(State, kind=FACTORY, version=1):
    """Who is refused, and what was asked."""

    refuse: str = ""
    released: int = 0


class Factory(Service[Door]):
    """Admits or refuses everybody."""

    def admit(self, peer: str) -> str | None:
        if self.state.refuse == "raise":
            raise ValueError("the policy is wrong")
        return self.state.refuse or None

    def released(self, peer: str) -> None:
        self.state.released += 1


class Old(State, kind=KIND, version=1):
    """Nothing to carry."""

    seen: int = 0


class New(State, kind=KIND, version=2):
    """The same."""

    seen: int = 0


class First(Connection[Old]):
    """Answers with its version."""

    def on_data(self, data: bytes) -> None:
        self.write(b"1")


class Second(Connection[New]):
    """The same of version 2."""

    def on_data(self, data: bytes) -> None:
        self.write(b"2")


class Patient(Connection[Old]):
    """Wants nothing to read at first."""

    def on_connect(self) -> None:
        self.pause_reading()

    def on_data(self, data: bytes) -> None:
        self.state.seen += len(data)


class Log:
    """Keeps the errors."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def info(self, event: str, **fields: Any) -> None: ...

    def error(self, event: str, **fields: Any) -> None:
        self.errors.append(event)


@pytest.fixture
async def world():
    """``world(cls)``: a host, and a server whose clients are of class ``cls``."""
    made: list[Any] = []

    async def make(cls: type[Connection[Any]]) -> Any:
        loop = asyncio.get_running_loop()
        host = Host(loop, Log())
        host.install(Factory)
        host.install(cls)
        host.add_listener("test")
        accepted: list[Any] = []

        def accept() -> Any:
            accepted.append(host.present[KIND].accepted(host, "test"))  # type: ignore[attr-defined]
            return accepted[-1]

        server = await loop.create_server(accept, "127.0.0.1", 0)
        made.append(server)
        return SimpleNamespace(
            host=host,
            accepted=accepted,
            door=host.factories["test"].target.state,
            connect=lambda: asyncio.open_connection(*server.sockets[0].getsockname()),
        )

    yield make
    for server in made:
        server.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


async def test_a_swap_between_accept_and_connection_made_meets_no_half_made_object(world):
    """The loop makes the protocol a turn before it has a transport; the new code serves it."""
    one = await world(First)
    connecting = asyncio.ensure_future(one.connect())
    await until(lambda: one.accepted)
    if not one.host.table.count(KIND):  # else the loop was faster than the swap
        one.host.present[KIND] = Second
        change = Change(KIND, Second, First, ())
        entries = one.host.table.of_kind(KIND)
        swap = Swap(one.host.table, [change], entries, one.host.clock, nullcontext)
        assert swap.slice(1_000_000).phase is Phase.DONE
        reader, writer = await connecting
        writer.write(b"?")
        assert await reader.read(1) == b"2"
        assert one.host.table.by_version(KIND) == {2: 1}
    else:
        _, writer = await connecting
    await close(writer)
    await until(lambda: not one.host.table.count(KIND))


async def test_a_refused_connection_was_never_there(world):
    """It gets no entry, no callback, and the factory is not told that it has ended."""
    one = await world(First)
    one.door.refuse = "full"
    reader, writer = await one.connect()
    assert await reader.read() == b""
    await close(writer)
    assert not one.host.table.count(KIND)
    assert one.door.released == 0


async def test_a_factory_that_raises_admits_and_is_logged(world):
    """A wrong policy is an author's fault and shuts nobody out."""
    one = await world(First)
    one.door.refuse = "raise"
    reader, writer = await one.connect()
    writer.write(b"?")
    assert await reader.read(1) == b"1"
    assert one.host.log.errors == ["callback_failed"]
    await close(writer)
    await until(lambda: one.door.released)


async def test_reading_that_is_paused_in_on_connect_is_paused(world):
    """uvloop starts to read after connection_made, whatever was asked of it there."""
    one = await world(Patient)
    _, writer = await one.connect()
    await until(lambda: one.host.table.count(KIND))
    (entry,) = one.host.table.of_kind(KIND)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    writer.write(b"?")
    for _ in range(20):
        await asyncio.sleep(0)
    assert entry.target.state.seen == 0
    entry.target.resume_reading()
    await until(lambda: entry.target.state.seen)
    await close(writer)
    await until(lambda: not one.host.table.count(KIND))


class Mixed:
    """Behaviour that several handlers share."""

    def on_data(self: Any, data: bytes) -> None:
        self.write(b"mixed")


class WithMixin(Mixed, Connection[Old]):
    """Has its on_data from elsewhere."""


async def test_on_data_of_a_mixin_is_what_the_transport_calls(world: Any) -> None:
    """Wherever in its bases a class has it from."""
    place = await world(WithMixin)
    reader, writer = await place.connect()
    writer.write(b"x")
    async with asyncio.timeout(20):
        assert await reader.read(5) == b"mixed"
    writer.close()
    await until(lambda: not place.host.table.of_kind(KIND))


class Careless(Connection[Old]):
    """Raises what a socket may raise, too."""

    def on_data(self, data: bytes) -> None:
        open(data)  # noqa: SIM115 - there is no such file


async def test_an_oserror_of_a_callback_is_not_taken_for_the_sockets(world: Any) -> None:
    """The loops are silent about both: it is logged as the object's, and the reset is not."""
    place = await world(Careless)
    told: list[str] = []
    place.host.failures.append(lambda _target, error: told.append(type(error).__name__))
    reader, writer = await place.connect()
    writer.write(b"/no/such/file")
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    await until(lambda: not place.host.table.count(KIND))
    assert told == ["FileNotFoundError"]
    assert place.host.log.errors == ["callback_failed"]
    await close(writer)
    _, writer = await place.connect()
    await until(lambda: place.host.table.count(KIND))
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    await until(lambda: not place.host.table.count(KIND))
    assert told == ["FileNotFoundError"]
