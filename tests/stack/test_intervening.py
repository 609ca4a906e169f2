"""What an operator may do about what is suspended: nudge it, or end it and nothing else."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from netswap.errors import CallCancelledError
from netswap.hotswap import Phase
from netswap.stack import Host, Service, Session
from netswap.transfer import State
from netswap.worker.driver import Driver
from tests.protocols.conftest import PATIENCE, Server, until

KIND = "desk.service"
TALK = "talk.connection"
GATES: dict[str, asyncio.Event] = {}


class Ledger(State, kind=KIND, version=1):
    """Who ended, and how."""

    ended: list[str] = []


class Desk(Service[Ledger]):
    """Its calls wait for a gate."""

    async def answer(self, name: str) -> str:
        """Wait; whatever comes is written down."""
        try:
            await GATES[name].wait()
        finally:
            self.state.ended.append(name)
        return name

    async def insist(self, name: str) -> str:
        """Go on, whatever anybody says."""
        try:
            await GATES[name].wait()
        except asyncio.CancelledError:
            self.state.ended.append(name)
        return name

    async def pass_on(self, name: str) -> str:
        """Ask itself, which is one more call inside."""
        answer: str = await self.entry.target.answer(name)
        return answer


class NudgedDesk(Desk):
    """Opens its gates when it is nudged."""

    def on_nudge(self) -> None:
        """Let everybody go."""
        for gate in GATES.values():
            gate.set()


class Log:
    """Nobody reads it."""

    def info(self, event: str, **fields: Any) -> None:
        """Nothing."""

    warning = error = info


def desk_of(cls: Any = Desk) -> Any:
    """A host's desk."""
    GATES.clear()
    host = Host(asyncio.get_running_loop(), Log())
    host.install(cls)
    return host.service(KIND).target


def call(desk: Any, method: str, name: str) -> asyncio.Task[Any]:
    """A caller in a task of its own; what it gets is its own affair."""
    GATES.setdefault(name, asyncio.Event())

    async def caller() -> Any:
        return await getattr(desk, method)(name)

    return asyncio.create_task(caller())


async def test_a_cancelled_call_raises_where_it_was_called_and_no_other_ends() -> None:
    """Its own clean-up runs, and the swap finds one call less."""
    desk = desk_of()
    first, second = call(desk, "answer", "first"), call(desk, "answer", "second")
    await until(lambda: len(desk.blockers()) == 2)
    row, other = desk.blockers()
    assert (row.id, other.id) == ("0.1#1", "0.1#2")
    (acted,) = desk.cancel_suspended(1)
    assert (acted.id, acted.kind, acted.done) == ("0.1#1", KIND, True)
    assert "its caller gets CallCancelledError" in acted.what
    with pytest.raises(
        CallCancelledError, match=r"an operator cancelled answer\(\) of desk.service"
    ):
        await first
    assert desk.state.ended == ["first"]
    assert [one.id for one in desk.blockers()] == ["0.1#2"]
    GATES["second"].set()
    assert await second == "second"


async def test_a_caller_that_catches_it_goes_on_in_its_task() -> None:
    """The task is not cancelled: what it awaits afterwards it gets."""
    desk = desk_of()
    GATES["name"] = asyncio.Event()

    async def caller() -> str:
        try:
            await desk.answer("name")
        except CallCancelledError:
            async with asyncio.timeout(PATIENCE):
                await asyncio.sleep(0)
        return "went on"

    task = asyncio.create_task(caller())
    await until(desk.blockers)
    desk.cancel_suspended(None)
    assert await task == "went on"
    assert task.cancelling() == 0


async def test_only_the_call_that_was_named_ends_of_those_in_one_task() -> None:
    """The inner one raises in the outer one, which may deal with it; the outer ends both."""
    desk = desk_of()
    task = call(desk, "pass_on", "name")
    await until(lambda: len(desk.blockers()) == 2)
    outer = min(desk.generations.open_calls(), key=lambda one: one.number)
    assert outer.method == "pass_on"
    desk.cancel_suspended(outer.number)
    with pytest.raises(CallCancelledError, match="pass_on"):
        await task
    assert desk.state.ended == ["name"]
    assert desk.blockers() == []


async def test_a_task_that_somebody_else_cancels_is_cancelled() -> None:
    """A client that goes away at the same moment is not told of an operator."""
    desk = desk_of()
    task = call(desk, "answer", "name")
    await until(desk.blockers)
    desk.cancel_suspended(None)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_that_does_not_let_itself_be_cancelled_ends_with_its_value() -> None:
    """And its task owes nobody an end."""
    desk = desk_of()
    task = call(desk, "insist", "name")
    await until(desk.blockers)
    desk.cancel_suspended(None)
    assert await task == "name"
    assert task.cancelling() == 0


async def test_a_call_that_has_no_task_says_so() -> None:
    """Somebody steps it by hand."""
    desk = desk_of()
    GATES["name"] = asyncio.Event()
    coroutine, context = desk.answer("name"), contextvars.copy_context()
    asyncio.get_running_loop().call_soon(coroutine.send, None, context=context)
    await until(desk.blockers)
    (acted,) = desk.cancel_suspended(None)
    assert not acted.done
    assert "runs in no task" in acted.what
    context.run(coroutine.close)


