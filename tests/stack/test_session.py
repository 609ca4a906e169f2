"""Sessions on real loops and sockets: a swap at a swap point can't be seen by the client."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from netswap.events import Refusal, Stage
from netswap.hotswap import Phase, Swap
from netswap.stack import Session
from netswap.transfer import State
from netswap.worker.driver import ENDING_NS, Driver
from tests.protocols.conftest import PATIENCE, Client, Server, until

KIND = "words.connection"
SHORT = 0.02
STREAM = b"alice\n\n3:a\nb\r\nlonger line with words\n0:\n5:12345end"


class Words1(State, kind=KIND, version=1):
    """How much was read, and whose it is."""

    lines: int = 0
    name: str = ""


class Words2(State, kind=KIND, version=2):
    """The same, next version."""

    lines: int = 0
    name: str = ""


class Reader:
    """Lines, and counted bytes after a line ``N:``; every answer carries what is in the state."""

    state: Any

    async def converse(self: Any) -> None:
        """Until the peer's end."""
        while not self.at_end:
            line = await self.swap_point(self.read_line())
            if self.at_end and not line:
                break
            self.state.lines += 1
            self.state.name = self.state.name or line.decode()
            self.write(b"%d %s %s\n" % (self.state.lines, self.state.name.encode(), line))
        self.write(b"bye\n")


class Talk1(Reader, Session[Words1]):
    """The first version."""

    async def run(self) -> None:
        """Converse."""
        await self.converse()


class Talk2(Reader, Session[Words2]):
    """The second version."""

    async def run(self) -> None:
        """Converse."""
        await self.converse()


class Sized1(Session[Words1]):
    """Messages of a size that stands in their first byte."""

    async def run(self) -> None:
        """Each read is a swap point of its own; what is between them is in the state."""
        await sized(self)


class Sized2(Session[Words2]):
    """The second version."""

    async def run(self) -> None:
        """The same."""
        await sized(self)


async def sized(self: Any) -> None:
    """``lines`` is the size that was read, or zero."""
    while True:
        try:
            if not self.state.lines:
                self.state.lines = (await self.swap_point(self.read_exactly(1)))[0]
            data = await self.swap_point(self.read_exactly(self.state.lines))
        except EOFError as error:
            self.write(str(error).encode())
            return
        self.state.lines = 0
        self.write(data.upper() + b"|")


GATES: dict[int, asyncio.Event] = {}


class Busy:
    """Waits for a gate in the middle of its work, outside of any swap point."""

    state: Any
    version: int

    async def work(self: Any) -> None:
        """One answer a line, naming the version that began it and the one that ended it."""
        while True:
            line = await self.swap_point(self.read_line())
            if not line:
                return
            if line == b"wait":
                await GATES[self.host.slot].wait()
            self.state.lines += 1
            self.write(b"%d %d %s\n" % (self.version, self.state.lines, line))


class Busy1(Busy, Session[Words1]):
    """The first version."""

    async def run(self) -> None:
        """Work."""
        await self.work()


class Busy2(Busy, Session[Words2]):
    """The second version."""

    async def run(self) -> None:
        """Work."""
        await self.work()


class Tidy1(Session[Words1]):
    """Its author closes in a ``finally`` and takes a cancellation for the end."""

    async def run(self) -> None:
        """Answer lines."""
        try:
            while line := await self.swap_point(self.read_line()):
                self.write(b"1 " + line + b"\n")
        except asyncio.CancelledError:
            pass
        finally:
            self.close()


class Tidy2(Session[Words2]):
    """The second version."""

    async def run(self) -> None:
        """Answer lines."""
        while line := await self.swap_point(self.read_line()):
            self.write(b"2 " + line + b"\n")


class Messy1(Session[Words1]):
    """Its ``finally`` uses what a replaced session has no more."""

    async def run(self) -> None:
        """Wait for a line."""
        try:
            await self.swap_point(self.read_line())
        finally:
            self.state.lines = 9


def module(cls: Any) -> Any:
    """What a pushed file would be."""
    return SimpleNamespace(cls=cls)


