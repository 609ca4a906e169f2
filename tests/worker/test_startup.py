"""What a service starts lives exactly as long as its load of the code, on every path."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from netswap.channel import messages
from netswap.errors import TransitionError
from netswap.events import Refusal, Stage
from netswap.stack import Host, Service
from netswap.stack.service import prepares
from netswap.transfer import State as Data
from netswap.worker import startup
from netswap.worker.startup import TRANSITIONS, Event, Standing, Startups
from tests.worker.one_worker import OneWorker

PATIENCE = 20.0
WHY = Refusal(Stage.AGREEMENT, "another worker could not")


class Log:
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []

    def error(self, event: str, **fields: Any) -> None:
        self.said.append((event, fields))


class Thing:
    """What is started: ``open`` calls are inside, and each stop is counted."""

    def __init__(self, open_: int = 0, stop: Callable[[], Awaitable[None]] | None = None) -> None:
        self.open = open_
        self.stops = 0
        self._stop = stop

    async def stop(self) -> None:
        self.stops += 1
        if self._stop is not None:
            await self._stop()


class Loaded:
    """The load of a bundle, as far as a release looks at it."""

    sha256 = "a" * 64

    def __init__(self, *classes: Any) -> None:
        self.implementations = {cls.kind: cls for cls in classes}
        self.remains: list[object] = []

    def versions(self) -> dict[str, int]:
        return {kind: cls.version for kind, cls in self.implementations.items()}


NUMBERS = itertools.count()


def service(begin: Callable[[], Awaitable[Any]]) -> Any:
    """A class that starts what ``begin`` gives."""

    class Hall(Data, kind=f"test.hall{next(NUMBERS)}", version=1):
        """Nothing."""

    class Rooms(Service[Hall]):
        @classmethod
        async def on_prepare(cls, host: Host) -> Any:  # noqa: ARG003
            return await begin()

    return Rooms


def giving(thing: Thing) -> Any:
    """A class that starts ``thing`` at once."""

    async def begin() -> Thing:
        return thing

    return service(begin)


@pytest.fixture
async def startups() -> AsyncIterator[Startups]:
    """Of a host on the loop of the test; nothing of it is left at the end."""
    made = Startups(Host(asyncio.get_running_loop(), Log()))
    yield made
    await made.close(PATIENCE)
    assert not made._lives
    assert not made._host.started


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


def released(startups: Startups, *classes: Any) -> asyncio.Future[None]:
    """Give a bundle with these classes up; done when it may be unloaded."""
    done = asyncio.get_running_loop().create_future()
    startups.release(Loaded(*classes), lambda: done.set_result(None))  # type: ignore[arg-type]
    return done


@pytest.mark.parametrize("standing", Standing)
@pytest.mark.parametrize("event", Event)
def test_a_life_moves_as_the_table_says(standing: Standing, event: Event) -> None:
    """Anything else raises and changes nothing."""
    life = startup._Life.__new__(startup._Life)
    life.standing = standing
    following = TRANSITIONS.get((standing, event))
    if following is None:
        with pytest.raises(TransitionError):
            life.move(event)
    else:
        life.move(event)
    assert life.standing is (following or standing)


def test_a_service_without_the_hook_has_nothing_to_start() -> None:
    """Neither has anything that is no service."""

    class Hall(Data, kind="test.plain", version=1):
        """Nothing."""

    class Rooms(Service[Hall]):
        """Nothing."""

    assert not prepares(Rooms)
    assert prepares(giving(Thing()))


async def test_objects_have_what_their_class_has_started(startups: Startups) -> None:
    """Born or following another, each has its own class's."""
    one, two = giving(Thing()), giving(Thing())
    assert await startups.start([one, two], PATIENCE) is None
    host = startups._host
    entry = host.service("test.any")
    old = one.born(host, entry)
    assert old.started is host.started[one]
    assert two.successor(old, old.state).started is host.started[two]


async def test_what_runs_is_not_started_again(startups: Startups) -> None:
    """A push of a kind beside it leaves it alone."""
    begun = []

    async def begin() -> Thing:
        begun.append(1)
        return Thing()

    cls = service(begin)
    for _ in range(2):
        assert await startups.start([cls], PATIENCE) is None
    assert begun == [1]


async def test_it_is_stopped_when_its_last_call_has_ended_and_then_unloaded(
    startups: Startups,
) -> None:
    """Until then it is shown as draining, with the number of calls."""
    thing = Thing(open_=2)
    cls = giving(thing)
    assert await startups.start([cls], PATIENCE) is None
    done = released(startups, cls)
    thing.open = 1
    await asyncio.sleep(0)
    (row,) = startups.rows()
    assert (row.standing, row.objects, thing.stops) == ("draining", 1, 0)
    assert not done.done()
    thing.open = 0
    await asyncio.wait_for(done, PATIENCE)
    assert (thing.stops, startups.rows()) == (1, [])


