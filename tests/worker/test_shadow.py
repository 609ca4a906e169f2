"""The shadow run: old and new are asked what live connections were asked, in forked children."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from netswap import Connection, ProtocolError, Service, State
from netswap.hotswap import Change
from netswap.interpose import Interposition, Tape
from netswap.interpose.interposer import interposers_of
from netswap.mediator import present
from netswap.worker.forked import in_fork
from netswap.worker.shadow import Shadow, run_shadow
from tests.interpose.conftest import World, ask, until, world

__all__ = ["world"]  # the fixture

KIND, STORE = "test.connection", "test.store"


class Talk1(State, kind=KIND, version=1):
    """A half line."""

    partial: bytes = b""


class Talk2(State, kind=KIND, version=2):
    """The same under another name."""

    rest: bytes = b""


class Sum(State, kind=STORE, version=1):
    """What was added up."""

    total: int = 0


class Store(Service[Sum]):
    """Adds."""

    def add(self, number: int) -> int:
        self.state.total += number
        return self.state.total


class First(Connection[Talk1], uses={"output": "buffer.send", "store": STORE}):
    """Lines of words; the first says what to do."""

    def on_data(self, data: bytes) -> None:
        *lines, self.state.partial = (self.state.partial + data).split(b"\n")
        for line in lines:
            word, _, rest = line.decode().partition(" ")
            getattr(self, word)(rest)

    def echo(self, rest: str) -> None:
        self.write(rest.encode() + b"\n")

    def add(self, rest: str) -> None:
        self.write(b"%d\n" % self.store.add(int(rest)))

    def soon(self, rest: str) -> None:
        self.host.call_soon(self.entry, "echo", rest)

    def tick(self, rest: str) -> None:
        self.timers.arm("ring", 0)

    def ring(self) -> None:
        self.write(b"ring\n")

    def dice(self, rest: str) -> None:
        self.write(b"%d\n" % random.SystemRandom().randrange(10**12))

    def bad(self, rest: str) -> None:
        raise ProtocolError("bad", b"sorry\n")

    def end(self, rest: str) -> None:
        self.write(b"bye\n")
        self.close()


class Second(First, Connection[Talk2], uses={"output": "buffer.send", "store": STORE}):  # type: ignore[misc]
    """The same with the other state."""

    def on_data(self, data: bytes) -> None:
        *lines, self.state.rest = (self.state.rest + data).split(b"\n")
        for line in lines:
            word, _, rest = line.decode().partition(" ")
            getattr(self, word)(rest)


def steps() -> tuple[Any, ...]:
    from netswap.transfer import Migration

    return (
        Migration(KIND, 1, 2, lambda old: {"rest": old["partial"]}, (), 1),
        Migration(KIND, 2, 1, lambda new: {"partial": new["rest"]}, (), 1),
    )


async def shadow(place: World, tape: Tape, new: type[Any]) -> Shadow:
    """The report of a run in a fork of this process."""
    changes = [Change(KIND, new, First, steps())]
    told = await in_fork(lambda: msgspec.msgpack.encode(run_shadow(place.host, changes, tape)), 30)
    assert told.status == 0, told.answer
    return msgspec.msgpack.decode(told.answer, type=Shadow)


def recorded(place: World, connections: int = 10, inputs: int = 100) -> tuple[Tape, Interposition]:
    tape = Tape(connections, inputs)
    everywhere = Interposition(place.host, tape.record)
    everywhere.place()
    return tape, everywhere


async def test_what_answers_alike_has_no_diff(world: Any) -> None:
    """Half lines, a service, a timer, a later call, a refusal and an end; nothing here changes."""
    place = await world(First, Store)
    clients = [await place.connect() for _ in range(3)]
    await ask(clients[0], "echo before")
    clients[1][1].write(b"echo ha")
    await until(lambda: present(place.entries[1]).state.partial == b"echo ha")
    tape, everywhere = recorded(place)
    assert await ask(clients[1], "lf") == "half"
    assert await ask(clients[0], "add 2") == "2"
    assert await ask(clients[1], "add 3") == "5"
    assert await ask(clients[0], "soon later") == "later"
    assert await ask(clients[0], "tick") == "ring"
    assert await ask(clients[2], "echo third") == "third"
    total = present(place.host.services[STORE]).state.total
    report = await shadow(place, tape, Second)
    assert (report.connections, report.differing, report.unstable) == (3, 0, 0), report.diff
    assert report.inputs == 7, "what was called soon is no input, the timer's call is one"
    assert present(place.host.services[STORE]).state.total == total
    assert await ask(clients[0], "add 1") == "6"
    everywhere.remove()
    assert not any(interposers_of(row) for row in place.host.table)
    assert present(place.entries[0]).host is place.host
    assert await ask(clients[1], "echo on") == "on"


class Louder(Second):
    """Answers otherwise."""

    def echo(self, rest: str) -> None:
        self.write(rest.upper().encode() + b"\n")


class Failing(Second):
    """Raises where the old one answers."""

    def echo(self, rest: str) -> None:
        raise ValueError("no echo")


class Closing(Second):
    """Closes where the old one goes on."""

    def echo(self, rest: str) -> None:
        super().echo(rest)
        self.close()


@pytest.mark.parametrize(
    ("new", "line"),
    [
        (Louder, "+WORD\\n"),
        (Failing, "+<raised ValueError: no echo>"),
        (Closing, "+<closed>"),
    ],
)
async def test_a_difference_is_shown_as_a_diff(world: Any, new: type[Any], line: str) -> None:
    """The lines that differ, in the order in which the client would have seen them."""
    place = await world(First, Store)
    same, other = await place.connect(), await place.connect()
    tape, everywhere = recorded(place)
    assert await ask(same, "add 2") == "2"
    assert await ask(other, "add 1") == "3"
    assert await ask(other, "echo word") == "word"
    everywhere.remove()
    report = await shadow(place, tape, new)
    assert (report.connections, report.differing) == (2, 1)
    rows = report.diff.splitlines()
    assert rows[0] == f"--- connection 0.{place.entries[1].identity}, old"
    assert line in rows
    assert line in report.first
    assert {" 6\\n", " word\\n"} & {*rows}, "a line before it, of the service as it is now"


async def test_what_the_old_code_answers_in_two_ways_is_not_compared(world: Any) -> None:
    """Only that connection is left out."""
    place = await world(First, Store)
    same, other = await place.connect(), await place.connect()
    tape, everywhere = recorded(place)
    await ask(other, "dice")
    await ask(same, "echo word")
    everywhere.remove()
    report = await shadow(place, tape, Louder)
    assert (report.unstable, report.differing) == (1, 1)


async def test_a_tape_keeps_the_last_window(world: Any) -> None:
    """When it is full a new one begins, with the objects as they are then."""
    place = await world(First, Store)
    client = await place.connect()
    tape, everywhere = recorded(place, inputs=8)
    for number in range(8):
        await ask(client, f"echo {number}")
    first = tape.window
    assert len(first.inputs) == 8
    await ask(client, "echo 8")
    assert tape.window is first, "one input has less to tell than eight"
    for number in range(9, 12):
        await ask(client, f"echo {number}")
    assert [row.arguments[0] for row in tape.window.inputs] == [
        b"echo %d\n" % number for number in range(8, 12)
    ]
    report = await shadow(place, tape, Second)
    assert (report.inputs, report.differing) == (4, 0)
    everywhere.remove()


async def test_so_many_connections_are_recorded_and_closed_ones_left_out(world: Any) -> None:
    """Later ones too; one that is gone in the moment of the fork has nobody to ask."""
    place = await world(First, Store)
    tape, everywhere = recorded(place, connections=2)
    clients = [await place.connect() for _ in range(3)]
    for client in clients:
        await ask(client, "echo word")
    assert len(tape.window.before) == 2
    assert await ask(clients[0], "end") == "bye"
    await until(lambda: len(place.entries) == 2)
    everywhere.remove()
    report = await shadow(place, tape, Louder)
    assert report.differing == 1


async def test_a_swap_that_fails_in_the_shadow_says_so(world: Any) -> None:
    """The child ends with the sentence; here nothing has changed."""

    class Worse(Second):
        __module__ = "netswap.worse"  # an author's is refused before it can fail so
        successor = property(lambda _: None)

    place = await world(First, Store)
    client = await place.connect()
    tape, everywhere = recorded(place)
    await ask(client, "echo word")
    everywhere.remove()

    def told() -> bytes:
        with pytest.raises(RuntimeError, match="failed"):
            run_shadow(place.host, [Change(KIND, Worse, First, steps())], tape)
        return b"it did"

    assert (await in_fork(told, 30)).answer == b"it did"
    assert await ask(client, "echo word") == "word"
