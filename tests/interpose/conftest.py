"""A host in this process with a listener on port 0: real transports on both loops, real swaps."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType, TracebackType
from typing import Any

import pytest

from netswap.hotswap import Change, Phase, Swap
from netswap.mediator import present
from netswap.stack import FACTORY, Connection, Host, Implementation
from netswap.transfer import Migration, State
from protocols.buffers import coalescing, contiguous
from protocols.factories import plain
from protocols.timers import loop as timers

PATIENCE = 20.0
"""Seconds within which a condition must come true."""


class Log:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.errors: list[dict[str, Any]] = []

    def info(self, event: str, **fields: Any) -> None: ...

    def error(self, event: str, **fields: Any) -> None:
        self.errors.append({"event": event, **fields})


class World:
    """The host, its listener of connections of ``kind``, and swaps of its objects."""

    def __init__(self, classes: Iterable[type[Any]], kind: str) -> None:
        loop = asyncio.get_running_loop()
        self.host = Host(loop, Log())
        loop.set_exception_handler(self.host.on_loop_exception)
        self.kind = kind
        for cls in (
            timers.LoopTimers,
            plain.Plain,
            contiguous.Contiguous,
            coalescing.Coalescing,
            *classes,
        ):
            self.host.install(cls)
        self.host.add_listener("test")
        self.server: Any = None
        self.writers: list[asyncio.StreamWriter] = []

    async def listen(self) -> World:
        """Accept on a free port."""

        def accept() -> Any:
            return self.host.present[self.kind].accepted(self.host, "test")  # type: ignore[attr-defined]

        self.server = await self.host.loop.create_server(accept, "127.0.0.1", 0)
        return self

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client that is served by a live object."""
        before = len(self.entries)
        streams = await asyncio.open_connection(*self.server.sockets[0].getsockname())
        self.writers.append(streams[1])
        await until(lambda: len(self.entries) > before)
        return streams

    @property
    def entries(self) -> list[Any]:
        """The rows of the connections, oldest first."""
        return self.host.table.of_kind(self.kind)

    @property
    def errors(self) -> list[dict[str, Any]]:
        """What was logged as an error."""
        errors: list[dict[str, Any]] = self.host.log.errors
        return errors

    def swap(
        self,
        *classes: type[Any],
        steps: tuple[Migration, ...] = (),
        guard: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Swap:
        """Bring plain objects to other classes, all at once; the swap can still be taken back."""
        host = self.host
        changes = [Change(cls.kind, cls, host.present[cls.kind], steps) for cls in classes]
        rows = [row for cls in classes for row in host.table.of_kind(cls.kind)]
        swap = Swap(host.table, changes, rows, host.clock, guard)
        swap.slice(10**10)
        assert swap.phase is Phase.DONE, swap.refusal
        for cls in classes:
            host.install(cls)
        return swap

    async def close(self) -> None:
        """End everything and see that nothing is left."""
        for writer in self.writers:
            writer.close()
        await until(lambda: not self.entries)
        self.server.close()
        assert all(row.kind == FACTORY or row.target.scope == "worker" for row in self.host.table)


@contextmanager
def no_circles() -> Iterator[None]:
    """What is let go of in the block is freed there: no code and no state waits for a collection.

    A full collection is seldom in a worker at rest, and until then old code would be loaded.
    """
    gc.collect()
    gc.disable()
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = (FrameType, TracebackType, Implementation, State)
        found = [repr(item) for item in gc.garbage if isinstance(item, kinds)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not found


async def until(condition: Callable[[], Any]) -> None:
    """Return when a condition has come true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


async def ask(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], line: str) -> str:
    """Send a line and read one."""
    streams[1].write(line.encode() + b"\n")
    async with asyncio.timeout(PATIENCE):
        return (await streams[0].readline()).decode().rstrip("\n")


@pytest.fixture
async def world() -> AsyncIterator[Callable[..., Awaitable[World]]]:
    """``await world(First, Store)``: the first class is what serves the clients."""
    made: list[World] = []

    async def make(connection: type[Connection[Any]], *others: type[Any]) -> World:
        made.append(World((*others, connection), connection.kind))
        return await made[-1].listen()

    yield make
    for one in made:
        await one.close()


__all__ = ["World", "ask", "no_circles", "present", "until", "world"]
