"""Retirement: after a swap the old code must be gone, and what keeps it is named.

Theory. Code is its modules, its functions and its classes; they are *witnesses*, held by weak
references from the moment when the worker gives the bundle up. When all are dead the code is gone.
Every generation is watched on its own, not only the newest: one bundle that was swapped in and out
ten times was loaded ten times, and may be kept ten times.

::

    Leaving ──all dead──▶ Gone ◀──all dead── Held ◀──found── (searched again)
       ├──a holder is found──▶ Held ──only garbage──▶ Garbage ──all dead──▶ Gone
       └──only garbage──▶ Garbage

* *Pinned* is not here: live objects of old code (of a swap with ``--only``, of a canary) are its
  right to stay. The library gives it up when the last of them has gone; until then it is counted.
* Circles: a bundle's own objects refer to each other, so reference counts never free them. A
  moment after it was given up its objects are collected by themselves (``collection``).
* What lives past the deadline is *searched* for in a forked child (``holders``), which collects
  everything first and then looks for what refers to the rest. That it was found alive there is a
  proof, and that it was not is one, too: what can't be reached can't come back (but by way of a
  weak reference, so Garbage may be Held after all).
* If it was only garbage, this process needs a full collection. The child has measured one; it is
  done here if it took less than ``COLLECT_S``, else it is left to come by itself.
* What is held is searched for again, after twice the time: the holder may be another by then. The
  loop pays one fork for it, however many generations are looked for.

What it does not see: code objects (they refer to nothing), a thread's local variables.

Rejected: reference counts of the modules (circles); an audit on the loop, of which one level of
one search takes 8 ms at 8,000 connections; a full collection after each swap.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import time
import types
import weakref
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from netswap.events import Retiring
from netswap.hosting import APP
from netswap.lifecycle import LifeCycle
from netswap.modules import Loaded
from netswap.modules.importer import forget_generic_aliases
from netswap.stack import Host
from netswap.worker.forked import in_fork
from netswap.worker.retirement.caches import forget_cached
from netswap.worker.retirement.collection import collect_owned
from netswap.worker.retirement.holders import Ground, find_holders
from netswap.worker.retirement.references import Owned

__all__ = ["Retirement", "Timing"]

COLLECT_S = 0.01
"""A full collection that takes the child more processor time is not asked for; here it takes about
half of that, since nothing has to be copied first."""


class Timing(NamedTuple):
    """Seconds: from giving up to the ``collect``ion, to the ``search``, and the limit of that.

    ``longest`` is the longest time from one search to the next.
    """

    collect: float = 0.25
    search: float = 3.0
    limit: float = 20.0
    longest: float = 600.0


class Standing(Enum):
    """How far a generation of code has gone."""

    LEAVING = "leaving"
    HELD = "held"
    GARBAGE = "garbage"
    GONE = "gone"


class Event(Enum):
    """What is learnt of it."""

    DEAD = "dead"
    FOUND = "found"
    ONLY_GARBAGE = "only garbage"


TRANSITIONS = LifeCycle(
    "retirement",
    {
        (Standing.LEAVING, Event.DEAD): Standing.GONE,
        (Standing.LEAVING, Event.FOUND): Standing.HELD,
        (Standing.LEAVING, Event.ONLY_GARBAGE): Standing.GARBAGE,
        (Standing.HELD, Event.DEAD): Standing.GONE,
        (Standing.HELD, Event.FOUND): Standing.HELD,
        (Standing.HELD, Event.ONLY_GARBAGE): Standing.GARBAGE,
        (Standing.GARBAGE, Event.DEAD): Standing.GONE,
        (Standing.GARBAGE, Event.FOUND): Standing.HELD,
        (Standing.GARBAGE, Event.ONLY_GARBAGE): Standing.GARBAGE,
    },
)


class Found(msgspec.Struct, frozen=True, array_like=True):
    """What the child says: the holders of each generation, and what its collection took."""

    held_by: list[list[str]]
    collect_s: float


class Generation:
    """One load of a bundle that was given up; times are of the loop's clock."""

    def __init__(self, loaded: Loaded, now: float, search_in: float) -> None:
        self.sha256 = loaded.sha256
        self.kinds = loaded.versions()
        self.since = now
        self.standing = Standing.LEAVING
        self.held_by: list[str] = []
        self.search_at = now + search_in
        self.collected = False
        self._remains = loaded.remains
        package = next(iter(loaded.modules.values())).__name__.partition(".")[0]
        modules = _modules_of(package)
        self.owned = Owned(package, map(id, map(vars, modules)))
        self._witnesses = [weakref.ref(item) for item in _witnesses(modules, self.owned)]

    def take(self, event: Event, held_by: list[str] | None = None) -> None:
        """What was learnt. TransitionError when that can't be."""
        self.standing = TRANSITIONS[self.standing, event]
        self.held_by = held_by or []

    @property
    def dead(self) -> bool:
        """Whether no witness lives."""
        return all(witness() is None for witness in self._witnesses)

    def living(self) -> Iterator[object]:
        """The witnesses that live."""
        return (item for witness in self._witnesses if (item := witness()) is not None)

    def all_of_it(self) -> Iterator[object]:
        """The same, and once what may hold them in a circle of its own."""
        while self._remains:
            yield self._remains.pop()
        yield from self.living()

    def row(self, now: float) -> Retiring:
        """As an operator sees it."""
        return Retiring(
            self.sha256,
            self.kinds,
            self.standing.value,
            age=now - self.since,
            held_by=self.held_by,
        )