@pytest.fixture
async def servers() -> AsyncIterator[Any]:
    """``await servers(cls)``: a server of one kind of session; all are stopped at the end."""
    made: list[Server] = []

    async def make(cls: Any) -> Server:
        server = Server([module(cls)], KIND, {})
        made.append(server)
        await server.start()
        return server

    yield make
    for server in made:
        await server.stop()


async def transcript(client: Client, rest: bytes) -> bytes:
    """What the client reads when it has sent the rest and half-closed."""
    await client.send(rest)
    await client.finish()
    return await client.read_all()


@pytest.mark.parametrize(("one", "two"), [(Talk1, Talk2), (Talk2, Talk1), (Talk1, Talk1)])
async def test_lines_are_answered_as_without_a_swap_at_every_byte(
    servers: Any, one: Any, two: Any
) -> None:
    """The transcript is that of a server that was never swapped, wherever the swap comes."""
    follower = type("Follower", (two,), {}) if one is two else two
    server = await servers(one)
    plain = await transcript(await server.connect(), STREAM)
    assert plain.count(b"\n") == 8
    clients = [await server.connect() for _ in range(len(STREAM) + 1)]
    for cut, client in enumerate(clients):
        if cut:
            await client.send(STREAM[:cut])
    await server.swap(module(follower))
    for cut, client in enumerate(clients):
        assert type(client.entry.target) is follower
        assert await transcript(client, STREAM[cut:]) == plain, f"cut at {cut}"


@pytest.mark.parametrize(("one", "two"), [(Sized1, Sized2), (Sized2, Sized1)])
async def test_counted_bytes_are_read_as_without_a_swap_at_every_byte(
    servers: Any, one: Any, two: Any
) -> None:
    """What is half read stays in the buffer, and a message that breaks off is told the same."""
    stream = b"\x05hello\x01a\x03xyz\x09trunc"
    server = await servers(one)
    plain = await transcript(await server.connect(), stream)
    assert plain == b"HELLO|A|XYZ|the stream ended 4 bytes too early"
    clients = [await server.connect() for _ in range(len(stream) + 1)]
    for cut, client in enumerate(clients):
        if cut:
            await client.send(stream[:cut])
    await server.swap(module(two))
    for cut, client in enumerate(clients):
        assert await transcript(client, stream[cut:]) == plain, f"cut at {cut}"


async def test_a_session_swapped_many_times_keeps_its_stream(servers: Any) -> None:
    """A swap after each byte, to and fro."""
    server = await servers(Talk1)
    plain = await transcript(await server.connect(), STREAM)
    client = await server.connect()
    for at in range(len(STREAM)):
        await client.send(STREAM[at : at + 1])
        await server.swap(module(Talk1 if at % 2 else Talk2))
    assert await transcript(client, b"") == plain


async def test_the_peers_end_before_the_swap_is_known_after_it(servers: Any) -> None:
    """A held session has read nothing yet; its follower reads the rest and says good-bye."""
    GATES[0] = asyncio.Event()
    server = await servers(Busy1)
    client = await server.connect()
    await client.send(b"wait\nlast\n")
    await client.finish()
    await until(lambda: client.entry.target.half_closed)
    pushed = asyncio.create_task(server.swap(module(Busy2)))
    await asyncio.sleep(0)
    GATES[0].set()
    await pushed
    assert await client.read_all() == b"1 1 wait\n2 2 last\n"


async def test_a_session_elsewhere_is_brought_to_rest_at_its_next_swap_point(servers: Any) -> None:
    """It ends what it began in old code; what has come meanwhile is read by new code."""
    GATES[0] = asyncio.Event()
    server = await servers(Busy1)
    client = await server.connect()
    await client.send(b"wait\nnext\n")
    await until(lambda: not client.entry.target.at_rest())
    pushed = asyncio.create_task(server.swap(module(Busy2)))
    await asyncio.sleep(0)
    assert not pushed.done()
    GATES[0].set()
    await pushed
    assert await client.read_lines(2) == ["1 1 wait", "2 2 next"]


