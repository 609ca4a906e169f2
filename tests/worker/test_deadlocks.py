"""Services that call each other, swapped together: no call waits for its own end."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest_asyncio

from netswap.events import Refusal
from netswap.hotswap import Change, Phase, Swap
from netswap.mediator import mediator_of, present
from netswap.ott import Entry
from netswap.stack import Host, Service
from netswap.transfer import State
from netswap.worker.driver import Driver
from netswap.worker.mesh import Links

PATIENCE = 20.0
SHORT = 0.05
DESK, TILL, CLERK = "desk.service", "till.service", "clerk.service"

Answer = tuple[int, ...]


class Desk1State(State, kind=DESK, version=1):
    """How many calls were begun."""

    begun: int = 0


class Desk2State(State, kind=DESK, version=2):
    """The same, next version."""

    begun: int = 0


class Till1State(State, kind=TILL, version=1):
    """How many calls were begun."""

    begun: int = 0


class Till2State(State, kind=TILL, version=2):
    """The same, next version."""

    begun: int = 0


class ClerkState(State, kind=CLERK, version=1):
    """Nothing."""


class Work:
    """What all of them do."""

    state: Any
    host: Host
    version: int
    other: str

    async def count(self) -> Answer:
        """Suspend, then say which version this is."""
        self.state.begun += 1
        await asyncio.sleep(0)
        return (self.version,)

    async def ask(self, gate: asyncio.Event) -> Answer:
        """Wait, then ask the other one: both versions."""
        self.state.begun += 1
        await gate.wait()
        other: Answer = await self.host.service(self.other).target.count()
        return (self.version, *other)

    async def ask_by(self, clerk: str, gate: asyncio.Event) -> Answer:
        """Wait, then ask a third one, which asks this one."""
        self.state.begun += 1
        await gate.wait()
        other: Answer = await self.host.service(clerk).target.ask_back()
        return (self.version, *other)

    async def ask_in_hiding(
        self, gate: asyncio.Event, errands: asyncio.Queue[tuple[str, asyncio.Future[Answer]]]
    ) -> Answer:
        """Wait, then have a task ask that has nothing to do with this call."""
        self.state.begun += 1
        await gate.wait()
        answer: asyncio.Future[Answer] = self.host.loop.create_future()
        errands.put_nowait((self.other, answer))
        return (self.version, *await answer)

    async def ask_afar(self, gate: asyncio.Event, slot: int) -> Answer:
        """Wait, then ask the other one's part in another worker."""
        self.state.begun += 1
        await gate.wait()
        answer: asyncio.Future[Answer] = self.host.loop.create_future()
        token = len(REPLIES)
        REPLIES.append(answer)
        there: Any = self.host.service(self.other)
        me: Any = self
        present(there).cluster.request(slot, "count", (), me.entry, "answered", token)
        return (self.version, *await answer)

    def answered(self, token: int, value: Any, error: str | None) -> None:
        """The answer from afar."""
        assert error is None, error
        REPLIES[token].set_result(tuple(value))


REPLIES: list[asyncio.Future[Answer]] = []


class Desk1(Work, Service[Desk1State], clustered=True):
    """The first version."""

    other = TILL


class Desk2(Work, Service[Desk2State], clustered=True):
    """The second version."""

    other = TILL


class Till1(Work, Service[Till1State], clustered=True):
    """The first version."""

    other = DESK


class Till2(Work, Service[Till2State], clustered=True):
    """The second version."""

    other = DESK


class Clerk(Service[ClerkState]):
    """Is not swapped."""

    async def ask_back(self) -> Answer:
        """Ask the one that asked."""
        answer: Answer = await self.host.service(DESK).target.count()
        return answer


class Log:
    """Nobody reads it."""

    def info(self, event: str, **fields: Any) -> None:
        """Nothing."""

    warning = error = info


