"""The mediator: its phases are the table's, held calls keep their order, nothing stays behind."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from netswap.errors import TransitionError
from netswap.mediator import TRANSITIONS, Event, Mediator, Phase, mediator_of, present
from netswap.ott import Entry
from netswap.quiescence import Generations
from netswap.stack import Service
from netswap.transfer import State
from tests.machines.by_hand import Cancelled, Host, Scheduler, suspend


class Bell(State, kind="bell", version=1):
    """What rang, in order."""

    rung: list[str] = []


class Ringer(Service[Bell]):
    """A service with the mediator's own words for methods."""

    async def ring(self, name: str, pauses: int = 1) -> str:
        """Suspend, then say who answered."""
        self.state.rung.append(name)
        for _ in range(pauses):
            await suspend()
        return f"{name} by {id(self)}"

    async def ring_twice(self, name: str) -> str:
        """Re-enter through the handle."""
        await suspend()
        first: str = await self.entry.target.ring(name)
        return first

    def count(self) -> int:
        """A plain method."""
        return len(self.state.rung)

    def start(self) -> str:
        """Also the mediator's word."""
        return "start of the service"

    async def abort(self) -> str:
        """Also the mediator's word."""
        return "abort of the service"


class Stage:
    """A ringer in a table, a scheduler, and what the mediator told."""

    def __init__(self) -> None:
        self.scheduler = Scheduler()
        self.host = Host()
        self.entry: Entry = self.host.service("bell")
        self.old = self.entry.target = self.made()
        self.told = 0

    def made(self) -> Any:
        """A ringer that is not in the table yet."""
        new: Any = Ringer.born(self.host, self.entry)  # type: ignore[arg-type]
        if hasattr(self, "old"):
            new.generations, new.state = self.old.generations, self.old.state
        return new

    def ask(self) -> Mediator:
        """A swap begins."""
        mediator = mediator_of(self.entry)
        if mediator is None:
            mediator = Mediator(self.entry, self.old.generations, self.scheduler.wait, self.tell)
            mediator.start()
        else:
            mediator.again(self.tell)
        return mediator

    def tell(self) -> None:
        """The object is quiescent."""
        self.told += 1

    def call(self, name: str, method: str = "ring") -> Any:
        """A client calls through the handle; runs up to where it suspends."""

        async def caller() -> Any:
            return await getattr(self.entry.target, method)(name)

        errand = self.scheduler.spawn(caller())
        self.scheduler.ready.remove(errand)
        self.scheduler.ready.appendleft(errand)
        self.scheduler.step()
        return errand

    def finish(self) -> None:
        """Everything that is suspended goes on to its end."""
        while self.scheduler.unfinished:
            for errand in self.scheduler.unfinished:
                self.scheduler.wake(errand)
            self.scheduler.run_ready()

    @property
    def rung(self) -> list[str]:
        """Who began, in order."""
        return present(self.entry).state.rung  # type: ignore[no-any-return]


def mediator_in(phase: Phase) -> tuple[Stage, Mediator]:
    """A mediator brought to a phase, with one call held where calls are held."""
    stage = Stage()
    if phase is Phase.FORWARD:
        stage.call("inside")
        return stage, stage.ask()
    mediator = stage.ask()
    stage.call("held")
    if phase is Phase.COMPLETED:
        mediator.flip(stage.made())
    if phase is Phase.RESTORED:
        mediator.abort()
    return stage, mediator


DEEDS: dict[Event, Callable[[Stage, Mediator], Any]] = {
    Event.OLD_CALLS_DRAINED: lambda stage, _: stage.finish(),
    Event.FLIP: lambda stage, mediator: mediator.flip(stage.made()),
    Event.ABORT: lambda _, mediator: mediator.abort(),
    Event.ANOTHER_SWAP: lambda stage, mediator: mediator.again(stage.tell),
}
ASKED = (Event.FLIP, Event.ABORT, Event.ANOTHER_SWAP)