async def test_a_session_that_is_drained_answers_what_it_was_asked_first(servers: Any) -> None:
    """One at work ends it, and what has come behind it; one that waits is closed at once."""
    GATES[0] = asyncio.Event()
    server = await servers(Busy1)
    idle, busy = await server.connect(), await server.connect()
    await busy.send(b"wait\nnext\n")
    await until(lambda: not busy.entry.target.at_rest())
    for client in (idle, busy):
        client.entry.target.on_drain()
    assert await idle.read_all() == b""
    GATES[0].set()
    assert await busy.read_all() == b"1 1 wait\n1 2 next\n"


async def test_what_has_come_just_before_a_drain_is_answered(servers: Any) -> None:
    """The session is still where it has waited for it; of half a line nothing can be answered."""
    server = await servers(Busy1)
    for data, answer in ((b"next\n", b"1 1 next\n"), (b"nex", b"")):
        client = await server.connect()
        session = client.entry.target
        await until(session.at_rest)
        session.on_data(data)
        session.on_drain()
        assert await client.read_all() == answer


async def test_passing_the_deadline_names_the_line_and_the_session_goes_on(servers: Any) -> None:
    """Old code serves on as if nothing had been asked."""
    GATES[0] = asyncio.Event()
    server = await servers(Busy1)
    client = await server.connect()
    await client.send(b"wait\nnext\n")
    await until(lambda: not client.entry.target.at_rest())
    swap = server.prepare(module(Busy2))
    await Driver(server.host, swap).run(SHORT)
    refusal = swap.refusal
    assert swap.phase is Phase.RESTORED
    assert refusal is not None
    assert (refusal.kind, refusal.entry) == (KIND, f"0.{client.entry.identity}")
    assert "is suspended at" in refusal.reason
    assert refusal.line
    GATES[0].set()
    assert await client.read_lines(2) == ["1 1 wait", "1 2 next"]


async def test_a_session_held_by_a_swap_that_is_given_up_goes_on(servers: Any) -> None:
    """Another one was in the way: the held one reads on in old code."""
    GATES[0] = asyncio.Event()
    server = await servers(Busy1)
    quick, slow = await server.connect(), await server.connect()
    await slow.send(b"wait\n")
    await until(lambda: not slow.entry.target.at_rest())
    quick_was = quick.entry.target
    swap = server.prepare(module(Busy2))
    driver = Driver(server.host, swap)
    pushed = asyncio.create_task(driver.run(PATIENCE))
    await until(lambda: swap.busy)
    await quick.send(b"a\n")
    driver.give_up(Refusal(Stage.AGREEMENT, "reverted"))
    await pushed
    GATES[0].set()
    await quick.send(b"b\n")
    lines = await quick.read_lines(2)
    assert [line.split()[1:] for line in lines] == [["1", "a"], ["2", "b"]]
    assert await slow.read_lines(1) == ["1 1 wait"]
    assert type(quick.entry.target) is type(quick_was)
    assert not swap.stuck


async def test_a_session_that_closes_while_it_is_waited_for_is_gone_and_a_success(
    servers: Any,
) -> None:
    """The swap is done without it."""
    GATES[0] = asyncio.Event()
    server = await servers(Busy1)
    client = await server.connect()
    await client.send(b"wait\n")
    entry = client.entry
    await until(lambda: not entry.target.at_rest())
    swap: Swap = server.prepare(module(Busy2))
    pushed = asyncio.create_task(Driver(server.host, swap).run(PATIENCE))
    await until(lambda: swap.busy)
    entry.target.abort()
    await pushed
    assert (swap.phase, swap.gone, swap.counts[KIND]) == (Phase.DONE, 1, 0)


async def test_a_session_whose_client_sends_no_more_does_not_hold_up_a_swap(servers: Any) -> None:
    """It answers in the code that was asked, and all others are swapped; it took the deadline."""
    GATES[0] = asyncio.Event()
    server = await servers(Busy1)
    ended, other = await server.connect(), await server.connect()
    await ended.send(b"wait\n")
    await ended.finish()
    await until(lambda: ended.entry.target.half_closed)
    swap = await server.swap(module(Busy2))
    assert (swap.left, swap.counts[KIND]) == (1, 1)
    await other.send(b"a\n")
    assert await other.read_lines(1) == ["2 1 a"]
    GATES[0].set()
    assert await ended.read_all() == b"1 1 wait\n"


