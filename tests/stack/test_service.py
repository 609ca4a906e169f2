"""Services on real loops: calls that suspend meet swaps, and everyone gets one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from netswap.events import Refusal, Stage
from netswap.hotswap import Change, Phase, Swap
from netswap.mediator import mediator_of
from netswap.ott import Entry
from netswap.stack import Host, Service
from netswap.transfer import State
from netswap.worker.driver import Driver

KIND = "desk.service"
OTHER = "till.service"
PATIENCE = 20.0
SHORT = 0.02


class Ledger1(State, kind=KIND, version=1):
    """What was asked, in order of the beginnings."""

    begun: list[str] = []


class Ledger2(State, kind=KIND, version=2):
    """The same, next version."""

    begun: list[str] = []


class Till1(State, kind=OTHER, version=1):
    """Nothing."""


class Till2(State, kind=OTHER, version=2):
    """Nothing."""


class Work:
    """What both versions do; an author's own base class."""

    state: Any
    host: Any
    entry: Any
    version: int

    async def answer(self, name: str, gate: asyncio.Event | None = None) -> tuple[str, int]:
        """Wait for the gate, then say which version this is."""
        self.state.begun.append(name)
        if gate is not None:
            await gate.wait()
        return name, self.version

    async def answer_nested(self, name: str, gate: asyncio.Event) -> tuple[str, int]:
        """Wait for the gate, then ask itself through the handle."""
        await gate.wait()
        nested: tuple[str, int] = await self.entry.target.answer(name)
        return nested

    async def ask_other(self, gate: asyncio.Event) -> int:
        """Wait for the gate, then ask the other service."""
        await gate.wait()
        other: int = await self.host.service(OTHER).target.count()
        return other

    def begin_in_background(self, gate: asyncio.Event) -> asyncio.Task[None]:
        """A task of the object's own."""
        task: asyncio.Task[None] = self.host.loop.create_task(self._work(gate))
        return task

    async def _work(self, gate: asyncio.Event) -> None:
        await gate.wait()
        self.state.begun.append("background")


class Desk1(Work, Service[Ledger1]):
    """The first version."""


class Desk2(Work, Service[Ledger2]):
    """The second version."""


class Count:
    """The other service's work."""

    version: int
    host: Any

    async def count(self) -> int:
        """The version."""
        return self.version

    async def ask_desk(self, gate: asyncio.Event) -> tuple[str, int]:
        """Wait for the gate, then ask the desk."""
        await gate.wait()
        answer: tuple[str, int] = await self.host.service(KIND).target.answer("from the till")
        return answer


class TillA(Count, Service[Till1]):
    """The first version."""


class TillB(Count, Service[Till2]):
    """The second version."""


class Log:
    """Errors are kept."""

    def __init__(self) -> None:
        self.errors: list[dict[str, Any]] = []

    def info(self, event: str, **fields: Any) -> None:
        """Nobody reads it."""

    def error(self, event: str, **fields: Any) -> None:
        """Kept for the test."""
        self.errors.append({"event": event, **fields})


class World:
    """A host with a desk and a till, and swaps of them."""

    def __init__(self) -> None:
        self.log = Log()
        self.host = Host(asyncio.get_running_loop(), self.log)
        self.host.install(Desk1)
        self.host.install(TillA)
        self.desk = self.host.service(KIND)
        self.driver: Driver | None = None

    def call(self, method: str, *args: Any) -> asyncio.Task[Any]:
        """A caller in a task of its own, through the handle."""

        async def caller() -> Any:
            return await getattr(self.desk.target, method)(*args)

        return asyncio.create_task(caller())

    def push(self, *classes: Any, timeout: float = PATIENCE) -> asyncio.Task[Swap]:
        """Swap kinds to these classes, in a task."""
        changes = [Change(c.kind, c, self.host.present[c.kind], ()) for c in classes]
        entries: list[Entry] = [self.host.service(change.kind) for change in changes]
        swap = Swap(self.host.table, changes, entries, self.host.clock, nullcontext)
        driver = self.driver = Driver(self.host, swap)

        async def drive() -> Swap:
            await driver.run(timeout)
            return swap

        return asyncio.create_task(drive())

    def is_clean(self) -> bool:
        """No mediator, no open call."""
        entries = [self.desk, self.host.service(OTHER)]
        return all(
            mediator_of(entry) is None and not entry.target.generations.open_calls()
            for entry in entries
        )


