"""Interposers go in and out between two callbacks; swaps, calls and clients do not notice."""

from __future__ import annotations

import asyncio
from itertools import permutations
from typing import Any

import pytest

from netswap import Connection, Service, State
from netswap.interpose import Figures, Interposition, Monitor, put_in, take_out
from netswap.interpose.interposer import interposers_of
from netswap.mediator import mediator_of, present
from tests.interpose.conftest import ask, until

KIND = "test.connection"


class Old(State, kind=KIND, version=1):
    """How many chunks came."""

    seen: int = 0


class New(State, kind=KIND, version=2):
    """The same."""

    seen: int = 0


class First(Connection[Old], uses={"output": "buffer.send", "desk": "test.desk"}):
    """Answers with version, count and what the service says."""

    def on_data(self, data: bytes) -> None:
        self.state.seen += 1
        self.write(b"%d %d %d\n" % (self.version, self.state.seen, self.desk.next()))
        if data == b"later\n":
            self.timers.arm("ring", 0)

    def ring(self) -> None:
        self.write(b"ring %d\n" % self.version)


class Second(Connection[New], uses={"output": "buffer.send", "desk": "test.desk"}):
    """The same, of version 2."""

    on_data = First.on_data
    ring = First.ring


class Numbers(State, kind="test.desk", version=1):
    """The last number given."""

    last: int = 0


class Desk(Service[Numbers]):
    """Gives numbers; ``slowly`` when it is told to."""

    def next(self) -> int:
        self.state.last += 1
        return self.state.last

    async def slowly(self, gate: asyncio.Future[None]) -> int:
        await gate
        return self.next()


def monitors(count: int) -> list[Monitor]:
    return [Monitor(Figures()) for _ in range(count)]


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_they_leave_in_any_order(world: Any, order: tuple[int, ...]) -> None:
    """What is left in front still sees every call; at last the transport has the object again."""
    place = await world(First, Desk)
    client = await place.connect()
    entry = place.entries[0]
    stack = monitors(3)
    for monitor in stack:
        put_in(entry, monitor)
    assert interposers_of(entry) == stack[::-1]
    assert await ask(client, "hello") == "1 1 1"
    for left, number in enumerate(order, 1):
        take_out(stack[number])
        assert await ask(client, "hello") == f"1 {left + 1} {left + 1}"
    assert [stack[number].figures.calls for number in order] == [1, 2, 3]
    assert entry.target is present(entry) is entry.target.transport.get_protocol()


async def test_a_swap_flips_behind_them(world: Any) -> None:
    """The new object is called through the interposers of the old one, its timers too."""
    place = await world(First, Desk)
    client = await place.connect()
    entry = place.entries[0]
    (monitor,) = monitors(1)
    put_in(entry, monitor)
    await ask(client, "hello")
    place.swap(Second)
    assert entry.target is monitor
    assert type(present(entry)) is Second
    assert await ask(client, "hello") == "2 2 2"
    before = monitor.figures.calls
    assert await ask(client, "later") == "2 3 3"
    async with asyncio.timeout(20):
        assert await client[0].readline() == b"ring 2\n"
    assert monitor.figures.calls - before == 2
    take_out(monitor)
    assert await ask(client, "hello") == "2 4 4"
    assert entry.target.transport.get_protocol() is entry.target


async def test_parts_and_services_too(world: Any) -> None:
    """A send buffer's ``write`` is bound by its connection; a service is called by its handle."""
    place = await world(First, Desk)
    client = await place.connect()
    (buffer,) = place.host.table.of_kind("buffer.send")
    (desk,) = place.host.table.of_kind("test.desk")
    one, two = monitors(2)
    put_in(buffer, one)
    put_in(desk, two)
    assert await ask(client, "hello") == "1 1 1"
    assert one.figures.calls >= 1
    assert two.figures.calls == 1
    take_out(one)
    take_out(two)
    seen = one.figures.calls
    assert await ask(client, "hello") == "1 2 2"
    assert (one.figures.calls, two.figures.calls) == (seen, 1)


async def test_what_an_object_lends_is_no_call_into_it(world: Any) -> None:
    """Somebody writes through the handle of a connection: that is the transport's."""
    place = await world(First, Desk)
    client = await place.connect()
    (monitor,) = monitors(1)
    put_in(place.entries[0], monitor)
    place.entries[0].target.write(b"from outside\n")
    async with asyncio.timeout(20):
        assert await client[0].readline() == b"from outside\n"
    assert place.entries[0].target.attributes()["listener"] == "test"
    assert monitor.figures.calls == 0


