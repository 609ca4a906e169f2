"""What an application keeps goes to its successor, and is closed when nobody keeps it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from netswap import keeping
from netswap.http import kept
from netswap.keeping import INSTALLATION, Keeper


class Pool:
    """Something dear; counts how often it is closed."""

    def __init__(self) -> None:
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1

    def ask(self) -> str:
        return "asked"


class Version:
    """One load of an application: globals of its own, builtins of its own."""

    def __init__(self, *names: str, application: Any = None, **space: Any) -> None:
        builtins = {"__builtins__": {**vars(__import__("builtins")), INSTALLATION: object()}}
        self.space: dict[str, Any] = {**builtins, **space, "kept": kept}
        self.application = application
        self.keeper = Keeper(names, self.space)

    def run(self, text: str) -> Any:
        """A line of the version's own code."""
        return eval(text, self.space)

    def start(self, **made: Any) -> None:
        """What its start-up makes if nothing is there under that name."""
        with self.keeper.installing():
            self.keeper.hand_over(self.application)
            for name, value in made.items():
                if self.space.get(name) is None:
                    self.space[name] = value
        self.keeper.note()

    async def stop(self) -> None:
        """Its clean-up closes whatever stands under its names."""
        self.keeper.shield()
        values = [value for value in self.space.values() if not isinstance(value, type)]
        for value in values:
            if hasattr(value, "ask"):
                await value.close()
        await self.keeper.release()


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    assert not keeping._registry
    assert not keeping._keepers


async def test_what_both_keep_is_handed_over_and_closed_by_the_last() -> None:
    """The old version's clean-up does not reach it."""
    pool = Pool()
    old = Version("pool")
    old.start(pool=pool)
    new = Version("pool")
    new.start(pool=Pool())
    assert new.space["pool"] is pool
    await old.stop()
    assert pool.closed == 0
    assert (old.space["pool"].ask(), new.space["pool"].ask()) == ("asked", "asked")
    await new.stop()
    assert pool.closed == 1


async def test_what_is_given_up_lets_go_of_it() -> None:
    """The version before has it as it had it."""
    pool, own = Pool(), Pool()
    old = Version("pool")
    old.start(pool=pool)
    new = Version("pool", "cache")
    new.start(cache=own)
    await new.stop()
    assert (pool.closed, own.closed) == (0, 1)
    await old.stop()
    assert pool.closed == 1


async def test_a_version_that_does_not_keep_it_has_its_own() -> None:
    """And the old one's is closed with the old one."""
    pool, other = Pool(), Pool()
    old = Version("pool")
    old.start(pool=pool)
    new = Version()
    new.start(pool=other)
    assert new.space["pool"] is other
    await old.stop()
    assert (pool.closed > 0, other.closed) == (True, 0)
    await new.stop()


async def test_one_that_makes_it_again_is_left_with_its_own() -> None:
    """A start-up that does not look replaces it; each is closed by whoever has it."""
    pool, other = Pool(), Pool()
    old = Version("pool")
    old.start(pool=pool)
    new = Version("pool")
    new.keeper.hand_over(None)
    new.space["pool"] = other
    new.keeper.note()
    await old.stop()
    assert (pool.closed > 0, other.closed) == (True, 0)
    await new.stop()
    assert other.closed


@pytest.mark.parametrize("shape", ["aiohttp", "starlette"])
async def test_it_is_where_the_predecessor_had_it(shape: str) -> None:
    """As a key of the application, or in its state."""

    def application() -> Any:
        place: dict[str, Any] = {}
        state = SimpleNamespace(_state=place)
        return state if shape == "aiohttp" else SimpleNamespace(state=state)

    def place(version: Version) -> dict[str, Any]:
        of = version.application if shape == "aiohttp" else version.application.state
        found: dict[str, Any] = of._state
        return found

    pool = Pool()
    old = Version("pool", application=application())
    old.keeper.hand_over(old.application)
    place(old)["pool"] = pool
    old.keeper.note()
    new = Version("pool", application=application())
    new.start()
    assert place(new)["pool"] is pool
    old.keeper.shield()
    await place(old)["pool"].close()
    await old.keeper.release()
    assert pool.closed == 0
    new.keeper.shield()
    await place(new)["pool"].close()
    await new.keeper.release()
    assert pool.closed == 1


async def test_kept_gives_what_is_there_or_makes_it() -> None:
    """Who asks is known by the code that asks, in a start-up or in a request."""
    old = Version(Pool=Pool)
    pool = old.run("kept('pool', Pool)")
    new = Version(Pool=Pool)
    new.start()
    assert new.run("kept('pool', Pool)") is pool
    await old.keeper.release()
    assert pool.closed == 0
    await new.keeper.release()
    assert pool.closed == 1


class Key:
    """As aiohttp's keys are, which differ from version to version."""

    def __init__(self, name: str) -> None:
        self._name = f"some.module.{name}"


Key.__name__ = "AppKey"


