"""timer.service: fires never early, once, by name, and keeps the remaining time across swaps."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import sys
import weakref
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netswap.hotswap import Change, Swap
from netswap.stack import Host
from netswap.transfer import decode, encode, plan_transfer
from protocols.timers import loop as v1
from protocols.timers import wheel as v2


def again(module: ModuleType) -> ModuleType:
    """The same file from another bundle."""
    spec = importlib.util.spec_from_file_location(f"{module.__name__}_again", module.__file__)
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    sys.modules[copy.__name__] = copy
    spec.loader.exec_module(copy)
    return copy


KIND = "timer.service"
V1_AGAIN, V2_AGAIN = again(v1), again(v2)
CLASSES = {
    v1: v1.LoopTimers,
    v2: v2.Wheel,
    V1_AGAIN: V1_AGAIN.LoopTimers,
    V2_AGAIN: V2_AGAIN.Wheel,
}
BOTH = pytest.mark.parametrize("module", [v1, v2])
EACH_WAY = pytest.mark.parametrize(
    ("first", "second"), [(v1, v2), (v2, v1), (v1, V1_AGAIN), (v2, V2_AGAIN)]
)
PATIENCE = 20.0


class Clock:
    """Stands still until the test moves it; the loop's own time goes on."""

    def __init__(self) -> None:
        self.now = 1_000_000_000_000

    def monotonic_ns(self) -> int:
        return self.now

    def time_ns(self) -> int:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)


class Sleeper:
    """An object with timers; counts what fires."""

    kind, version = "test.sleeper", 1

    def __init__(self) -> None:
        self.fired: list[str] = []

    def wake(self) -> None:
        self.fired.append("wake")

    def idle(self) -> None:
        self.fired.append("idle")

    def attributes(self) -> dict[str, Any]:
        return {}


class Silent:
    """A log that is not looked at."""

    def __init__(self) -> None:
        self.errors: list[Any] = []

    def info(self, *_: Any, **__: Any) -> None: ...

    def error(self, event: str, **fields: Any) -> None:
        self.errors.append((event, fields))


class World:
    """A host with a timer service, a clock of its own and objects that sleep."""

    def __init__(self, module: Any, clock: Any = None) -> None:
        self.log = Silent()
        self.host = Host(asyncio.get_running_loop(), self.log)
        if clock is not None:
            self.host.clock = clock
        self.host.install(CLASSES[module])

    @property
    def timers(self) -> Any:
        return self.host.services[KIND].target

    def sleeper(self) -> Any:
        return self.host.table.create("test.sleeper", Sleeper())

    def swap(self, module: Any) -> None:
        """The real swap, in one slice."""
        cls = CLASSES[module]
        change = Change(KIND, cls, type(self.timers), ())
        self.host.present[KIND] = cls
        entry = self.host.services[KIND]
        swap = Swap(self.host.table, [change], [entry], self.host.clock, nullcontext)
        swap.slice(1)
        assert swap.refusal is None
        assert type(self.timers) is cls


@pytest.fixture
async def world():
    """``world(module, clock)``; what is armed at the end is dropped."""
    worlds: list[World] = []

    def make(module: Any, clock: Any = None) -> World:
        worlds.append(World(module, clock))
        return worlds[-1]

    yield make
    for one in worlds:
        one.timers.on_stop()
        assert not one.log.errors


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


async def loop_time(seconds: float) -> None:
    """Let the loop's own timers of up to ``seconds`` fire: one that is armed last comes last."""
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, done.set)
    await done.wait()


@BOTH
async def test_a_timer_fires_once_and_not_early(world, module):
    """By the machine's clock, whatever the loop thinks of milliseconds."""
    one = world(module)
    entries = []
    for index in range(50):
        entry = one.sleeper()
        delay = 0.0005 * index
        due = one.host.clock.monotonic_ns() + int(delay * 1e9)
        entry.target.wake = lambda e=entry, d=due: e.target.fired.append(
            one.host.clock.monotonic_ns() - d
        )
        one.timers.arm(entry, "wake", delay)
        entries.append(entry)
    await until(lambda: all(entry.target.fired for entry in entries))
    assert [len(entry.target.fired) for entry in entries] == [1] * 50
    assert min(entry.target.fired[0] for entry in entries) >= 0
    assert not one.timers.state.deadlines


@BOTH
async def test_a_loop_that_wakes_too_early_fires_nothing(world, module):
    """uvloop's timers may be early: the clock decides."""
    clock = Clock()
    one = world(module, clock)
    entry = one.sleeper()
    one.timers.arm(entry, "wake", 0.001)
    await loop_time(0.03)
    assert not entry.target.fired
    clock.pass_(0.02)
    await until(lambda: entry.target.fired)
    assert entry.target.fired == ["wake"]


