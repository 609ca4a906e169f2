"""websocket on watch: what fails is answered by the version before; channels are not copied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.asyncio.client import connect

from netswap import State
from netswap.hotswap import Phase
from netswap.http import App, Channel, websocket
from netswap.interpose import Figures, Guard, Interposition, Protection
from netswap.mediator import present
from netswap.worker.driver import Driver
from protocols.http import v1 as http
from protocols.websocket import v1, v2

GUARDED = ("http.app", "http.connection", "websocket.connection")


class Nothing(State, kind="http.app", version=1):
    """No state."""


class Sound(App[Nothing]):
    """Speaks in both ways."""

    @websocket("/calls")
    def said(self, channel: Channel, message: str) -> None:
        channel.send_nowait(f"old {message}")

    @websocket("/session")
    async def session(self, channel: Channel) -> None:
        async for message in channel:
            await channel.send(f"session {message}")


class Failing(Sound):
    """Fails after it has said half of it."""

    @websocket("/calls")
    def said(self, channel: Channel, message: str) -> None:
        channel.send_nowait("half")
        if message == "fail":
            raise ValueError("after half of it")
        channel.send_nowait(f"new {message}")


class FailingSocket(v2.WebSocket):
    """Fails when a message is delivered, and then has delivered it."""

    def on_data(self, data: bytes) -> None:
        super().on_data(data)
        if b"\x8a" not in data[:1]:
            raise ValueError("after the delivery")


def only(**classes: type) -> Any:
    return SimpleNamespace(**classes)


class OnWatch:
    """Guards in front of everything that a swap has touched or may be called by it."""

    def __init__(self, server: Any, swap: Any) -> None:
        self.server, self.swap = server, swap
        self.fired: list[Any] = []
        self.protection = Protection(nullcontext, self._new, self._back, self.fired.append)
        self.everywhere = Interposition(server.host, self._guard)
        self.everywhere.place()

    def _guard(self, entry: Any) -> Guard | None:
        return Guard(Figures(), self.protection) if entry.kind in GUARDED else None

    def _new(self, entry: Any) -> bool:
        change = self.swap.changes.get(entry.kind)
        return change is not None and type(present(entry)) is change.new

    def _back(self, states: Any) -> Any:
        return self.swap.take_back_now(states)


@pytest.fixture
def watches() -> Iterator[list[OnWatch]]:
    made: list[OnWatch] = []
    yield made
    for one in made:
        one.everywhere.remove()


async def watched(server: Any, watches: list[OnWatch], *modules: Any) -> OnWatch:
    """A swap to these modules, on watch."""
    swap = server.prepare(*modules)
    await Driver(server.host, swap).run(5)
    assert swap.phase is Phase.DONE, swap.refusal
    watches.append(OnWatch(server, swap))
    return watches[-1]


async def site(serve):
    server = await serve(http, v1, only(Sound=Sound), kind="http.connection")
    return server, "ws://{}:{}".format(*server._server.sockets[0].getsockname())


async def test_an_application_that_fails_is_answered_for_by_the_one_before(serve, watches):
    """Half of an answer is not sent, nor the fault's close; other sessions get the new code's."""
    server, address = await site(serve)
    async with connect(f"{address}/calls") as client:
        await client.send("a")
        assert await client.recv() == "old a"
        watch = await watched(server, watches, only(Failing=Failing))
        await client.send("b")
        assert [await client.recv(), await client.recv()] == ["half", "new b"]
        await client.send("fail")
        assert await client.recv() == "old fail"
        await client.send("c")
        assert await client.recv() == "old c"
        (firing,) = watch.fired
        assert (firing.kind, firing.answered) == ("websocket.connection", True)
    assert [row["doing"] for row in server.log.errors] == ["websocket"]
    server.log.errors.clear()


async def test_a_connection_that_fails_delivers_each_message_once(serve, watches):
    """The coroutine has the same channel as before, and it is undone in that what was undone."""
    server, address = await site(serve)
    async with connect(f"{address}/session") as client:
        await client.send("a")
        assert await client.recv() == "session a"
        steps = {"__netswap_migrations__": v2.__netswap_migrations__}
        watch = await watched(server, watches, only(FailingSocket=FailingSocket, **steps))
        for word in ("b", "c"):
            await client.send(word)
            assert await client.recv() == f"session {word}"
        assert [firing.answered for firing in watch.fired] == [True]
    assert client.close_code == 1000
