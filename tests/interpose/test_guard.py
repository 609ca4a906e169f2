"""The guard: a call that fails on watch is undone and answered by the version before."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from netswap import Connection, ProtocolError, Service, State, invariant
from netswap.events import Refusal
from netswap.interpose import Figures, Firing, Guard, Interposition, Protection
from netswap.interpose.guard import LARGE, LARGE_BYTES
from netswap.mediator import present
from netswap.worker.deadline import Deadline
from tests.interpose.conftest import World, ask, no_circles, until

KIND, ROOM = "test.connection", "test.room"


class Talk1(State, kind=KIND, version=1):
    """How many lines came, and those kept."""

    lines: int = 0
    kept: list[str] = []


class Talk2(State, kind=KIND, version=2):
    """The same, bounded."""

    lines: int = 0
    kept: list[str] = []

    @invariant
    def few_are_kept(self) -> bool:
        """What ``keep`` in version 2 gets wrong."""
        return len(self.kept) < 3


class Hall1(State, kind=ROOM, version=1):
    """Who is there, and how often something was said."""

    people: list[int] = []
    said: int = 0
    blob: bytes = b""


class Hall2(State, kind=ROOM, version=2):
    """The same."""

    people: list[int] = []
    said: int = 0
    blob: bytes = b""


class Room1(Service[Hall1]):
    """Says to everybody what one says."""

    def enter(self, identity: int) -> None:
        self.state.people.append(identity)

    def say(self, text: str) -> int:
        self.state.said += 1
        for identity in self.state.people:
            self.tell(identity, text)
        return self.state.said

    def tell(self, identity: int, text: str) -> None:
        entry = self.host.table.find(identity)
        if entry is not None:
            entry.target.hear(text)


class Room2(Room1, Service[Hall2]):  # type: ignore[misc]  # the same behaviour around its own state
    """Fails for one text, half-way through the people."""

    def say(self, text: str) -> int:
        self.state.said += 1
        for number, identity in enumerate(self.state.people):
            if text == "half" and number == 1:
                raise ValueError("in the middle of a room")
            self.tell(identity, text)
        return self.state.said


class Chat1(Connection[Talk1], uses={"output": "buffer.send", "room": ROOM}):
    """A word a line, answered with the version, unless it says something else."""

    def on_connect(self) -> None:
        self.room.enter(self.entry.identity)

    def on_data(self, data: bytes) -> None:
        for line in data.decode().splitlines():
            self.state.lines += 1
            word, _, rest = line.partition(" ")
            getattr(self, word)(rest)

    def hello(self, rest: str) -> None:
        self.write(b"%d hello %d\n" % (self.version, self.state.lines))

    def say(self, rest: str) -> None:
        self.write(b"%d said %d\n" % (self.version, self.room.say(rest)))

    def hear(self, text: str) -> None:
        self.write(b"%d heard %s\n" % (self.version, text.encode()))

    def keep(self, rest: str) -> None:
        self.state.kept = [*self.state.kept, rest][-2:]
        self.write(b"%d kept %d\n" % (self.version, len(self.state.kept)))

    def raises(self, rest: str) -> None:
        self.write(b"%d fine\n" % self.version)

    partly = loops = leaves = closes = arms = exits = cancelled = raises

    def refuses(self, rest: str) -> None:
        raise ProtocolError("not a word", b"refused\n")

    def late(self) -> None:
        self.write(b"%d late\n" % self.version)

    def on_eof(self) -> bool:
        self.write(b"%d end\n" % self.version)
        return False


class Chat2(Chat1, Connection[Talk2], uses={"output": "buffer.send", "room": ROOM}):  # type: ignore[misc]
    """Fails in as many ways as it has words."""

    def keep(self, rest: str) -> None:
        self.state.kept.append(rest)
        self.write(b"%d kept %d\n" % (self.version, len(self.state.kept)))

    def raises(self, rest: str) -> None:
        raise ValueError("always")

    def partly(self, rest: str) -> None:
        self.write(b"half an answ")
        self.state.kept.append("rubbish")
        self.room.say("partly")
        raise ValueError("after output and a call")

    def loops(self, rest: str) -> None:
        while True:
            self.state.kept = [*self.state.kept[-1:], "loop"]

    def closes(self, rest: str) -> None:
        self.close()
        raise ValueError("after closing")

    def arms(self, rest: str) -> None:
        self.timers.arm("late", 0)
        self.host.call_soon(self.entry, "late")
        self.pause_reading()
        raise ValueError("after arming")

    def exits(self, rest: str) -> None:
        raise SystemExit("to end the worker")

    def cancelled(self, rest: str) -> None:
        raise asyncio.CancelledError("the result of a future that was cancelled")

    def on_eof(self) -> bool:
        self.write(b"rubbish\n")
        raise ValueError("at the end")

    def on_close(self, error: Exception | None) -> None:
        raise ValueError("when it is over")


class Watch:
    """Guards in front of everything, and a swap that can take back what they find."""

    def __init__(self, place: World, seconds: float = 0) -> None:
        self.place = place
        self.fired: list[Firing] = []
        self.figures = Figures()
        self.refuses: Refusal | None = None
        self.seconds = seconds
        self.swap: Any = None
        self.protection = Protection(
            self._limit, self._on_watch, self._take_back, self.fired.append
        )
        self.everywhere: Interposition | None = None

    def begin(self, *classes: type[Any]) -> Watch:
        """Swap to ``classes`` and watch everything."""
        self.swap = self.place.swap(*classes)
        self.everywhere = Interposition(self.place.host, self._guard)
        self.everywhere.place()
        return self

    def end(self) -> None:
        assert self.everywhere is not None
        self.everywhere.remove()

    def _guard(self, entry: Any) -> Guard | None:
        return Guard(self.figures, self.protection) if entry.kind in (KIND, ROOM) else None

    def _limit(self) -> AbstractContextManager[None]:
        return Deadline(self.seconds) if self.seconds else nullcontext()

    def _on_watch(self, entry: Any) -> bool:
        change = self.swap.changes.get(entry.kind)
        return change is not None and type(present(entry)) is change.new

    def _take_back(self, states: Mapping[Any, State]) -> Refusal | None:
        taken: Refusal | None = self.refuses or self.swap.take_back_now(states)
        return taken


def versions(place: World) -> list[int]:
    return [present(row).version for row in place.entries]


@pytest.mark.parametrize("word", ["raises", "closes", "exits", "cancelled", "arms"])
async def test_the_client_gets_the_answer_of_the_version_before(world: Any, word: str) -> None:
    """What the new one did before it failed never happened; other objects stay new."""
    place = await world(Chat1, Room1)
    client, other = await place.connect(), await place.connect()
    watch = Watch(place).begin(Chat2)
    assert await ask(client, "hello") == "2 hello 1"
    assert await ask(client, word) == "1 fine"
    assert await ask(client, "hello") == "1 hello 3"
    assert versions(place) == [1, 2]
    (firing,) = watch.fired
    assert (firing.answered, firing.version, firing.method) == (True, 2, "data_received")
    assert firing.reason.startswith(("ValueError", "SystemExit", "CancelledError"))
    assert "failed in data_received" in str(firing)
    assert await ask(other, "hello") == "2 hello 1"
    watch.end()
    assert await ask(client, "hello") == "1 hello 4"
    assert not place.errors
    assert all(row.target is present(row) for row in place.host.table)


@pytest.mark.parametrize("word", ["raises", "partly", "exits", "loops"])
async def test_a_failed_call_leaves_nothing_of_the_new_version(world: Any, word: str) -> None:
    """Neither the object nor its exception is in a circle, or the code would stay with them."""
    place = await world(Chat1, Room1)
    client = await place.connect()
    watch = Watch(place, seconds=0.05).begin(Chat2)
    with no_circles():
        assert await ask(client, word) == "1 fine"
        watch.end()
    assert watch.fired


async def test_an_error_that_the_caller_sees_leaves_nothing_either(world: Any) -> None:
    """It was raised by a version that nothing can be taken back from."""
    place = await world(Chat1, Room1)
    client = await place.connect()
    watch = Watch(place).begin(Chat2)
    watch.refuses = Refusal("swap", "there is no way back")
    with no_circles():
        client[1].write(b"raises\n")
        assert await client[0].read() == b""
        watch.end()
    assert not watch.fired[0].answered


@pytest.mark.parametrize("new", [(), (Chat2,)])
async def test_a_client_that_goes_on_watch_leaves_nothing(world: Any, new: Any) -> None:
    """The stand-ins of its object go with it, of the old version and of the new."""
    place = await world(Chat1, Room1)
    client = await place.connect()
    with no_circles():
        watch = Watch(place).begin(*new)
        assert (await ask(client, "hello")).endswith("hello 1")
        client[1].close()
        await until(lambda: not place.entries)
        watch.end()
        del watch.swap


async def test_output_and_state_of_a_failed_call_are_gone(world: Any) -> None:
    """Also what a service did for it, when that can be rewound, and what others heard of it."""
    place = await world(Chat1, Room1)
    client, other = await place.connect(), await place.connect()
    watch = Watch(place).begin(Chat2)
    assert await ask(client, "partly") == "1 fine"
    assert present(place.entries[0]).state.kept == []
    assert present(place.host.services[ROOM]).state.said == 0
    assert await ask(other, "hello") == "1 hello 1", "it had heard it, and took part"
    assert watch.fired[0].answered


async def test_a_room_that_fails_half_way_is_heard_once(world: Any) -> None:
    """All who took part are rewound, and the version before tells everybody."""
    place = await world(Chat1, Room1)
    clients = [await place.connect() for _ in range(3)]
    Watch(place).begin(Chat2, Room2)
    for number in (1, 2):
        assert await ask(clients[0], "say whole") == "2 heard whole"
        assert await clients[0][0].readline() == b"2 said %d\n" % number
        for client in clients[1:]:
            assert await client[0].readline() == b"2 heard whole\n"
    assert await ask(clients[0], "say half") == "1 heard half"
    assert await clients[0][0].readline() == b"1 said 3\n"
    for client in clients[1:]:
        assert (await client[0].readline())[1:] == b" heard half\n"
    assert type(present(place.host.services[ROOM])) is Room1


async def test_a_service_that_cannot_be_rewound_is_not_asked_twice(world: Any) -> None:
    """Its answers of the first try are those of the second; what it did, it did once."""
    place = await world(Chat1, Room1)
    client = await place.connect()
    room = present(place.host.services[ROOM])
    room.state.people = [0] * (LARGE + 1)
    Watch(place).begin(Chat2)
    assert await ask(client, "hello") == "2 hello 1"
    assert await ask(client, "partly") == "1 fine"
    assert room.state.said == 1, "what version 2 asked for, and version 1 did not take back"
    assert present(place.host.services[ROOM]) is room


async def test_a_call_that_the_old_version_makes_too_is_answered_from_memory(world: Any) -> None:
    """The new one fails after the service has counted: the count goes on by one, not by two."""

    class Talk3(State, kind=KIND, version=2):
        lines: int = 0
        kept: list[str] = []

    class Chat3(Chat1, Connection[Talk3], uses={"output": "buffer.send", "room": ROOM}):
        def say(self, rest: str) -> None:
            super().say(rest)
            raise ValueError("one line too late")

    place = await world(Chat1, Room1)
    client = await place.connect()
    room = present(place.host.services[ROOM])
    room.state.people = [0] * (LARGE + 1)
    Watch(place).begin(Chat3)
    assert await ask(client, "say a") == "1 said 1"
    assert await ask(client, "say a") == "1 said 2"
    assert room.state.said == 2


async def test_an_endless_call_is_ended_and_answered(world: Any) -> None:
    """By the limit of the watch."""
    place = await world(Chat1, Room1)
    client = await place.connect()
    watch = Watch(place, seconds=0.05).begin(Chat2)
    assert await ask(client, "loops") == "1 fine"
    assert "did not end within" in watch.fired[0].reason


async def test_a_violated_invariant_is_a_failure(world: Any) -> None:
    """Found after the call that violates it, before the client hears of it."""
    place = await world(Chat1, Room1)
    client = await place.connect()
    watch = Watch(place).begin(Chat2)
    assert await ask(client, "keep a") == "2 kept 1"
    assert await ask(client, "keep b") == "2 kept 2"
    assert await ask(client, "keep c") == "1 kept 2"
    assert "Talk2.few_are_kept" in watch.fired[0].reason
    assert present(place.entries[0]).state.kept == ["b", "c"]


async def test_the_end_of_a_stream_is_a_call_like_any_other(world: Any) -> None:
    """on_eof fails and the old one answers; on_close of the object that is there then is called."""
    place = await world(Chat1, Room1)
    client = await place.connect()
    watch = Watch(place).begin(Chat2)
    client[1].write_eof()
    assert await client[0].read() == b"1 end\n"
    await until(lambda: not place.entries)
    assert [firing.method for firing in watch.fired] == ["eof_received"]


async def test_a_close_that_fails_closes_all_the_same(world: Any) -> None:
    """Nobody is there to be answered; the object and its parts are gone."""
    place = await world(Chat1, Room1)
    client = await place.connect()
    watch = Watch(place).begin(Chat2)
    linger = struct.pack("ii", 1, 0)
    client[1].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    client[1].transport.abort()
    await until(lambda: not place.entries)
    assert [firing.method for firing in watch.fired] == ["on_close"]
    assert not place.host.table.of_kind("buffer.send")


async def test_the_peers_fault_is_no_failure(world: Any) -> None:
    """ProtocolError answers and closes as always."""
    place = await world(Chat1, Room1)
    client = await place.connect()
    watch = Watch(place).begin(Chat2)
    assert await ask(client, "refuses") == "refused"
    assert await client[0].read() == b""
    assert [firing.method for firing in watch.fired if firing.method != "on_close"] == []


@pytest.mark.parametrize("size", ["items", "bytes"])
async def test_a_state_too_large_to_copy_is_only_watched(world: Any, size: str) -> None:
    """Its failure is reported, and the connection that called it is the one that is answered."""
    place = await world(Chat1, Room1)
    clients = [await place.connect() for _ in range(2)]
    state = present(place.host.services[ROOM]).state
    if size == "items":
        state.people += [0] * LARGE
    else:
        state.blob = bytes(LARGE_BYTES + 1)
    watch = Watch(place).begin(Chat2, Room2)
    assert await ask(clients[0], "say whole") == "2 heard whole"
    assert await clients[0][0].readline() == b"2 said 1\n"
    room = place.host.services[ROOM].target
    with pytest.raises(ValueError, match="in the middle"):
        room.say("half")
    assert not room.rewinds
    assert [firing.answered for firing in watch.fired] == [False]


async def test_an_object_that_cannot_go_back_fails_as_without_a_guard(world: Any) -> None:
    """The caller sees the error of the new version, and the report says that it did."""
    place = await world(Chat1, Room1)
    client = await place.connect()
    watch = Watch(place).begin(Chat2)
    watch.refuses = Refusal("swap", "there is no way back")
    client[1].write(b"raises\n")
    assert await client[0].read() == b""
    assert [f.answered for f in watch.fired if f.method == "data_received"] == [False]
    assert [row["doing"] for row in place.errors] == ["callback of the transport", "on_close"]


async def test_an_async_call_is_watched_and_not_undone(world: Any) -> None:
    """Others come in between, so there is no state to go back to."""

    class Hall3(State, kind=ROOM, version=2):
        people: list[int] = []
        said: int = 0
        blob: bytes = b""

    class Room3(Service[Hall3]):
        enter = Room1.enter

        async def ponder(self) -> None:
            self.state.said += 1
            await asyncio.sleep(0)
            raise ValueError("on reflection")

    place = await world(Chat1, Room1)
    watch = Watch(place).begin(Room3)
    with pytest.raises(ValueError, match="on reflection"):
        await place.host.services[ROOM].target.ponder()
    assert [(f.method, f.answered) for f in watch.fired] == [("ponder", False)]
    assert present(place.host.services[ROOM]).state.said == 1


async def test_a_call_that_outlives_its_object_fails_with_its_own_error(world: Any) -> None:
    """A service of a new kind goes when its push is taken back, whoever is inside."""

    class Lasting(Service[Hall2]):
        enter = Room1.enter

        async def ponder(self, gone: asyncio.Future[None]) -> None:
            await gone
            raise ValueError("on reflection")

    place = await world(Chat1, Room1)
    watch = Watch(place).begin(Lasting)
    entry, gone = place.host.services[ROOM], place.host.loop.create_future()
    room = entry.target
    call = asyncio.create_task(room.ponder(gone))
    await asyncio.sleep(0)
    entry.target = None
    gone.set_result(None)
    with pytest.raises(ValueError, match="on reflection"):
        await call
    assert [(f.method, f.version, f.answered) for f in watch.fired] == [("ponder", 2, False)]
    entry.target = room


async def test_connections_born_on_watch_are_guarded_and_go_back(world: Any) -> None:
    """on_connect is a call too."""

    class Talk4(State, kind=KIND, version=2):
        lines: int = 0
        kept: list[str] = []

    class Chat4(Chat1, Connection[Talk4], uses={"output": "buffer.send", "room": ROOM}):
        def on_connect(self) -> None:
            self.write(b"rubbish\n")
            raise ValueError("at birth")

    place = await world(Chat1, Room1)
    watch = Watch(place).begin(Chat4)
    client = await place.connect()
    assert await ask(client, "hello") == "1 hello 1"
    assert present(place.host.services[ROOM]).state.people == [place.entries[0].identity]
    assert [(f.method, f.answered) for f in watch.fired] == [("on_connect", True)]


class Flaky(State, kind=KIND, version=2):
    """The same as version 1."""

    lines: int = 0
    kept: list[str] = []


class Flaky2(Chat1, Connection[Flaky], uses={"output": "buffer.send", "room": ROOM}):
    """Version 1 in all but one thing: a word with a number in it fails, after so much work."""

    def on_data(self, data: bytes) -> None:
        super().on_data(data)
        if b"0" in data:
            raise ValueError("after everything")

    def say(self, rest: str) -> None:
        if "1" in rest:
            raise ValueError("before the room")
        super().say(rest)
        if "2" in rest:
            raise ValueError("after the room")

    def hear(self, text: str) -> None:
        super().hear(text)
        if "3" in text and self.state.lines % 2:
            raise ValueError("while hearing")

    def hello(self, rest: str) -> None:
        self.write(b"rubbish\n")
        self.state.lines += 7
        if "4" in rest:
            self.transport.abort()
            raise ValueError("after an abort")
        self.state.lines -= 7
        raise ValueError("after output")


async def transcript(place: World, script: list[tuple[int, str]]) -> list[bytes]:
    """What three clients hear, without the number of the version."""
    clients = [await place.connect() for _ in range(3)]
    for number, line in script:
        await ask(clients[number], line)
    for client in clients:
        client[1].write_eof()
    return [b"\n".join(row[2:] for row in (await c[0].read()).split(b"\n")) for c in clients]


WORDS = ("keep", "hello", "say 1", "say 2", "say 3", "say", "keep 0", "hello 4", "keep", "keep")


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("seed", range(12))
async def test_what_clients_hear_is_what_the_version_before_says(
    world: Any, seed: int, size: str
) -> None:
    """Whatever fails wherever, in any order: the transcripts are those of version 1.

    A large room can't be rewound, so nothing fails inside of it there.
    """
    chance = random.Random(seed)
    words = [word for word in WORDS if size == "small" or word != "say 3"]
    script = [(chance.randrange(3), chance.choice(words)) for _ in range(30)]

    async def heard(guarded: bool) -> tuple[list[bytes], list[Firing]]:
        place = await world(Chat1, Room1)
        if size == "large":
            present(place.host.services[ROOM]).state.people = [0] * (LARGE + 1)
        watch = Watch(place)
        if guarded:
            watch.begin(Flaky2)
        return await transcript(place, script), watch.fired

    expected, _ = await heard(guarded=False)
    found, fired = await heard(guarded=True)
    assert found == expected
    assert len(fired) > 0
    assert all(firing.answered for firing in fired)


async def test_what_a_service_may_have_done_already_is_not_asked_in_other_words(world: Any) -> None:
    """The new version counts by another call than the old one: nothing is counted twice."""

    class Talk5(State, kind=KIND, version=2):
        lines: int = 0
        kept: list[str] = []

    class Chat5(Chat1, Connection[Talk5], uses={"output": "buffer.send", "room": ROOM}):
        def say(self, rest: str) -> None:
            self.room.say(f"in other words {rest}")
            raise ValueError("too late")

    place = await world(Chat1, Room1)
    client, other = await place.connect(), await place.connect()
    room = present(place.host.services[ROOM])
    room.state.people = [0] * (LARGE + 1)
    watch = Watch(place).begin(Chat5)
    client[1].write(b"say a\n")
    assert await client[0].read() == b"", "closed, as without a guard"
    assert room.state.said == 1
    assert [(f.answered, f.reason) for f in watch.fired][0] == (False, "ValueError: too late")
    assert await ask(other, "hello") == "2 hello 1"


async def test_when_the_watch_has_failed_nobody_tries_any_more(world: Any) -> None:
    """Each object goes back before its next call, with the state that the new version left."""
    place = await world(Chat1, Room1)
    client, other = await place.connect(), await place.connect()
    watch = Watch(place).begin(Chat2, Room2)
    assert await ask(other, "keep a") == "2 kept 1"
    assert await ask(client, "raises") == "1 fine"
    watch.protection.has_failed = True
    assert await ask(other, "raises") == "1 fine"
    assert present(place.entries[1]).state.kept == ["a"]
    room = place.host.services[ROOM]
    assert type(present(room)) is Room2, "nobody has called it yet"
    assert await ask(client, "say half") == "1 heard half"
    assert type(present(room)) is Room1
    assert len(watch.fired) == 1
    watch.end()
    assert all(row.target is present(row) for row in place.host.table)


async def test_what_cannot_be_undone_goes_back_too(world: Any) -> None:
    """Each of its failures would be seen. What is born goes back before its on_connect."""
    place = await world(Chat1, Room1)
    room = place.host.services[ROOM]
    present(room).state.people = [0] * (LARGE + 1)
    watch = Watch(place).begin(Chat2, Room2)
    watch.protection.has_failed = True
    assert room.target.say("half") == 1
    assert type(present(room)) is Room1
    client = await place.connect()
    assert await ask(client, "raises") == "1 fine"
    assert not watch.fired


async def test_an_object_that_cannot_go_back_is_tried_once(world: Any) -> None:
    """The step down may take its time and fail; the call goes to the new version then."""
    place = await world(Chat1, Room1)
    client = await place.connect()
    watch = Watch(place).begin(Chat2)
    asked: list[Mapping[Any, State]] = []

    def refuse(states: Mapping[Any, State]) -> Refusal:
        asked.append(states)
        return Refusal("swap", "there is no way back")

    watch.protection.take_back = refuse
    watch.protection.has_failed = True
    assert await ask(client, "hello") == "2 hello 1"
    assert await ask(client, "hello") == "2 hello 2"
    assert len(asked) == 1


async def test_an_object_that_a_call_is_inside_of_stays_for_that_call(world: Any) -> None:
    """A call that can't be undone comes back to its object: both see the same state."""

    class Loud2(Room2, Service[Hall2]):  # type: ignore[misc]
        def say(self, text: str) -> int:
            watch.protection.has_failed = True
            room.target.enter(7)
            self.state.said += 1
            return len(self.state.people)

    place = await world(Chat1, Room1)
    room = place.host.services[ROOM]
    watch = Watch(place).begin(Loud2)
    inside = present(room)
    inside.state.people = [0] * (LARGE + 1)
    assert room.target.say("all") == LARGE + 2
    assert present(room) is inside
    room.target.enter(8)
    assert type(present(room)) is Room1
    assert (present(room).state.said, present(room).state.people[-2:]) == (1, [7, 8])