def _modules_of(package: str) -> list[types.ModuleType]:
    below = f"{package}."
    return [m for name, m in sys.modules.items() if name == package or name.startswith(below)]


def _witnesses(modules: list[types.ModuleType], owned: Owned) -> Iterator[Any]:
    for module in modules:
        yield module
        for value in vars(module).values():
            if isinstance(value, type | types.FunctionType) and value in owned:
                yield value


class Retirement:
    """Watches what a worker has given up, until it is gone.

    ``quiet()`` says whether this is a time to fork: not in the middle of a swap.
    """

    def __init__(
        self,
        host: Host,
        timing: Timing = Timing(),  # noqa: B008 - a constant
        quiet: Callable[[], bool] = lambda: True,
    ) -> None:
        self._host = host
        self._timing = timing
        self._quiet = quiet
        self._generations: list[Generation] = []
        self._task: asyncio.Task[None] | None = None

    def watch(self, loaded: Loaded) -> None:
        """A bundle is about to be given up."""
        now = self._host.loop.time()
        self._generations.append(Generation(loaded, now, self._timing.search))
        if self._task is None or self._task.done():
            # an empty context: one that is inherited could hold what is looked for
            context = contextvars.Context()
            self._task = self._host.own_task(self._run(), context=context)

    def rows(self) -> list[Retiring]:
        """What has been given up and is not gone, the oldest first."""
        now = self._host.loop.time()
        return [one.row(now) for one in self._generations if not one.dead]

    def close(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        """While something is on its way out: collect it once, then look for what holds it."""
        while self._generations:
            await asyncio.sleep(self._timing.collect)
            if self._quiet():
                await self._collect_due()
                self._dismiss()
                await self._search_due()
            self._dismiss()

    async def _collect_due(self) -> None:
        now = self._host.loop.time()
        for one in self._generations:
            if not one.collected or one.search_at <= now:
                if APP in one.kinds:  # any other module's cache is its author's own
                    await forget_cached(one.owned)
                one.collected = True
                await collect_owned(one.all_of_it(), one.owned)

    def _dismiss(self) -> None:
        """What is gone is told and forgotten."""
        now = self._host.loop.time()
        for one in self._generations:
            if one.dead:
                one.take(Event.DEAD)
                self._say(one, "old_code_retired", after_s=round(now - one.since, 3))
        self._generations = [one for one in self._generations if one.standing is not Standing.GONE]

    async def _search_due(self) -> None:
        now = self._host.loop.time()
        due = [one for one in self._generations if one.search_at <= now]
        if not due:
            return
        forget_generic_aliases()  # an Optional[Old] was asked for since it was given up
        found = await self._search(due)
        for one, held_by in zip(due, found.held_by, strict=True):
            one.search_at = now + min(now - one.since, self._timing.longest)
            self._learn(one, held_by)
        if not all(found.held_by) and found.collect_s < COLLECT_S:
            gc.collect()
            for one in due:
                one.collected = False  # its circles are open now

    async def _search(self, due: list[Generation]) -> Found:
        """In a child; one that tells nothing has found something that can't be named."""
        ground = Ground(self._host)
        try:
            told = await in_fork(lambda: _in_child(due, ground), self._timing.limit)
            return msgspec.msgpack.decode(told.answer, type=Found)
        except msgspec.DecodeError:
            how = "took too long" if told.late else f"died ({told.how})"
        except OSError as error:  # no process to be had, or no descriptor
            how = f"could not begin ({error.strerror})"
        return Found([[f"something unknown: the search {how}"]] * len(due), COLLECT_S)

    def _learn(self, one: Generation, held_by: list[str]) -> None:
        if one.dead:
            return
        known = one.held_by
        one.take(Event.FOUND if held_by else Event.ONLY_GARBAGE, held_by)
        if held_by and held_by != known:
            self._say(one, "old_code_held", held_by=held_by)

    def _say(self, one: Generation, event: str, **fields: Any) -> None:
        say = self._host.log.warning if one.standing is Standing.HELD else self._host.log.info
        say(event, bundle=one.sha256[:12], kinds=one.kinds, **fields)


def _in_child(due: list[Generation], ground: Ground) -> bytes:
    """Collect, and keep what is garbage: freeing a copy of a transport would touch its loop."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    started = time.thread_time()
    gc.collect()
    collect_s = time.thread_time() - started
    gc.unfreeze()  # what was frozen at the start is looked through as well
    held_by = [find_holders(one.living(), one.owned, ground, gc.garbage) for one in due]
    return msgspec.msgpack.encode(Found(held_by, collect_s))