async def until(condition: Callable[[], Any]) -> None:
    """Turn the loop until a condition is true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


async def test_a_service_at_rest_is_swapped_with_its_state() -> None:
    """Nothing is held and no mediator was needed."""
    world = World()
    assert await world.call("answer", "a") == ("a", 1)
    swap = await world.push(Desk2)
    assert swap.phase is Phase.DONE
    assert await world.call("answer", "b") == ("b", 2)
    assert world.desk.target.state == Ledger2(["a", "b"])
    assert world.is_clean()


async def test_a_suspended_call_ends_in_old_code_and_held_ones_begin_in_new_code() -> None:
    """The swap waits for the first; the others keep their order and are counted as blackout."""
    world = World()
    gate, tracked = asyncio.Event(), asyncio.Event()
    inside = world.call("answer", "inside", gate)
    await until(lambda: world.desk.target.state.begun)
    pushed = world.push(Desk2)
    await until(lambda: mediator_of(world.desk))
    forwarded = world.call("answer", "forwarded", tracked)
    await until(lambda: len(world.desk.target.state.begun) == 2)
    gate.set()
    assert await inside == ("inside", 1)
    held = [world.call("answer", name) for name in "abc"]
    mediator: Any = mediator_of(world.desk)
    await until(lambda: mediator.held == 3)
    assert world.desk.target.state.begun == ["inside", "forwarded"]
    tracked.set()
    assert await forwarded == ("forwarded", 1)
    assert (await pushed).phase is Phase.DONE
    assert [await task for task in held] == [("a", 2), ("b", 2), ("c", 2)]
    assert world.desk.target.state.begun == ["inside", "forwarded", "a", "b", "c"]
    assert world.host.longest_hold_ns > 0
    assert world.is_clean()


async def test_passing_the_deadline_names_the_line_and_lets_held_calls_go_to_the_old_object() -> (
    None
):
    """Kind, entry, file and line of the suspended frame; the swap leaves no trace."""
    world = World()
    old = world.desk.target
    gate, tracked = asyncio.Event(), asyncio.Event()
    inside = world.call("answer", "inside", gate)
    await until(lambda: old.state.begun)
    pushed = world.push(Desk2, timeout=SHORT)
    await until(lambda: mediator_of(world.desk))
    forwarded = world.call("answer", "forwarded", tracked)
    await until(lambda: len(old.state.begun) == 2)
    gate.set()
    await inside
    held = world.call("answer", "held")
    swap = await pushed
    refusal = swap.refusal
    assert swap.phase is Phase.RESTORED
    assert refusal is not None
    assert (refusal.kind, refusal.entry) == (KIND, f"0.{world.desk.identity}")
    assert refusal.reason.startswith(f"not quiescent in time: {KIND} 0.{world.desk.identity} is")
    assert refusal.file is not None
    assert refusal.line is not None
    assert f"{refusal.file}:{refusal.line}" in refusal.reason
    assert await held == ("held", 1)
    tracked.set()
    assert await forwarded == ("forwarded", 1)
    assert world.desk.target is old
    assert world.is_clean()


async def test_a_call_that_re_enters_its_object_passes() -> None:
    """Held, it would wait for its own end until the deadline."""
    world = World()
    gate, tracked = asyncio.Event(), asyncio.Event()
    inside = world.call("answer", "inside", gate)
    await until(lambda: world.desk.target.state.begun)
    pushed = world.push(Desk2)
    await until(lambda: mediator_of(world.desk))
    nested = world.call("answer_nested", "nested", tracked)
    await asyncio.sleep(0)
    gate.set()
    await inside
    mediator: Any = mediator_of(world.desk)
    await until(lambda: mediator.bars)
    tracked.set()
    assert await nested == ("nested", 1)
    assert (await pushed).phase is Phase.DONE
    assert world.is_clean()


async def test_a_task_that_outlives_the_call_which_spawned_it_is_a_caller_like_others() -> None:
    """It is held in the Blocked phase and answered by the new code."""
    world = World()
    spawned: list[asyncio.Task[Any]] = []
    go = asyncio.Event()

    class Gate(asyncio.Event):
        """Spawns a caller from inside the call that waits for it."""

        async def wait(self) -> Any:
            async def child() -> Any:
                await go.wait()
                return await world.desk.target.answer("child")

            spawned.append(asyncio.create_task(child()))

    await world.call("answer", "parent", Gate())
    inside_gate = asyncio.Event()
    inside = world.call("answer", "inside", inside_gate)
    await until(lambda: len(world.desk.target.state.begun) == 2)
    pushed = world.push(Desk2)
    await until(lambda: mediator_of(world.desk))
    tracked = asyncio.Event()
    forwarded = world.call("answer", "forwarded", tracked)
    await until(lambda: len(world.desk.target.state.begun) == 3)
    inside_gate.set()
    await inside
    go.set()
    mediator: Any = mediator_of(world.desk)
    await until(lambda: mediator.held == 1)
    tracked.set()
    await forwarded
    assert (await pushed).phase is Phase.DONE
    assert await spawned[0] == ("child", 2)
    assert world.is_clean()


async def test_a_call_made_before_the_swap_and_begun_after_it_is_answered_by_new_code() -> None:
    """A task that was created and not yet run holds nothing up and loses nothing."""
    world = World()
    coroutine = world.desk.target.answer("early")
    await world.push(Desk2)
    assert await coroutine == ("early", 2)
    assert world.desk.target.state.begun == ["early"]


async def test_a_cancelled_caller_does_not_hold_up_the_swap() -> None:
    """Neither inside the object nor in the queue in front of it."""
    world = World()
    inside = world.call("answer", "inside", asyncio.Event())
    await until(lambda: world.desk.target.state.begun)
    pushed = world.push(Desk2)
    await until(lambda: mediator_of(world.desk))
    inside.cancel()
    assert (await pushed).phase is Phase.DONE
    with pytest.raises(asyncio.CancelledError):
        await inside
    assert world.is_clean()


async def test_a_task_of_the_objects_own_is_a_call_inside_it() -> None:
    """Its end is waited for, so that it never writes to a state that has moved on."""
    world = World()
    gate = asyncio.Event()
    task = world.desk.target.begin_in_background(gate)
    await asyncio.sleep(0)
    swap = await world.push(Desk2, timeout=SHORT)
    assert swap.phase is Phase.RESTORED
    gate.set()
    await task
    assert (await world.push(Desk2)).phase is Phase.DONE
    assert world.desk.target.state.begun == ["background"]


async def test_a_swap_given_up_while_it_waits_releases_everyone() -> None:
    """The supervisor gave up: held calls go to the old object at once."""
    world = World()
    gate = asyncio.Event()
    inside = world.call("answer", "inside", gate)
    await until(lambda: world.desk.target.state.begun)
    pushed = world.push(Desk2)
    await until(lambda: mediator_of(world.desk))
    assert world.driver is not None
    world.driver.give_up(Refusal(Stage.AGREEMENT, "reverted"))
    assert await world.call("answer", "next") == ("next", 1)
    swap = await pushed
    assert swap.phase is Phase.RESTORED
    gate.set()
    assert await inside == ("inside", 1)
    assert world.is_clean()


async def test_many_callers_and_swaps_in_a_row() -> None:
    """Each caller gets each answer once and in order, by whichever version was there."""
    world = World()
    callers, rounds = 20, 30

    async def caller(name: str) -> list[tuple[str, int]]:
        answers = []
        for number in range(rounds):
            gate = asyncio.Event()
            asyncio.get_running_loop().call_soon(gate.set)
            answers.append(await world.desk.target.answer(f"{name} {number}", gate))
        return answers

    tasks = [asyncio.create_task(caller(str(n))) for n in range(callers)]
    swaps = 0
    while not all(task.done() for task in tasks):
        new = Desk2 if world.host.present[KIND] is Desk1 else Desk1
        swap = await world.push(new)
        assert swap.phase is Phase.DONE, swap.refusal
        world.host.present[KIND] = new
        swaps += 1
    assert swaps > 1
    for n, task in enumerate(tasks):
        assert [name for name, _ in task.result()] == [f"{n} {i}" for i in range(rounds)]
    begun = world.desk.target.state.begun
    assert len(begun) == len(set(begun)) == callers * rounds
    assert world.is_clean()


# beginnings and ends


class Fussy1(State, kind="fussy.service", version=1):
    """Nothing."""


class Fussy(Service[Fussy1]):
    """Does not start."""

    def on_start(self) -> None:
        """Raise."""
        raise RuntimeError("no")


class Stubborn(Service[Fussy1]):
    """Does not stop."""

    def on_stop(self) -> None:
        """Raise."""
        raise RuntimeError("no")


async def test_a_service_that_does_not_start_is_not_present() -> None:
    """Nothing would be made of it, and the next push finds the kind as new."""
    world = World()
    with pytest.raises(RuntimeError):
        world.host.install(Fussy)
    assert "fussy.service" not in world.host.present
    assert world.host.service("fussy.service").target is None


async def test_a_service_that_does_not_stop_is_taken_away_all_the_same() -> None:
    """The failure is the object's, and is logged."""
    world = World()
    world.host.install(Stubborn)
    world.host.uninstall("fussy.service")
    assert world.host.service("fussy.service").target is None
    assert [error["doing"] for error in world.log.errors] == ["on_stop"]


