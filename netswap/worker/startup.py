"""What a service has started for its code: begun before the flip, stopped when nobody uses it.

Theory. Some code can't serve as soon as it is loaded: an application opens pools, runs its own
start-up hooks. That takes time, may fail, and belongs before the flip, where everything may fail.
So ``on_prepare`` of a class is part of a push's first phase, after the rehearsal and under the
push's deadline; and what it returns lives exactly as long as *that load of the code* is kept:

::

    Starting ──started──▶ Running ──released──▶ Draining ──drained──▶ Stopping ──ended──▶ Gone
       └──failed──▶ Gone

One condition covers all paths. The library keeps a bundle while a kind has it active or a live
object is of it; when neither is so it *releases* it. Hence:

* refused or given up, by whichever worker, before the flip or after: taking back leaves no object
  of the new code, and it never was active, so the new one is released;
* committed: the old one is active no more and has no object, so it is released; not before, since
  a watch or a canary may still go back to it, and then it has to run;
* with ``--only`` the old code stays active, and what it has started stays.

What is released is stopped when its last call has ended (``open``), however long that takes: a
request that began in old code ends in old code, whose modules stay importable until then. A bundle
that is pushed again meanwhile is loaded afresh, under another name, and started by itself.

*Exactly once.* A life is one task (``_live``) from start to stop, so there is no second way to the
stop; two lives of one class can't be, since a class is of one load. A start that is given up is
cancelled; should it return all the same, it is stopped at once.

At boot the committed set is started before anything is served; at a drain everything is stopped,
within what is left of the limit. When the process dies nothing is: there is nobody left to do it.

What this does not know: applications, HTTP. Rejected: to start in the rehearsal's child (it has no
loop, and its pools would be connections of a process that ends); in ``on_start`` (after the point
where a push may still be refused in good order, and it can't wait).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from enum import Enum
from typing import Any

from netswap.blame import blame, describe
from netswap.errors import DeadlinePassed
from netswap.events import Refusal, Retiring, Stage
from netswap.lifecycle import LifeCycle
from netswap.modules import Loaded
from netswap.quiescence import suspended_at
from netswap.stack import Host, Implementation
from netswap.stack.host import Started
from netswap.stack.service import prepares
from netswap.steps import in_steps
from netswap.worker.deadline import Deadline

__all__ = ["TRANSITIONS", "Event", "Standing", "Startups"]

SETTLE_S = 1.0
"""Seconds that a cancelled start has to undo what it began."""

STOP_S = 30.0
"""Seconds that a stop may take before it is cancelled."""

LOOK_S = 0.02
"""Seconds between two looks whether the last call has ended."""

ADVICE = "what it starts with is the application's own: mend that and push again"


class Standing(Enum):
    """How far the life of something that was started has gone."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPING = "stopping"
    GONE = "gone"


class Event(Enum):
    """What moves it on."""

    STARTED = "started"
    FAILED = "failed"
    RELEASED = "released"
    DRAINED = "drained"
    ENDED = "ended"


TRANSITIONS = LifeCycle(
    "start-up",
    {
        (Standing.STARTING, Event.STARTED): Standing.RUNNING,
        (Standing.STARTING, Event.FAILED): Standing.GONE,
        (Standing.RUNNING, Event.RELEASED): Standing.DRAINING,
        (Standing.DRAINING, Event.DRAINED): Standing.STOPPING,
        (Standing.STOPPING, Event.ENDED): Standing.GONE,
    },
)


class _Life:
    """One load of a class, from its start to its stop."""

    def __init__(self, cls: Any, host: Host) -> None:
        self.cls = cls
        self.standing = Standing.STARTING
        self.starting: Coroutine[Any, Any, Started | None] | None = None
        self.started: Started | None = None
        self.ready = host.loop.create_future()
        self.released = asyncio.Event()
        self.hurried = asyncio.Event()
        self.error: BaseException | None = None
        self.task: asyncio.Task[None]

    def move(self, event: Event) -> None:
        self.standing = TRANSITIONS[self.standing, event]

    @property
    def open(self) -> int:
        return 0 if self.started is None else self.started.open


