"""The worker's process: does what the supervisor says, one message after the other."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from netswap.channel import FrameError, Link, messages
from netswap.channel.messages import Message
from netswap.errors import NetswapError
from netswap.events import Refusal, Stage
from netswap.stack import Connection, Host
from netswap.worker.library import Library
from netswap.worker.looks import Looks
from netswap.worker.mesh import Links
from netswap.worker.transaction import Transaction

__all__ = ["Worker"]

HEARTBEAT_S = 0.5
BACKLOG = 4096


class Worker:
    """One slot's worker: its host, its listeners and its transaction, if one is under way."""

    def __init__(self, slot: int, loop: asyncio.AbstractEventLoop) -> None:
        self._slot = slot
        self._loop = loop
        self._log = structlog.get_logger().bind(worker=slot)
        self._host = Host(loop, self._log, slot)
        self._ended = loop.create_future()
        self._work: asyncio.Queue[Callable[[], Any]] = asyncio.Queue()
        self._listening: dict[str, asyncio.Server] = {}
        self._specs: list[messages.ListenerSpec] = []
        self._transaction: Transaction | None = None
        self._handlers: dict[type, Callable[[Any], None]] = {
            messages.Boot: lambda m: self._work.put_nowait(lambda: self._boot(m)),
            messages.Prepare: lambda m: self._work.put_nowait(lambda: self._prepare(m)),
            messages.Swap: lambda m: self._work.put_nowait(lambda: self._swap(m)),
            messages.Finish: lambda m: self._work.put_nowait(lambda: self._finish(m)),
            messages.Revert: self._on_revert,
            messages.Query: self._on_query,
            messages.Drain: lambda m: self._work.put_nowait(lambda: self._drain(m)),
        }
        loop.set_exception_handler(self._host.on_loop_exception)

    async def run(self, control: socket.socket, mesh: socket.socket) -> None:
        """Serve until drained, or until the supervisor is gone."""
        self._mesh_socket = mesh
        self._link = await Link.over(control, Link("supervisor", self._on_message, self._on_lost))
        self._link.send(messages.Hello(self._slot, os.getpid()))
        tasks = [self._loop.create_task(self._do_work()), self._loop.create_task(self._beat())]
        try:
            await self._ended
        finally:
            for task in tasks:
                task.cancel()
            if self._host.mesh is not None:
                self._links.close()
            self._link.close()

    # messages

    def _on_message(self, message: Message) -> None:
        self._handlers[type(message)](message)

    def _on_lost(self, error: Exception | None) -> None:
        if not self._ended.done():
            self._log.error("supervisor_gone", error=str(error) if error else None)
        self._end()

    def _on_revert(self, message: messages.Revert) -> None:
        if self._transaction is not None:
            self._transaction.stop(
                Refusal(Stage.AGREEMENT, "another worker could not swap", worker=self._slot)
            )
        self._work.put_nowait(lambda: self._revert(message))

    def _on_query(self, message: messages.Query) -> None:
        data, error = b"", None
        if self._host.mesh is None:
            self._link.send(messages.Answer(message.id, self._slot, b"", "the worker is starting"))
            return
        try:
            data = self._looks.answer(message.what, message.argument)
        except (NetswapError, KeyError, TypeError, ValueError) as problem:
            error = str(problem)
        try:
            self._link.send(messages.Answer(message.id, self._slot, data, error))
        except FrameError as problem:
            self._link.send(messages.Answer(message.id, self._slot, b"", str(problem)))

    async def _do_work(self) -> None:
        while True:
            work = await self._work.get()
            try:
                await work()
            except Exception:
                self._log.exception("worker_failed")
                self._end()
                return

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if self._host.mesh is not None:
                self._link.send(messages.Heartbeat(self._slot, self._looks.connections()))

    # work, one at a time

    async def _boot(self, message: messages.Boot) -> None:
        gc.freeze()  # netswap itself lives as long as the worker; bundles, loaded below, do not
        host = self._host
        host.slots = tuple(sorted(message.slots))
        self._library = Library(Path(message.store))
        self._looks = Looks(host, self._library)
        self._links = Links(host, message.mesh)
        host.mesh = self._links
        self._specs = message.listeners
        for spec in message.listeners:
            host.add_listener(spec.name)
        for kind, sha256 in message.active.items():
            host.present[kind] = self._library.implementation(kind, sha256)
        self._library.active = dict(message.active)
        for cls in sorted(host.present.values(), key=lambda cls: cls.kind != "timer.service"):
            host.install(cls)
        await self._links.start(self._mesh_socket)
        await self._listen()
        self._link.send(messages.Ready(self._slot))

    async def _listen(self) -> None:
        """Accept on every listener whose protocol is there; a push may bring one later."""
        for spec in self._specs:
            if spec.name not in self._listening and f"{spec.protocol}.connection" in (
                self._host.present
            ):
                self._listening[spec.name] = await self._loop.create_server(
                    self._acceptor(spec), sock=socket.socket(fileno=spec.fd), backlog=BACKLOG
                )

    def _acceptor(self, spec: messages.ListenerSpec) -> Callable[[], Any]:
        """A listener's factory: looks up at each connection what is present by then."""
        present = self._host.present
        kind = f"{spec.protocol}.connection"

        def accept() -> Connection[Any]:
            found: Any = present[kind]
            connection: Connection[Any] = found.accepted(self._host, spec.name)
            return connection

        return accept

    async def _prepare(self, message: messages.Prepare) -> None:
        transaction = Transaction(self._host, self._library, message)
        outcome = await transaction.prepare()
        if isinstance(outcome, messages.Prepared):  # a dry run is reverted like any other
            self._transaction = transaction
        self._link.send(outcome)

    async def _swap(self, message: messages.Swap) -> None:
        transaction = self._current(message.tx)
        if transaction is None:
            refusal = Refusal(Stage.SWAP, "nothing is prepared here", worker=self._slot)
            self._link.send(messages.SwapFailed(message.tx, self._slot, refusal))
            return
        self._link.send(await transaction.swap())

    async def _finish(self, message: messages.Finish) -> None:
        transaction = self._current(message.tx)
        if transaction is not None:
            transaction.finish()
            self._transaction = None
            await self._listen()
        self._link.send(messages.Finished(message.tx, self._slot))

    async def _revert(self, message: messages.Revert) -> None:
        transaction = self._current(message.tx)
        refusal = await transaction.revert() if transaction is not None else None
        self._transaction = None
        self._link.send(messages.Reverted(message.tx, self._slot, refusal))

    def _current(self, tx: int) -> Transaction | None:
        transaction = self._transaction
        return transaction if transaction is not None and transaction.ask.tx == tx else None

    async def _drain(self, message: messages.Drain) -> None:
        for server in self._listening.values():
            server.close()
        table = self._host.table
        connections = [row for row in table if isinstance(row.target, Connection)]
        for entry in connections:
            self._host.guarded(entry, "on_drain")
        deadline = self._loop.time() + message.limit_s
        while self._looks.connections() and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        for entry in table:
            if isinstance(entry.target, Connection):
                entry.target.abort()
        await asyncio.sleep(0)
        self._link.send(messages.Drained(self._slot))
        self._end()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
