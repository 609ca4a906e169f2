"""Retirement: old code goes, and whatever keeps it is named with its chain of references."""

from __future__ import annotations

import asyncio
import atexit
import codecs
import contextvars
import errno
import functools
import gc
import itertools
import json
import os
import signal
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from itertools import product
from types import ModuleType
from typing import Any, Optional

import pytest
import pytest_asyncio

from netswap.errors import TransitionError
from netswap.events import Retiring
from netswap.modules import Bundle, Loaded, load_bundle
from netswap.stack import Host, Service
from netswap.transfer import State
from netswap.worker.retirement import retirement as retirement_module
from netswap.worker.retirement.retirement import (
    TRANSITIONS,
    Event,
    Generation,
    Retirement,
    Standing,
    Timing,
)

PATIENCE = 20.0
SOON = Timing(collect=0.01, search=0.05)
NEVER = Timing(collect=0.01, search=1e9)

SOURCE = """
import asyncio
import functools

from netswap import Service, State

class Hall(State, kind="old.hall", version=1):
    seen: int = 0

class Rooms(Service[Hall]):
    def tick(self) -> None: ...

def plain(*_args, **_keywords):
    return 1

async def suspends():
    await asyncio.sleep(1000)

def closure(variable=1):
    def inner():
        return variable
    return inner

def fails():
    raise ValueError(1)

def waits(event):
    event.wait()

@functools.lru_cache
def cached(key):
    return key

class Small: ...
"""
LINES = {
    word: number for number, text in enumerate(SOURCE.splitlines(), 1) for word in text.split()
}


class Kept(State, kind="new.keeper", version=1):
    """A value that slipped through: annotations are checked, values are not."""

    hooks: dict[str, int] = {}


class Keeper(Service[Kept]):
    """Of another bundle than the old code."""


class Log:
    """What was said."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        """Keep it."""
        self.said.append((event, fields))

    warning = error = info


class World:
    """A host, a retirement, and old bundles that are given up."""

    numbers = itertools.count()

    def __init__(self, timing: Timing) -> None:
        self.log = Log()
        self.host = Host(asyncio.get_running_loop(), self.log)
        self.retirement = Retirement(self.host, timing)

    def load(self, source: str = SOURCE) -> Loaded:
        """A bundle that nobody has loaded before."""
        text = f"{source}\n# {next(self.numbers)}\n"
        return load_bundle(Bundle("v1.py", {"v1.py": text.encode()}))

    def give_up(self, keep: Callable[[World, ModuleType], Any] | None = None) -> Any:
        """Load, let somebody keep something of it, and give it up; what ``keep`` returns."""
        loaded = self.load()
        (module,) = loaded.modules.values()
        kept = None if keep is None else keep(self, module)
        self.retirement.watch(loaded)
        loaded.unload()
        return kept

    async def until(self, condition: Callable[[], bool]) -> None:
        """Turn the loop until it is so."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.005)

    async def gone(self) -> None:
        """Wait until nothing is on its way out, and that was said."""
        await self.until(lambda: not self.retirement._generations)
        assert self.retirement.rows() == []
        assert self.log.said[-1][0] == "old_code_retired"

    async def held(self) -> Retiring:
        """The one generation that is held, once it is known to be."""
        await self.until(lambda: any(row.held_by for row in self.retirement.rows()))
        (row,) = self.retirement.rows()
        return row


@pytest_asyncio.fixture
async def make_world() -> AsyncIterator[Callable[..., World]]:
    """Worlds that watch no more after the test."""
    made: list[World] = []

    def make(timing: Timing = SOON) -> World:
        made.append(World(timing))
        return made[-1]

    yield make
    for world in made:
        world.retirement.close()
        task = world.retirement._task
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)


def by_nobody(_world: World, _module: ModuleType) -> None:
    """A clean swap."""


Undo = Callable[[], Any]


def by_a_task(world: World, module: ModuleType) -> Undo:
    """A coroutine that goes on."""
    return world.host.loop.create_task(module.suspends(), name="sweeper").cancel


