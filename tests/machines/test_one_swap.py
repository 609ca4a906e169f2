"""Swaps of many objects under any interleaving of slices, births, closings, failures and calls.

What an object holds decides its fate: a text with "up" in it fails on its way up, one with "down"
on its way down. The model knows each object's text and the class that it had before the swap.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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

from netswap.errors import DeadlinePassed
from netswap.events import Refusal, Stage
from netswap.hotswap import Change, Phase, Swap
from netswap.mediator import Mediator, mediator_of, present
from netswap.ott import Entry
from netswap.quiescence import Call
from netswap.stack import Connection, Part, Service
from netswap.transfer import Migration, State
from tests.machines.by_hand import Clock, Host, Scheduler

CHAT, DESK, INPUT = "chat.connection", "desk.service", "buffer.receive"
WHY = Refusal(Stage.SWAP, "because")
UNDER_WAY = (Phase.WORKING, Phase.TAKING_BACK)


class Talk1(State, kind=CHAT, version=1):
    """A text."""

    text: str = ""


class Talk2(State, kind=CHAT, version=2):
    """The same as bytes."""

    partial: bytes = b""


class Desk1State(State, kind=DESK, version=1):
    """A text."""

    text: str = ""


class Desk2State(State, kind=DESK, version=2):
    """The same as bytes."""

    partial: bytes = b""


class Held(State, kind=INPUT, version=1):
    """Nothing."""


class Input(Part[Held]):
    """A part of the second version's connections."""


class Chat1(Connection[Talk1]):
    """A connection without parts."""


class Chat2(Connection[Talk2], uses={"input": INPUT}):
    """A connection with a part."""


class Desk1(Service[Desk1State]):
    """A service that can be busy."""

    async def answer(self) -> None:
        """Calls are made by hand."""


class Desk2(Service[Desk2State]):
    """Its next version."""

    async def answer(self) -> None:
        """Calls are made by hand."""


def up(old: dict[str, Any]) -> dict[str, Any]:
    """Text to bytes."""
    if "up" in old["text"]:
        raise ValueError("up")
    return {"partial": old["text"].encode()}


def down(new: dict[str, Any]) -> dict[str, Any]:
    """Bytes to text."""
    if b"down" in new["partial"]:
        raise ValueError("down")
    return {"text": new["partial"].decode()}


def steps(kind: str) -> tuple[Migration, ...]:
    """The way up and the way down."""
    return (Migration(kind, 1, 2, up, (), 1), Migration(kind, 2, 1, down, (), 1))


CLASSES: dict[str, tuple[Any, Any]] = {CHAT: (Chat1, Chat2), DESK: (Desk1, Desk2)}
TEXTS = st.sampled_from(["a", "b", "c", "d", "e", "up", "down"])


class Wire:
    """A transport that knows who it was pointed to."""

    def __init__(self) -> None:
        self.protocol: Any = None

    def set_protocol(self, protocol: Any) -> None:
        """The successor takes over."""
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        """Nobody reads."""


class Known:
    """What the model knows of an object."""

    def __init__(self, entry: Entry, text: str, before: Any) -> None:
        self.entry = entry
        self.text = text
        self.before = before
        self.calls: list[Call] = []