async def test_a_bundle_that_started_nothing_is_unloaded_at_once(startups: Startups) -> None:
    """A swap of other code costs nothing."""
    assert released(startups).done()


async def test_a_failed_start_refuses_and_ends_what_began_before_it(startups: Startups) -> None:
    """The refusal says the kind and the reason; the first one is stopped with its bundle."""
    first = Thing()
    one = giving(first)

    async def begin() -> Thing:
        raise ConnectionRefusedError("no database")

    two = service(begin)
    refusal = await startups.start([one, two], PATIENCE)
    assert refusal is not None
    assert refusal.reason == f"{two.kind} could not start: ConnectionRefusedError: no database"
    assert (refusal.stage, first.stops) == (Stage.PREPARE, 0)
    await asyncio.wait_for(released(startups, one, two), PATIENCE)
    assert first.stops == 1


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), BaseException("odd")])
async def test_a_start_that_exits_costs_the_push_alone(
    startups: Startups, raised: BaseException
) -> None:
    """The worker serves on."""

    async def begin() -> Thing:
        raise raised

    refusal = await startups.start([service(begin)], PATIENCE)
    assert refusal is not None
    assert type(raised).__name__ in refusal.reason


async def test_a_start_that_waits_too_long_is_cancelled_and_its_line_named(
    startups: Startups,
) -> None:
    """It gets the chance to undo what it began."""
    undone = []

    async def begin() -> Thing:
        try:
            await asyncio.Event().wait()
        finally:
            undone.append(1)
        return Thing()

    refusal = await startups.start([service(begin)], 0.05)
    assert refusal is not None
    assert "did not start within" in refusal.reason
    assert "it waits at" in refusal.reason
    assert refusal.line
    assert undone == [1]


async def test_a_start_that_hangs_the_loop_is_interrupted(startups: Startups) -> None:
    """Between two of its steps nobody else could."""

    async def begin() -> Thing:
        await asyncio.sleep(0)
        while True:
            pass

    refusal = await startups.start([service(begin)], 0.05)
    assert refusal is not None
    assert "hangs while it starts" in refusal.reason


