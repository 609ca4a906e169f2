"""The gate: nothing is served while it is closed, and nothing is lost, doubled or reordered by it.

Real transports on both loops. A client is a stream of this process; what it sent is in the gate
when the gate has it, which the tests wait for.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from netswap import Connection, Service, Session, State
from netswap.channel.messages import Cast, Request
from netswap.errors import TransitionError
from netswap.events import Refusal, Stage
from netswap.mediator import present
from netswap.worker.gate import gate as gate_module
from netswap.worker.gate.gate import TRANSITIONS, Event, Gate
from netswap.worker.gate.gate import Stage as GateStage
from netswap.worker.gate.held import HIGH_WATER
from netswap.worker.gate.settling import Settling
from netswap.worker.mesh import Links
from protocols.timers import loop as loop_timers
from protocols.timers import wheel
from tests.interpose.conftest import World, until

KIND = "gated.connection"
LINES = "lines.connection"
PATIENCE = 20.0
READ = 256 * 1024
"""So much a loop reads at once, at most."""


class Seen1(State, kind=KIND, version=1):
    """What was called, in order."""

    calls: list[str] = []
    stays: bool = False


class Seen2(State, kind=KIND, version=2):
    """The same."""

    calls: list[str] = []
    stays: bool = False


class Calls:
    """Notes every callback and answers each piece with the version."""

    state: Any

    def on_connect(self: Any) -> None:
        self.state.calls.append("connect")

    def on_data(self: Any, data: bytes) -> None:
        self.state.calls.append(data.decode())
        if data == b"fail":
            raise ValueError("it fails")
        self.write(b"v%d %s\n" % (self.version, data[:20]))
        if data == b"quit":
            self.close()

    def on_eof(self: Any) -> bool:
        self.state.calls.append("eof")
        self.write(b"v%d eof\n" % self.version)
        return bool(self.state.stays)

    def on_close(self: Any, error: Exception | None) -> None:
        self.state.calls.append("close")

    def on_pause_writing(self: Any) -> None:
        self.state.calls.append("pause")

    def on_resume_writing(self: Any) -> None:
        self.state.calls.append("resume")

    def due(self: Any) -> None:
        self.state.calls.append("due")
        self.write(b"v%d due\n" % self.version)


class One(Calls, Connection[Seen1]):
    """The first version."""

    on_data = Calls.on_data


class Two(Calls, Connection[Seen2]):
    """The second version."""

    on_data = Calls.on_data


class Asked(State, kind="slow.service", version=1):
    """What was asked, and what came from other workers."""

    asked: list[Any] = []


class Slow(Service[Asked]):
    """Has a method that suspends."""

    async def get(self, gone: Any) -> str:
        """Returns when ``gone`` is done."""
        self.state.asked.append("get")
        await gone
        return "got"

    def heard(self, *words: Any) -> str:
        """A cast or a request."""
        self.state.asked.append(list(words))
        return "yes"


class Line1(State, kind=LINES, version=1):
    """How many lines."""

    lines: int = 0


class Line2(State, kind=LINES, version=2):
    """How many lines."""

    lines: int = 0


class Loop:
    """Lines: ``wait`` sleeps at a swap point; ``stay`` reads, ``hang`` waits outside of one."""

    async def run(self: Any) -> None:
        while not self.at_end:
            line = await self.swap_point(self.read_line())
            self.state.lines += 1
            if line == b"stay":
                line = await self.read_line()
            if line == b"hang":
                await asyncio.Event().wait()
            if line == b"wait":
                await self.swap_point(asyncio.sleep(0.001))
            self.write(b"v%d %d %s\n" % (self.version, self.state.lines, line))


class Talk1(Loop, Session[Line1]):
    """The first version."""


class Talk2(Loop, Session[Line2]):
    """The second version."""


class Plain2(Connection[Line2]):
    """The second version without a coroutine."""

    def on_data(self, data: bytes) -> None:
        self.state.lines += 1
        self.write(b"plain %d %s" % (self.state.lines, data))


@pytest.fixture
async def world() -> AsyncIterator[Callable[..., Awaitable[World]]]:
    """``await world(First)``: a listener of connections of that class."""
    made: list[World] = []

    async def make(connection: type[Connection[Any]], *others: type[Any]) -> World:
        made.append(World((*others, connection), connection.kind))
        return await made[-1].listen()

    yield make
    for one in made:
        if one.host.gate is not None:
            one.host.gate.abandon()
        await one.close()


async def closed(world: World, timeout: float = PATIENCE) -> Gate:
    """A gate that is closed, in a worker that is alone: there is nobody to settle with."""
    gate = Gate(world.host, 60)
    assert await gate.close(timeout) is None
    assert await gate.settle(Settling(None, 0, [0], 1), timeout) is None
    assert gate.shut
    return gate


async def line(streams: tuple[asyncio.StreamReader, Any]) -> str:
    """The next line from the server."""
    async with asyncio.timeout(PATIENCE):
        return (await streams[0].readline()).decode().rstrip("\n")


async def send(gate: Gate, streams: tuple[Any, asyncio.StreamWriter], data: bytes) -> None:
    """Send, and return when the gate has it."""
    before = len(gate._queue)
    streams[1].write(data)
    await until(lambda: len(gate._queue) > before)


def calls(entry: Any) -> list[str]:
    """What was called of a connection."""
    found: list[str] = present(entry).state.calls
    return found


@pytest.mark.parametrize("stage", GateStage)
@pytest.mark.parametrize("event", Event)
async def test_the_product_of_stages_and_events(
    world: Callable[..., Awaitable[World]], stage: GateStage, event: Event
) -> None:
    """An event leads where the table says, and is refused where it has no row."""
    gate = Gate((await world(One)).host, 60)
    gate.stage = stage
    if (stage, event) in TRANSITIONS:
        gate._move(event)
        assert gate.stage is TRANSITIONS[stage, event]
    else:
        with pytest.raises(TransitionError):
            gate._move(event)
        assert gate.stage is stage


async def test_bytes_wait_and_are_answered_by_what_is_there_when_it_opens(
    world: Callable[..., Awaitable[World]],
) -> None:
    """Every piece once, in order, by the new version alone."""
    one = await world(One)
    clients = [await one.connect() for _ in range(3)]
    gate = await closed(one)
    for client in clients:
        await send(gate, client, b"a")
        await send(gate, client, b"b")
    one.swap(Two)
    assert [calls(entry) for entry in one.entries] == [["connect"]] * 3
    await gate.open()
    assert [calls(entry) for entry in one.entries] == [["connect", "a", "b"]] * 3
    for client in clients:
        assert [await line(client), await line(client)] == ["v2 a", "v2 b"]
        client[1].write(b"c")
        assert await line(client) == "v2 c"
    assert one.host.gate is None
    assert gate.closed_ns > 0


async def test_what_was_not_swapped_goes_on_as_it_was(
    world: Callable[..., Awaitable[World]],
) -> None:
    """A gate that opens without a swap has changed nothing."""
    one = await world(One)
    client = await one.connect()
    gate = await closed(one)
    await send(gate, client, b"a")
    await gate.open()
    client[1].write(b"b")
    assert [await line(client), await line(client)] == ["v1 a", "v1 b"]


async def test_a_swap_that_is_taken_back_behind_the_gate_is_never_seen(
    world: Callable[..., Awaitable[World]],
) -> None:
    """Old code answers, and new code has answered nothing."""
    one = await world(One)
    client = await one.connect()
    gate = await closed(one)
    await send(gate, client, b"a")
    swap = one.swap(Two)
    one.host.install(One)
    swap.give_up(Refusal(Stage.AGREEMENT, "reverted"))
    swap.slice(10**10)
    await gate.open()
    assert await line(client) == "v1 a"
    client[1].write(b"b")
    assert await line(client) == "v1 b"


@pytest.mark.parametrize("stays", [True, False])
async def test_the_end_of_a_stream_waits_and_the_object_decides(
    world: Callable[..., Awaitable[World]], stays: bool
) -> None:
    """Kept open if the object wants that; else closed after the flush, as the loop would do."""
    one = await world(One)
    client = await one.connect()
    present(one.entries[0]).state.stays = stays
    gate = await closed(one)
    await send(gate, client, b"a")
    client[1].write_eof()
    await until(lambda: len(gate._queue) == 2)
    one.swap(Two)
    await gate.open()
    assert [await line(client), await line(client)] == ["v2 a", "v2 eof"]
    if stays:
        target = present(one.entries[0])
        assert target.half_closed
        assert not target.transport.is_closing()
        assert target.state.calls.count("eof") == 1
        target.close()
    else:
        async with asyncio.timeout(PATIENCE):
            assert await client[0].read() == b""
        await until(lambda: not one.entries)


async def test_a_client_that_resets_while_it_is_closed_is_gone_in_order(
    world: Callable[..., Awaitable[World]],
) -> None:
    """Its object sees the end when the gate opens, and nobody else notices."""
    one = await world(One)
    client, other = await one.connect(), await one.connect()
    entry = one.entries[0]
    target_calls = calls(entry)
    gate = await closed(one)
    await send(gate, client, b"a")
    _reset(client[1])
    await until(lambda: gate._held[entry]._lost)
    assert entry in one.host.table
    assert target_calls == ["connect"]
    await gate.open()
    assert target_calls == ["connect", "a", "close"]
    assert entry not in one.host.table
    other[1].write(b"b")
    assert await line(other) == "v1 b"
    assert one.errors == []


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_who_connects_while_it_is_closed_begins_as_the_new_version(
    world: Callable[..., Awaitable[World]],
) -> None:
    """With every byte that it had sent by then; its factory was asked once, when it began."""
    one = await world(One)
    gate = await closed(one)
    client = await asyncio.open_connection(*one.server.sockets[0].getsockname())
    one.writers.append(client[1])
    client[1].write(b"early")
    await until(lambda: len(gate._queue) == 2)
    assert one.entries == []
    one.swap(Two)
    await gate.open()
    assert await line(client) == "v2 early"
    assert calls(one.entries[0]) == ["connect", "early"]
    client[1].write(b"later")
    assert await line(client) == "v2 later"


@pytest.mark.parametrize("how", ["reset", "end"])
async def test_who_connects_and_leaves_while_it_is_closed(
    world: Callable[..., Awaitable[World]], how: str
) -> None:
    """One that was reset never begins; what one sent before its end is served."""
    one = await world(One)
    gate = await closed(one)
    client = await asyncio.open_connection(*one.server.sockets[0].getsockname())
    one.writers.append(client[1])
    client[1].write(b"early")
    await until(lambda: len(gate._queue) == 2)
    if how == "reset":
        _reset(client[1])
    else:
        client[1].write_eof()
    await until(lambda: len(gate._queue) == 3)
    await gate.open()
    if how == "end":
        assert [await line(client), await line(client)] == ["v1 early", "v1 eof"]
    await until(lambda: not one.entries)
    assert one.errors == []


async def test_flow_control_waits_too(world: Callable[..., Awaitable[World]]) -> None:
    """Who reads again while the gate is closed is told when it opens; the flag moves in a swap."""
    one = await world(One)
    client = await one.connect()
    target = present(one.entries[0])
    client[1].transport.pause_reading()
    while not target.writing_paused:
        target.write(b"x" * 65536)
    gate = await closed(one)
    client[1].transport.resume_reading()
    client[0]._limit = 1 << 26  # type: ignore[attr-defined]
    reading = asyncio.create_task(client[0].readuntil(b"v2 a\n"))
    one.swap(Two)
    assert present(one.entries[0]).writing_paused
    await until(lambda: gate._queue)
    await send(gate, client, b"a")
    assert calls(one.entries[0]) == ["connect", "pause"]
    await gate.open()
    assert calls(one.entries[0])[2:] == ["resume", "a"]
    assert not present(one.entries[0]).writing_paused
    await reading


async def test_a_client_that_sends_without_end_is_not_read_without_end(
    world: Callable[..., Awaitable[World]],
) -> None:
    """Its bytes wait in the kernel; every one of them arrives, once and in order."""
    one = await world(One)
    client = await one.connect()
    present(one.entries[0]).write = lambda _data: None
    gate = await closed(one)
    sent = b"".join(b"%09d\n" % number for number in range(800_000))
    client[1].write(sent)
    held = gate._held[one.entries[0]]
    await until(lambda: held._paused)
    for _ in range(50):
        await asyncio.sleep(0)
    assert held._kept <= HIGH_WATER + 2 * READ
    await gate.open()
    await until(lambda: sum(map(len, calls(one.entries[0])[1:])) == len(sent))
    assert "".join(calls(one.entries[0])[1:]).encode() == sent


async def test_a_client_that_the_object_does_not_read_stays_unread(
    world: Callable[..., Awaitable[World]],
) -> None:
    """The gate's own pause is not taken for the object's, nor the other way round."""
    one = await world(One)
    client = await one.connect()
    present(one.entries[0]).pause_reading()
    gate = await closed(one)
    client[1].write(b"a")
    await gate.open()
    for _ in range(50):
        await asyncio.sleep(0)
    assert calls(one.entries[0]) == ["connect"]
    present(one.entries[0]).resume_reading()
    assert await line(client) == "v1 a"


async def test_what_comes_after_the_object_has_closed_is_not_served(
    world: Callable[..., Awaitable[World]],
) -> None:
    """As a transport that is closed calls no more for what it reads."""
    one = await world(One)
    client = await one.connect()
    target_calls = calls(one.entries[0])
    gate = await closed(one)
    for piece in (b"a", b"quit", b"b"):
        await send(gate, client, piece)
    await gate.open()
    async with asyncio.timeout(PATIENCE):
        assert await client[0].read() == b"v1 a\nv1 quit\n"
    await until(lambda: not one.entries)
    assert target_calls == ["connect", "a", "quit", "close"]


async def test_a_callback_that_raises_ends_its_own_connection(
    world: Callable[..., Awaitable[World]],
) -> None:
    """And is logged as one that the loop called; the others are served."""
    one = await world(One)
    bad, good = await one.connect(), await one.connect()
    gate = await closed(one)
    await send(gate, bad, b"fail")
    await send(gate, good, b"a")
    await gate.open()
    assert await line(good) == "v1 a"
    assert await line(bad) == ""
    assert [row["error"] for row in one.errors] == ["ValueError: it fails"]


async def test_a_timer_that_is_due_meanwhile_fires_once(
    world: Callable[..., Awaitable[World]],
) -> None:
    """When the gate opens, in the new version, after the bytes that came before it."""
    one = await world(One)
    client = await one.connect()
    gate = await closed(one)
    await send(gate, client, b"a")
    present(one.entries[0]).timers.arm("due", 0.001)
    await until(lambda: len(gate._queue) >= 2)
    assert calls(one.entries[0]) == ["connect"]
    one.swap(Two)
    await gate.open()
    assert [await line(client), await line(client)] == ["v2 a", "v2 due"]
    client[1].write(b"b")
    assert await line(client) == "v2 b"
    assert calls(one.entries[0]).count("due") == 1


@pytest.mark.parametrize("way", ["wheel and back", "wheel"])
async def test_the_timer_service_itself_is_swapped_behind_the_gate(
    world: Callable[..., Awaitable[World]], way: str
) -> None:
    """What the old one had asked of the loop is not asked of one that does not know it."""
    one = await world(One)
    client = await one.connect()
    if way == "wheel and back":
        one.swap(wheel.Wheel)
    present(one.entries[0]).timers.arm("due", 0.02)
    gate = await closed(one)
    await until(lambda: gate._queue)
    one.swap(loop_timers.LoopTimers if way == "wheel and back" else wheel.Wheel)
    await gate.open()
    assert await line(client) == "v1 due"
    client[1].write(b"a")
    assert await line(client) == "v1 a"
    assert calls(one.entries[0]).count("due") == 1
    assert one.errors == []


async def test_calls_by_way_of_the_host_wait_in_order(
    world: Callable[..., Awaitable[World]],
) -> None:
    """What is called soon, casts, requests and what is told of other workers, whole."""
    one = await world(One, Slow)
    host = one.host
    slow = host.services["slow.service"]
    links = Links(host, {0: "", 1: ""})
    gate = await closed(one)
    host.call_soon(slow, "heard", "soon")
    await until(lambda: gate._queue)
    links.received(1, Cast("slow.service", "heard", ["cast"]))
    links.received(1, Request(5, "slow.service", "heard", ["request"]))
    host.guarded(slow, "heard", "timer")
    host.later(lambda: host.guarded(slow, "heard", "own"))
    await until(lambda: len(gate._queue) == 5)
    assert present(slow).state.asked == []
    await gate.open()
    words = ["soon", "cast", "request", "timer", "own"]
    assert present(slow).state.asked == [[word] for word in words]


async def test_a_request_to_oneself_is_answered_when_it_opens(
    world: Callable[..., Awaitable[World]],
) -> None:
    """Both the question and the answer are calls by way of the host."""
    one = await world(One, Slow)
    slow = one.host.services["slow.service"]
    gate = await closed(one)
    present(slow).cluster.request(0, "heard", ("question",), slow, "heard", 7)
    await until(lambda: gate._queue)
    await gate.open()
    assert present(slow).state.asked == [["question"], [7, "yes", None]]


async def test_a_suspended_call_ends_before_it_is_closed(
    world: Callable[..., Awaitable[World]],
) -> None:
    """Even if it waits for what only another worker's answer can bring."""
    one = await world(One, Slow)
    slow = one.host.services["slow.service"]
    answer = one.host.loop.create_future()
    call = asyncio.create_task(slow.target.get(answer))
    await until(lambda: present(slow).state.asked)
    gate = Gate(one.host, 60)
    closing = asyncio.create_task(gate.close(PATIENCE))
    await until(lambda: gate.stage is GateStage.EMPTYING)
    assert not gate.closed
    answer.set_result(None)
    assert await closing is None
    assert await call == "got"
    await gate.open()