@pytest.mark.parametrize(("phase", "event"), list(product(Phase, Event)))
def test_every_event_in_every_phase_goes_where_the_table_says(phase: Phase, event: Event) -> None:
    """Legal events lead to the phase of the table; the others raise and change nothing."""
    stage, mediator = mediator_in(phase)
    assert mediator.phase is phase
    before = (mediator.phase, mediator.held, mediator.present, stage.entry.target, stage.told)
    following = TRANSITIONS.get((phase, event))
    if following is not None:
        DEEDS[event](stage, mediator)
        # with nothing inside, a mediator that begins again blocks at once
        expected = Phase.BLOCKED if event is Event.ANOTHER_SWAP else following
        assert mediator.phase is expected
    elif event in ASKED:
        with pytest.raises(TransitionError) as caught:
            DEEDS[event](stage, mediator)
        assert (caught.value.state, caught.value.event) == (phase.value, event.value)
        after = (mediator.phase, mediator.held, mediator.present, stage.entry.target, stage.told)
        assert after == before
    if not mediator.over:
        mediator.abort()
    stage.finish()
    assert mediator_of(stage.entry) is None


def test_every_way_through_the_phases_ends() -> None:
    """From each phase of an unfinished swap, abort and so the old object can be reached."""
    unfinished = (Phase.FORWARD, Phase.BLOCKED)
    assert all(TRANSITIONS[phase, Event.ABORT] is Phase.RESTORED for phase in unfinished)


def test_forward_lets_calls_through_while_old_ones_drain() -> None:
    """A call that comes in Forward is not held and goes to the old object."""
    stage = Stage()
    stage.call("before")
    mediator = stage.ask()
    stage.call("tracked")
    assert mediator.phase is Phase.FORWARD
    assert stage.rung == ["before", "tracked"]
    mediator.abort()
    stage.finish()


def test_blocked_waits_for_calls_that_were_forwarded() -> None:
    """Quiescent is told when the calls of Forward have ended too, not before, and once."""
    stage = Stage()
    first = stage.call("before")
    mediator = stage.ask()
    second = stage.call("tracked")
    stage.scheduler.wake(first)
    stage.scheduler.run_ready()
    assert (mediator.phase, stage.told, mediator.at_rest) == (Phase.BLOCKED, 0, False)
    stage.scheduler.wake(second)
    stage.scheduler.run_ready()
    assert (stage.told, mediator.at_rest) == (1, True)
    mediator.abort()


def test_held_calls_go_to_the_new_object_in_order_and_late_ones_queue_behind() -> None:
    """A call that comes between the flip and the first held call does not pass it."""
    stage = Stage()
    mediator = stage.ask()
    errands = [stage.call("a"), stage.call("b")]
    new = stage.made()
    mediator.flip(new)
    errands.append(stage.call("late"))
    assert stage.rung == []
    stage.finish()
    assert stage.rung == ["a", "b", "late"]
    assert {errand.outcome.partition(" by ")[2] for errand in errands} == {str(id(new))}
    assert stage.entry.target is new


def test_a_call_inside_that_re_enters_passes_in_blocked() -> None:
    """Held, it would wait for its own end."""
    stage = Stage()
    old = stage.call("old")
    mediator = stage.ask()
    outer = stage.call("nested", "ring_twice")
    stage.scheduler.wake(old)
    stage.scheduler.run_ready()
    assert mediator.phase is Phase.BLOCKED
    stage.scheduler.wake(outer)
    stage.scheduler.run_ready()
    assert "nested" in stage.rung
    assert mediator.held == 0
    stage.scheduler.wake(outer)
    stage.scheduler.run_ready()
    assert stage.told == 1
    mediator.abort()
    stage.finish()


def test_a_task_that_outlives_the_call_which_spawned_it_is_held() -> None:
    """It inherits the chain of calls, but none of them is inside any more."""
    stage = Stage()
    parent = stage.call("parent")

    async def child() -> Any:
        return await stage.entry.target.ring("child")

    orphan = parent.context.run(stage.scheduler.spawn, child())
    stage.scheduler.ready.clear()
    mediator = stage.ask()
    stage.scheduler.wake(parent)
    stage.scheduler.run_ready()
    assert mediator.at_rest
    stage.scheduler.wake(orphan)
    stage.scheduler.run_ready()
    assert (mediator.held, stage.rung) == (1, ["parent"])
    mediator.flip(stage.made())
    stage.finish()
    assert stage.rung == ["parent", "child"]


def test_a_spawned_call_that_passed_is_waited_for_after_its_parent_has_ended() -> None:
    """It entered as part of the parent's call; the object rests when it has ended too."""
    stage = Stage()
    old = stage.call("old")
    mediator = stage.ask()
    parent = stage.call("parent")

    async def child() -> Any:
        return await stage.entry.target.ring("child")

    spawned = parent.context.run(stage.scheduler.spawn, child())
    stage.scheduler.ready.clear()
    stage.scheduler.wake(old)
    stage.scheduler.wake(spawned)
    stage.scheduler.run_ready()
    assert mediator.phase is Phase.BLOCKED
    assert stage.rung == ["old", "parent", "child"]
    stage.scheduler.wake(parent)
    stage.scheduler.run_ready()
    assert stage.told == 0
    stage.scheduler.wake(spawned)
    stage.scheduler.run_ready()
    assert stage.told == 1
    mediator.abort()