async def test_a_global_of_another_module_of_the_same_load_is_meant_by_its_module() -> None:
    """Of this load alone: the version beside has one of the same name."""
    pool = Pool()
    old, new = Version("db.pool"), Version("db.pool")
    modules: dict[str, Any] = {}
    for number, version in enumerate((old, new)):
        module: Any = ModuleType(f"netswap_bundle_{number}.db")
        module.__builtins__ = version.space["__builtins__"]
        module.pool = None
        sys.modules[module.__name__] = modules[module.__name__] = module
    first, second = modules.values()
    try:
        old.keeper.hand_over(None)
        first.pool = pool
        old.keeper.note()
        new.keeper.hand_over(None)
        assert second.pool is pool
        old.keeper.shield()
        assert first.pool is not pool
        await old.keeper.release()
        new.keeper.shield()
        assert second.pool is pool  # the last one's clean-up may close it
        await new.keeper.release()
    finally:
        for name in modules:
            del sys.modules[name]
    assert pool.closed == 0


async def test_a_key_of_aiohttp_is_known_by_its_name() -> None:
    """Each version has a key of its own for the same thing."""
    pool = Pool()
    mine, theirs = Key("pool"), Key("pool")
    old = Version("pool", application=SimpleNamespace(_state={}), KEY=mine)
    old.keeper.hand_over(old.application)
    old.application._state[mine] = pool
    old.keeper.note()
    new = Version("pool", application=SimpleNamespace(_state={}), KEY=theirs)
    new.start()
    assert new.application._state == {theirs: pool}
    await old.keeper.release()
    await new.keeper.release()


async def test_what_was_never_started_keeps_nothing() -> None:
    """A push that was refused after its import; also one that was imported in a thread."""
    for in_thread in (False, True):
        version = Version(Pool=Pool)
        pool = version.run("kept('pool', Pool)")
        mark = version.space["__builtins__"][INSTALLATION]
        if in_thread:
            await asyncio.to_thread(keeping.abandon, mark)
        else:
            keeping.abandon(mark)
            while not pool.closed:
                await asyncio.sleep(0)
        assert pool.closed == 1
        keeping.abandon(mark)


async def test_what_can_not_be_closed_in_a_thread_is_told_and_the_others_are() -> None:
    """Whoever unloads the code has nothing to do with it."""

    class Stuck(Pool):
        async def close(self) -> None:
            raise OSError("stuck")

    version, pools = Version(), [Stuck(), Pool()]
    for number, pool in enumerate(pools):
        version.space["make"] = lambda pool=pool: pool
        version.run(f"kept('pool{number}', make)")
    with capture_logs() as told:
        await asyncio.to_thread(keeping.abandon, version.space["__builtins__"][INSTALLATION])
    assert [pool.closed for pool in pools] == [0, 1]
    assert [(row["event"], row["error"]) for row in told] == [("loop_exception", "OSError: stuck")]


async def test_what_kept_has_made_is_out_of_reach_of_every_clean_up() -> None:
    """Also when its name is kept: nobody closes it twice."""
    version = Version("pool", Pool=Pool)
    version.space["pool"] = version.run("kept('pool', Pool)")
    pool = version.space["pool"]
    version.start()
    await version.stop()
    assert pool.closed == 1


async def test_each_of_several_is_closed_by_the_last_that_keeps_it() -> None:
    """Not only the one that was asked for last."""
    first, second = Version(Pool=Pool), Version(Pool=Pool)
    pools = [first.run(f"kept('pool{number}', Pool)") for number in range(3)]
    first.start()
    assert [second.run(f"kept('pool{number}', Pool)") for number in range(2)] == pools[:2]
    second.start()
    await first.stop()
    assert [pool.closed for pool in pools] == [0, 0, 1]
    await second.stop()
    assert [pool.closed for pool in pools] == [1, 1, 1]


async def test_what_can_not_be_closed_does_not_keep_the_others_open() -> None:
    """Its error is told when they are: the clean-up of the version has failed."""

    class Stuck(Pool):
        async def close(self) -> None:
            raise OSError("stuck")

    one, pools = Version(), [Pool(), Stuck(), Pool(), Stuck()]
    for number, pool in enumerate(pools):
        one.space["make"] = lambda pool=pool: pool
        one.run(f"kept('pool{number}', make)")
    with pytest.raises(OSError, match="stuck"):
        await one.keeper.release()
    assert [pool.closed for pool in pools] == [1, 0, 1, 0]


async def test_a_factory_may_be_a_coroutine_function() -> None:
    """Then it is awaited, whether it is made or there."""
    made = []

    async def make() -> Pool:
        made.append(Pool())
        return made[-1]

    version = Version(make=make)
    one, two = version.run("kept('pool', make)"), version.run("kept('pool', make)")
    assert await one is await two
    assert len(made) == 1
    await version.keeper.release()
    assert made[0].closed == 1


async def test_outside_of_a_bundle_it_is_the_process_that_keeps() -> None:
    """The same file runs under another server; nobody closes it there."""
    pool = kept("alone", Pool)
    assert kept("alone", Pool) is pool
    assert pool.closed == 0
    del keeping._registry["alone"]
