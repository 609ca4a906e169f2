"""The worker that plays go through: what its clients and transports do is what real ones do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from netswap.testing import Do
from netswap.testing.loops import LOOPS
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


@pytest.fixture(params=LOOPS)
def play(request: pytest.FixtureRequest) -> Iterator[Callable[[Play], Any]]:
    """Runs a coroutine with a world of one client, on each loop; nothing may be left over."""
    loop = LOOPS[request.param]()

    def played(part: Play) -> World:
        async def whole() -> World:
            world = World(loop, subject._replace(served="tells.connection"), OLD_VERSION)
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


def test_a_client_may_end_and_be_answered_and_close(play: Any) -> None:
    """The end arrives behind the bytes; a closed client takes its object with it."""

    async def part(world: World) -> None:
        client = world.clients["client"]
        client.send(b"last")
        client.do(Do.END)
        await world.settle()
        assert told(world) == ["data 4", "eof"]
        assert (client.heard, client.ended) == (b"last", None)
        await world.connect("other")
        world.clients["other"].do(Do.CLOSE)
        await world.settle()
        assert world.clients["other"].connection is None
        world.log.errors.append("and then")

    assert play(part).log.errors == ["closed", "and then", "closed"]


def test_the_servers_end_is_told_from_a_reset(play: Any) -> None:
    """In order, or with what the client sent unread."""

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
        assert (client.ended, other.ended) == ("closed", "reset")

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
