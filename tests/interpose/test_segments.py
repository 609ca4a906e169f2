"""A session on watch that fails begins again in the version before, at its last swap point."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from netswap import ProtocolError, Service, Session, State
from netswap.interpose.interposer import interposers_of
from netswap.mediator import present
from tests.interpose.conftest import World, ask, no_circles, until
from tests.interpose.test_guard import KIND, ROOM, Hall1, Watch

pytestmark = pytest.mark.timeout(30)


class Talk1(State, kind=KIND, version=1):
    """How many lines came."""

    lines: int = 0


class Talk2(State, kind=KIND, version=2):
    """The same."""

    lines: int = 0


class Gate(Service[Hall1]):
    """Opens when it is told to."""

    async def opened(self) -> None:
        self.state.said += 1
        while not self.state.blob:
            await asyncio.sleep(0)


class First(Session[Talk1], uses={"output": "buffer.send", "gate": ROOM}):
    """Answers each line with its version."""

    async def run(self) -> None:
        while True:
            line = await self.swap_point(self.read_line())
            if not line:
                return
            self.state.lines += 1
            await self.answer(line)

    async def answer(self, line: bytes) -> None:
        if line == b"refuses":
            raise ProtocolError("no", b"refused\n")
        if line == b"ends":
            raise EOFError(line)
        self.write(b"%d %b %d\n" % (self.version, line, self.state.lines))

    def hear(self, text: bytes) -> None:
        self.write(b"%d heard %b\n" % (self.version, text))


class Second(First, Session[Talk2], uses={"output": "buffer.send", "gate": ROOM}):  # type: ignore[misc]
    """Fails in different places."""

    async def answer(self, line: bytes) -> None:
        if line == b"raises":
            self.write(b"rubbish\n")
            self.state.lines += 100
            raise ValueError("in a session")
        if line == b"waits":
            self.write(b"held\n")
            await self.gate.opened()
            raise ValueError("after waiting")
        if line == b"reads":
            await self.read_line()
            raise ValueError("after reading more")
        if line == b"slow":
            self.write(b"before\n")
            await self.gate.opened()
        await super().answer(line)


async def begun(world: Any, new: type[Any] = Second) -> tuple[World, Any, Watch]:
    """A session of the new version on watch, which waits at a swap point."""
    place = await world(First, Gate)
    client = await place.connect()
    assert await ask(client, "hello") == "1 hello 1"
    watch = Watch(place).begin(new)
    return place, client, watch


async def test_a_session_that_raises_goes_on_in_the_version_before(world: Any) -> None:
    """What it did since its last swap point is gone; lines that came with it are not."""
    place, client, watch = await begun(world)
    assert await ask(client, "hello") == "2 hello 2"
    client[1].write(b"one\nraises\ntwo\n")
    for expected in (b"2 one 3\n", b"1 raises 4\n", b"1 two 5\n"):
        assert await client[0].readline() == expected
    assert [(f.method, f.answered, f.version) for f in watch.fired] == [("run", True, 2)]
    assert not place.errors
    watch.end()
    assert await ask(client, "hello") == "1 hello 6"
    assert not interposers_of(place.entries[0])


async def test_what_has_failed_and_what_was_stopped_leaves_nothing(world: Any) -> None:
    """The sessions of both versions, their tasks and exceptions are freed as they end."""
    with no_circles():
        place, client, watch = await begun(world)
        client[1].write(b"raises\ntwo\n")
        for expected in (b"1 raises 2\n", b"1 two 3\n"):
            assert await client[0].readline() == expected
        watch.end()
        client[1].close()
        await until(lambda: not place.entries)
        del client


async def test_a_client_that_goes_on_watch_leaves_nothing(world: Any) -> None:
    """What guards a session ends with its task."""
    tasks = asyncio.all_tasks()
    with no_circles():
        place, client, watch = await begun(world)
        client[1].close()
        await until(lambda: not place.entries and asyncio.all_tasks() <= tasks)
        del client, watch


async def test_what_comes_in_while_it_runs_is_said_again(world: Any) -> None:
    """Bytes of the client, and what others tell it; its own output is heard once."""
    place, client, watch = await begun(world)
    client[1].write(b"waits\n")
    await until(lambda: present(place.host.services[ROOM]).state.said)
    client[1].write(b"more\n")
    await until(present(place.entries[0]).input.size)
    place.entries[0].target.hear(b"a word")
    present(place.host.services[ROOM]).state.blob = b"open"
    heard = [await client[0].readline() for _ in range(3)]
    assert sorted(heard) == [b"1 heard a word\n", b"1 more 3\n", b"1 waits 2\n"]
    assert watch.fired[0].answered


async def test_what_it_has_read_is_read_again(world: Any) -> None:
    """Input is a part of the state of the swap point."""
    _, client, watch = await begun(world)
    client[1].write(b"reads\nnext\n")
    assert await client[0].readline() == b"1 reads 2\n"
    assert await client[0].readline() == b"1 next 3\n"
    assert len(watch.fired) == 1


async def test_nothing_is_held_back_while_it_waits_for_input(world: Any) -> None:
    """Others make it write at once, and that is not undone later."""
    place, client, _ = await begun(world)
    place.entries[0].target.hear(b"a word")
    assert await client[0].readline() == b"2 heard a word\n"
    assert await ask(client, "raises") == "1 raises 2"


async def test_nothing_is_held_back_for_long(world: Any) -> None:
    """A session between swap points for a quarter of a second writes to its client."""
    place, client, _ = await begun(world)
    assert await ask(client, "slow") == "before"
    present(place.host.services[ROOM]).state.blob = b"open"
    assert await client[0].readline() == b"2 slow 2\n"
    assert await ask(client, "raises") == "1 raises 3", "protected again from the next swap point"


@pytest.mark.parametrize("line", ["refuses", "ends"])
async def test_a_session_that_ends_has_said_everything(world: Any, line: str) -> None:
    """By the peer's fault, by a failure of both versions, or because the peer has ended."""
    place, client, watch = await begun(world)
    client[1].write(f"one\n{line}\n".encode())
    rest = await client[0].read()
    assert rest == (b"2 one 2\nrefused\n" if line == "refuses" else b"2 one 2\n")
    assert [f.answered for f in watch.fired] == ([] if line == "refuses" else [True])
    await until(lambda: not place.entries)


async def test_the_end_of_the_stream_ends_it_in_order(world: Any) -> None:
    """``run`` returns, and what it wrote last is sent before the close."""
    place, client, watch = await begun(world)
    client[1].write(b"one\ntwo")
    client[1].write_eof()
    assert await client[0].read() == b"2 one 2\n2 two 3\n"
    await until(lambda: not place.entries)
    assert not watch.fired


async def test_a_session_born_on_watch_is_guarded_from_its_first_swap_point(world: Any) -> None:
    """Before it there is nothing to go back to."""
    place, _, watch = await begun(world)
    client = await place.connect()
    assert await ask(client, "hello") == "2 hello 1"
    assert await ask(client, "raises") == "1 raises 2"
    assert watch.fired[0].answered