@BOTH
async def test_arming_again_moves_the_deadline_both_ways(world, module):
    """Later and earlier; the last word counts, and it fires once."""
    clock = Clock()
    one = world(module, clock)
    later, earlier = one.sleeper(), one.sleeper()
    one.timers.arm(later, "wake", 0.02)
    one.timers.arm(later, "wake", 0.2)
    one.timers.arm(earlier, "wake", 60)
    one.timers.arm(earlier, "wake", 0.02)
    clock.pass_(0.1)
    await until(lambda: earlier.target.fired)
    await loop_time(0.03)
    assert not later.target.fired
    clock.pass_(0.2)
    await until(lambda: later.target.fired)
    await loop_time(0.03)
    assert (later.target.fired, earlier.target.fired) == (["wake"], ["wake"])


@BOTH
async def test_a_cancelled_timer_does_not_fire(world, module):
    """cancel takes one name, cancel_all every name of one object and nothing of others."""
    clock = Clock()
    one = world(module, clock)
    first, second, third = (one.sleeper() for _ in range(3))
    for entry in (first, second, third):
        one.timers.arm(entry, "wake", 0.01)
        one.timers.arm(entry, "idle", 0.01)
    one.timers.cancel(first, "wake")
    one.timers.cancel(first, "never armed")
    one.timers.cancel_all(second)
    clock.pass_(1)
    await until(lambda: len(third.target.fired) == 2)
    await loop_time(0.03)
    assert first.target.fired == ["idle"]
    assert not second.target.fired
    assert not one.timers.state.deadlines


@BOTH
async def test_remaining_counts_down_to_none(world, module):
    """Seconds until it fires; None when it is not armed."""
    clock = Clock()
    one = world(module, clock)
    entry = one.sleeper()
    assert one.timers.remaining(entry, "wake") is None
    one.timers.arm(entry, "wake", 10)
    clock.pass_(4)
    assert one.timers.remaining(entry, "wake") == pytest.approx(6)
    clock.pass_(7)
    assert one.timers.remaining(entry, "wake") == 0
    one.timers.cancel(entry, "wake")
    assert one.timers.remaining(entry, "wake") is None


@BOTH
async def test_a_callback_may_arm_itself_again(world, module):
    """A periodic timer is one that re-arms its name when it fires."""
    one = world(module)
    entry = one.sleeper()

    def wake() -> None:
        entry.target.fired.append("wake")
        if len(entry.target.fired) < 5:
            one.timers.arm(entry, "wake", 0)

    entry.target.wake = wake
    one.timers.arm(entry, "wake", -1)
    await until(lambda: len(entry.target.fired) == 5)
    await loop_time(0.03)
    assert len(entry.target.fired) == 5


@BOTH
async def test_a_timer_of_an_object_that_is_gone_is_silent(world, module):
    """An identity is never used twice, so it finds nothing."""
    one = world(module)
    entry, other = one.sleeper(), one.sleeper()
    one.timers.arm(entry, "wake", 0.001)
    one.timers.arm(other, "wake", 0.001)
    target = entry.target
    one.host.table.remove(entry)
    await until(lambda: other.target.fired)
    await loop_time(0.03)
    assert not target.fired


@EACH_WAY
async def test_a_swap_keeps_the_remaining_time_and_fires_once(world, first, second):
    """A timer due before, within and after a swap fires once, not early, by either version."""
    clock = Clock()
    one = world(first, clock)
    entries = [one.sleeper() for _ in range(3)]
    for entry, seconds in zip(entries, (0.005, 0.5, 30), strict=True):
        one.timers.arm(entry, "wake", seconds)
    clock.pass_(0.1)
    one.swap(second)
    assert one.timers.remaining(entries[2], "wake") == pytest.approx(29.9)
    await until(lambda: entries[0].target.fired)
    assert not entries[1].target.fired
    clock.pass_(0.5)
    one.swap(first)
    await until(lambda: entries[1].target.fired)
    one.swap(second)
    clock.pass_(30)
    one.swap(first)
    await until(lambda: entries[2].target.fired)
    await loop_time(0.03)
    assert [entry.target.fired for entry in entries] == [["wake"]] * 3


@EACH_WAY
async def test_a_swap_that_is_given_up_leaves_the_timers_as_they_were(world, first, second):
    """The follower is discarded: the old one fires, once."""
    clock = Clock()
    one = world(first, clock)
    entry = one.sleeper()
    one.timers.arm(entry, "wake", 0.05)
    old = one.timers
    way = plan_transfer(type(old.state), CLASSES[second].state_type, ())
    follower = CLASSES[second].successor(old, way.convert(old.state))
    follower.undo_building()
    assert one.timers is old
    assert old.remaining(entry, "wake") == pytest.approx(0.05)
    clock.pass_(1)
    await until(lambda: entry.target.fired)
    await loop_time(0.03)
    assert entry.target.fired == ["wake"]