class Worker:
    """A host with a desk, a till and a clerk."""

    def __init__(self, slot: int = 0) -> None:
        self.host = Host(asyncio.get_running_loop(), Log(), slot)
        for cls in (Desk1, Till1, Clerk):
            self.host.install(cls)
        self.desk, self.till = self.host.service(DESK), self.host.service(TILL)
        self.swap: Swap | None = None

    def call(self, entry: Entry, method: str, *args: Any) -> asyncio.Task[Answer]:
        """A client calls through the handle."""

        async def caller() -> Answer:
            answer: Answer = await getattr(entry.target, method)(*args)
            return answer

        return asyncio.create_task(caller())

    def push(self, *classes: Any, timeout: float = PATIENCE) -> asyncio.Task[Swap]:
        """Swap the kinds of these classes together."""
        changes = [Change(c.kind, c, self.host.present[c.kind], ()) for c in classes]
        entries = [self.host.service(change.kind) for change in changes]
        swap = Swap(self.host.table, changes, entries, self.host.clock, nullcontext)
        driver = Driver(self.host, swap)

        async def drive() -> Swap:
            await driver.run(timeout)
            if swap.phase is Phase.DONE:
                self.host.present |= {cls.kind: cls for cls in classes}
            return swap

        return asyncio.create_task(drive())

    def mediators(self) -> list[Any]:
        """Those of desk and till."""
        return [mediator_of(entry) for entry in (self.desk, self.till)]

    def is_clean(self) -> bool:
        """No mediator, no open call, nothing is being drained."""
        objects = [present(entry) for entry in (self.desk, self.till)]
        return not any(self.mediators()) and not any(
            one.generations.open_calls() or one.generations.draining for one in objects
        )

    def begun(self) -> int:
        """How many calls desk and till have begun."""
        objects = [present(entry) for entry in (self.desk, self.till)]
        return sum(one.state.begun for one in objects)

    async def block(self, *classes: Any, timeout: float = PATIENCE) -> asyncio.Task[Swap]:
        """Push, and return when new calls of both are held: no old one is inside any more."""
        gates = [asyncio.Event(), asyncio.Event()]
        before = self.begun()
        inside = [self.call(self.desk, "ask", gates[0]), self.call(self.till, "ask", gates[1])]
        await until(lambda: self.begun() == before + 2)
        pushed = self.push(*classes, timeout=timeout)
        await until(lambda: all(self.mediators()))
        self._inside, self._gates = inside, gates
        return pushed

    async def let_old_calls_end(self) -> list[Answer]:
        """From here on both are Blocked, if calls that came since are inside."""
        for gate in self._gates:
            gate.set()
        return list(await asyncio.gather(*self._inside))


