"""Workers in this process: real hosts, tables and transports; clients at the other end of a pair.

Theory. The connections are socket pairs of the Unix domain: what one end has sent is at the other
at once, so that nothing but the loop decides what happens next, and a play goes the same way each
time. The transports are the loop's own, because that is where the loops differ: uvloop keeps
the bound ``data_received`` of the protocol that it was given last.

A world is *settled* when some turns of the loop have brought nothing: no callback was asked for,
no byte came to a client, and none lies unread before a connection that reads. What waits for
anything else than its client, its services or the clock (a thread, a process) is not seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, cast

import msgspec

from netswap.mediator import present
from netswap.ott import Entry
from netswap.stack import Connection, Host, Reply
from netswap.testing.client import Client
from netswap.testing.loops import ManualLoop
from netswap.testing.sealed import Keys, SealedClient
from netswap.testing.subject import Subject
from netswap.worker.accepting import Arriving, begin

__all__ = ["LISTENER", "Log", "Restless", "World"]

LISTENER: Final = "test"
QUIET: Final = 4
"""Turns of the loop without anything after which nothing is to come."""
PATIENCE: Final = 20_000
"""Turns after which a world that never settles is given up."""


class Restless(Exception):
    """Something goes on and on without a client or the clock."""


class Log:
    """Keeps what would be logged."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def info(self, event: str, **fields: Any) -> None:
        """Nothing that a test asks about."""

    warning = info

    def error(self, event: str, **fields: Any) -> None:
        """What goes wrong is compared, too."""
        what = fields.get("error") or fields.get("message") or event
        at = f" at {fields['at']}" if fields.get("at") else ""
        advice = f" ({fields['advice']})" if fields.get("advice") else ""
        self.errors.append(f"{fields.get('doing', event)}: {what}{at}{advice}")

    exception = error


class Mesh:
    """The links between the hosts of a world; arguments go through msgpack."""

    def __init__(self, world: World, slot: int) -> None:
        self._world = world
        self._slot = slot

    def cast(self, slot: int, kind: str, method: str, args: tuple[Any, ...]) -> None:
        """In a later turn, in order."""
        host = self._world.hosts[slot]
        host.loop.call_soon(self._arrive, host, kind, method, _sent(args))

    def request(self, slot: int, call: tuple[str, str, tuple[Any, ...]], reply: Reply) -> None:
        """The answer comes as a request comes: in a later turn."""
        kind, method, args = call
        there, here = self._world.hosts[slot], self._world.hosts[self._slot]
        there.spawn(self._answer(there, here, (kind, method, _sent(args)), reply))

    @staticmethod
    def _arrive(host: Host, kind: str, method: str, args: list[Any]) -> None:
        entry = host.services.get(kind)
        if entry is not None:
            host.guarded(entry, method, *args)

    @staticmethod
    async def _answer(there: Host, here: Host, call: Any, reply: Reply) -> None:
        value, error = there.answer(*call)
        if asyncio.iscoroutine(value):
            try:
                value = await value
            except Exception as problem:
                value, error = None, f"{type(problem).__name__}: {problem}"
        answer = (reply.token, _sent(value), error)
        here.loop.call_soon(here.guarded, reply.entry, reply.method, *answer)


def _sent(value: Any) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value), strict=False)