@EACH_WAY
async def test_very_many_timers_are_taken_over_in_slices(world, first, second):
    """Arming and cancelling go on between the slices, and all fire once in the end."""
    clock = Clock()
    one = world(first, clock)
    entries = [one.sleeper() for _ in range(3000)]
    for entry in entries:
        one.timers.arm(entry, "wake", 50)
    one.swap(second)
    assert one.timers.state.waiting
    for entry in entries[:10]:
        one.timers.arm(entry, "wake", 0.005)
        one.timers.arm(entry, "idle", 0.005)
    one.timers.cancel_all(entries[10])
    one.timers.cancel(entries[11], "wake")
    clock.pass_(0.01)
    await until(lambda: all(len(entry.target.fired) == 2 for entry in entries[:10]))
    await until(lambda: not one.timers.state.waiting)
    one.swap(first)
    clock.pass_(60)
    one.swap(second)
    await until(lambda: all(entry.target.fired for entry in entries[12:]))
    assert [len(entry.target.fired) for entry in entries] == [2] * 10 + [0, 0] + [1] * 2988


@EACH_WAY
async def test_old_code_is_not_kept_by_a_timer(world, first, second):
    """Neither the loop nor the moved state holds the old implementation."""
    old = CLASSES[first]
    others = [found for found in gc.get_objects() if type(found) is old]  # of other tests
    one = world(first)
    entries = [one.sleeper() for _ in range(2000)]
    for entry in entries:
        one.timers.arm(entry, "wake", 1000)
    one.swap(second)
    await until(lambda: not one.timers.state.waiting)
    await loop_time(0)  # the last slice of cancelling
    gc.collect()
    kept = [found for found in gc.get_objects() if type(found) is old]
    assert not [found for found in kept if not any(found is other for other in others)]


async def test_an_idle_timeout_that_is_re_armed_costs_one_slot(world):
    """The wheel: 1,000 re-arms leave one record and one alarm, whatever their order."""
    clock = Clock()
    one = world(v2, clock)
    entry = one.sleeper()
    for index in range(1000):
        one.timers.arm(entry, "idle", 60 if index % 2 else 1)
        one.timers.cancel(entry, "idle" if index % 3 == 0 else "other")
    one.timers.arm(entry, "idle", 60)
    state = one.timers.state
    assert len(state.placed) == sum(map(len, state.slots.values())) == 1
    alarm = state.alarm
    assert alarm is not None
    clock.pass_(2)
    await until(lambda: one.timers.state.alarm is not alarm)
    assert not entry.target.fired
    assert one.timers.remaining(entry, "idle") == pytest.approx(58)


async def test_the_wheel_asks_nothing_of_the_loop_when_nothing_is_armed(world):
    """No tick without a timer."""
    one = world(v2)
    assert one.timers.state.alarm is None
    entry = one.sleeper()
    one.timers.arm(entry, "wake", 0.001)
    await until(lambda: entry.target.fired)
    assert one.timers.state.alarm is None
    assert not one.timers.state.slots


async def test_a_slot_with_very_many_timers_is_done_in_slices(world):
    """3,500 timers that are due together do not hold the loop in one go."""
    clock = Clock()
    one = world(v2, clock)
    entries = [one.sleeper() for _ in range(3500)]
    for entry in entries:
        one.timers.arm(entry, "wake", 1)
    clock.pass_(2)
    before = one.timers.state.alarm
    before.cancel()
    one.timers.turn()
    assert sum(len(entry.target.fired) for entry in entries) == v2.SLICE
    await until(lambda: all(entry.target.fired for entry in entries))
    assert not one.timers.state.deadlines


async def test_an_object_that_is_swapped_is_called_in_its_new_form(world):
    """A timer holds an entry and a name: whoever is there by then is called."""
    one = world(v2)
    entry = one.sleeper()
    one.timers.arm(entry, "wake", 0.001)
    old, entry.target = entry.target, Sleeper()
    died = weakref.ref(old)
    del old
    await until(lambda: entry.target.fired)
    gc.collect()
    assert died() is None


@given(
    st.dictionaries(
        st.integers(1, 2**40),
        st.dictionaries(st.text(max_size=8), st.integers(0, 2**62), min_size=1, max_size=3),
        max_size=5,
    )
)
def test_deadlines_cross_unchanged_and_nothing_derived_does(deadlines):
    """Up, down and through the canonical form: the deadlines, to the nanosecond."""
    old = v1.Armed(deadlines=deadlines, handles={1: {"x": object()}}, waiting=[1])
    assert plan_transfer(v1.Armed, v2.Armed, ()).convert(old).deadlines is deadlines
    again = decode(encode(old), v1.Armed)
    assert (again.deadlines, again.handles, again.waiting) == (deadlines, {}, [])
    new = v2.Armed(deadlines=deadlines, slots={1: {(1, "x"): None}}, placed={(1, "x"): 1})
    assert plan_transfer(v2.Armed, v1.Armed, ()).convert(new).deadlines is deadlines
    again = decode(encode(new), v2.Armed)
    assert (again.deadlines, again.slots, again.placed) == (deadlines, {}, {})
