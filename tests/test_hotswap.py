"""The swap: slices fit their budget, a failure takes everything back, nothing is left half-way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import product
from typing import Any

import pytest

from netswap.errors import DeadlinePassed, TransitionError
from netswap.events import Refusal, Stage
from netswap.hotswap import TRANSITIONS, Change, Event, Phase, Progress, Swap
from netswap.mediator import Mediator, mediator_of
from netswap.ott import Entry
from netswap.quiescence import Call
from netswap.stack import Connection, Part, Service
from netswap.transfer import Migration, State
from tests.machines.by_hand import Clock, Host, Scheduler

KIND = "chat.connection"
WHY = Refusal(Stage.SWAP, "because")


class Talk1(State, kind=KIND, version=1):
    """A text."""

    text: str = ""


class Talk2(State, kind=KIND, version=2):
    """The text became bytes."""

    partial: bytes = b""


class Chat1(Connection[Talk1]):
    """The first version."""


class Chat2(Connection[Talk2]):
    """The second version."""


class Wire:
    """A transport's part in a swap: it remembers who it was pointed to."""

    def __init__(self) -> None:
        self.protocols: list[Any] = []
        self.written: list[bytes] = []
        self.closing = False

    def set_protocol(self, protocol: Any) -> None:
        """The successor takes over."""
        self.protocols.append(protocol)

    def is_closing(self) -> bool:
        """Whether the socket is about to go."""
        return self.closing

    def write(self, data: bytes) -> None:
        """Bytes for the peer."""
        self.written.append(data)


def up(old: dict[str, Any]) -> dict[str, Any]:
    """Text to bytes; "bad" fails and "slow" takes too long."""
    if old["text"] == "bad":
        raise ValueError("bad text")
    if old["text"] == "slow":
        raise DeadlinePassed("it did not end")
    return {"partial": old["text"].encode()}


def down(new: dict[str, Any]) -> dict[str, Any]:
    """Bytes to text; "one-way" does not go back."""
    if new["partial"] == b"one-way":
        raise ValueError("no way back")
    return {"text": new["partial"].decode()}


STEPS = (Migration(KIND, 1, 2, up, (), 1), Migration(KIND, 2, 1, down, (), 1))


class Place:
    """A table with connections, and a swap of them."""

    def __init__(self, texts: list[str], clock: Clock | None = None) -> None:
        self.host = Host(clock)
        self.host.present[KIND] = Chat1
        self.entries = [self.connect(Chat1, Talk1(text=text)) for text in texts]

    def connect(self, cls: Any, state: State | None = None, transport: Any = None) -> Entry:
        """A live connection."""
        new: Any = cls.__new__(cls)
        new.host, new.listener, new.transport = self.host, "chat", transport or Wire()
        new.peername = ("127.0.0.1", 5000)
        new.half_closed = new.reading_paused = new.writing_paused = False
        new._enter()
        if state is not None:
            new.state = state
        entry: Entry = new.entry
        return entry

    def swap(
        self,
        new: Any = Chat2,
        guard: Callable[[], AbstractContextManager[None]] = nullcontext,
        before: Any = Chat1,
    ) -> Swap:
        """A swap of every chat connection that there is."""
        change = Change(new.kind, new, before, STEPS)
        entries = self.host.table.of_kind(new.kind)
        return Swap(self.host.table, [change], entries, self.host.clock, guard)

    def versions(self) -> list[int | None]:
        """The connections' versions, in the order of their birth; None for one that closed."""
        return [None if e.target is None else e.target.version for e in self.entries]


def run(swap: Swap, budget: int = 0) -> list[Progress]:
    """Slices until the swap is done, or back."""
    slices = []
    while swap.phase in {Phase.WORKING, Phase.TAKING_BACK}:
        assert swap.has_work
        slices.append(swap.slice(budget))
    return slices


def in_phase(phase: Phase) -> tuple[Place, Swap]:
    """A swap of two connections that has come to a phase."""
    place = Place(["a", "one-way" if phase is Phase.MIXED else "b"])
    swap = place.swap()
    if phase is Phase.WORKING:
        return place, swap
    if phase in {Phase.TAKING_BACK, Phase.RESTORED, Phase.MIXED}:
        run(swap)
        swap.give_up(WHY)
        if phase is not Phase.TAKING_BACK:
            run(swap)
        return place, swap
    run(swap)
    if phase is Phase.SETTLED:
        swap.finish()
    return place, swap


def stick(swap: Swap) -> None:
    """The last object on the way back can't go."""
    swap.stuck.append(WHY)
    run(swap)