def by_a_callers_task(world: World, module: ModuleType) -> Undo:
    """One that a coroutine of somebody else awaits."""

    async def caller(suspends: Any) -> None:
        await suspends

    return world.host.loop.create_task(caller(module.suspends()), name="caller").cancel


def by_a_closure(_world: World, module: ModuleType) -> Undo:
    """A function of the old code, in a container of somebody else's module."""
    json.hooks = {"a": [1, (module.closure(),)]}  # type: ignore[attr-defined]
    return lambda: delattr(json, "hooks")


def by_state(world: World, module: ModuleType) -> Undo:
    """What slipped into a live object's state."""
    world.host.install(Keeper)
    entry = world.host.service("new.keeper")
    entry.target.state.hooks["on_line"] = module.closure()
    return entry.target.state.hooks.clear


def by_sys_modules(_world: World, module: ModuleType) -> Undo:
    """The module under another name."""
    sys.modules["an_alias"] = module
    return lambda: sys.modules.pop("an_alias")


def by_a_class(_world: World, module: ModuleType) -> Undo:
    """A registry that is an attribute of a class."""
    Host.registry = {"rooms": module.Rooms}  # type: ignore[attr-defined]
    return lambda: delattr(Host, "registry")


def by_atexit(_world: World, module: ModuleType) -> Undo:
    """Which no Python object refers to."""
    atexit.register(module.plain)
    return atexit._clear


def by_a_signal(_world: World, module: ModuleType) -> Undo:
    """Nor to this."""
    signal.signal(signal.SIGUSR2, module.plain)
    return lambda: signal.signal(signal.SIGUSR2, signal.SIG_DFL)


def by_a_timer(world: World, module: ModuleType) -> Undo:
    """The loop's own timer, with a bound method."""
    rooms = module.Rooms.__new__(module.Rooms)
    return world.host.loop.call_later(1000, rooms.tick).cancel


VARIABLE: contextvars.ContextVar[Any] = contextvars.ContextVar("a_variable")


def by_a_context(world: World, module: ModuleType) -> Undo:
    """A task that was begun when a variable had a value of the old code."""
    context = contextvars.Context()
    context.run(VARIABLE.set, module.plain)
    work = asyncio.Event().wait()  # a sleep's timer would keep the context beyond the task
    return world.host.loop.create_task(work, context=context, name="bystander").cancel


def by_a_traceback(_world: World, module: ModuleType) -> Undo:
    """The last exception that an interactive shell shows."""
    fails, reference = module.fails, None
    del module
    try:
        fails()
    except ValueError as error:
        reference = error.with_traceback(error.__traceback__.tb_next)  # type: ignore[union-attr]
        reference.__context__ = None
    sys.last_value = reference
    return lambda: delattr(sys, "last_value")


class Anything:
    """Something that can be referred to weakly."""


def by_a_weak_reference(_world: World, module: ModuleType) -> Undo:
    """Its callback is held strongly."""
    json.hooks = [alive := Anything(), weakref.ref(alive, module.plain)]  # type: ignore[attr-defined]
    return lambda: delattr(json, "hooks")


def by_a_cache(_world: World, module: ModuleType) -> Undo:
    """A function behind functools.lru_cache."""
    json.hooks = module.cached  # type: ignore[attr-defined]
    return lambda: delattr(json, "hooks")


@functools.lru_cache
def remembered(key: Any) -> Any:
    """A cache of somebody else's, with a value of the old code."""
    return key()


def by_a_cached_result(_world: World, module: ModuleType) -> Undo:
    """What a function returned is kept for the next caller."""
    remembered(module.Small)
    return remembered.cache_clear


def by_a_partial(_world: World, module: ModuleType) -> Undo:
    """A function that is an argument."""
    json.hooks = functools.partial(sorted, key=module.plain)  # type: ignore[attr-defined]
    return lambda: delattr(json, "hooks")


def by_c_code(_world: World, module: ModuleType) -> Undo:
    """The interpreter's list of codecs is in no module; that it is a list says a little."""
    codecs.register(module.plain)
    plain = weakref.ref(module.plain)
    return lambda: codecs.unregister(plain())