class OneSwap(RuleBasedStateMachine):
    """All objects are converted, or all are as they were, and the exceptions are named."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock(step=1)
        self.host = Host(self.clock)
        self.host.present.update({CHAT: Chat1, DESK: Desk1, INPUT: Input})
        self.known: list[Known] = []
        self.swap: Swap | None = None
        self.alarm = False
        self.new: dict[str, Any] = {}
        self.asked: dict[int, Known] = {}

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Time may be over at the end of anything that an author's code does."""
        yield
        if self.alarm:
            self.alarm = False
            raise DeadlinePassed("time is over")

    # objects come, work and go

    @rule(text=TEXTS)
    def connect(self, text: str) -> None:
        """A connection is born, of whatever is present."""
        cls = self.host.present[CHAT]
        new: Any = cls.__new__(cls)
        new.host, new.listener, new.peername = self.host, "chat", None
        new.half_closed = new.reading_paused = new.writing_paused = False
        new.transport = Wire()
        new._enter()
        new.transport.protocol = new
        self.meet(new, text)

    @rule(text=TEXTS)
    def open_desk(self, text: str) -> None:
        """A service is born, of whatever is present."""
        entry = self.host.table.create(DESK)
        entry.target = self.host.present[DESK].born(self.host, entry)
        self.meet(entry.target, text)

    def meet(self, new: Any, text: str) -> None:
        """Fill a new object's state and remember it."""
        if new.version == 1:
            new.state.text = text
        else:
            new.state.partial = text.encode()
        swapping = self.swap is not None and self.swap.phase in {Phase.WORKING, Phase.DONE}
        before = CLASSES[new.kind][self.turned(0)] if swapping else type(new)
        self.known.append(Known(new.entry, text, before))

    def turned(self, to: int) -> int:
        """Index of the class that a swap comes from (0) or goes to (1)."""
        upwards = self.new[CHAT] is Chat2
        return to if upwards else 1 - to

    def alive(self, kind: str | None = None) -> list[Known]:
        """The objects that have not closed."""
        return [
            row
            for row in self.known
            if row.entry in self.host.table and kind in {None, row.entry.kind}
        ]

    @precondition(lambda self: self.alive(CHAT))
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        """A connection goes, with its part."""
        row = data.draw(st.sampled_from(self.alive(CHAT)))
        for part in row.entry.target._part_entries().values():
            self.host.table.remove(part)
        self.host.table.remove(row.entry)

    @precondition(lambda self: self.alive(DESK))
    @rule(data=st.data())
    def enter(self, data: st.DataObject) -> None:
        """A call enters a service, if the mediator lets it."""
        row = data.draw(st.sampled_from(self.alive(DESK)))
        mediator = mediator_of(row.entry)
        if mediator is None or not mediator.bars:
            call = Call(present(row.entry).generations, "answer", 0, None)
            call.owner.enter(call)
            row.calls.append(call)

    @precondition(lambda self: any(row.calls for row in self.alive(DESK)))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A call ends."""
        row = data.draw(st.sampled_from([row for row in self.alive(DESK) if row.calls]))
        call = row.calls.pop(0)
        call.owner.leave(call)

    # the swap and its driver

    @precondition(lambda self: self.swap is None)
    @rule(only_some=st.booleans())
    def begin(self, only_some: bool) -> None:
        """A swap of both kinds to the other version, perhaps not of all objects."""
        upwards = self.host.present[CHAT] is Chat1
        self.new = {kind: classes[upwards] for kind, classes in CLASSES.items()}
        changes = [
            Change(kind, self.new[kind], self.host.present[kind], steps(kind)) for kind in CLASSES
        ]
        for row in self.alive():
            row.before = type(present(row.entry))
        rows = [row.entry for kind in (DESK, CHAT) for row in self.alive(kind)]
        rows = [row for row in rows if not only_some or row.identity % 2]
        self.swap = Swap(self.host.table, changes, rows, self.clock, self.guard)
        self.host.present.update(self.new)

    @precondition(lambda self: self.swap is not None and self.swap.phase in UNDER_WAY)
    @rule(budget=st.integers(0, 6), alarm=st.booleans(), lucky=st.integers(0, 3))
    def slice(self, budget: int, alarm: bool, lucky: int) -> None:
        """One slice; the driver does what its progress says."""
        swap = self.swap
        assert swap is not None
        if not swap.has_work:
            return
        self.alarm = alarm and lucky == 0
        working = swap.phase is Phase.WORKING
        before = {row.entry.identity: row.entry.target for row in self.alive()}
        objects = [(row, present(row.entry)) for row in self.alive()]
        progress = swap.slice(budget)
        self.alarm = False
        moved = [row for row, old in objects if present(row.entry) is not old]
        assert not any(row.calls for row in moved), "an object was replaced with a call inside"
        if working and progress.phase is Phase.TAKING_BACK:
            after = {row.entry.identity: row.entry.target for row in self.alive()}
            assert before == after, "a slice that failed has flipped something"
            self.turn_back()
        for entry in progress.busy:
            self.ask(entry)
        self.settle()

    def ask(self, entry: Entry) -> None:
        """Bring a busy object to rest."""
        swap = self.swap
        assert swap is not None
        row = next(row for row in self.known if row.entry is entry)
        self.asked[entry.identity] = row

        def rests() -> None:
            if self.asked.get(entry.identity) is row:
                swap.quiescent(entry)

        mediator = mediator_of(entry)
        if mediator is None:
            generations = entry.target.generations
            Mediator(entry, generations, Scheduler().wait, rests).start()
        else:
            mediator.again(rests)

    def turn_back(self) -> None:
        """What the driver does at once when the way back begins."""
        for kind, classes in CLASSES.items():
            self.host.present[kind] = classes[self.turned(0)]
        self.release()

    def release(self) -> None:
        """Whoever was asked to rest goes on."""
        for row in self.asked.values():
            mediator = mediator_of(row.entry)
            if mediator is not None and not mediator.over:
                mediator.abort()
        self.asked.clear()

    @precondition(
        lambda self: self.swap is not None and self.swap.phase in {Phase.WORKING, Phase.DONE}
    )
    @rule()
    def give_up(self) -> None:
        """The supervisor, or the deadline, ends it."""
        assert self.swap is not None
        self.release()
        self.swap.give_up(WHY)
        self.turn_back()

    @precondition(lambda self: self.swap is not None and self.swap.phase is Phase.TAKING_BACK)
    @rule()
    def strand(self) -> None:
        """Who does not rest on the way back stays."""
        assert self.swap is not None
        if not self.swap.has_work:
            for entry in self.swap.busy:
                self.swap.strand(entry, "busy")
            self.settle()

    @precondition(lambda self: self.swap is not None and self.swap.phase is Phase.DONE)
    @rule()
    def finish(self) -> None:
        """Every worker has swapped: it stands."""
        assert self.swap is not None
        self.swap.finish()
        self.settle()

    def settle(self) -> None:
        """At the end of a swap everything is as its phase says."""
        assert self.swap is not None
        if self.swap.phase in UNDER_WAY:
            return
        self.release()
        if self.swap.phase is Phase.DONE:
            self.all_done()
            return
        if self.swap.phase is not Phase.SETTLED:
            self.all_back()
        self.swap = None

    def all_done(self) -> None:
        """Each object that was to be converted is, and was counted."""
        assert self.swap is not None
        assert self.swap.refusal is None
        assert self.swap.stuck == []
        for row in self.alive():
            assert present(row.entry).version in {row.before.version, self.new[CHAT].version}

    def all_back(self) -> None:
        """Each object is what it was, but for those that are named."""
        assert self.swap is not None
        stuck = {refusal.entry for refusal in self.swap.stuck}
        assert (self.swap.phase is Phase.MIXED) == bool(stuck)
        assert self.swap.refusal is not None
        for row in self.alive():
            if str(row.entry.identity) not in stuck:
                assert type(present(row.entry)) is row.before

    # what always holds

    @invariant()
    def every_object_has_its_state(self) -> None:
        """Whatever version it is, it holds what it held."""
        for row in self.alive():
            state = present(row.entry).state
            held = state.text if isinstance(state, Talk1 | Desk1State) else state.partial.decode()
            assert held == row.text
            assert present(row.entry).entry is row.entry

    @invariant()
    def transports_point_to_what_the_table_points_to(self) -> None:
        """A connection is reached in one way only."""
        for row in self.alive(CHAT):
            assert row.entry.target.transport.protocol is row.entry.target

    @invariant()
    def parts_belong_to_connections(self) -> None:
        """As many as there are connections that use one, each with its owner."""
        owners = [row.entry.target for row in self.alive(CHAT) if row.entry.target.uses]
        parts = self.host.table.of_kind(INPUT)
        assert len(parts) == len(owners)
        assert {id(part.target.owner) for part in parts} == {id(owner) for owner in owners}

    @invariant()
    def mediators_are_asked_for(self) -> None:
        """No mediator stands before an object that nobody asked to rest."""
        for row in self.alive(DESK):
            if row.entry.identity not in self.asked:
                assert mediator_of(row.entry) is None

    def teardown(self) -> None:
        """Whatever happened, the swap comes to an end and nothing is left over."""
        while self.swap is not None:
            for row in self.alive(DESK):
                while row.calls:
                    call = row.calls.pop()
                    call.owner.leave(call)
            if self.swap.phase is Phase.DONE:
                self.finish()
            else:
                assert self.swap.has_work
                self.slice(99, False, 1)
        for row in self.alive():
            for call in row.calls:
                call.owner.leave(call)
            assert mediator_of(row.entry) is None


def test_swaps_of_many_objects_under_any_interleaving() -> None:
    """All or nothing, with the state of each object, whatever comes and goes meanwhile."""
    run_state_machine_as_test(OneSwap, settings=settings(max_examples=200, stateful_step_count=40))


@pytest.mark.fuzz
@pytest.mark.timeout(0)
def test_swaps_of_many_objects_in_a_long_search() -> None:
    """The same, with many more and longer examples."""
    run_state_machine_as_test(OneSwap, settings=settings(settings.get_profile("fuzz")))
