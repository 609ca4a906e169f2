"""Generations: who waits is told once, as soon as the calls that began before have ended."""

from __future__ import annotations

import contextvars

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from netswap.quiescence import Call, Generations, call_chain, suspended_at
from tests.machines.by_hand import suspend


def entered(generations: Generations, started: int = 0) -> Call:
    """A call that is inside."""
    call = Call(generations, "answer", started, None)
    generations.enter(call)
    return call


def test_without_open_calls_a_generation_has_drained_at_once() -> None:
    """Nobody waits for nothing."""
    generations = Generations()
    told: list[int] = []
    generations.when_drained(generations.advance(), lambda: told.append(1))
    assert told == [1]


def test_calls_of_a_later_generation_do_not_hold_up_an_earlier_one() -> None:
    """Only what began before counts."""
    generations = Generations()
    early = entered(generations)
    closed = generations.advance()
    entered(generations)
    generations.leave(early)
    assert generations.drained(closed)
    assert not generations.drained(generations.current)


def test_a_generation_has_not_drained_before_those_in_front_of_it() -> None:
    """Ended means the call and all that began before it."""
    generations = Generations()
    old = entered(generations)
    generations.advance()
    young = entered(generations)
    second = generations.advance()
    told: list[int] = []
    generations.when_drained(second, lambda: told.append(1))
    generations.leave(young)
    assert told == []
    generations.leave(old)
    assert told == [1]


def test_who_is_told_may_ask_again() -> None:
    """Asking for the next generation from within the answer is heard as well."""
    generations = Generations()
    told: list[str] = []
    first = entered(generations)
    closed = generations.advance()
    second = entered(generations)

    def ask_again() -> None:
        told.append("first")
        generations.when_drained(generations.advance(), lambda: told.append("second"))

    generations.when_drained(closed, ask_again)
    generations.leave(first)
    assert told == ["first"]
    generations.leave(second)
    assert told == ["first", "second"]


def test_who_is_forgotten_is_not_told() -> None:
    """An aborted swap hears nothing later."""
    generations = Generations()
    told: list[int] = []

    def tell() -> None:
        told.append(1)

    call = entered(generations)
    generations.when_drained(generations.advance(), tell)
    generations.forget(tell)
    generations.leave(call)
    assert told == []


def test_open_calls_are_listed_oldest_first() -> None:
    """A report begins with the call that is in the way for longest."""
    generations = Generations()
    calls = [entered(generations, started) for started in (30, 10, 20)]
    assert [call.started for call in generations.open_calls()] == [10, 20, 30]
    generations.leave(calls[1])
    assert [call.started for call in generations.open_calls()] == [20, 30]


def test_a_call_leaves_once() -> None:
    """The second time is our error and changes no count."""
    generations = Generations()
    call = entered(generations)
    generations.leave(call)
    with pytest.raises(KeyError):
        generations.leave(call)
    assert generations.drained(generations.current)


def test_a_chain_re_enters_while_one_of_its_calls_is_open() -> None:
    """A task that outlives the call which spawned it does not re-enter by its inheritance."""
    generations, other = Generations(), Generations()
    call = entered(generations)
    chain = (entered(other), call)
    assert generations.includes(chain)
    generations.leave(call)
    assert not generations.includes(chain)


def test_a_chain_does_not_keep_what_a_call_ran() -> None:
    """Contexts of timers and tasks outlive calls; old code must not live on in them."""
    generations = Generations()

    async def answer() -> None:
        await suspend()

    coroutine = answer()
    call = Call(generations, "answer", 0, coroutine)
    generations.enter(call)
    generations.leave(call)
    coroutine.close()
    assert call.coroutine is None
    assert call.where() == "answer()"


def test_where_a_call_is_suspended_is_the_innermost_line() -> None:
    """The report names the line that waits, not the one that called it."""

    async def inner() -> None:
        await suspend()

    async def outer() -> None:
        await inner()

    coroutine = outer()
    coroutine.send(None)
    file, _, line = (suspended_at(coroutine) or "").rpartition(":")
    coroutine.close()
    assert file.endswith(("test_quiescence.py", "by_hand.py"))
    assert int(line) > 0
    assert suspended_at(coroutine) is None


def test_a_chain_belongs_to_its_context() -> None:
    """Two tasks do not see each other's calls."""
    token = call_chain.set((Call(Generations(), "a", 0, None),))
    try:
        assert contextvars.Context().run(call_chain.get) == ()
    finally:
        call_chain.reset(token)


class GenerationsMachine(RuleBasedStateMachine):
    """Generations against a list of open calls and what each who waits has to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.generations = Generations()
        self.open: list[tuple[Call, int]] = []
        self.number = 0
        self.told: list[int] = []
        self.waiting: dict[int, int] = {}
        self.asked = 0

    @rule()
    def enter(self) -> None:
        """A call begins."""
        self.open.append((entered(self.generations, len(self.open)), self.number))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Any call ends."""
        call, _ = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        self.generations.leave(call)

    @rule()
    def advance(self) -> None:
        """The next generation begins."""
        assert self.generations.advance() == self.number
        self.number += 1

    @rule(data=st.data())
    def wait(self, data: st.DataObject) -> None:
        """Somebody waits for a generation."""
        generation = data.draw(st.integers(0, self.number))
        asked, self.asked = self.asked, self.asked + 1
        self.waiting[asked] = generation
        self.generations.when_drained(generation, lambda: self.told.append(asked))

    @invariant()
    def told_when_due(self) -> None:
        """Told exactly once, and exactly when no call of that age is open."""
        oldest = min((number for _, number in self.open), default=self.number + 1)
        for asked, generation in list(self.waiting.items()):
            if oldest > generation:
                assert self.told.count(asked) == 1
                del self.waiting[asked]
            else:
                assert self.told.count(asked) == 0
        assert len(set(self.told)) == len(self.told)

    @invariant()
    def counts_agree(self) -> None:
        """Open calls are those that entered and did not leave."""
        assert set(self.generations.open_calls()) == {call for call, _ in self.open}
        for generation in range(self.number + 1):
            drained = all(number > generation for _, number in self.open)
            assert self.generations.drained(generation) is drained


TestGenerations = GenerationsMachine.TestCase