async def test_a_call_that_would_begin_waits(world: Callable[..., Awaitable[World]]) -> None:
    """A task of nobody's that calls a service is not served either."""
    one = await world(One, Slow)
    slow = one.host.services["slow.service"]
    gate = await closed(one)
    done = one.host.loop.create_future()
    done.set_result(None)
    call = asyncio.create_task(slow.target.get(done))
    await until(lambda: gate._waiters)
    assert present(slow).state.asked == []
    await gate.open()
    assert await call == "got"


async def test_what_never_rests_is_named_and_all_is_served_on(
    world: Callable[..., Awaitable[World]],
) -> None:
    """The refusal has file and line, and who waited is answered."""
    one = await world(One, Slow)
    client = await one.connect()
    slow = one.host.services["slow.service"]
    never = one.host.loop.create_future()
    call = asyncio.create_task(slow.target.get(never))
    await until(lambda: present(slow).state.asked)
    gate = Gate(one.host, 60)
    closing = asyncio.create_task(gate.close(0.1))
    await until(lambda: gate.stage is GateStage.EMPTYING)
    client[1].write(b"a")
    refusal = await closing
    assert refusal is not None
    assert refusal.file == __file__
    assert refusal.line is not None
    assert refusal.kind == "slow.service"
    assert one.host.gate is None
    assert await line(client) == "v1 a"
    never.set_result(None)
    await call