def test_a_cancelled_caller_gives_up_its_place() -> None:
    """Those behind it go on, also when it was the last that the mediator stayed for."""
    stage = Stage()
    mediator = stage.ask()
    first, second = stage.call("a"), stage.call("b")
    stage.scheduler.cancel(first)
    mediator.flip(stage.made())
    stage.scheduler.cancel(second)
    assert mediator_of(stage.entry) is None
    assert stage.rung == []
    assert isinstance(first.outcome, Cancelled)


def test_a_second_swap_takes_the_mediator_over_with_its_held_calls() -> None:
    """Calls of the first swap that have not gone on yet keep their place before new ones."""
    stage = Stage()
    mediator = stage.ask()
    stage.call("a")
    mediator.flip(stage.made())
    assert stage.ask() is mediator
    assert (mediator.phase, stage.told) == (Phase.BLOCKED, 2)
    stage.call("b")
    stage.scheduler.run_ready()
    assert stage.rung == []
    newest = stage.made()
    mediator.flip(newest)
    stage.finish()
    assert stage.rung == ["a", "b"]
    assert stage.entry.target is newest


def test_a_woken_call_is_not_passed_by_those_behind_it_when_another_swap_comes_and_goes() -> None:
    """Woken, held again and woken again, calls still go in the order in which they came."""
    stage = Stage()
    mediator = stage.ask()
    stage.call("a")
    stage.call("b")
    mediator.abort()
    stage.ask()
    stage.scheduler.step()
    mediator.abort()
    stage.finish()
    assert stage.rung == ["a", "b"]


def test_a_call_made_before_a_swap_and_begun_after_it_goes_to_the_new_object() -> None:
    """A coroutine that has not taken its first step is no call inside the old object."""
    stage = Stage()
    errand = stage.scheduler.spawn(stage.entry.target.ring("early"))
    new = stage.entry.target = stage.made()
    stage.scheduler.run_ready()
    stage.finish()
    assert errand.outcome == f"early by {id(new)}"


def test_a_call_made_before_a_swap_and_begun_in_blocked_is_held() -> None:
    """Quiescence that was told stays true."""
    stage = Stage()
    stage.scheduler.spawn(stage.entry.target.ring("early"))
    mediator = stage.ask()
    assert stage.told == 1
    stage.scheduler.run_ready()
    assert mediator.at_rest
    assert mediator.held == 1
    mediator.abort()
    stage.finish()
    assert stage.rung == ["early"]


def test_plain_calls_and_attributes_reach_the_present_object_in_every_phase() -> None:
    """They end before anything else runs, so nothing has to be held."""
    for phase in Phase:
        stage, mediator = mediator_in(phase)
        assert stage.entry.target.count() == len(stage.rung)
        assert stage.entry.target.version == 1
        if not mediator.over:
            mediator.abort()
        stage.finish()


def test_a_service_may_use_the_mediators_words_for_its_methods() -> None:
    """What stands in the table has no public name of its own."""
    stage = Stage()
    mediator = stage.ask()
    assert stage.entry.target.start() == "start of the service"
    aborting = stage.scheduler.spawn(stage.entry.target.abort())
    stage.scheduler.run_ready()
    assert mediator.phase is Phase.BLOCKED
    mediator.abort()
    stage.finish()
    assert aborting.outcome == "abort of the service"


def test_an_aborted_swap_leaves_no_trace() -> None:
    """The pointer is the old one, nobody is told later, and no call is open."""
    stage = Stage()
    stage.call("inside")
    mediator = stage.ask()
    mediator.abort()
    assert stage.entry.target is stage.old
    stage.finish()
    assert (stage.told, stage.old.generations.open_calls()) == (0, [])


def test_an_object_that_closes_meanwhile_is_not_put_back() -> None:
    """The mediator leaves only a row that still points to it."""
    entry = Entry(1, "bell", object())
    mediator = Mediator(entry, Generations(), Scheduler().wait, lambda: None)
    mediator.start()
    entry.target = None
    mediator.abort()
    assert entry.target is None