async def test_a_session_that_has_more_to_read_is_waited_for(servers: Any) -> None:
    """New code would have to answer that; nor is one left where no two versions may serve."""
    GATES[0] = asyncio.Event()
    server = await servers(Busy1)
    client = await server.connect()
    await client.send(b"wait\nnext\n")
    await client.finish()
    await until(lambda: client.entry.target.half_closed)
    driver = Driver(server.host, swap := server.prepare(module(Busy2)))
    await driver.run(2 * ENDING_NS / 1e9)
    assert (swap.phase, swap.left) == (Phase.RESTORED, 0)
    GATES[0].set()
    assert await client.read_all() == b"1 1 wait\n1 2 next\n"


async def test_a_session_whose_client_is_gone_is_ended_by_a_swap(servers: Any) -> None:
    """No loop looks for a reset that comes after the peer's end, and the swap would wait for it."""
    GATES[0] = asyncio.Event()
    server = await servers(Busy1)
    client = await server.connect()
    await client.send(b"wait\n")
    entry = client.entry
    await client.finish()
    await until(lambda: entry.target.half_closed)
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()
    swap = await server.swap(module(Busy2))
    assert (swap.gone, swap.left, entry.target) == (1, 0, None)


async def test_a_session_that_ended_before_the_swap_is_not_begun_again(servers: Any) -> None:
    """Its connection is closing; the follower only sees it close."""
    server = await servers(Talk1)
    client = await server.connect()
    entry = client.entry
    await client.send(b"a", read=True)
    entry.target.close()
    swap = server.prepare(module(Talk2))
    await Driver(server.host, swap).run(PATIENCE)
    assert swap.phase is Phase.DONE
    assert await client.read_all() == b""
    await until(lambda: entry.target is None)


async def test_a_replaced_session_can_not_close_its_followers_connection(servers: Any) -> None:
    """Not in a ``finally``, and not by taking its cancellation for the end."""
    server = await servers(Tidy1)
    client = await server.connect()
    await client.send(b"a\n")
    assert await client.read_lines(1) == ["1 a"]
    await server.swap(module(Tidy2))
    await client.send(b"b\n")
    assert await client.read_lines(1) == ["2 b"]


async def test_what_a_replaced_sessions_finally_raises_is_logged_and_harms_nobody(
    servers: Any,
) -> None:
    """It has no state any more; its follower serves on."""
    server = await servers(Messy1)
    client = await server.connect()
    await server.swap(module(Tidy2))
    await client.send(b"b\n")
    assert await client.read_lines(1) == ["2 b"]
    assert [error["doing"] for error in server.log.errors] == ["run"]
    server.log.errors.clear()


async def test_two_swaps_in_one_turn_leave_one_conversation(servers: Any) -> None:
    """The follower of a follower that never began is the only one that answers."""
    server = await servers(Busy1)
    client = await server.connect()
    await client.send(b"a\n")
    assert await client.read_lines(1) == ["1 1 a"]
    await server.swap(module(Busy2))
    await server.swap(module(Busy1))
    await client.send(b"b\n")
    assert await client.read_lines(1) == ["1 2 b"]


async def test_reading_that_was_paused_goes_on_after_the_swap(servers: Any) -> None:
    """A session that does not read stops its peer; its follower takes all that was sent."""
    GATES[0] = asyncio.Event()
    server = await servers(Busy1)
    client = await server.connect()
    line = b"x" * 60_000 + b"\n"
    await client.send(b"wait\n")
    await until(lambda: not client.entry.target.at_rest())
    sending = asyncio.create_task(client.send(line * 20, read=False))
    await until(lambda: client.entry.target.reading_paused)
    pushed = asyncio.create_task(server.swap(module(Busy2)))
    await asyncio.sleep(0)
    GATES[0].set()
    await pushed
    assert await client.read_lines(1) == ["1 1 wait"]
    for number in range(2, 22):
        expected = b"2 %d %s" % (number, line)
        assert await client.read(len(expected)) == expected, number
    await sending
