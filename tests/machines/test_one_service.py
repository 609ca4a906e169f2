"""One service under any interleaving of calls, swaps, aborts and cancelled callers.

Tasks are stepped by hand, so every order that a loop could choose is one that Hypothesis can.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from netswap.mediator import Mediator, mediator_of, present
from netswap.stack import Service
from netswap.transfer import State, plan_transfer
from tests.machines.by_hand import Cancelled, Errand, Host, Scheduler, suspend

KIND = "desk.service"

NAMES = st.lists(st.sampled_from(["pause", "re-enter", "spawn"]), max_size=3).map(
    lambda names: ["pause", *names]
)
"""What a call does inside; it always suspends, so that it can be met there."""


class Ledger1(State, kind=KIND, version=1):
    """What the desk has written."""

    begun: list[int] = []
    ended: list[int] = []


class Ledger2(State, kind=KIND, version=2):
    """The same, next version."""

    begun: list[int] = []
    ended: list[int] = []
    marks: int = 0


class Work:
    """What both versions of the desk do; ``told`` is the test's, outside of what is swapped."""

    entry: Any
    state: Any
    version: int

    async def answer(self, call: Call) -> int:
        """Suspend as often as told, and call or spawn others through the handle meanwhile."""
        call.begins(self)
        self.state.begun.append(call.number)
        try:
            for deed in call.deeds:
                await deed(self.entry)
                assert present(self.entry) is self, "a replaced object ran on"
        finally:
            call.ends()
        self.state.ended.append(call.number)
        return self.version

    def glance(self) -> int:
        """A plain call."""
        return self.version


class Desk1(Work, Service[Ledger1]):
    """The first version."""


class Desk2(Work, Service[Ledger2]):
    """The second version."""


class Call:
    """One call of ``answer`` and what became of it."""

    def __init__(self, number: int, deeds: list[Any], parent: Call | None = None) -> None:
        self.number = number
        self.deeds = deeds
        self.parent = parent
        self.arrived = False
        self.re_entrant = False
        self.by: list[int] = []
        self.inside = False

    def arrives(self) -> None:
        """The caller is about to call; it re-enters if one of its forebears is inside."""
        self.arrived = True
        above = self.parent
        while above is not None:
            self.re_entrant = self.re_entrant or above.inside
            above = above.parent

    def begins(self, by: Any) -> None:
        """A version has taken it."""
        self.by.append(by.version)
        self.inside = True

    def ends(self) -> None:
        """It has been answered."""
        self.inside = False