DEEDS: dict[Event, Callable[[Swap], Any]] = {
    Event.ALL_FLIPPED: run,
    Event.GIVE_UP: lambda swap: swap.give_up(WHY),
    Event.ALL_BACK: run,
    Event.SOME_STUCK: stick,
    Event.FINISH: lambda swap: swap.finish(),
    Event.WIDEN: lambda swap: swap.widen(()),
}


@pytest.mark.parametrize(("phase", "event"), list(product(Phase, Event)))
def test_every_event_in_every_phase_goes_where_the_table_says(phase: Phase, event: Event) -> None:
    """Legal events lead to the phase of the table; the others raise and change nothing."""
    place, swap = in_phase(phase)
    assert swap.phase is phase
    before = (swap.phase, place.versions(), dict(swap.counts), swap.refusal)
    following = TRANSITIONS.get((phase, event))
    if following is not None:
        DEEDS[event](swap)
        assert swap.phase is following
    elif event in {Event.GIVE_UP, Event.FINISH, Event.WIDEN}:
        with pytest.raises(TransitionError):
            DEEDS[event](swap)
        assert (swap.phase, place.versions(), dict(swap.counts), swap.refusal) == before


def test_a_canary_and_the_rest_go_back_by_one_way() -> None:
    """Also who was born between the two, in new code or in old; the counts are of all of it."""
    place = Place(["a", "b", "c"])
    change = Change(KIND, Chat2, Chat1, STEPS)
    swap = Swap(place.host.table, [change], place.entries[:1], place.host.clock, nullcontext)
    run(swap)
    assert (swap.phase, place.versions()) == (Phase.DONE, [2, 1, 1])
    place.entries += [place.connect(Chat2), place.connect(Chat1)]
    swap.widen(place.host.table.of_kind(KIND))
    run(swap)
    assert (swap.phase, place.versions(), swap.counts) == (Phase.DONE, [2] * 5, {KIND: 4})
    place.entries.append(place.connect(Chat2))
    swap.give_up(WHY)
    run(swap)
    assert (swap.phase, place.versions()) == (Phase.RESTORED, [1] * 6)


def test_a_failure_in_the_rest_takes_the_canary_back_too() -> None:
    """The canary alone does not stay."""
    place = Place(["a", "bad"])
    change = Change(KIND, Chat2, Chat1, STEPS)
    swap = Swap(place.host.table, [change], place.entries[:1], place.host.clock, nullcontext)
    run(swap)
    swap.widen(place.entries)
    run(swap)
    assert (swap.phase, place.versions()) == (Phase.RESTORED, [1, 1])
    assert swap.refusal is not None
    assert "bad text" in swap.refusal.reason


@pytest.mark.parametrize("phase", [Phase.DONE, Phase.RESTORED, Phase.MIXED, Phase.SETTLED])
def test_a_swap_that_is_over_takes_no_slice(phase: Phase) -> None:
    """A slice raises TransitionError and nothing is converted."""
    place, swap = in_phase(phase)
    before = place.versions()
    with pytest.raises(TransitionError):
        swap.slice(1)
    assert place.versions() == before


