"""The driver: between slices the loop goes on, and what is late or gone is dealt with."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Any

from netswap.events import Refusal, Stage
from netswap.hotswap import Change, Phase, Swap
from netswap.quiescence import Call
from netswap.stack import Host, Service
from netswap.transfer import Migration, State
from netswap.worker.driver import Driver

KIND = "desk.service"


class Ledger1(State, kind=KIND, version=1):
    """A text; "bad" can't be converted."""

    text: str = ""


class Ledger2(State, kind=KIND, version=2):
    """The same as bytes."""

    data: bytes = b""


class Desk1(Service[Ledger1]):
    """The first version."""

    async def answer(self) -> None:
        """Calls are made by hand."""


class Desk2(Service[Ledger2]):
    """The second version."""

    async def answer(self) -> None:
        """Calls are made by hand."""


def up(old: dict[str, Any]) -> dict[str, Any]:
    """Text to bytes."""
    if old["text"] == "bad":
        raise ValueError("bad")
    return {"data": old["text"].encode()}


STEPS = (
    Migration(KIND, 1, 2, up, (), 1),
    Migration(KIND, 2, 1, lambda new: {"text": new["data"].decode()}, (), 1),
)


class World:
    """Some desks, a swap of them, and when the way back began."""

    def __init__(self, *texts: str) -> None:
        self.host = Host(asyncio.get_running_loop(), None)
        self.entries = [self.host.table.create(KIND) for _ in texts]
        for entry, text in zip(self.entries, texts, strict=True):
            entry.target = Desk1.born(self.host, entry, Ledger1(text))
        change = Change(KIND, Desk2, Desk1, STEPS)
        clock = self.host.clock
        self.swap = Swap(self.host.table, [change], self.entries, clock, nullcontext)
        self.turned: list[Phase] = []
        self.driver = Driver(self.host, self.swap, self.turn)

    def turn(self) -> None:
        """The way back begins; what is born from here on is old code."""
        self.turned.append(self.swap.phase)

    def enter(self, number: int) -> Call:
        """A call goes into a desk and stays."""
        generations = self.entries[number].target.generations
        call = Call(generations, "answer", self.host.clock.monotonic_ns(), None)
        generations.enter(call)
        return call

    def versions(self) -> list[int]:
        """What serves."""
        return [entry.target.version for entry in self.entries if entry.target is not None]


async def test_new_objects_are_old_code_from_the_moment_when_the_way_back_begins() -> None:
    """In the callback in which a slice failed, not when everything has gone back."""
    world = World("a", "b", "bad")
    await world.driver.run(5)
    assert world.turned == [Phase.TAKING_BACK]
    assert (world.swap.phase, world.versions()) == (Phase.RESTORED, [1, 1, 1])


async def test_new_objects_are_old_code_as_soon_as_the_swap_is_given_up() -> None:
    """Also when it is the supervisor that gives up."""
    world = World("a", "b")
    await world.driver.run(5)
    assert world.turned == []
    world.driver.give_up(Refusal(Stage.AGREEMENT, "reverted"))
    assert world.turned == [Phase.TAKING_BACK]
    await world.driver.run(5)
    assert (world.swap.phase, world.versions()) == (Phase.RESTORED, [1, 1])


async def test_a_busy_object_that_closes_at_the_deadline_is_no_reason_to_refuse() -> None:
    """Nothing is in the way any more."""
    world = World("a", "b")
    call = world.enter(1)
    asyncio.get_running_loop().call_soon(world.host.table.remove, world.entries[1])
    await world.driver.run(0)
    assert (world.swap.phase, world.versions(), world.swap.gone) == (Phase.DONE, [2], 1)
    call.owner.leave(call)


async def test_an_object_that_stays_busy_on_the_way_back_is_stranded() -> None:
    """It is named, its held calls go on, and the swap ends mixed."""
    world = World("a", "b")
    await world.driver.run(5)
    call = world.enter(0)
    world.driver.give_up(Refusal(Stage.AGREEMENT, "reverted"))
    await world.driver.run(0.01)
    assert (world.swap.phase, world.versions()) == (Phase.MIXED, [2, 1])
    assert [refusal.entry for refusal in world.swap.stuck] == [str(world.entries[0].identity)]
    assert "is suspended at answer()" in world.swap.stuck[0].reason
    call.owner.leave(call)
    assert type(world.entries[0].target) is Desk2