async def test_a_start_that_will_not_be_cancelled_is_stopped_when_it_returns(
    startups: Startups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that was started is left running, however late."""
    monkeypatch.setattr(startup, "SETTLE_S", 0.01)
    thing, go_on = Thing(), asyncio.Event()

    async def begin() -> Thing:
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        return thing

    cls = service(begin)
    assert await startups.start([cls], 0.01) is not None
    done = released(startups, cls)
    assert not done.done()
    go_on.set()
    await asyncio.wait_for(done, PATIENCE)
    assert thing.stops == 1


async def test_a_start_is_given_up_when_the_supervisor_says_so(startups: Startups) -> None:
    """Its refusal is the supervisor's reason."""

    async def begin() -> Thing:
        startups.give_up(WHY)
        await asyncio.Event().wait()
        return Thing()

    assert await startups.start([service(begin)], PATIENCE) is WHY
    startups.give_up(WHY)  # nothing is under way: nothing happens
    assert await startups.start([giving(Thing())], PATIENCE) is None


@pytest.mark.parametrize("raised", [ValueError("at the end"), SystemExit(1)])
async def test_a_stop_that_fails_is_logged_and_counts(
    startups: Startups, raised: BaseException
) -> None:
    """The code goes all the same: the commit is long past."""

    async def stop() -> None:
        raise raised

    cls = giving(Thing(stop=stop))
    assert await startups.start([cls], PATIENCE) is None
    await asyncio.wait_for(released(startups, cls), PATIENCE)
    ((event, fields),) = startups._host.log.said
    assert event == "stop_failed"
    assert type(raised).__name__ in fields["error"]
    assert startups._host.faults == 1


async def test_a_stop_that_hangs_is_cancelled(
    startups: Startups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where it hung is logged."""
    monkeypatch.setattr(startup, "STOP_S", 0.02)

    async def stop() -> None:
        await asyncio.Event().wait()

    cls = giving(Thing(stop=stop))
    assert await startups.start([cls], PATIENCE) is None
    await asyncio.wait_for(released(startups, cls), PATIENCE)
    ((_, fields),) = startups._host.log.said
    assert "did not end" in fields["error"]
    assert fields["at"]


async def test_closing_stops_everything_once_whatever_is_inside(startups: Startups) -> None:
    """What runs, what drains and what is being started."""
    running, draining = Thing(open_=1), Thing(open_=1)
    one, two = giving(running), giving(draining)

    async def begin() -> Thing:
        await asyncio.Event().wait()
        return Thing()

    assert await startups.start([one, two], PATIENCE) is None
    done = released(startups, two)
    starting = asyncio.ensure_future(startups.start([service(begin)], PATIENCE))
    await until(lambda: len(startups._lives) == 3)
    await startups.close(PATIENCE)
    assert (running.stops, draining.stops) == (1, 1)
    assert await starting is not None
    await asyncio.wait_for(done, PATIENCE)


# in a worker

HALL = """
import asyncio
from pathlib import Path
from netswap import Service, State

class Hall(State, kind="test.hall", version=1):
    count: int = 0

class Thing:
    def __init__(self, name):
        self.name = name
        self.open = 0

    async def stop(self):
        say("stopped " + self.name)

def say(text):
    with Path("LOG").open("a") as file:
        file.write(text + "\\n")

class Rooms(Service[Hall]):
    @classmethod
    async def on_prepare(cls, host):
        await asyncio.sleep(0)
        say("started NAME")
        BODY
        return Thing("NAME")
"""


class Halls:
    """A worker whose service starts something, and what it has said."""

    def __init__(self, worker: OneWorker, folder: Path) -> None:
        self.worker = worker
        self._log = folder / "halls"
        self._numbers = itertools.count(1)

    def put(self, name: str, body: str = "pass") -> str:
        text = HALL.replace("LOG", str(self._log)).replace("NAME", name).replace("BODY", body)
        return self.worker.put(text, "hall.py")

    @property
    def said(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    def prepare(self, sha: str, shape: Any, timeout: float = 20.0) -> tuple[int, Any]:
        tx = next(self._numbers)
        return tx, self.worker.prepare(tx, shape, timeout=timeout, test_hall=sha)


@pytest.fixture
def halls(worker: OneWorker, tmp_path: Path) -> Halls:
    """Serving version ``one``."""
    made = Halls(worker, tmp_path)
    worker.boot(test_hall=made.put("one"))
    worker.expect(messages.Ready)
    assert made.said == ["started one"]
    return made


def test_what_a_worker_starts_is_stopped_once_on_every_path(halls: Halls) -> None:
    """Refused, given up before and after the swap, committed, pushed again, drained."""
    worker = halls.worker
    tx, refused = halls.prepare(halls.put("bad", 'raise OSError("no pool")'), messages.Refused)
    assert refused.refusal.reason == "test.hall could not start: OSError: no pool"
    assert (refused.refusal.file, refused.refusal.line) == ("hall.py", 26)

    two = halls.put("two")
    tx, _ = halls.prepare(two, messages.Prepared)
    worker.send(messages.Revert(tx))
    worker.expect(messages.Reverted)
    worker.until(lambda: halls.said[-1] == "stopped two")
    for end, shape in ((messages.Revert, messages.Reverted), (messages.Finish, messages.Finished)):
        tx, _ = halls.prepare(two, messages.Prepared)
        worker.send(messages.Swap(tx))
        worker.expect(messages.Swapped)
        assert "stopped one" not in halls.said  # the way back would need it
        worker.send(end(tx))
        worker.expect(shape)
        name = "two" if shape is messages.Reverted else "one"
        worker.until(lambda name=name: halls.said[-1] == f"stopped {name}")  # type: ignore[misc]

    back = halls.put("one")
    tx, _ = halls.prepare(back, messages.Prepared)
    worker.send(messages.Swap(tx))
    worker.expect(messages.Swapped)
    worker.send(messages.Finish(tx))
    worker.expect(messages.Finished)
    worker.until(lambda: halls.said[-1] == "stopped two")
    worker.send(messages.Drain(5))
    worker.expect(messages.Drained)
    assert worker.wait_ended() == 0
    assert halls.said == [
        "started one", "started bad",
        "started two", "stopped two",
        "started two", "stopped two",
        "started two", "stopped one",
        "started one", "stopped two",
        "stopped one",
    ]  # fmt: skip


def test_a_revert_ends_a_start_that_waits(halls: Halls) -> None:
    """The supervisor need not wait for the deadline of the start."""
    worker = halls.worker
    waits = halls.put("late", "await asyncio.Event().wait()")
    worker.send(messages.Prepare(1, {"test.hall": waits}, timeout=600))
    worker.until(lambda: halls.said[-1] == "started late")
    worker.send(messages.Revert(1))
    refused = worker.expect(messages.Refused)
    assert refused.refusal.reason == "the supervisor ended what was under way"
    worker.expect(messages.Reverted)


def test_a_worker_that_cannot_start_its_set_says_why_and_ends(
    worker: OneWorker, tmp_path: Path
) -> None:
    """It never says that it is ready."""
    made = Halls(worker, tmp_path)
    worker.boot(test_hall=made.put("one", 'raise OSError("no pool")'))
    said = worker.expect(messages.Unbooted)
    assert said.refusal.reason == "test.hall could not start: OSError: no pool"
    assert worker.wait_ended() == 0
    assert "no pool" in worker.log