@pytest.mark.parametrize(("budget", "sizes"), [(0, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (99, [5])])
def test_a_slice_takes_as_many_objects_as_fit_its_budget_and_at_least_one(
    budget: int, sizes: list[int]
) -> None:
    """With a clock that goes on at each look, the sizes of the slices follow."""
    place = Place(["a"] * 5, Clock(step=1))
    swap = place.swap()
    slices = run(swap, budget)
    assert [progress.converted for progress in slices if progress.converted] == sizes
    assert swap.counts == {KIND: 5}
    assert place.versions() == [2] * 5


def test_state_and_what_the_transport_told_move_to_the_successor() -> None:
    """The new object has the converted state and the flags, and the transport points to it."""
    place = Place(["héllo"])
    old = place.entries[0].target
    old.writing_paused = old.reading_paused = True
    run(place.swap())
    new = place.entries[0].target
    assert new.state == Talk2(partial="héllo".encode())
    assert (new.writing_paused, new.reading_paused, new.half_closed) == (True, True, False)
    assert new.transport.protocols == [new]
    new.write(b"x")
    assert new.transport.written == [b"x"]


@pytest.mark.parametrize("bad", range(4))
@pytest.mark.parametrize("how", ["bad", "slow"])
@pytest.mark.parametrize("budget", [0, 3, 99])
def test_a_failure_in_the_kth_object_takes_everything_back(bad: int, how: str, budget: int) -> None:
    """Nothing of its slice is flipped, the earlier ones go back, and the refusal names it."""
    texts = ["a", "b", "c", "d"]
    texts[bad] = how
    place = Place(texts, Clock(step=1))
    swap = place.swap()
    run(swap, budget)
    assert swap.phase is Phase.RESTORED
    assert place.versions() == [1] * 4
    assert [entry.target.state.text for entry in place.entries] == texts
    assert swap.refusal is not None
    assert swap.refusal.kind == KIND
    assert swap.refusal.entry == str(place.entries[bad].identity)
    assert "from version 1 to 2 failed" in swap.refusal.reason


def test_an_object_that_closes_between_slices_is_gone_and_a_success() -> None:
    """Its row is empty; the swap goes on without it."""
    place = Place(["a", "b", "c"])
    swap = place.swap()
    swap.slice(0)
    place.host.table.remove(place.entries[1])
    run(swap)
    assert (swap.phase, swap.gone, swap.counts) == (Phase.DONE, 1, {KIND: 2})
    assert place.versions() == [2, None, 2]


def test_objects_born_during_the_swap_go_back_with_the_others() -> None:
    """They were made by the new class; taken back, they become what was before."""
    place = Place(["a", "b"])
    swap = place.swap()
    swap.slice(0)
    place.entries.append(place.connect(Chat2, Talk2(partial=b"new")))
    swap.slice(0)
    swap.give_up(WHY)
    run(swap)
    assert place.versions() == [1, 1, 1]
    assert place.entries[2].target.state == Talk1(text="new")


def test_objects_that_were_new_code_before_the_swap_stay_so_when_it_is_given_up() -> None:
    """A canary of an earlier swap is not this one's to take back."""
    place = Place(["a"])
    place.entries.append(place.connect(Chat2, Talk2(partial=b"canary")))
    swap = place.swap()
    run(swap)
    assert swap.counts == {KIND: 1}
    swap.give_up(WHY)
    run(swap)
    assert place.versions() == [1, 2]


def test_objects_of_a_kind_that_was_not_there_before_stay() -> None:
    """There is nothing that they could go back to; the driver takes the kind away."""
    place = Place([])
    swap = place.swap(before=None)
    run(swap)
    born = place.connect(Chat2)
    swap.give_up(WHY)
    run(swap)
    assert swap.phase is Phase.RESTORED
    assert born.target.version == 2


def test_an_object_that_can_not_go_back_is_named_and_leaves_the_swap_mixed() -> None:
    """It stays on new code; all others go back."""
    place = Place(["a", "one-way", "c"])
    swap = place.swap()
    run(swap)
    swap.give_up(WHY)
    run(swap)
    assert swap.phase is Phase.MIXED
    assert place.versions() == [1, 2, 1]
    assert [refusal.entry for refusal in swap.stuck] == [str(place.entries[1].identity)]
    assert "no way back" in swap.stuck[0].reason


def test_the_first_refusal_is_kept() -> None:
    """What the operator is told is the cause, not what followed from it."""
    place = Place(["bad"])
    swap = place.swap()
    swap.slice(0)
    assert swap.refusal is not None
    assert "bad text" in swap.refusal.reason


def late_guard(alarms: list[bool]) -> Callable[[], AbstractContextManager[None]]:
    """A guard whose time is over at its very end, in the blocks that ``alarms`` says."""

    @contextmanager
    def guard() -> Iterator[None]:
        yield
        if alarms and alarms.pop(0):
            raise DeadlinePassed("at the last moment")

    return guard


def test_a_deadline_between_the_end_of_building_and_the_flip_flips_nothing() -> None:
    """Everything of the slice is discarded, the refusal names the last object."""
    place = Place(["a", "b"])
    swap = place.swap(guard=late_guard([True]))
    run(swap, 1)
    assert swap.phase is Phase.RESTORED
    assert place.versions() == [1, 1]
    assert all(entry.target.transport.protocols == [] for entry in place.entries)


# services: what is derived from the state is made and released around the swap


class Hall1(State, kind="chat.rooms", version=1):
    """Nothing but a name."""

    name: str = "lobby"


class Hall2(State, kind="chat.rooms", version=2):
    """The same, next version."""

    name: str = "lobby"


LIFE: list[str] = []
FAILING: set[str] = set()


def _note(service: Any, hook: str) -> None:
    LIFE.append(f"{hook} {service.version}")
    if f"{hook} {service.version}" in FAILING:
        raise RuntimeError(f"{hook} failed")


class Rooms1(Service[Hall1]):
    """Notes its hooks."""

    def on_start(self) -> None:
        """Note it."""
        _note(self, "start")

    def on_stop(self) -> None:
        """Note it."""
        _note(self, "stop")


class Rooms2(Service[Hall2]):
    """Notes its hooks."""

    def on_start(self) -> None:
        """Note it."""
        _note(self, "start")

    def on_stop(self) -> None:
        """Note it."""
        _note(self, "stop")


class Hotel:
    """A service and a connection that are swapped together."""

    def __init__(self, *failing: str, text: str = "a", alarms: list[bool] | None = None) -> None:
        LIFE.clear()
        FAILING.clear()
        FAILING.update(failing)
        self.place = Place([text])
        host: Any = self.place.host
        self.rooms = host.service("chat.rooms")
        self.rooms.target = Rooms1.born(host, self.rooms)
        changes = [
            Change("chat.rooms", Rooms2, Rooms1, ()),
            Change(KIND, Chat2, Chat1, STEPS),
        ]
        entries = [self.rooms, *self.place.entries]
        guard = late_guard(alarms or [])
        self.swap = Swap(host.table, changes, entries, host.clock, guard)


def test_the_old_service_stops_before_the_new_one_starts() -> None:
    """In one callback of the loop, once each."""
    hotel = Hotel()
    run(hotel.swap, 1)
    assert (hotel.swap.phase, LIFE) == (Phase.DONE, ["stop 1", "start 2"])
    assert hotel.rooms.target.version == 2


@pytest.mark.parametrize("failing", ["stop 1", "start 2"])
def test_a_service_that_does_not_start_or_stop_refuses_the_swap(failing: str) -> None:
    """The old service is started again and serves on."""
    hotel = Hotel(failing)
    run(hotel.swap, 1)
    assert hotel.swap.phase is Phase.RESTORED
    assert hotel.swap.refusal is not None
    assert f"{failing.split(maxsplit=1)[0]} failed" in hotel.swap.refusal.reason
    assert hotel.rooms.target.version == 1
    assert LIFE[-1] == "start 1"


def test_a_failure_of_another_object_in_the_slice_starts_the_old_service_again() -> None:
    """The new one, already started, stops."""
    hotel = Hotel(text="bad")
    run(hotel.swap, 1)
    assert hotel.swap.phase is Phase.RESTORED
    assert LIFE == ["stop 1", "start 2", "stop 2", "start 1"]


def test_a_discarded_service_that_does_not_stop_still_lets_the_old_one_start() -> None:
    """The swap ends in order and says that the object may not be whole."""
    hotel = Hotel("stop 2", text="bad")
    run(hotel.swap, 1)
    assert LIFE == ["stop 1", "start 2", "stop 2", "start 1"]
    assert hotel.swap.phase is Phase.MIXED
    assert "stop failed" in hotel.swap.stuck[0].reason
    assert (hotel.rooms.target.version, hotel.place.versions()) == (1, [1])


def test_a_deadline_after_a_follower_was_built_on_the_way_back_discards_it() -> None:
    """The object that stays has what it had before: it was stopped and is started again."""
    hotel = Hotel(alarms=[False, True])
    run(hotel.swap, 1)
    hotel.swap.give_up(WHY)
    run(hotel.swap, 1)
    assert hotel.swap.phase is Phase.MIXED
    assert LIFE[2:] == ["stop 2", "start 1", "stop 1", "start 2"]


# connections with parts


class Bytes1(State, kind="buffer.receive", version=1):
    """Some bytes."""

    data: bytes = b""


class Bytes2(State, kind="buffer.send", version=1):
    """A state that may refuse to be made."""

    data: bytes = b""

    def __post_init__(self) -> None:
        if "send" in FAILING:
            raise RuntimeError("no send buffer today")


class In(Part[Bytes1]):
    """An input."""


class Out(Part[Bytes2]):
    """An output."""

    def write(self, data: bytes) -> None:
        """To the transport."""
        self.owner.transport.write(data)


class Buffered2(Connection[Talk2], uses={"input": "buffer.receive", "output": "buffer.send"}):
    """Version 2 with parts that version 1 had not."""


def buffered(*failing: str, texts: list[str]) -> Place:
    """Connections without parts, and parts that can be made."""
    FAILING.clear()
    FAILING.update(failing)
    place = Place(texts)
    place.host.present.update({"buffer.receive": In, "buffer.send": Out})
    return place


def test_parts_come_with_the_version_that_uses_them_and_go_with_it() -> None:
    """A swap there makes them, the way back removes them."""
    place = buffered(texts=["a", "b"])
    swap = place.swap(Buffered2)
    run(swap)
    assert place.host.table.count("buffer.receive") == 2
    place.entries[0].target.write(b"x")
    assert place.entries[0].target.transport.written == [b"x"]
    swap.give_up(WHY)
    run(swap)
    assert (place.versions(), len(place.host.table)) == ([1, 1], 2)


@pytest.mark.parametrize("failing", [("send",), ()])
def test_parts_that_were_made_for_a_follower_that_fails_are_removed(
    failing: tuple[str, ...],
) -> None:
    """Whether its second part fails, or another object of the slice: no row is left over."""
    place = buffered(*failing, texts=["a", "b" if failing else "bad"])
    swap = place.swap(Buffered2)
    run(swap, 1)
    assert swap.phase is Phase.RESTORED
    assert len(place.host.table) == 2


# objects that are busy


class Desk1(Service[Hall1]):
    """A service that can be busy."""

    async def answer(self) -> int:
        """Never called; its presence lets the object suspend."""
        return 1


class Desk2(Service[Hall2]):
    """Its next version."""

    async def answer(self) -> int:
        """Never called either."""
        return 2


class Office:
    """A busy service: ``call`` is the call that is inside."""

    def __init__(self) -> None:
        self.place = Place([])
        host: Any = self.place.host
        self.entry = host.service("chat.rooms")
        self.desk = self.entry.target = Desk1.born(host, self.entry)
        self.enter()
        change = Change("chat.rooms", Desk2, Desk1, ())
        self.swap = Swap(host.table, [change], [self.entry], host.clock, nullcontext)

    def enter(self) -> None:
        """A call comes in."""
        self.call = Call(self.entry.target.generations, "answer", 0, None)
        self.call.owner.enter(self.call)

    def leave(self) -> None:
        """It ends."""
        self.call.owner.leave(self.call)

    def ask(self) -> Mediator:
        """What the driver does with a busy service."""
        generations = self.entry.target.generations
        mediator = Mediator(
            self.entry, generations, Scheduler().wait, lambda: self.swap.quiescent(self.entry)
        )
        mediator.start()
        return mediator


def test_a_busy_object_is_handed_out_and_taken_first_when_it_rests() -> None:
    """The swap waits for it and has no work until then."""
    office = Office()
    progress = office.swap.slice(0)
    assert (progress.busy, progress.converted) == ((office.entry,), 0)
    waiting = office.swap.has_work
    office.ask()
    office.leave()
    assert (waiting, office.swap.has_work) == (False, True)
    office.swap.slice(0)
    assert office.swap.phase is Phase.DONE
    assert mediator_of(office.entry) is None
    assert office.entry.target.version == 2


def test_an_object_that_rests_before_it_is_asked_needs_no_mediator() -> None:
    """Nothing stands in the table but the object itself."""
    office = Office()
    office.leave()
    run(office.swap)
    assert office.entry.target.version == 2


def test_giving_up_forgets_busy_objects() -> None:
    """They were not touched, so nothing has to go back."""
    office = Office()
    office.swap.slice(0)
    office.swap.give_up(WHY)
    assert office.swap.busy == []
    run(office.swap)
    assert office.swap.phase is Phase.RESTORED
    assert office.entry.target is office.desk
    office.leave()


def test_a_busy_object_that_closes_is_waited_for_no_more() -> None:
    """It counts as gone and the swap is done."""
    office = Office()
    office.swap.slice(0)
    office.place.host.table.remove(office.entry)
    office.swap.forget_gone()
    assert office.swap.has_work
    run(office.swap)
    assert (office.swap.phase, office.swap.gone) == (Phase.DONE, 1)


def test_an_object_that_does_not_rest_on_the_way_back_is_stranded_and_named() -> None:
    """It stays on new code and the swap is mixed."""
    office = Office()
    office.leave()
    run(office.swap)
    office.enter()
    office.swap.give_up(WHY)
    office.swap.slice(0)
    assert office.swap.busy == [office.entry]
    office.swap.strand(office.entry, "suspended at chat.py:7")
    assert office.swap.phase is Phase.MIXED
    assert office.swap.stuck[0].reason == "suspended at chat.py:7"
    office.leave()


def test_rest_that_nobody_waits_for_is_no_event() -> None:
    """A late word of a mediator changes nothing."""
    place = Place(["a"])
    swap = place.swap()
    swap.quiescent(place.entries[0])
    assert run(swap)[-1].converted == 1


def test_a_way_that_is_not_there_is_a_refusal() -> None:
    """Incompatible shapes fail like a step does, with the reason of the plan."""
    place = Place(["a"])
    change = Change(KIND, Chat2, Chat1, STEPS[1:])
    swap = Swap(place.host.table, [change], place.entries, place.host.clock, nullcontext)
    run(swap)
    assert (swap.phase, place.versions()) == (Phase.RESTORED, [1])
    assert swap.refusal is not None
    assert "would be lost" in swap.refusal.reason
