"""One swap in all workers of a world, as a transaction carries it out, and its way back.

*Whole*: all objects of a worker in one slice. *Sliced*: one object a slice with a turn of the loop
in between, so that versions serve side by side, clients act in the middle, and a failure takes
back what was flipped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from netswap.blame import blame, describe
from netswap.events import Refusal, Stage
from netswap.hotswap import Change, Phase, Swap
from netswap.ott import Entry
from netswap.stack import Host
from netswap.testing.world import World
from netswap.worker.driver import SLICE_NS, Driver

__all__ = ["Part", "Push"]

TIMEOUT_S: Final = 2.0
"""Of the manual clock, for objects to come to rest."""
STEP_S: Final = 0.1


class OneEach:
    """A clock after which every object has used up its slice's time."""

    def __init__(self) -> None:
        self._now = 0

    def monotonic_ns(self) -> int:
        """Later by a slice each time."""
        self._now += SLICE_NS
        return self._now

    time_ns = monotonic_ns


class Part:
    """The swap in one worker."""

    def __init__(self, host: Host, changes: list[Change], sliced: bool) -> None:
        self.host = host
        self.changes = changes
        self.guard: AbstractContextManager[Any] = nullcontext()
        self.clock: Any = OneEach() if sliced else host.clock
        self.driver: Driver
        self.swap: Swap
        self._installed: list[Change] = []

    @property
    def concerned(self) -> list[Entry]:
        """The live objects of the kinds that change, in the order of the changes."""
        rows = [row for change in self.changes for row in self.host.table.of_kind(change.kind)]
        return [row for row in rows if row.target is not None]

    async def run(self) -> None:
        """Until it is done, restored or mixed."""
        host = self.host
        self.swap = Swap(host.table, self.changes, self.concerned, self.clock, lambda: self.guard)
        self.driver = Driver(host, self.swap, self._restore_present)
        failure = self._install()
        if failure is not None:
            self.swap.give_up(failure)
        await self.driver.run(TIMEOUT_S)
        if self.swap.phase is not Phase.DONE:
            self._uninstall()

    async def take_back(self, refusal: Refusal) -> None:
        """Another worker could not: neither can this one."""
        if self.swap.phase is Phase.DONE:
            self._restore_present()
            self.driver.give_up(refusal)
            await self.driver.run(TIMEOUT_S)
            self._uninstall()

    def _install(self) -> Refusal | None:
        for change in self.changes:
            try:
                self.host.install(change.new)
            except Exception as error:
                reason = f"{change.kind} could not start: {describe(error)}"
                self._restore_present()
                return Refusal(Stage.SWAP, reason, *blame(error, change.new), kind=change.kind)
            self._installed.append(change)
        return None

    def _restore_present(self) -> None:
        for change in self._installed:
            if change.before is not None:
                self.host.present[change.kind] = change.before

    def _uninstall(self) -> None:
        self._restore_present()
        for change in self._installed:
            if change.before is None:
                self.host.uninstall(change.kind)
        self._installed.clear()


class Push:
    """The swap of a world to ``to``; ``refusal`` says why it was none, if so."""

    def __init__(self, world: World, to: str, sliced: bool = False) -> None:
        self.world = world
        self.to = to
        changes = [world.subject.changes(to, host.present) for host in world.hosts]
        self.parts = [
            Part(host, change, sliced) for host, change in zip(world.hosts, changes, strict=True)
        ]
        self.refusal: Refusal | None = None
        self.stuck: list[Refusal] = []

    @property
    def slices(self) -> int:
        """How many were done."""
        return sum(part.driver.slices for part in self.parts if hasattr(part, "driver"))

    @property
    def entries(self) -> list[Entry]:
        """The objects that it concerns."""
        return [entry for part in self.parts for entry in part.concerned]

    async def run(self, *, revert: bool = False) -> None:
        """Swap in every worker; all of them go back when one can't, or to ``revert``."""
        await self._at_once([part.run() for part in self.parts])
        failed = [part.swap.refusal for part in self.parts if part.swap.phase is not Phase.DONE]
        self.refusal = failed[0] if failed else None
        if failed or revert:
            why = self.refusal or Refusal(Stage.AGREEMENT, "reverted")
            await self._at_once([part.take_back(why) for part in self.parts])
        for part in self.parts:
            self.stuck += part.swap.stuck
            if part.swap.phase is Phase.DONE:
                part.swap.finish()

    async def _at_once(self, works: list[Coroutine[Any, Any, None]]) -> None:
        """All of them beside each other; the first one begins now, not in a later turn."""
        others = [self.world.loop.create_task(work) for work in works[1:]]
        await works[0]
        await asyncio.gather(*others)

    def start(self, *, revert: bool = False) -> asyncio.Task[None]:
        """``run`` beside what else goes on."""
        task = self.world.loop.create_task(self.run(revert=revert))
        self.world.tasks.add(task)
        return task

    async def finish(self, task: asyncio.Task[None]) -> bool:
        """Wait for it; time passes when nothing else happens. Says whether any did."""
        clock = self.world.loop.clock
        before = clock.monotonic_ns()
        await self.world.settle()
        while not task.done():
            await self.world.pass_time(STEP_S)
        self.world.tasks.discard(task)
        task.result()
        return clock.monotonic_ns() > before
