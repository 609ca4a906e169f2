"""The driver: between slices the loop goes on, and what is late or gone is dealt with."""

from __future__ import annotations

import asyncio
import gc
from contextlib import nullcontext
from typing import Any

import pytest

from netswap.events import Refusal, Stage
from netswap.hotswap import Change, Phase, Swap
from netswap.quiescence import Call
from netswap.stack import Host, Service
from netswap.transfer import Migration, State
from netswap.worker import driver as driver_module
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


async def test_many_objects_go_in_slices_between_which_the_loop_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A budget that is used up ends a slice; what has come for the loop is done before the next."""
    monkeypatch.setattr(driver_module, "SLICE_NS", 0)
    world = World(*"abcdefgh")
    seen: list[int] = []

    def look() -> None:
        seen.append(world.versions().count(2))
        if world.swap.phase is Phase.WORKING:
            asyncio.get_running_loop().call_soon(look)

    look()
    await world.driver.run(5)
    assert (world.swap.phase, world.versions()) == (Phase.DONE, [2] * 8)
    assert world.driver.slices == 8
    assert seen == list(range(9))
    assert world.driver.longest_ns > 0
    assert world.driver.cpu_ns > 0


async def test_objects_that_fit_one_slice_are_one_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns of the loop are not wasted."""
    monkeypatch.setattr(driver_module, "SLICE_NS", 10**9)
    world = World("a", "b", "c")
    await world.driver.run(5)
    assert (world.driver.slices, world.versions()) == (1, [2, 2, 2])


async def test_a_swap_of_nothing_is_done() -> None:
    """No object of the kind lives here."""
    world = World()
    await world.driver.run(5)
    assert world.swap.phase is Phase.DONE


async def test_a_busy_object_is_converted_as_soon_as_it_rests() -> None:
    """The others do not wait for it."""
    world = World("a", "b")
    call = world.enter(0)
    running = asyncio.create_task(world.driver.run(30))
    async with asyncio.timeout(20):
        while world.versions() != [1, 2]:
            await asyncio.sleep(0)
    call.owner.leave(call)
    await running
    assert (world.swap.phase, world.versions()) == (Phase.DONE, [2, 2])


async def test_what_never_rests_fails_the_swap_at_its_deadline_and_goes_on() -> None:
    """The refusal says what was in the way; what was flipped goes back, what was held is let go."""
    world = World("a", "b")
    call = world.enter(1)
    await world.driver.run(0.02)
    assert (world.swap.phase, world.versions()) == (Phase.RESTORED, [1, 1])
    assert type(world.entries[1].target) is Desk1
    refusal = world.swap.refusal
    assert refusal is not None
    assert refusal.reason.startswith(f"not quiescent in time: {KIND} 0.{world.entries[1].identity}")
    assert (refusal.kind, refusal.entry) == (KIND, f"0.{world.entries[1].identity}")
    assert "netswap blockers" in refusal.advice
    call.owner.leave(call)


async def test_no_collection_of_garbage_falls_into_a_swap() -> None:
    """It is on again afterwards, whatever happened, and stays off where it was off."""
    world = World("a")
    during: list[bool] = []
    asyncio.get_running_loop().call_soon(lambda: during.append(gc.isenabled()))
    await world.driver.run(5)
    assert (during, gc.isenabled()) == ([False], True)
    gc.disable()
    try:
        await World("a").driver.run(5)
        assert not gc.isenabled()
    finally:
        gc.enable()


class Box1(State, kind="box.service", version=1):
    """A text; "bad" can't be converted."""

    text: str = ""


class Box2(State, kind="box.service", version=2):
    """The same as bytes."""

    data: bytes = b""


class Plain1(Service[Box1]):
    """Nothing suspends in it."""


class Plain2(Service[Box2]):
    """Nor in this."""


@pytest.mark.parametrize("stroke", [True, False])
@pytest.mark.parametrize("last", ["c", "bad"])
async def test_in_one_stroke_nobody_sees_two_versions(
    last: str, stroke: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on the way back from a failure either, however small a slice is."""
    monkeypatch.setattr(driver_module, "SLICE_NS", 0)
    host = Host(asyncio.get_running_loop(), None)
    entries = [host.table.create("box.service") for _ in range(3)]
    for entry, text in zip(entries, ("a", "b", last), strict=True):
        entry.target = Plain1.born(host, entry, Box1(text))
    steps = tuple(step._replace(kind="box.service") for step in STEPS)
    change = Change("box.service", Plain2, Plain1, steps)
    swap = Swap(host.table, [change], entries, host.clock, nullcontext)
    driver = Driver(host, swap, stroke=stroke)
    running = asyncio.create_task(driver.run(5))
    seen = set()
    while not running.done():
        await asyncio.sleep(0)
        seen.add(tuple(entry.target.version for entry in entries))
    after = 1 if last == "bad" else 2
    assert swap.phase is (Phase.RESTORED if last == "bad" else Phase.DONE)
    assert (seen == {(after,) * 3}) is stroke
    assert seen >= {(after,) * 3}
    assert driver.slices > 2
