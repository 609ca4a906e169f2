"""The worker that plays go through: what its clients and transports do is what real ones do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from netswap.testing import Do
from netswap.testing.loops import LOOPS
from netswap.testing.sealed import Keys, SealedClient, make_keys
from netswap.testing.subject import OLD as OLD_VERSION
from netswap.testing.subject import load_subject
from netswap.testing.world import Restless, World

from .lines import OLD, V2, module

TELLS = module(
    '''
"""tells.connection: says what the transport tells it."""
import asyncio

from netswap import Connection, State


class Told(State, kind="tells.connection", version=1):
    told: list[str] = []


class Tells(Connection[Told]):
    def on_data(self, data):
        self.state.told.append(f"data {len(data)}")
        if data == b"spin":
            self.host.loop.call_soon(self.on_data, data)
        elif data == b"stop reading":
            self.pause_reading()
        else:
            self.write(data)

    def on_eof(self):
        self.state.told.append("eof")
        return "data 4" in self.state.told

    def on_pause_writing(self):
        self.state.told.append("pause")

    def on_resume_writing(self):
        self.state.told.append("resume")

    def on_close(self, error):
        self.host.log.errors.append("closed")
''',
    "tells.py",
)

Play = Callable[[World], Awaitable[None]]


@pytest.fixture(params=["plain", "tls"])
def keys(request: pytest.FixtureRequest) -> Keys | None:
    """Each test is of both."""
    return make_keys() if request.param == "tls" else None


@pytest.fixture(params=LOOPS)
def play(request: pytest.FixtureRequest, keys: Keys | None) -> Iterator[Callable[[Play], Any]]:
    """Runs a coroutine with a world of one client, on each loop; nothing may be left over."""
    loop = LOOPS[request.param]()

    def played(part: Play) -> World:
        async def whole() -> World:
            served = subject._replace(served="tells.connection")
            world = World(loop, served, OLD_VERSION, keys=keys)
            await world.connect("client")
            await world.settle()
            try:
                await part(world)
            finally:
                left = await world.close()
            assert left == []
            return world

        return loop.run_until_complete(whole())

    with load_subject(OLD, module(V2), [TELLS]) as subject:
        yield played
    loop.close()


def told(world: World) -> list[str]:
    connection: Any = world.clients["client"].connection
    return list(connection.state.told)


def test_a_settled_world_has_done_everything(play: Any) -> None:
    """What was sent is read and what was answered has come, however much it is."""

    async def part(world: World) -> None:
        client = world.clients["client"]
        for size in (1, 5000, 3_000_000):
            client.send(b"x" * size)
            await world.settle()
            assert len(client.heard) == size
            client.heard.clear()

    play(part)


def test_a_client_that_stops_reading_pauses_the_next_write(play: Any) -> None:
    """At its first byte, and gets everything in order when it reads again."""

    async def part(world: World) -> None:
        client = world.clients["client"]
        client.do(Do.STOP_READING)
        client.send(b"one")
        await world.settle()
        assert told(world) == ["data 3", "pause"]
        assert client.connection is not None
        assert client.connection.writing_paused
        client.send(b"two")
        await world.settle()
        assert client.heard == b""
        client.do(Do.READ_AGAIN)
        await world.settle()
        assert told(world) == ["data 3", "pause", "data 3", "resume"]
        assert client.heard == b"onetwo"

    play(part)


def test_a_client_may_end_and_be_answered_and_close(play: Any, keys: Keys | None) -> None:
    """The end arrives behind the bytes; a closed client takes its object with it.

    A session of TLS is over with the end, after what was written by then.
    """

    async def part(world: World) -> None:
        client = world.clients["client"]
        client.send(b"last")
        client.do(Do.END)
        await world.settle()
        assert keys is not None or told(world) == ["data 4", "eof"]
        assert (client.heard, client.ended) == (b"last", None if keys is None else "closed")
        await world.connect("other")
        world.clients["other"].do(Do.CLOSE)
        await world.settle()
        assert world.clients["other"].connection is None
        world.log.errors.append("and then")

    closes = ["closed", "and then", "closed"]
    assert play(part).log.errors == (closes if keys is None else ["closed", *closes[:2]])


def test_the_servers_end_is_told_from_a_reset(play: Any, keys: Keys | None) -> None:
    """In order, or with what the client sent unread; over TLS that is an end without a close."""

    async def part(world: World) -> None:
        await world.connect("other")
        client, other = world.clients["client"], world.clients["other"]
        assert client.connection is not None
        client.connection.close()
        other.send(b"stop reading")
        await world.settle()
        other.send(b"unread")
        await world.settle()
        assert other.connection is not None
        other.connection.abort()
        await world.settle()
        reset = "reset" if keys is None else "cut off"
        assert (client.ended, other.ended) == ("closed", reset)

    play(part)


def test_a_server_that_never_rests_is_said_to_be_so(play: Any) -> None:
    """Instead of waiting for ever."""

    async def part(world: World) -> None:
        world.clients["client"].send(b"spin")
        with pytest.raises(Restless, match="still busy"):
            await world.settle()
        connection: Any = world.clients["client"].connection
        type(connection).on_data = lambda *_: None
        await world.settle()

    play(part)


def test_a_wire_can_be_cut_inside_of_a_record(play: Any, keys: Keys | None) -> None:
    """The connection gets what is whole: the first record with the last byte of it."""
    if keys is None:
        return

    async def part(world: World) -> None:
        client = world.clients["client"]
        assert isinstance(client, SealedClient)
        size, first = len(b"hello!") + 2 * 22, len(b"hel") + 22
        for start in range(size):
            client.send_wire(b"hello!", start, start + 1)
            await world.settle()
            heard = b"hello!" if start + 1 == size else b"hel" if start + 1 >= first else b""
            assert client.heard == heard, start
        client.send(b"more")
        await world.settle()
        assert client.heard == b"hello!more"

    play(part)


def test_a_connection_that_is_accepted_while_the_code_changes_is_of_the_new_code(
    play: Any, keys: Keys | None
) -> None:
    """A handshake takes some turns; what serves then is looked up behind it."""
    if keys is None:
        return

    async def part(world: World) -> None:
        host, before = world.hosts[0], world.hosts[0].present["tells.connection"]
        after = type("Tells", (before,), {"__module__": before.__module__})
        connecting = world.loop.create_task(world.connect("other"))
        world.tasks.add(connecting)
        while world.clients.get("other") is None:
            await asyncio.sleep(0)
        host.present["tells.connection"] = after
        await connecting
        await world.settle()
        host.present["tells.connection"] = before
        assert type(world.clients["other"].connection) is after

    play(part)