class Startups:
    """All that services have started in one worker."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._lives: dict[type, _Life] = {}
        self._released: dict[Loaded, list[_Life]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._starting: _Life | None = None
        self._given_up: Refusal | None = None

    async def start(
        self, classes: Iterable[type[Implementation[Any]]], seconds: float
    ) -> Refusal | None:
        """Start what these have to start, one after the other, together within ``seconds``.

        What runs already is left alone. A refusal names the first that failed; what was started
        before it goes with its bundle.
        """
        until = self._host.loop.time() + seconds
        self._given_up = None
        for cls in classes:
            if prepares(cls) and cls not in self._lives:
                refusal = await self._start(cls, until - self._host.loop.time())
                if refusal is not None:
                    return refusal
        return None

    def give_up(self, refusal: Refusal) -> None:
        """Nobody waits any more for the start that is under way, if one is."""
        if self._starting is not None:
            self._given_up = refusal
            self._starting.task.cancel()

    def release(self, loaded: Loaded, then: Callable[[], None]) -> None:
        """No kind and no object needs this code any more; ``then`` is called when it has ended."""
        lives = [self._lives[c] for c in loaded.implementations.values() if c in self._lives]
        if not lives:
            then()
            return
        for life in lives:
            life.released.set()
        self._released[loaded] = lives
        task = self._host.own_task(self._leave(loaded, lives, then))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def close(self, seconds: float) -> None:
        """Stop everything now, whatever calls are inside, within ``seconds``."""
        lives = list(self._lives.values())
        for life in lives:
            life.hurried.set()
            life.released.set()
            if life.standing is Standing.STARTING:
                life.task.cancel()
        tasks = [life.task for life in lives] + list(self._leaving)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()

    def rows(self) -> list[Retiring]:
        """Released code that has not ended: it waits for its last calls, or stops."""
        return [
            Retiring(
                loaded.sha256, loaded.versions(), "draining", objects=sum(one.open for one in lives)
            )
            for loaded, lives in self._released.items()
        ]

    async def _start(self, cls: type[Implementation[Any]], seconds: float) -> Refusal | None:
        life = self._starting = self._lives[cls] = _Life(cls, self._host)
        life.task = self._host.own_task(self._live(life, max(seconds, 0.0)))
        life.task.add_done_callback(lambda _: self._over(life))
        try:
            await asyncio.wait(
                {life.ready, life.task}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if life.ready.done():
                return None
            late = not life.task.done()
            where = suspended_at(life.starting) or ""
            await self._abandon(life)
        finally:
            self._starting = None
        if self._given_up is not None:
            return self._given_up
        return _late(cls, seconds, where) if late else _failed(cls, life.error)

    async def _abandon(self, life: _Life) -> None:
        """End a start for which nobody waits; one that does not end is stopped when it returns."""
        life.released.set()
        if not life.task.done():
            life.task.cancel()
            await asyncio.wait({life.task}, timeout=SETTLE_S)

    async def _live(self, life: _Life, seconds: float) -> None:
        """From the start to the stop: the only place where either happens."""

        def limit() -> Deadline:
            return Deadline(max(seconds, 0.01))

        life.starting = life.cls.prepare_within(self._host, limit)
        try:
            life.started = await in_steps(life.starting, limit)
        except BaseException as error:  # authors' code, which may call sys.exit()
            life.error = error
            life.move(Event.FAILED)
            return
        life.move(Event.STARTED)
        if life.started is not None:
            self._host.started[life.cls] = life.started
        life.ready.set_result(None)
        await life.released.wait()
        life.move(Event.RELEASED)
        await self._drained(life)
        life.move(Event.DRAINED)
        try:
            await self._stop(life)
        finally:
            life.move(Event.ENDED)

    def _over(self, life: _Life) -> None:
        """Its task has ended, perhaps before its first step."""
        self._host.started.pop(life.cls, None)
        del self._lives[life.cls]

    async def _drained(self, life: _Life) -> None:
        while life.open and not life.hurried.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(life.hurried.wait(), LOOK_S)

    async def _stop(self, life: _Life) -> None:
        if life.started is None:
            return
        stopping = life.started.stop()
        task = self._host.loop.create_task(_outcome(in_steps(stopping, lambda: Deadline(STOP_S))))
        try:
            await asyncio.wait({task}, timeout=STOP_S)
            if not task.done():
                where = suspended_at(stopping) or ""
                self._say(life, f"it did not end within {STOP_S:g} s", where)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=SETTLE_S)
        error = task.result() if task.done() else None
        if error is not None and not isinstance(error, asyncio.CancelledError):
            file, line = blame(error)
            self._say(life, describe(error), f"{file}:{line}" if file else "")

    def _say(self, life: _Life, error: str, place: str) -> None:
        self._host.faults += 1
        self._host.log.error(
            "stop_failed", kind=life.cls.kind, version=life.cls.version, error=error, at=place
        )

    async def _leave(self, loaded: Loaded, lives: list[_Life], then: Callable[[], None]) -> None:
        await asyncio.wait([life.task for life in lives])
        loaded.remains += [life.started for life in lives if life.started is not None]
        lives.clear()
        del self._released[loaded]
        then()


async def _outcome(work: Awaitable[Any]) -> BaseException | None:
    """What ``work`` raises; it is authors' code, which may call sys.exit()."""
    try:
        await work
    except BaseException as error:
        return error
    return None


def _late(cls: type[Implementation[Any]], seconds: float, where: str) -> Refusal:
    file, _, line = where.rpartition(":")
    reason = f"{cls.kind} did not start within {max(seconds, 0):.1f} s"
    reason += f": it waits at {where}" if where else ""
    advice = "give it a longer --timeout, or mend what it waits for"
    number = int(line) if line.isdigit() else None
    return Refusal(Stage.PREPARE, reason, file or None, number, cls.kind, advice=advice)


def _failed(cls: type[Implementation[Any]], error: BaseException | None) -> Refusal:
    if isinstance(error, DeadlinePassed):
        file, line = blame(error, cls)
        reason = f"{cls.kind} hangs while it starts: {describe(error)}"
        return Refusal(Stage.PREPARE, reason, file, line, cls.kind, advice=ADVICE)
    file, line = (None, None) if error is None else blame(error, cls)
    what = "its start was cancelled" if error is None else describe(error)
    reason = f"{cls.kind} could not start: {what}"
    return Refusal(Stage.PREPARE, reason, file, line, cls.kind, advice=ADVICE)
