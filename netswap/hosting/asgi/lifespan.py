"""The lifespan of an ASGI application: its start-up and its shutdown, as one call that stays.

::

    Starting ──startup.complete──▶ Serving ──stop──▶ Stopping ──shutdown.complete──▶ Ended
       └──startup.failed──▶ Failed                      └──shutdown.failed──▶ Failed

The application is called once with the scope ``lifespan``; it waits in ``receive`` for as long as
this load of its code serves. What it puts into ``state`` every request sees. One that raises
before it has answered does not know of lifespans, as the specification has it, and is served
without; one that has said ``lifespan.startup.failed`` refuses the push.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from contextlib import nullcontext
from enum import StrEnum, auto
from typing import Any, Final

from netswap.blame import blame, describe, mild
from netswap.errors import DeadlinePassed
from netswap.lifecycle import LifeCycle
from netswap.stack import Host
from netswap.steps import Around, in_steps

__all__ = ["TRANSITIONS", "Application", "Event", "Lifespan", "Phase"]

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]

LAST_WORDS_S: Final = 1.0
"""Seconds that an application has to end after it has said that its start failed."""


class Phase(StrEnum):
    """How far the application is."""

    STARTING = auto()
    SERVING = auto()
    STOPPING = auto()
    ENDED = auto()
    FAILED = auto()


class Event(StrEnum):
    """What moves it on: what it sends, and that it is asked to stop."""

    STARTED = "lifespan.startup.complete"
    START_FAILED = "lifespan.startup.failed"
    STOP = "lifespan.shutdown"
    STOPPED = "lifespan.shutdown.complete"
    STOP_FAILED = "lifespan.shutdown.failed"


TRANSITIONS: LifeCycle[Phase, str] = LifeCycle(
    "lifespan",
    {
        (Phase.STARTING, Event.STARTED): Phase.SERVING,
        (Phase.STARTING, Event.START_FAILED): Phase.FAILED,
        (Phase.SERVING, Event.STOP): Phase.STOPPING,
        (Phase.STOPPING, Event.STOPPED): Phase.ENDED,
        (Phase.STOPPING, Event.STOP_FAILED): Phase.FAILED,
    },
)


class Lifespan:
    """One start and one stop of an application; ``state`` is what it keeps for its requests."""

    def __init__(self, application: Application, host: Host) -> None:
        self.state: dict[str, Any] = {}
        self.phase = Phase.STARTING
        self._application = application
        self._host = host
        self._said = ""
        self._asked = False
        self._answered = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, limit: Around) -> None:
        """Return when the application serves. Raises what its start-up has raised.

        Each step of the start is within ``limit``: one that hangs holds the loop.
        """
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        task = self._task = self._host.own_task(self._bounded(self._run(scope), limit))
        await self._answered.wait()
        if self.phase is Phase.FAILED:
            await asyncio.wait({task}, timeout=LAST_WORDS_S)
        error = self._failure(task)
        if error is not None:  # there is nothing left to stop
            self._task = None
        if self.phase is Phase.STARTING and not isinstance(error, DeadlinePassed):
            self._without(error)
        else:
            self._check(error)

    async def stop(self) -> None:
        """Return when the application has cleaned up. Raises what its shutdown has raised."""
        task = self._task
        if task is None:
            return
        if self.phase is not Phase.SERVING:
            await self._end(task)
            return
        self._move(Event.STOP)
        try:
            if not task.done():
                self._answered.clear()
                self._stopping.set()
                await self._answered.wait()
                await asyncio.wait({task}, timeout=LAST_WORDS_S)
        finally:
            error = await self._end(task)
        self._check(error)

    async def _bounded(self, work: Coroutine[Any, Any, None], limit: Around) -> None:
        try:
            await in_steps(work, lambda: limit() if self.phase is Phase.STARTING else nullcontext())
        finally:
            work.close()
            self._answered.set()

    async def _run(self, scope: Message) -> None:
        try:
            await self._application(scope, self._receive, self._send)
        except (SystemExit, KeyboardInterrupt) as error:
            raise mild(error) from error

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self._stopping.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        self._move(message["type"])
        self._said = message.get("message", "")
        self._answered.set()

    def _check(self, error: BaseException | None) -> None:
        """Raise ``error``, or what the application has said instead."""
        if error is not None:
            raise error
        if self.phase is Phase.FAILED:
            raise RuntimeError(self._said or "it has not said why")

    def _without(self, error: BaseException | None) -> None:
        """The application knows no lifespans: it is served all the same."""
        file, line = (None, None) if error is None else blame(error)
        self._host.log.info(
            "lifespan_unsupported",
            error="it returned without an answer" if error is None else describe(error),
            at=f"{file}:{line}" if file else None,
        )

    async def _end(self, task: asyncio.Task[None]) -> BaseException | None:
        """Cancel what has not ended by itself; what it has raised."""
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=LAST_WORDS_S)
        return self._failure(task)

    @staticmethod
    def _failure(task: asyncio.Task[None]) -> BaseException | None:
        """What the application has raised, if it has ended so."""
        return task.exception() if task.done() and not task.cancelled() else None

    def _move(self, event: str) -> None:
        self.phase = TRANSITIONS[self.phase, event]