async def until(condition: Callable[[], Any]) -> None:
    """Turn the loop until a condition is true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


async def bar(worker: Worker, calls: Iterable[tuple[Entry, str, Any]]) -> list[Any]:
    """Calls that are inside when their objects begin to hold new ones."""
    before = worker.begun()
    tasks = [worker.call(*call) for call in calls]
    await until(lambda: worker.begun() == before + len(tasks))
    assert await worker.let_old_calls_end() == [(1, 1), (1, 1)]
    await until(lambda: all(mediator.bars for mediator in worker.mediators()))
    return tasks


async def test_two_services_that_call_each_other_are_swapped_together() -> None:
    """A call from inside one that is being drained passes into the other, or both would wait."""
    worker = Worker()
    pushed = await worker.block(Desk2, Till2)
    gate = asyncio.Event()
    calls = await bar(worker, [(worker.desk, "ask", gate), (worker.till, "ask", gate)])
    held = [worker.call(worker.desk, "ask", gate), worker.call(worker.till, "ask", gate)]
    await until(lambda: all(mediator.held == 1 for mediator in worker.mediators()))
    gate.set()
    assert await asyncio.gather(*calls) == [(1, 1), (1, 1)]
    assert (await pushed).phase is Phase.DONE
    assert await asyncio.gather(*held) == [(2, 2), (2, 2)]
    assert worker.is_clean()


async def test_one_that_rests_waits_for_the_other_since_calls_may_still_come_from_there() -> None:
    """The call that comes finds the old version, and the swap goes on when it has ended."""
    worker = Worker()
    pushed = await worker.block(Desk2, Till2)
    gate = asyncio.Event()
    before = worker.begun()
    call = worker.call(worker.till, "ask", gate)
    await until(lambda: worker.begun() == before + 1)
    await worker.let_old_calls_end()
    await until(lambda: mediator_of(worker.desk) is not None and worker.mediators()[0].at_rest)
    assert worker.desk.target.version == 1
    gate.set()
    assert await call == (1, 1)
    assert (await pushed).phase is Phase.DONE
    assert worker.is_clean()


async def test_a_call_that_comes_back_through_a_third_object_passes() -> None:
    """The clerk takes no part in the swap, and carries the chain on."""
    worker = Worker()
    pushed = await worker.block(Desk2, Till2)
    gate = asyncio.Event()
    (call, _) = await bar(
        worker, [(worker.desk, "ask_by", CLERK, gate), (worker.till, "ask", gate)]
    )
    gate.set()
    assert await call == (1, 1)
    assert (await pushed).phase is Phase.DONE
    assert worker.is_clean()


async def test_a_caller_whose_chain_is_lost_is_let_go_by_the_deadline() -> None:
    """The refusal names both calls, both objects are as before, each call has one answer."""
    worker = Worker()
    errands: asyncio.Queue[tuple[str, asyncio.Future[Answer]]] = asyncio.Queue()

    async def run_errands() -> None:
        while True:
            kind, answer = await errands.get()
            answer.set_result(await worker.host.service(kind).target.count())

    runners = [asyncio.create_task(run_errands()) for _ in range(2)]
    pushed = await worker.block(Desk2, Till2, timeout=1.0)
    gate = asyncio.Event()
    words = ("ask_in_hiding", gate, errands)
    calls = await bar(worker, [(worker.desk, *words), (worker.till, *words)])
    gate.set()
    await until(lambda: all(mediator.held == 1 for mediator in worker.mediators()))
    swap = await pushed
    assert swap.phase is Phase.RESTORED
    refusal: Refusal | None = swap.refusal
    assert refusal is not None
    for entry in (worker.desk, worker.till):
        assert f"{entry.kind} 0.{entry.identity} is suspended at " in refusal.reason
    assert await asyncio.gather(*calls) == [(1, 1), (1, 1)]
    assert worker.is_clean()
    for runner in runners:
        runner.cancel()


async def test_under_calls_in_both_directions_every_answer_is_of_one_version() -> None:
    """Swaps there and back while callers come and go, in an order of chance (seed 1)."""
    worker = Worker()
    chance = random.Random(1)
    loop = asyncio.get_running_loop()

    async def caller() -> list[Answer]:
        answers = []
        for _ in range(40):
            gate = asyncio.Event()
            loop.call_later(chance.choice((0, 0, 0.001)), gate.set)
            entry = chance.choice((worker.desk, worker.till))
            answers.append(await entry.target.ask(gate))
        return answers

    callers = [asyncio.create_task(caller()) for _ in range(10)]
    swaps = 0
    while not all(task.done() for task in callers):
        new = (Desk2, Till2) if worker.host.present[DESK] is Desk1 else (Desk1, Till1)
        swap = await worker.push(*new)
        assert swap.phase is Phase.DONE, swap.refusal
        swaps += 1
    answers = [answer for task in callers for answer in task.result()]
    assert len(answers) == 400
    assert set(answers) == {(1, 1), (2, 2)}
    assert swaps > 5
    assert worker.begun() == 800
    assert worker.is_clean()


Pair = tuple[Worker, Worker]


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Two workers in one process, with a mesh of real sockets between them."""
    socks = []
    paths = {slot: str(tmp_path / str(slot)) for slot in range(2)}
    for path in paths.values():
        socks.append(socket.socket(socket.AF_UNIX))
        socks[-1].bind(path)
        socks[-1].listen()
    workers = (Worker(0), Worker(1))
    links = []
    for worker in workers:
        worker.host.slots = (0, 1)
        worker.host.mesh = Links(worker.host, paths)
        links.append(worker.host.mesh)
    for one, sock in zip(links, socks, strict=True):
        await one.start(sock)
    yield workers
    for one in links:
        one.close()
    await until(lambda: not any(one._in or one._tasks for one in links))


async def test_across_workers_a_call_that_is_awaited_by_one_passes_in_the_other(pair: Pair) -> None:
    """The desk here waits for the till there, and the till there for the desk here."""
    one, other = pair
    pushed = [await worker.block(Desk2, Till2) for worker in pair]
    gate = asyncio.Event()
    calls = [
        *await bar(one, [(one.desk, "ask_afar", gate, 1), (one.till, "ask", gate)]),
        *await bar(other, [(other.till, "ask_afar", gate, 0), (other.desk, "ask", gate)]),
    ]
    gate.set()
    assert await asyncio.gather(*calls) == [(1, 1)] * 4
    assert [(await task).phase for task in pushed] == [Phase.DONE] * 2
    assert one.is_clean()
    assert other.is_clean()


async def test_across_workers_a_call_that_nobody_drains_for_is_held(pair: Pair) -> None:
    """From a worker that swaps nothing, it is answered by the new version."""
    one, other = pair
    pushed = await other.block(Desk2, Till2)
    gate, far = asyncio.Event(), asyncio.Event()
    await bar(other, [(other.till, "ask", gate), (other.desk, "ask", gate)])
    call = one.call(one.desk, "ask_afar", far, 1)
    far.set()
    await until(lambda: other.mediators()[1].held == 1)
    gate.set()
    assert (await pushed).phase is Phase.DONE
    assert await call == (1, 2)
    assert one.is_clean()
    assert other.is_clean()