def by_an_instance(_world: World, module: ModuleType) -> Undo:
    """A state of numbers only: the collector does not look at such an object."""
    json.hooks = {"last": module.Hall(1)}  # type: ignore[attr-defined]
    assert not gc.is_tracked(json.hooks["last"])  # type: ignore[attr-defined]
    return lambda: delattr(json, "hooks")


def by_a_thread(_world: World, module: ModuleType) -> Undo:
    """One that runs the old code: it has no Python object for its frames."""
    event = threading.Event()
    thread = threading.Thread(target=module.waits, args=(event,), name="worker of old", daemon=True)
    thread.start()

    def undo() -> None:
        event.set()
        thread.join()

    return undo


def line(word: str) -> str:
    """Where a word stands in the old module."""
    return f"v1.py:{LINES[word]}"


INNER = f"function closure.<locals>.inner ({line('inner():')})"
PLAIN = f"function plain ({line('plain(*_args,')})"

HOLDERS: dict[Callable[[World, ModuleType], Undo], str] = {
    by_a_task: f"task sweeper, suspended at {line('asyncio.sleep(1000)')}",
    by_a_callers_task: f"task caller, suspended at {line('asyncio.sleep(1000)')}",
    by_a_closure: f"json.hooks['a'][1][0] → {INNER}",
    by_state: f"new.keeper 0.1.target.state.hooks['on_line'] → {INNER}",
    by_sys_modules: "sys.modules['an_alias'] → module v1",
    by_a_class: "netswap.stack.host.Host.registry['rooms'] → class Rooms",
    by_atexit: f"atexit → {PLAIN}",
    by_a_signal: f"handler of SIGUSR2 → {PLAIN}",
    by_a_timer: f"the event loop, a timer → function Rooms.tick ({line('tick(self)')})",
    by_a_context: f"context variable a_variable → {PLAIN}",
    by_a_traceback: f"sys.last_value.__traceback__ → traceback at {line('ValueError(1)')}",
    by_a_weak_reference: f"json.hooks[1] → callback of a weak reference → {PLAIN}",
    by_a_cache: f"json.hooks → lru_cache → function cached ({line('@functools.lru_cache')})",
    by_a_cached_result: f"{__name__}.remembered → an entry of lru_cache[0] → class Small",
    by_a_partial: f"json.hooks → partial['key'] → {PLAIN}",
    by_c_code: "C code → an instance of list[",
    by_an_instance: "json.hooks['last'] → an instance of Hall",
    by_a_thread: f"thread worker of old, running at {line('event.wait()')}",
}
"""Who keeps it, and what has to be told of that."""


@pytest.mark.parametrize("keep", HOLDERS, ids=lambda keep: keep.__name__)
async def test_whatever_keeps_old_code_is_named_with_its_chain(
    keep: Callable[[World, ModuleType], Undo], make_world: Callable[..., World]
) -> None:
    """And as soon as it lets go, the code is gone."""
    world = make_world()
    undo = world.give_up(keep)
    row = await world.held()
    assert (row.standing, row.kinds, row.objects) == ("held", {"old.hall": 1}, 0)
    assert [chain for chain in row.held_by if HOLDERS[keep] in chain], row.held_by
    assert row.age >= SOON.search
    undo()
    del undo
    await asyncio.sleep(0)
    gc.collect()  # a traceback and its frames are a circle of their own
    await world.gone()
    events = [event for event, _ in world.log.said]
    assert events[0] == "old_code_held"
    assert events[-1] == "old_code_retired"
    assert world.log.said[0][1]["held_by"] == row.held_by


