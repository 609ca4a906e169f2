"""Accepting on a socket that workers share: who it is, one at a time, and nobody lost."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from netswap import Connection, State
from netswap.mediator import present
from netswap.ott import Selector
from netswap.stack import FACTORY
from netswap.unixsocket import bind_path
from netswap.worker import accepting
from netswap.worker.accepting import Acceptor
from tests.interpose.conftest import World, ask, until

KIND = "lines.connection"
ME = f"unix:{os.getuid()}"


class Lines1(State, kind=KIND, version=1):
    """How many."""

    lines: int = 0


class Lines2(State, kind=KIND, version=2):
    """How many."""

    lines: int = 0


class One(Connection[Lines1]):
    """Answers with version and peer."""

    def on_data(self, data: bytes) -> None:
        self.state.lines += 1
        self.write(b"v%d %s\n" % (self.version, self.peer.encode()))


class Two(Connection[Lines2]):
    """The same of version 2."""

    def on_data(self, data: bytes) -> None:
        self.state.lines += 1
        self.write(b"v%d %s\n" % (self.version, self.peer.encode()))


class Place:
    """Some workers in this process that share a Unix socket."""

    def __init__(self, path: Path, workers: int) -> None:
        self.path = path
        self.bound = bind_path(path, 0o600, 128)
        self.worlds = [World((One,), KIND) for _ in range(workers)]
        self.acceptors = [self._acceptor(world) for world in self.worlds]
        self.writers: list[asyncio.StreamWriter] = []

    def _acceptor(self, world: World) -> Acceptor:
        def make(peername: Any) -> Any:
            return world.host.present[KIND].accepted(world.host, "test", peername)  # type: ignore[attr-defined]

        return Acceptor(world.host, "test", self.bound.sock.dup(), make)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        streams = await asyncio.open_unix_connection(str(self.path))
        self.writers.append(streams[1])
        return streams

    async def close(self) -> None:
        for acceptor in self.acceptors:
            acceptor.close()
        for writer in self.writers:
            writer.close()
        await until(lambda: not any(world.entries for world in self.worlds))
        self.bound.remove()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Callable[..., Place]]:
    made: list[Place] = []

    def make(workers: int = 1) -> Place:
        made.append(Place(tmp_path / "x.sock", workers))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def test_a_peer_of_a_unix_socket_is_a_user_and_a_process(place: Any) -> None:
    """Its name, its selectors and the factory's count by address go by these."""
    here = place()
    client = await here.connect()
    assert await ask(client, "x") == f"v1 {ME}:{os.getpid()}"
    (world,) = here.worlds
    (entry,) = world.entries
    assert present(entry).attributes() == {
        "peer": ME, "address": f"{ME}:{os.getpid()}", "listener": "test",
    }  # fmt: skip
    for text in (f"peer={ME}", f"address={ME}:{os.getpid()}"):
        assert world.host.table.select(Selector(text)) == [entry]
    assert world.host.factories["test"].target.state.addresses == {ME: 1}
    client[1].close()
    await until(lambda: not world.entries)
    assert world.host.factories["test"].target.state.addresses == {}


async def test_live_connections_are_swapped_as_those_of_a_port(place: Any) -> None:
    """The transport of a Unix socket is re-pointed too."""
    here = place()
    client = await here.connect()
    await ask(client, "x")
    here.worlds[0].swap(Two)
    assert (await ask(client, "x")).startswith("v2 ")
    assert (await ask(await here.connect(), "x")).startswith("v2 ")


async def test_no_old_code_is_made_for_who_arrives_during_a_swap(place: Any) -> None:
    """What serves a connection is looked up when its transport is there, a turn or more later."""
    here = place()
    connecting = asyncio.create_task(here.connect())
    await until(lambda: here.acceptors[0]._arriving)
    here.worlds[0].swap(Two)
    assert (await ask(await connecting, "x")).startswith("v2 ")


async def test_workers_share_and_no_connection_is_lost(place: Any) -> None:
    """Each takes one at a time, so a burst is spread; who comes while one has none is served."""
    here = place(workers=2)
    clients = await asyncio.gather(*(here.connect() for _ in range(60)))
    await asyncio.gather(*(ask(client, "x") for client in clients))
    counts = [len(world.entries) for world in here.worlds]
    assert sum(counts) == 60
    assert min(counts) >= 20
    here.acceptors.pop().close()
    more = await asyncio.gather(*(here.connect() for _ in range(20)))
    await asyncio.gather(*(ask(client, "x") for client in more))
    assert len(here.worlds[0].entries) == counts[0] + 20


async def test_a_system_out_of_descriptors_is_told_and_tried_again(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is left where it is; no call a turn for as long as it lasts."""
    monkeypatch.setattr(accepting, "_PAUSE_S", 0.001)
    here = place()
    acceptor, real = here.acceptors[0], here.acceptors[0]._sock
    errors = [OSError(errno.EMFILE, "Too many open files")]

    class Full:
        """Fails once."""

        def fileno(self) -> int:
            return int(real.fileno())

        def accept(self) -> Any:
            if errors:
                raise errors.pop()
            return real.accept()

        close = real.close

    acceptor._sock = Full()
    assert (await ask(await here.connect(), "x")).startswith("v1 ")
    assert [row["event"] for row in here.worlds[0].errors] == ["accept_failed"]


async def test_a_refused_peer_is_closed(place: Any) -> None:
    """The factory decides about those of a Unix socket as about others."""
    here = place()
    (world,) = here.worlds
    world.host.factories["test"].target = SimpleNamespace(
        kind=FACTORY, admit=lambda peer: f"{peer} is too many", released=None
    )
    reader, _ = await here.connect()
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    assert not world.entries