async def test_who_gives_up_while_it_closes_is_served_on(
    world: Callable[..., Awaitable[World]],
) -> None:
    """At any moment; the reason is the one that was given."""
    one = await world(One, Slow)
    client = await one.connect()
    slow = one.host.services["slow.service"]
    never = one.host.loop.create_future()
    call = asyncio.create_task(slow.target.get(never))
    await until(lambda: present(slow).state.asked)
    gate = Gate(one.host, 60)
    closing = asyncio.create_task(gate.close(PATIENCE))
    await until(lambda: gate.stage is GateStage.EMPTYING)
    reason = Refusal(Stage.AGREEMENT, "reverted")
    gate.give_up(reason)
    assert await closing is reason
    client[1].write(b"a")
    assert await line(client) == "v1 a"
    never.set_result(None)
    await call


async def test_a_gate_that_nobody_opens_opens_by_itself(
    world: Callable[..., Awaitable[World]],
) -> None:
    """And says so; who held it sees that it is not shut any more."""
    one = await world(One)
    client = await one.connect()
    gate = Gate(one.host, 0.05)
    assert await gate.close(PATIENCE) is None
    await send(gate, client, b"a")
    assert await line(client) == "v1 a"
    assert not gate.shut
    assert [row["event"] for row in one.errors] == ["gate_opened_alone"]
    await gate.open()