async def test_a_clean_swap_retires_without_a_search_and_without_a_full_collection(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle's own circles are collected by themselves, however old they are."""
    world = make_world(NEVER)
    asked: list[int] = []
    collect = gc.collect

    def watched(generation: int = 2) -> int:
        asked.append(generation)
        return collect(generation)

    gc.collect()
    world.give_up(by_nobody)
    monkeypatch.setattr(gc, "collect", watched)
    await world.gone()
    assert set(asked) == {0}
    ((event, fields),) = world.log.said
    assert (event, fields["kinds"]) == ("old_code_retired", {"old.hall": 1})


async def test_the_age_of_old_code_does_not_matter(make_world: Callable[..., World]) -> None:
    """What has served for long is in the collector's oldest generation."""
    world = make_world(NEVER)
    loaded = world.load()
    gc.collect()
    gc.collect()
    world.retirement.watch(loaded)
    loaded.unload()
    del loaded
    await world.gone()


async def test_every_generation_is_watched_not_only_the_newest(
    make_world: Callable[..., World],
) -> None:
    """One that is kept is told apart from those before and after it, also of the same bundle."""
    world = make_world()
    world.give_up()
    undo = world.give_up(by_a_closure)
    world.give_up()
    row = await world.held()
    assert row.standing == "held"
    undo()
    await world.gone()
    retired = [fields["bundle"] for event, fields in world.log.said if event == "old_code_retired"]
    assert len(set(retired)) == 3


async def test_a_bundle_that_comes_and_goes_is_a_new_generation_each_time(
    make_world: Callable[..., World],
) -> None:
    """Two loads of one bundle, each kept by somebody, are two rows."""
    world = make_world()
    text = SOURCE.encode()
    kept = []
    for _ in range(2):
        loaded = load_bundle(Bundle("v1.py", {"v1.py": text}))
        (module,) = loaded.modules.values()
        kept.append(module.closure())
        world.retirement.watch(loaded)
        loaded.unload()
        del loaded, module
    await world.until(lambda: all(row.held_by for row in world.retirement.rows()))
    rows = world.retirement.rows()
    assert len(rows) == 2
    assert len({row.sha256 for row in rows}) == 1
    kept.clear()
    await world.gone()


async def test_what_holds_is_searched_for_again_and_told_when_it_is_another(
    make_world: Callable[..., World],
) -> None:
    """The first holder lets go, and the second one shows."""
    world = make_world()

    def by_two(world: World, module: ModuleType) -> tuple[Undo, Undo]:
        return by_sys_modules(world, module), by_a_class(world, module)

    first, second = world.give_up(by_two)
    row = await world.held()
    assert len(seen_by_us(row.held_by)) == 2
    first()
    await world.until(lambda: len(seen_by_us(world.retirement.rows()[0].held_by)) == 1)
    assert HOLDERS[by_a_class] in world.retirement.rows()[0].held_by[0]
    second()
    await world.gone()
    told = [fields["held_by"] for event, fields in world.log.said if event == "old_code_held"]
    assert [len(seen_by_us(chains)) for chains in told] == [2, 1]


def seen_by_us(chains: list[str]) -> list[str]:
    """Without what coverage holds: a copy of sys of its own, with the same table of modules."""
    return [chain for chain in chains if not chain.startswith("coverage.")]


def by_garbage(_world: World, module: ModuleType) -> None:
    """A circle that is none of the bundle's."""
    circle = Anything()
    circle.itself, circle.module = circle, module  # type: ignore[attr-defined]
    gc.collect()  # now it is not among the young


def by_garbage_with_an_instance(_world: World, module: ModuleType) -> None:
    """A circle that holds a state which the collector does not look at."""
    circle = Anything()
    circle.itself, circle.state = circle, module.Hall(1)  # type: ignore[attr-defined]
    gc.collect()


def by_a_traceback_in_a_circle(_world: World, module: ModuleType) -> None:
    """An exception that a frame of its own traceback refers to, with such a state in another."""

    def fails(state: object) -> None:
        assert state is None

    def tries() -> None:
        kept = []
        try:
            fails(module.Hall(1))
        except AssertionError as error:
            kept.append(error)
            gc.collect()

    tries()


GARBAGE = [by_garbage, by_garbage_with_an_instance, by_a_traceback_in_a_circle]


@pytest.mark.parametrize("keep", GARBAGE, ids=lambda keep: keep.__name__)
async def test_what_only_garbage_holds_waits_for_a_collection(
    keep: Callable[..., None], make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is accused, and the loop is not held for as long as a full collection takes here."""
    monkeypatch.setattr(retirement_module, "COLLECT_S", 0.0)
    world = make_world()
    gc.collect()
    gc.disable()
    try:
        world.give_up(keep)
        await world.until(lambda: world.retirement.rows()[0].standing != "leaving")
        assert world.retirement.rows()[0].standing == "garbage", world.log.said
    finally:
        gc.enable()
    assert world.log.said == []
    gc.collect()
    await world.gone()


@pytest.mark.parametrize("keep", GARBAGE, ids=lambda keep: keep.__name__)
async def test_a_full_collection_is_asked_for_where_it_is_short(
    keep: Callable[..., None], make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child has measured one; one search is enough."""
    monkeypatch.setattr(retirement_module, "COLLECT_S", PATIENCE)
    world = make_world()
    searched: list[int] = []
    search = world.retirement._search

    def counted(due: list[Generation]) -> Any:
        searched.append(len(due))
        return search(due)

    monkeypatch.setattr(world.retirement, "_search", counted)
    gc.collect()
    gc.disable()
    try:
        world.give_up(keep)
        await world.gone()
    finally:
        gc.enable()
    assert searched == [1]


async def test_a_cache_of_typing_is_emptied_and_not_accused(
    make_world: Callable[..., World],
) -> None:
    """Also when somebody has asked for ``Optional[Old]`` after the old code was given up."""
    world = make_world()
    loaded = world.load()
    (module,) = loaded.modules.values()
    world.retirement.watch(loaded)
    loaded.unload()
    assert Optional[module.Hall] is Optional[module.Hall], "it is kept"  # noqa: UP045
    del loaded, module
    await world.gone()
    assert [event for event, _ in world.log.said] == ["old_code_retired"]


async def test_a_search_that_dies_accuses_nobody_and_is_made_again(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it died."""
    search = retirement_module.find_holders
    monkeypatch.setattr(retirement_module, "find_holders", lambda *_: sys.exit(3))
    world = make_world()
    undo = world.give_up(by_a_class)
    row = await world.held()
    assert row.held_by == ["something unknown: the search died (exit code 1)"]
    monkeypatch.setattr(retirement_module, "find_holders", search)
    await world.until(lambda: "registry" in world.retirement.rows()[0].held_by[0])
    undo()
    await world.gone()


async def test_a_search_that_can_not_begin_is_made_again(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that has no process to give has one later."""

    def no_fork() -> int:
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(os, "fork", no_fork)
    world = make_world()
    undo = world.give_up(by_a_class)
    row = await world.held()
    assert row.held_by == ["something unknown: the search could not begin (no more processes)"]
    monkeypatch.undo()
    await world.until(lambda: "registry" in world.retirement.rows()[0].held_by[0])
    undo()
    await world.gone()


async def test_two_hundred_generations_leave_nothing(make_world: Callable[..., World]) -> None:
    """As many objects as before, for Python's collector, and no search was needed."""
    world = make_world(NEVER)
    for _ in range(10):
        world.give_up(by_nobody)
    await world.gone()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(200):
        world.give_up(by_nobody)
    await world.gone()
    world.log.said.clear()
    gc.collect()
    assert abs(len(gc.get_objects()) - before) < 100


async def test_nothing_is_searched_for_in_the_middle_of_a_swap(
    make_world: Callable[..., World],
) -> None:
    """A fork holds the loop for some milliseconds."""
    world = make_world()
    quiet = [False]
    world.retirement = Retirement(world.host, SOON, lambda: quiet[0])
    undo = world.give_up(by_a_class)
    await world.until(lambda: world.retirement.rows()[0].age > 4 * SOON.search)
    assert world.retirement.rows()[0].standing == "leaving"
    quiet[0] = True
    await world.held()
    undo()
    await world.gone()


def generation_in(standing: Standing) -> Generation:
    """One that stands there; it watches nothing."""
    made = Generation.__new__(Generation)
    made.standing, made.held_by = standing, []
    return made


@pytest.mark.parametrize(("standing", "event"), [*product(Standing, Event)])
def test_a_generation_goes_where_the_table_says(standing: Standing, event: Event) -> None:
    """What has no row raises and changes nothing."""
    made = generation_in(standing)
    following = TRANSITIONS.get((standing, event))
    if following is None:
        with pytest.raises(TransitionError):
            made.take(event)
        assert made.standing is standing
    else:
        made.take(event, ["somebody"])
        assert (made.standing, made.held_by) == (following, ["somebody"])
