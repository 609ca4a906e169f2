"""A message, a time-out and a swap that come in one turn of the loop, in every order: none is lost.

The timer is the test's: what arms it is kept, and called when the schedule says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from itertools import permutations, product
from types import SimpleNamespace
from typing import Any

import pytest

from netswap.clock import SystemClock
from netswap.http import Channel
from netswap.http.phases import Phase
from netswap.ott import Entry
from tests.protocols.conftest import until

Way = Callable[[Any], Awaitable[Any]]
GAPS = (0, 1, 2)
"""Turns of the loop between two events."""
SCHEDULES = list(product(permutations(("message", "time-out", "swap")), product(GAPS, GAPS)))


async def by_wait_for(receive: Any) -> Any:
    """In a task of its own before Python 3.12."""
    return await asyncio.wait_for(receive(), 60)


async def by_timeout(receive: Any) -> Any:
    """In the same task."""
    async with asyncio.timeout(60):
        return await receive()


async def by_task(receive: Any) -> Any:
    """In a task that is ended when it was waited for too long."""
    task = asyncio.ensure_future(receive())
    try:
        done, _ = await asyncio.wait({task}, timeout=60)
    finally:
        if not task.done():
            task.cancel()
    if not done:
        raise TimeoutError
    return task.result()


WAYS = [by_wait_for, by_timeout, by_task]


class Timers:
    """What a loop would have called later."""

    def __init__(self, loop: Any, patch: pytest.MonkeyPatch) -> None:
        self._armed: list[Any] = []
        self._loop = loop
        self._call_at, self._call_later = loop.call_at, loop.call_later
        patch.setattr(loop, "call_at", self.arm_at)
        patch.setattr(loop, "call_later", self.arm)

    def arm_at(self, when: float, call: Any, *args: Any, context: Any = None) -> Any:
        """Keep it; others than a minute's are real."""
        if not 50 < when - self._loop.time() < 70:
            return self._call_at(when, call, *args, context=context)
        return self.arm(60, call, *args, context=context)

    def arm(self, seconds: float, call: Any, *args: Any, context: Any = None) -> Any:
        """The same."""
        if not 50 < seconds < 70:
            return self._call_later(seconds, call, *args, context=context)
        armed = SimpleNamespace(call=lambda: call(*args), cancelled=False)
        armed.cancel = lambda: setattr(armed, "cancelled", True)
        armed.when = lambda: 0.0
        self._armed.append(armed)
        return armed

    def fire(self) -> None:
        """The one that was armed last and is not cancelled."""
        live = [row for row in self._armed if not row.cancelled]
        if live:
            live[-1].cancel()
            live[-1].call()


class Code:
    """An application that goes on with sessions of others."""

    def __init__(self, world: World, name: str) -> None:
        self.entry = world.entry
        self.host = SimpleNamespace(clock=SystemClock(), loop=world.loop, failed=world.failed)
        self.name = name
        self.world = world

    def socket_resumes(self, _channel: Channel) -> bool:
        """Always."""
        return True

    def socket_resume(self, channel: Channel) -> Coroutine[Any, Any, None]:
        """From what is carried, which is the number of messages."""
        return self.world.session(channel, self.name)


class World:
    """One channel, whose coroutine receives in one of the ways."""

    def __init__(self, way: Way) -> None:
        self.loop = asyncio.get_running_loop()
        self.entry = Entry(1, "http.app", None)
        self.heard: list[str] = []
        self.ended: list[tuple[str, str]] = []
        self.failures: list[Any] = []
        self._way = way
        self.channel = Channel()
        self.channel.phase = Phase.OPEN
        self.channel.entry = Entry(2, "websocket.connection", SimpleNamespace(reading_paused=False))
        old = self.entry.target = Code(self, "old")
        self.channel.carry = 0
        self.channel._held_by(old, self.loop.create_task(self.session(self.channel, "old")))

    def failed(self, *words: Any) -> None:
        self.failures.append(words)

    async def session(self, channel: Channel, name: str) -> None:
        """Counts, and says how it has ended."""
        assert channel.carry == len(self.heard)
        try:
            while not channel.closed:
                channel.carry = len(self.heard)
                try:
                    message = await self._way(channel.receive)
                except TimeoutError:
                    continue
                self.heard.append(message)
        except BaseException as error:
            self.ended.append((name, type(error).__name__))
            raise

    def swap(self) -> None:
        """Other code is present, and the channels are told."""
        new = self.entry.target = Code(self, "new")
        self.channel.follow(new)


@pytest.mark.parametrize("way", WAYS)
async def test_none_is_lost_and_the_old_coroutine_is_cancelled(way, monkeypatch):
    """Not told that its client has gone, which it would announce to others."""
    timers = Timers(asyncio.get_running_loop(), monkeypatch)
    for events, gaps in SCHEDULES:
        world = World(way)
        channel = world.channel
        do = {
            "message": lambda channel=channel: channel.deliver("one"),
            "time-out": timers.fire,
            "swap": world.swap,
        }
        await until(lambda channel=channel: channel.waiter is not None)
        for event, gap in zip(events, (*gaps, 0), strict=True):
            do[event]()
            for _ in range(gap):
                await asyncio.sleep(0)
        await until(lambda channel=channel, world=world: channel.app is world.entry.target)
        channel.deliver("two")
        await until(lambda world=world: len(world.heard) > 1)
        assert (world.heard, world.ended) == (["one", "two"], [("old", "CancelledError")]), (
            events,
            gaps,
        )
        channel.end(1000)
        task = channel.task
        await until(task.done)
        assert not world.failures