async def test_a_worker_that_ends_leaves_no_coroutine_waiting(
    world: Callable[..., Awaitable[World]],
) -> None:
    """Or its end would wait for them."""
    one = await world(Talk1)
    await one.connect()
    gate = await closed(one)
    session = present(one.entries[0])
    session._wake()
    await until(lambda: gate._waiters)
    gate.abandon()
    assert one.host.gate is None
    await asyncio.sleep(0)
    assert not gate._waiters
    session.point_here()


async def test_sessions_stay_at_their_swap_points(world: Callable[..., Awaitable[World]]) -> None:
    """What they await may end, a read or a sleep; they go on in what is there when it opens."""
    one = await world(Talk1)
    reading, sleeping = await one.connect(), await one.connect()
    sleeping[1].write(b"wait\n")
    await until(lambda: present(one.entries[1]).state.lines)
    gate = await closed(one)
    await send(gate, reading, b"hello\n")
    await until(lambda: gate._waiters)  # the sleep is over
    one.swap(Talk2)
    assert [present(entry).state.lines for entry in one.entries] == [0, 1]
    await gate.open()
    assert await line(reading) == "v2 1 hello"
    sleeping[1].write(b"again\n")
    assert await line(sleeping) == "v2 2 again"


async def test_sessions_that_were_not_swapped_go_on_with_what_they_have(
    world: Callable[..., Awaitable[World]],
) -> None:
    """What came of a wait is not lost by the gate."""
    one = await world(Talk1)
    client = await one.connect()
    client[1].write(b"wait\n")
    await until(lambda: present(one.entries[0]).state.lines)
    gate = await closed(one)
    await until(lambda: gate._waiters)
    await gate.open()
    assert await line(client) == "v1 1 wait"