class World:
    """``workers`` workers that have never seen anything but ``version``; clients are dealt out.

    With ``keys`` they are served over TLS.
    """

    def __init__(
        self,
        loop: ManualLoop,
        subject: Subject,
        version: str,
        workers: int = 1,
        keys: Keys | None = None,
    ) -> None:
        self.loop = loop
        self.keys = keys
        self.subject = subject
        self.log = Log()
        self.clients: dict[str, Client] = {}
        self.tasks: set[asyncio.Task[Any]] = set()
        """The tests' own, which nobody has left over."""
        self.hosts = [Host(loop, self.log, slot) for slot in range(workers)]
        loop.set_exception_handler(self.hosts[0].on_loop_exception)
        for host in self.hosts:
            self._equip(host, version)
        for host in self.hosts:
            self._introduce(host)

    def _equip(self, host: Host, version: str) -> None:
        host.clock = self.loop.clock
        host.slots = tuple(range(len(self.hosts)))
        host.mesh = Mesh(self, host.slot)
        for change in self.subject.first(version):
            host.install(change.new)
        host.add_listener(LISTENER)

    def _introduce(self, host: Host) -> None:
        others = [slot for slot in host.slots if slot != host.slot]
        for entry in list(host.services.values()):
            if getattr(entry.target, "clustered", False):
                for slot in others:
                    host.guarded(entry, "on_peer_joined", slot)

    async def connect(self, name: str) -> None:
        """A client that is served; the first one by the last worker, which is no home."""
        slot = (len(self.hosts) - 1 - len(self.clients)) % len(self.hosts)
        host = self.hosts[slot]

        def accept(peername: Any = None) -> Any:
            accepted = cast("type[Connection[Any]]", host.present[self.subject.served])
            return accepted.accepted(host, LISTENER, peername)

        if self.keys is None:
            client = self.clients[name] = Client(name, slot)
            client.transport = await begin(self.loop, client.theirs, accept, None)
            return
        sealed = self.clients[name] = SealedClient(name, slot, self.keys.client)
        serving = begin(self.loop, sealed.theirs, lambda: Arriving(accept, None), self.keys.server)
        sealed.transport = await self._shaken(sealed, self.loop.create_task(serving))

    async def _shaken(self, client: SealedClient, serving: asyncio.Task[Any]) -> Any:
        """The transport, when both sides have ended the handshake."""
        self.tasks.add(serving)
        client.greet()
        while not (serving.done() and client.shaken):
            client.move()
            await asyncio.sleep(0)
        self.tasks.discard(serving)
        return serving.result()

    async def settle(self) -> None:
        """Turn the loop until nothing happens any more. Raises Restless."""
        quiet = 0
        for _ in range(PATIENCE):
            before = self.loop.scheduled
            await asyncio.sleep(0)
            quiet = quiet + 1 if self.loop.scheduled - before == 1 else 0
            if quiet == QUIET:
                moved = [client.move() or client.unread for client in self.clients.values()]
                if not any(moved):
                    return
                quiet = 0
        raise Restless(f"the server is still busy after {PATIENCE} turns of its loop")

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, with all that is due on the way."""
        until = self.loop.clock.monotonic_ns() + round(seconds * 1e9)
        while self.loop.ring(until):
            await self.settle()
        await self.settle()

    def entries(self) -> Iterable[Entry]:
        """The live objects of all workers."""
        rows = (entry for host in self.hosts for entry in host.table)
        return [entry for entry in rows if present(entry) is not None]

    @property
    def working(self) -> int:
        """How many tasks there are beside the tests' own."""
        return len(asyncio.all_tasks() - self.tasks) - 1

    async def close(self) -> list[str]:
        """End everything; what is left over then."""
        for client in self.clients.values():
            client.close()
        served = [e for e in self.entries() if isinstance(present(e), Connection)]
        for entry in served:
            present(entry).abort()
        hosts = [present(entry).host for entry in served]
        await self.settle()
        left = [f"{entry.kind} {entry.identity}" for entry in self.entries() if _of_client(entry)]
        left += [row for pair in zip(hosts, served, strict=True) for row in self._armed(*pair)]
        for host in self.hosts:
            for entry in [*host.services.values(), *host.factories.values()]:
                host.guarded(entry, "on_stop")
        await self.settle()
        left += [f"a task: {task.get_coro()}" for task in asyncio.all_tasks() - self._own()]
        return left

    def _armed(self, host: Host, entry: Entry) -> list[str]:
        """The timers of a connection that is gone."""
        timers = present(host.service("timer.service"))
        classes = [kinds.get(entry.kind) for kinds in self.subject.of.values()]
        names = {name for cls in classes if cls is not None for name in vars(cls)}
        left = [name for name in names if timers.remaining(entry, name) is not None]
        return [f"the timer {name!r} of {entry.kind} {entry.identity}" for name in left]

    def _own(self) -> set[asyncio.Task[Any]]:
        me = asyncio.current_task()
        return self.tasks | ({me} if me is not None else set())


def _of_client(entry: Entry) -> bool:
    return bool(present(entry).scope == "connection")