async def test_a_nudge_calls_what_the_author_has_written_for_it() -> None:
    """The calls end with their values."""
    desk = desk_of(NudgedDesk)
    tasks = [call(desk, "answer", name) for name in "ab"]
    await until(lambda: len(desk.blockers()) == 2)
    assert all(one.done for one in desk.nudge_suspended(None))
    assert await asyncio.gather(*tasks) == ["a", "b"]


async def test_without_on_nudge_a_nudge_changes_nothing_and_says_where_it_waits() -> None:
    """The operator is told what is left to do."""
    desk = desk_of()
    task = call(desk, "answer", "name")
    await until(desk.blockers)
    (acted,) = desk.nudge_suspended(1)
    assert not acted.done
    assert acted.what.endswith("has no on_nudge(): wait, cancel it, or abort the swap")
    assert desk.nudge_suspended(7) == []
    GATES["name"].set()
    assert await task == "name"


# sessions


class Words1(State, kind=TALK, version=1):
    """Whether somebody is in a hurry."""

    hurried: bool = False


class Words2(State, kind=TALK, version=2):
    """The same, next version."""

    hurried: bool = False


class Talk:
    """Waits for a second line outside of a swap point, unless somebody is in a hurry."""

    state: Any
    version: int

    async def converse(self: Any) -> None:
        """Pairs of lines."""
        while line := await self.swap_point(self.read_line()):
            self.write(b"%d first %s\n" % (self.version, line))
            while not self.state.hurried and not self.input.size():
                await self._more()
            self.write(b"%d hurried\n" % self.version if self.state.hurried else b"second\n")
            self.state.hurried = False


class Talk1(Talk, Session[Words1]):
    """The first version; it can't be nudged."""

    async def run(self) -> None:
        """Converse."""
        await self.converse()


class Nudged1(Talk, Session[Words1]):
    """The first version; a nudge makes it go on without the second line."""

    async def run(self) -> None:
        """Converse."""
        await self.converse()

    def on_nudge(self) -> None:
        """Do not wait for the client any longer."""
        self.state.hurried = True


class Talk2(Talk, Session[Words2]):
    """The second version."""

    async def run(self) -> None:
        """Converse."""
        await self.converse()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Any], Any]]:
    """``await serve(cls)``: a server of one kind of session."""
    made: list[Server] = []

    async def make(cls: Any) -> Server:
        made.append(Server([module(cls)], TALK, {}))
        await made[-1].start()
        return made[-1]

    yield make
    for server in made:
        await server.stop()


def module(cls: Any) -> Any:
    """What a pushed file would be."""
    return SimpleNamespace(cls=cls)


async def busy(server: Server) -> Any:
    """A client whose session waits outside of a swap point."""
    client = await server.connect()
    await client.send(b"hello\n")
    assert await client.read_lines(1) == ["1 first hello"]
    await until(client.entry.target.blockers)
    return client


async def test_a_nudged_session_gets_to_its_swap_point_and_is_swapped(serve: Any) -> None:
    """What the author does in on_nudge leads there; the client keeps its connection."""
    server = await serve(Nudged1)
    client = await busy(server)
    pushed = asyncio.create_task(server.swap(module(Talk2)))
    await asyncio.sleep(0)
    (acted,) = client.entry.target.nudge_suspended(None)
    assert (acted.done, acted.id) == (True, f"0.{client.entry.identity}")
    await pushed
    await client.send(b"next\n")
    assert await client.read_lines(2) == ["1 hurried", "2 first next"]


async def test_a_session_without_on_nudge_stays_where_it_is(serve: Any) -> None:
    """It is told why; at a swap point there is nothing to nudge."""
    server = await serve(Talk1)
    client = await busy(server)
    (acted,) = client.entry.target.nudge_suspended(None)
    assert not acted.done
    assert "outside of a swap point, and has no on_nudge()" in acted.what
    await client.send(b"more\n")
    assert await client.read_lines(1) == ["second"]


async def test_a_cancelled_session_closes_after_what_it_wrote(serve: Any) -> None:
    """The client reads everything and then the end; the swap goes on without it."""
    server = await serve(Talk1)
    client, stays = await busy(server), await server.connect()
    swap = server.prepare(module(Talk2))
    pushed = asyncio.create_task(Driver(server.host, swap).run(PATIENCE))
    await asyncio.sleep(0)
    client.entry.target.write(b"last words\n")
    (acted,) = client.entry.target.cancel_suspended(None)
    assert acted.done
    assert "the client gets what was written, then the end of its connection" in acted.what
    await pushed
    assert (swap.phase, swap.gone) == (Phase.DONE, 1)
    assert await client.read_all() == b"last words\n"
    await stays.send(b"hello\n")
    assert await stays.read_lines(1) == ["2 first hello"]