async def test_a_session_gets_the_input_that_brings_it_to_rest(
    world: Callable[..., Awaitable[World]],
) -> None:
    """One that waits for more outside of a swap point is served until it comes to one."""
    one = await world(Talk1)
    client = await one.connect()
    client[1].write(b"stay\n")
    await until(lambda: present(one.entries[0]).state.lines)
    gate = Gate(one.host, 60)
    closing = asyncio.create_task(gate.close(PATIENCE))
    await until(lambda: gate._busy)
    client[1].write(b"more\nnext\n")
    assert await closing is None
    assert await line(client) == "v1 1 more"
    one.swap(Talk2)
    await gate.open()
    assert await line(client) == "v2 2 next"


async def test_a_session_whose_client_is_gone_is_not_waited_for(
    world: Callable[..., Awaitable[World]],
) -> None:
    """A reset that comes after the client's end is seen by no loop; nobody could be answered."""
    one = await world(Talk1)
    client = await one.connect()
    client[1].write(b"hang\n")
    entry = one.entries[0]
    await until(lambda: present(entry).state.lines)
    client[1].write_eof()
    await until(lambda: present(entry).half_closed)
    reset = struct.pack("ii", 1, 0)
    client[1].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    client[1].transport.abort()
    gate = Gate(one.host, 60)
    assert await gate.close(PATIENCE) is None
    assert entry.target is None
    await gate.open()


