"""The worker's process: does what the supervisor says, one message after the other."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from netswap.blame import describe
from netswap.channel import FrameError, Link, messages
from netswap.channel.messages import Message
from netswap.clock import Clock
from netswap.errors import BundleError, NetswapError
from netswap.events import Refusal, Stage, WatchRow
from netswap.hosting import hosted  # noqa: F401 - so that no push holds the loop to import it
from netswap.http.accesslog import AccessLog
from netswap.logs import get_logger
from netswap.mediator import present
from netswap.ott import Entry
from netswap.stack import Connection, Host
from netswap.tls import Context
from netswap.worker.accepting import listen
from netswap.worker.certificates import Certificates
from netswap.worker.interventions import Interventions
from netswap.worker.library import Library
from netswap.worker.looks import Door, Looks
from netswap.worker.mesh import Links
from netswap.worker.participant import Act, Ask, Participant, Result, State
from netswap.worker.retirement import Retirement
from netswap.worker.startup import Startups
from netswap.worker.transaction import Transaction

__all__ = ["Worker", "may_begin"]

GIVEN_UP = "the supervisor ended what was under way"
HEARTBEAT_S = 0.5
BOOT_S = 60.0
"""Seconds that the committed set may take to start, all together."""
LEAVING_AT_ONCE = 200
LEAVING_PAUSE_S = 0.05
"""So many connections are told at a time that the server stops, and then the next."""
STOP_S = 1.5
"""Seconds that what was started has to stop at a drain, when its limit is over."""
DISK_S = 0.4
"""And so many the disk has then for what was not logged yet."""


async def may_begin(ask: messages.Swap, slot: int, link: Link, clock: Clock) -> bool:
    """Whether ``ask`` may be begun, once the supervisor's socket has our ``Begun``.

    Who was stopped between a look at the clock and that message has been passed over, so the clock
    has the last word: what the supervisor did not find there when the time was over never begins.
    """

    def is_over() -> bool:
        return bool(ask.until) and clock.monotonic_ns() > ask.until * 1e9

    if is_over():
        return False
    link.send(messages.Begun(ask.tx, slot))
    await link.flushed()
    return not is_over()


class Worker:
    """One slot's worker: its host, its listeners and its transaction, if one is under way."""

    def __init__(self, slot: int, loop: asyncio.AbstractEventLoop) -> None:
        self._slot = slot
        self._loop = loop
        self._log = get_logger().bind(worker=slot)
        self._host = Host(loop, self._log, slot)
        self._ended = loop.create_future()
        self._work: asyncio.Queue[Callable[[], Any]] = asyncio.Queue()
        self._listening: dict[str, Any] = {}
        self._specs: list[messages.ListenerSpec] = []
        self._participant = Participant(slot)
        self._transaction: Transaction | None = None
        self._retirement = Retirement(self._host, quiet=self._is_idle)
        self._startups = Startups(self._host)
        self._certificates = Certificates(self._host)
        self._acts: dict[Act, Callable[[], Any]] = {
            Act.PREPARE: self._prepare,
            Act.CLOSE: self._hold,
            Act.SWAP: self._swap,
            Act.WATCH: self._watch,
            Act.FINISH: self._finish,
            Act.REVERT: self._revert,
            Act.FORGET: self._forget,
        }
        self._handlers: dict[type, Callable[[Any], None]] = {
            messages.Boot: self._on_boot,
            messages.Prepare: self._take_part,
            messages.Hold: self._take_part,
            messages.Swap: self._take_part,
            messages.Watch: self._take_part,
            messages.Finish: self._take_part,
            messages.Revert: self._take_part,
            messages.Query: self._on_query,
            messages.Intervene: self._on_query,
            messages.Rekey: self._on_rekey,
            messages.Drain: lambda m: self._work.put_nowait(lambda: self._drain(m)),
        }
        loop.set_exception_handler(self._host.on_loop_exception)

    async def run(self, control: socket.socket, mesh: socket.socket) -> None:
        """Serve until drained, or until the supervisor is gone."""
        self._mesh_socket = mesh
        self._link = await Link.over(control, Link("supervisor", self._on_message, self._on_lost))
        self._link.send(messages.Hello(self._slot, os.getpid()))
        self._host.hides_tasks = True
        tasks = [self._host.own_task(self._do_work()), self._host.own_task(self._beat())]
        try:
            await self._ended
        finally:
            for task in tasks:
                task.cancel()
            if self._host.gate is not None:
                self._host.gate.abandon()
            self._retirement.close()
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

    def _take_part(self, event: Ask | Result) -> None:
        """A message or a result of the transaction: do what it leads to, in order."""
        for todo in self._participant.feed(event):
            if not isinstance(todo, Act):
                self._link.send(todo)
            elif todo is Act.STOP:
                self._stop(GIVEN_UP)
            else:
                self._work.put_nowait(self._acts[todo])

    def _stop(self, reason: str) -> None:
        if self._transaction is not None:
            self._transaction.stop(Refusal(Stage.AGREEMENT, reason, worker=self._slot))

    def _on_boot(self, message: messages.Boot) -> None:
        """The set of certificates is taken at once: a later message may bring another."""
        self._certificates.begin(message.listeners)
        self._work.put_nowait(lambda: self._boot(message))

    def _on_rekey(self, message: messages.Rekey) -> None:
        data = msgspec.msgpack.encode(self._certificates.rekey(message))
        self._link.send(messages.Answer(message.id, self._slot, data))

    def _on_query(self, message: messages.Query | messages.Intervene) -> None:
        data, error = b"", None
        if self._host.mesh is None:
            self._link.send(messages.Answer(message.id, self._slot, b"", "the worker is starting"))
            return
        try:
            asked = self._looks if isinstance(message, messages.Query) else self._interventions
            data = asked.answer(message.what, message.argument)
        except NetswapError as problem:
            error = str(problem)
        except Exception as problem:  # what a state holds may not go into a message
            error = describe(problem)
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
                if self._library.has_idle:
                    self._work.put_nowait(self._tidy)

    # work, one at a time

    def _load(self, active: Mapping[str, str]) -> Refusal | None:
        """Load the committed set; why it can't be, when a bundle or a library of it has gone."""
        try:
            for kind, sha256 in active.items():
                self._host.present[kind] = self._library.implementation(kind, sha256)
        except BundleError as error:
            return error.refusal
        self._library.active = dict(active)
        return None

    async def _boot(self, message: messages.Boot) -> None:
        gc.freeze()  # netswap itself lives as long as the worker; bundles, loaded below, do not
        self._furnish(message)
        host = self._host
        refusal = self._load(message.active)
        if refusal is None:
            refusal = await self._startups.start(list(host.present.values()), BOOT_S)
        if refusal is not None:
            self._log.error("start_failed", reason=refusal.reason, at=refusal.where)
            self._link.send(messages.Unbooted(self._slot, refusal))
            self._end()
            return
        for cls in sorted(host.present.values(), key=lambda cls: cls.kind != "timer.service"):
            host.install(cls)
        await self._links.start(self._mesh_socket)
        await self._listen()
        self._link.send(messages.Ready(self._slot))

    def _furnish(self, message: messages.Boot) -> None:
        """All that a worker has before it has code."""
        host = self._host
        host.slots = tuple(sorted(message.slots))
        host.settings = message.settings
        path, form = message.settings.get("access", ("", ""))
        if path:
            host.access = AccessLog(self._loop, path, form, self._log.error)
        store, startups = Path(message.store), self._startups
        self._library = Library(store, self._retirement.watch, startups.release)
        self._looks = Looks(host, self._library, self._retirement, startups, self._door())
        self._interventions = Interventions(host)
        self._links = Links(host, message.mesh)
        host.mesh = self._links
        self._specs = message.listeners
        for spec in message.listeners:
            host.add_listener(spec.name)

    async def _listen(self) -> None:
        """Accept on every listener whose protocol is there; a push may bring one later."""
        for spec in self._specs:
            if spec.name not in self._listening and f"{spec.protocol}.connection" in (
                self._host.present
            ):
                self._listening[spec.name] = await listen(
                    self._host, spec, self._maker(spec), self._context_of
                )

    def _context_of(self, listener: str) -> Context | None:
        return self._certificates.force.get(listener)

    def _door(self) -> Door:
        return Door(self._certificates.rows, self._turned_away)

    def _turned_away(self) -> dict[str, dict[str, int]]:
        rows = {name: getattr(one, "turned_away", {}) for name, one in self._listening.items()}
        return {name: dict(counts) for name, counts in rows.items() if counts}

    def _maker(self, spec: messages.ListenerSpec) -> Callable[[Any], Connection[Any]]:
        """A listener's factory: looks up at each connection what is present by then."""
        present = self._host.present
        kind = f"{spec.protocol}.connection"

        def make(peername: Any) -> Connection[Any]:
            found: Any = present[kind]
            connection: Connection[Any] = found.accepted(self._host, spec.name, peername)
            return connection

        return make

    async def _prepare(self) -> None:
        ask = self._participant.ask
        assert ask is not None
        self._transaction = Transaction(self._host, self._library, self._startups, ask)
        if (
            self._participant.state is State.STOPPING
        ):  # it was given up while it waited for its turn
            self._stop(GIVEN_UP)
        self._take_part(await self._transaction.prepare())

    async def _hold(self) -> None:
        ask = self._participant.hold
        assert ask is not None
        self._take_part(await self._present().hold(ask))

    async def _swap(self) -> None:
        ask = self._participant.swap
        assert ask is not None
        if not await may_begin(ask, self._slot, self._link, self._host.clock):
            self._stop("it was asked to swap when the time for that was over")
        self._take_part(await self._present().swap(ask))

    async def _watch(self) -> None:
        ask = self._participant.watch
        assert ask is not None

        def report(rows: list[WatchRow]) -> None:
            self._link.send(messages.Watching(ask.tx, self._slot, rows, ask.canary))

        self._take_part(await self._present().watch(ask, report))

    async def _finish(self) -> None:
        transaction = self._present()
        held_us = await transaction.serve()
        await transaction.finish()
        self._transaction = None
        await self._listen()
        self._take_part(messages.Finished(transaction.ask.tx, self._slot, held_us))

    async def _revert(self) -> None:
        transaction = self._present()
        ask = self._participant.revert
        refusal = await transaction.revert(() if ask is None else ask.holding)
        self._transaction = None
        self._take_part(messages.Reverted(transaction.ask.tx, self._slot, refusal))

    async def _forget(self) -> None:
        await self._present().revert()

    async def _tidy(self) -> None:
        """Old code that live objects had pinned goes with the last of them."""
        if self._is_idle():
            self._library.tidy(self._host.table)

    def _is_idle(self) -> bool:
        return self._participant.state is State.IDLE

    def _present(self) -> Transaction:
        """The transaction in hand; the participant asks for nothing when there is none."""
        assert self._transaction is not None
        return self._transaction

    async def _drain(self, message: messages.Drain) -> None:
        for server in self._listening.values():
            server.close()
        table = self._host.table
        connections = [row for row in table if isinstance(present(row), Connection)]
        deadline = self._loop.time() + message.limit_s
        await self._take_leave(connections, message.limit_s / 4)
        while self._looks.connections() and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        for entry in table:
            if isinstance(present(entry), Connection):
                present(entry).abort()
        await asyncio.sleep(0)
        await self._startups.close(max(deadline - self._loop.time(), STOP_S))
        if self._host.access is not None:
            await self._host.access.close(max(deadline - self._loop.time(), DISK_S))
        self._link.send(messages.Drained(self._slot))
        self._end()

    async def _take_leave(self, connections: list[Entry], at_most: float) -> None:
        """In batches: those who connect again at once, elsewhere, do not all come at once."""
        batches = [
            connections[at : at + LEAVING_AT_ONCE]
            for at in range(0, len(connections), LEAVING_AT_ONCE)
        ]
        pause = min(LEAVING_PAUSE_S, at_most / max(len(batches), 1))
        for number, batch in enumerate(batches):
            if number:
                await asyncio.sleep(pause)
            for entry in batch:
                self._host.guarded(entry, "on_drain")

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