class OneService(RuleBasedStateMachine):
    """Every call is answered once, by one version, in the order of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler()
        self.host = Host()
        self.entry = self.host.service(KIND)
        self.entry.target = Desk1.born(self.host, self.entry)  # type: ignore[arg-type]
        self.calls: list[Call] = []
        self.order: list[int] = []
        self.begun: list[int] = []
        self.cancelled: set[int] = set()
        self.by_errand: dict[Errand, Call] = {}
        self.asked = self.told = False

    # callers

    def new_call(self, deeds: list[Any], parent: Call | None = None) -> Call:
        """A call with the next number."""
        call = Call(len(self.calls), deeds, parent)
        self.calls.append(call)
        return call

    def start(self, call: Call) -> None:
        """Run it in an errand of its own."""
        errand = self.scheduler.spawn(self.caller(call))
        self.by_errand[errand] = call

    async def caller(self, call: Call, made: Any = None) -> int:
        """A caller; ``made`` is a coroutine of the call that was made earlier."""
        call.arrives()
        if not call.re_entrant and made is None:
            self.order.append(call.number)
        try:
            version: int = await (made or self.entry.target.answer(call))
        except Cancelled:
            self.cancelled.add(call.number)
            raise
        return version

    async def pause(self, _entry: Any) -> None:
        """Suspend inside the object."""
        await suspend()

    def deeds(self, names: list[str], call: Call) -> list[Any]:
        """What a call does inside, in order: pause, re-enter, or spawn a caller that may stay."""

        async def re_enter(_entry: Any) -> None:
            nested = self.new_call([self.pause], call)
            await self.caller(nested)

        async def spawn(_entry: Any) -> None:
            self.start(self.new_call([self.pause, self.pause], call))

        known = {"pause": self.pause, "re-enter": re_enter, "spawn": spawn}
        return [known[name] for name in names]

    @rule(names=NAMES, at_once=st.booleans())
    def call(self, names: list[str], at_once: bool) -> None:
        """A client calls; its first step comes at once, or when its turn comes."""
        call = self.new_call([])
        call.deeds = self.deeds(names, call)
        self.start(call)
        if at_once:
            self.scheduler.ready.rotate(1)
            self.turn()

    @rule()
    def make_a_call_that_begins_later(self) -> None:
        """A coroutine made now whose first step may come after any number of swaps."""
        call = self.new_call([self.pause])
        made = self.entry.target.answer(call)
        errand = self.scheduler.spawn(self.caller(call, made))
        self.by_errand[errand] = call

    @rule()
    def plain_call(self) -> None:
        """A plain call is answered at once, by the present version."""
        assert self.entry.target.glance() == present(self.entry).version

    @precondition(lambda self: self.scheduler.ready)
    @rule()
    def turn(self) -> None:
        """The loop runs the next task."""
        errand = self.scheduler.ready[0]
        known = self.by_errand[errand]
        fresh = not known.arrived
        self.scheduler.step()
        if fresh and known.re_entrant:
            assert known.by, "a call that re-enters was held"

    @precondition(lambda self: self.suspended())
    @rule(data=st.data(), turns=st.integers(0, 4))
    def go_on(self, data: st.DataObject, turns: int) -> None:
        """Something that a call inside waited for has happened."""
        self.scheduler.wake(data.draw(st.sampled_from(self.suspended())))
        for _ in range(min(turns, len(self.scheduler.ready))):
            self.turn()

    @precondition(lambda self: self.cancellable())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """A caller gives up, inside the object or held in front of it."""
        self.scheduler.cancel(data.draw(st.sampled_from(self.cancellable())))

    def cancellable(self) -> list[Errand]:
        """The errands that have begun and not ended."""
        return [e for e in self.scheduler.unfinished if self.by_errand[e].arrived]

    def suspended(self) -> list[Errand]:
        """The errands that are inside the object."""
        return [e for e in self.scheduler.unfinished if self.inside(self.by_errand[e])]

    def inside(self, call: Call) -> bool:
        """Whether the call, or one that it awaits, is inside."""
        return call.inside

    # swaps

    @precondition(lambda self: not self.asked)
    @rule()
    def ask_for_rest(self) -> None:
        """A swap begins, perhaps while held calls of the one before are leaving."""
        self.asked, self.told = True, False
        mediator = mediator_of(self.entry)
        if mediator is None:
            generations = present(self.entry).generations
            Mediator(self.entry, generations, self.scheduler.wait, self.rests).start()
        else:
            mediator.again(self.rests)

    def rests(self) -> None:
        """The mediator says so, once."""
        assert not self.told, "told twice"
        assert not self.suspended(), "told while calls are inside"
        self.told = True

    @precondition(lambda self: self.told)
    @rule()
    def flip(self) -> None:
        """The new version takes over."""
        mediator = mediator_of(self.entry)
        assert mediator is not None
        assert mediator.at_rest
        self.asked = self.told = False
        mediator.flip(self.follower())

    @precondition(lambda self: not self.asked)
    @rule()
    def flip_at_once(self) -> None:
        """Nothing is inside and nothing is held: no mediator is needed."""
        target = self.entry.target
        if mediator_of(self.entry) is None and target.at_rest():
            self.entry.target = self.follower()

    @precondition(lambda self: self.asked)
    @rule()
    def abort(self) -> None:
        """The swap is given up."""
        old = present(self.entry)
        mediator = mediator_of(self.entry)
        assert mediator is not None
        self.asked = self.told = False
        mediator.abort()
        assert present(self.entry) is old

    def follower(self) -> Any:
        """The other version, around the state of the present one."""
        old = present(self.entry)
        new: Any = Desk2 if isinstance(old, Desk1) else Desk1
        return new.successor(
            old, plan_transfer(old.state_type, new.state_type, ()).convert(old.state)
        )

    # what always holds

    @invariant()
    def one_version_answers(self) -> None:
        """No call is begun twice."""
        assert all(len(call.by) <= 1 for call in self.calls)

    @invariant()
    def calls_begin_in_order(self) -> None:
        """Calls begin in the order in which they came.

        But for those that re-enter, and those that were made earlier than they began: these may
        pass calls that are held.
        """
        state = present(self.entry).state
        begun = [n for n in state.begun if n in self.order]
        came = [n for n in self.order if n in set(begun)]
        assert begun == came
        behind = self.order[: self.order.index(begun[-1])] if begun else []
        assert set(behind) <= set(begun) | self.cancelled, "an earlier call was overtaken"

    @invariant()
    def held_only_while_there_is_a_reason(self) -> None:
        """Without a swap the mediator stays only for the calls that it holds."""
        mediator = mediator_of(self.entry)
        if mediator is not None and not self.asked:
            assert mediator.over
            assert mediator.held
        if mediator is None:
            assert not self.asked

    def teardown(self) -> None:
        """Whatever happened, everything ends and nothing is left over."""
        if self.asked:
            self.abort()
        while self.scheduler.unfinished:
            for errand in self.suspended():
                self.scheduler.wake(errand)
            assert self.scheduler.ready, "a call waits for ever"
            self.scheduler.run_ready()
        self.nothing_is_left()

    def nothing_is_left(self) -> None:
        """No mediator, no open call, and every call answered or cancelled."""
        target = present(self.entry)
        assert self.entry.target is target
        assert not target.generations.open_calls()
        for errand, call in self.by_errand.items():
            if call.number not in self.cancelled:
                assert errand.outcome == call.by[0]
        answered = {call.number for call in self.calls if call.by} - self.cancelled
        assert answered <= set(target.state.ended)
        assert len(target.state.ended) == len(set(target.state.ended))


def test_one_service_under_any_interleaving() -> None:
    """Calls are answered once, by one version, in order, whatever swaps do meanwhile."""
    run_state_machine_as_test(
        OneService, settings=settings(max_examples=300, stateful_step_count=40)
    )


@pytest.mark.fuzz
@pytest.mark.timeout(0)
def test_one_service_in_a_long_search() -> None:
    """The same, with many more and longer examples."""
    run_state_machine_as_test(OneService, settings=settings(settings.get_profile("fuzz")))