async def test_a_session_that_never_rests_is_named(
    world: Callable[..., Awaitable[World]],
) -> None:
    """With the line of its own file; no client had to wait for it."""
    one = await world(Talk1)
    client = await one.connect()
    client[1].write(b"stay\n")
    await until(lambda: present(one.entries[0]).state.lines)
    gate = Gate(one.host, 60)
    refusal = await gate.close(0.05)
    assert refusal is not None
    assert refusal.kind == LINES
    assert refusal.line is not None
    assert gate.closed_ns == 0
    client[1].write(b"more\n")
    assert await line(client) == "v1 1 more"


async def test_what_a_session_had_not_used_goes_before_what_came_later(
    world: Callable[..., Awaitable[World]],
) -> None:
    """A follower without a coroutine is called for it first."""
    one = await world(Talk1)
    client = await one.connect()
    client[1].write(b"ha")
    await until(present(one.entries[0]).input.size)
    gate = await closed(one)
    await send(gate, client, b"lf\n")
    one.swap(Plain2)
    await gate.open()
    assert [await line(client)] == ["plain 1 haplain 2 lf"]


async def test_ten_thousand_connections_go_in_slices(
    world: Callable[..., Awaitable[World]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop turns between two of them, when it closes and when it opens."""
    monkeypatch.setattr(gate_module, "SLICE_NS", 0)
    one = await world(One)
    clients = [await one.connect() for _ in range(20)]
    turns = [0]

    def turn() -> None:
        turns[0] += 1
        if one.host.gate is not None:
            one.host.loop.call_soon(turn)

    gate = Gate(one.host, 60)
    closing = asyncio.create_task(gate.close(PATIENCE))
    await asyncio.sleep(0)
    turn()
    await closing
    assert turns[0] > 2 * 20
    for client in clients:
        client[1].write(b"a")
    await until(lambda: len(gate._queue) == 20)
    before = turns[0]
    await gate.open()
    assert turns[0] - before >= 19
    assert [await line(client) for client in clients] == ["v1 a"] * 20
    await until(lambda: one.host.gate is None)


async def test_a_busy_connection_leaves_the_gate_before_the_last_one_does(
    world: Callable[..., Awaitable[World]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that always has more to say can't keep it closed for the others or for itself."""
    monkeypatch.setattr(gate_module, "SLICE_NS", 0)
    one = await world(One)
    busy = await one.connect()
    for _ in range(5):
        await one.connect()
    gate = await closed(one)
    await send(gate, busy, b"0")
    opening = asyncio.create_task(gate.open())
    number = 0
    while not opening.done():
        assert await line(busy) == f"v1 {number}"
        number += 1
        busy[1].write(b"%d" % number)
        await asyncio.sleep(0)
    assert await line(busy) == f"v1 {number}"