# the parts of a cluster, as far as one worker shows them


class Asker1(State, kind="asker.service", version=1):
    """What came, in order."""

    came: list[Any] = []


class Asker(Service[Asker1], clustered=True):
    """Asks itself."""

    def double(self, number: int) -> int:
        """An answer."""
        return 2 * number

    def broken(self) -> None:
        """No answer."""
        raise ValueError("no answer")

    def answered(self, token: int, value: Any, error: str | None) -> None:
        """What a reply calls."""
        self.state.came.append((token, value, error))

    def told(self, what: str) -> None:
        """What a cast calls."""
        self.state.came.append(what)


async def test_casts_and_requests_to_the_own_part_come_later_and_in_order() -> None:
    """A callback of its own for each; an error is told as a sentence."""
    world = World()
    world.host.install(Asker)
    entry = world.host.service("asker.service")
    cluster = entry.target.cluster
    assert (cluster.home, cluster.is_home) == (0, True)
    cluster.cast(0, "told", "first")
    cluster.request(0, "double", (21,), entry, "answered", 1)
    cluster.request(0, "broken", (), entry, "answered", 2)
    cluster.request(7, "double", (1,), entry, "answered", 3)
    cluster.broadcast("told", "nobody")
    assert entry.target.state.came == []
    await until(lambda: len(entry.target.state.came) == 4)
    assert entry.target.state.came == [
        "first",
        (1, 42, None),
        (2, None, "ValueError: no answer"),
        (3, None, "there are no other workers"),
    ]


async def test_a_reply_to_an_asker_that_is_gone_is_dropped() -> None:
    """Its identity is not used again, so no stranger gets it."""
    world = World()
    world.host.install(Asker)
    entry = world.host.service("asker.service")
    gone = world.host.table.create("asker.service", entry.target)
    entry.target.cluster.request(0, "double", (1,), gone, "answered", 1)
    world.host.table.remove(gone)
    entry.target.cluster.cast(0, "told", "last")
    await until(lambda: entry.target.state.came)
    assert entry.target.state.came == ["last"]
    assert world.log.errors == []