@pytest.mark.parametrize("leaves", ["before the flip", "after it"])
async def test_a_mediator_stands_behind_them(world: Any, leaves: str) -> None:
    """A service is brought to rest for a swap while an interposer comes and goes."""

    class Later(State, kind="test.desk", version=2):
        last: int = 0

    class Desk2(Service[Later]):
        next = Desk.next
        slowly = Desk.__dict__["slowly"]

    place = await world(First, Desk)
    host = place.host
    (entry,) = host.table.of_kind("test.desk")
    outer, inner = monitors(2)
    put_in(entry, inner)
    gate = host.loop.create_future()
    inside = asyncio.ensure_future(entry.target.slowly(gate))
    await asyncio.sleep(0)
    quiet: list[bool] = []
    present(entry).bring_to_rest(lambda: quiet.append(True))
    put_in(entry, outer)
    gate.set_result(None)
    assert await inside == 1
    held = asyncio.ensure_future(entry.target.slowly(gate))
    await until(lambda: quiet)
    if leaves == "before the flip":
        take_out(inner)
    place.swap(Desk2)
    assert await held == 2
    assert mediator_of(entry) is None
    assert type(present(entry)) is Desk2
    take_out(outer)
    if leaves == "after it":
        take_out(inner)
    assert entry.target is present(entry)
    assert await entry.target.slowly(gate) == 3
    assert outer.figures.calls == 1


async def test_an_interposition_is_in_front_of_later_objects_too(world: Any) -> None:
    """All of a kind, until it is removed; what has closed meanwhile is forgotten."""
    place = await world(First, Desk)
    early = await place.connect()
    figures = Figures()
    everywhere = Interposition(
        place.host, lambda entry: Monitor(figures) if entry.kind == KIND else None
    )
    assert everywhere.place()
    late = await place.connect()
    for client in (early, late):
        await ask(client, "hello")
    assert (len(everywhere), figures.calls) == (2, 3)  # and the later one's on_connect
    early[1].close()
    await until(lambda: len(place.entries) == 1)
    assert figures.calls == 6  # the end of the stream, connection_lost and on_close
    await until(lambda: len(everywhere) == 1)
    everywhere.remove()
    third = await place.connect()
    assert await ask(third, "hello") == "1 1 3"
    assert figures.calls == 6
    assert not place.host.births
    assert [row.target for row in place.entries] == [present(row) for row in place.entries]


async def test_a_monitor_counts_calls_errors_and_time(world: Any) -> None:
    """ProtocolError is the peer's fault and counts apart."""
    from netswap import ProtocolError

    class Failing(State, kind="test.desk", version=2):
        last: int = 0

    class Desk2(Service[Failing]):
        def next(self) -> int:
            raise (ValueError("ours"), ProtocolError("theirs"))[self.state.last]

        async def slowly(self, gate: asyncio.Future[None]) -> int:
            raise ValueError("late")

    place = await world(First, Desk)
    place.swap(Desk2)
    (entry,) = place.host.table.of_kind("test.desk")
    (monitor,) = monitors(1)
    put_in(entry, monitor)
    for last, kind in enumerate((ValueError, ProtocolError)):
        present(entry).state.last = last
        with pytest.raises(kind):
            entry.target.next()
    with pytest.raises(ValueError, match="late"):
        await entry.target.slowly(place.host.loop.create_future())
    figures = monitor.figures
    assert (figures.calls, figures.errors, figures.refusals, figures.timed) == (3, 2, 1, 2)
    assert 0 < figures.mean_ns <= figures.longest_ns <= figures.total_ns
    assert Figures().mean_ns == 0


async def test_parts_that_are_born_are_interposed_on_with_their_owner(world: Any) -> None:
    """At birth, and when a swap gives a connection a part that it had not."""

    class Bare(Connection[Old], uses={"desk": "test.desk"}):
        on_data = First.on_data
        ring = First.ring

    place = await world(Bare, Desk)
    figures = Figures()
    everywhere = Interposition(
        place.host, lambda entry: Monitor(figures) if entry.kind == "buffer.send" else None
    )
    everywhere.place()
    client = await place.connect()
    assert await ask(client, "hello") == "1 1 1"
    assert len(everywhere) == 0
    place.swap(Second)
    assert await ask(client, "hello") == "2 2 2"
    assert len(everywhere) == 1
    other = await place.connect()
    assert await ask(other, "hello") == "2 1 3"
    assert len(everywhere) == 2
    assert figures.calls >= 2
    everywhere.remove()
    assert await ask(client, "hello") == "2 3 4"
