"""Workers in this process: real hosts, tables and transports; clients at the other end of a pair.

Theory. The connections are socket pairs of the Unix domain: what one end has sent is at the other
at once, so that nothing but the loop decides what happens next, and a play goes the same way each
time. The transports are the loop's own, because that is where the loops differ: uvloop keeps
the bound ``data_received`` of the protocol that it was given last.

A world is *settled* when some turns of the loop have brought nothing: no callback was asked for,
no byte came to a client, and none lies unread before a connection that reads. What waits for
anything else than its client, its services or the clock (a thread, a process) is not seen.

A client that stops reading has its kernel buffer filled up with bytes that it drops later, so
that the next byte that is written to it stays in the transport and pauses the writing.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import Iterable
from typing import Any, Final, cast

import msgspec

from netswap.mediator import present
from netswap.ott import Entry
from netswap.stack import Connection, Host, Reply
from netswap.testing.loops import ManualLoop
from netswap.testing.subject import Subject
from netswap.testing.transcript import Do

__all__ = ["LISTENER", "Client", "Log", "Restless", "World"]

LISTENER: Final = "test"
QUIET: Final = 4
"""Turns of the loop without anything after which nothing is to come."""
PATIENCE: Final = 20_000
"""Turns after which a world that never settles is given up."""
CHUNK: Final = 1 << 20


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


class Client:
    """One end of a pair; ``heard`` is what it has read, ``ended`` how its connection ended."""

    def __init__(self, name: str, slot: int) -> None:
        self.name = name
        self.slot = slot
        self.heard = bytearray()
        self.ended: str | None = None
        self.stopped = False
        self._sock, self.theirs = socket.socketpair()
        self._sock.setblocking(False)
        self.theirs.setblocking(False)
        self._unsent = bytearray()
        self._finishes = False
        self._filler = 0
        self.transport: Any = None

    @property
    def connection(self) -> Connection[Any] | None:
        """What serves this client now; None before it was admitted and after the end."""
        protocol = self.transport.get_protocol() if self.transport is not None else None
        entry: Entry | None = getattr(protocol, "entry", None)
        return present(entry) if entry is not None else None

    def send(self, data: bytes) -> None:
        """As much as the kernel takes now, the rest when it takes more."""
        self._unsent += data
        self.move()

    def move(self) -> bool:
        """Send and read what can be; says whether anything was."""
        sent = self._push() if self._unsent else False
        if self._finishes and not self._unsent:
            self._finishes = False
            self._try(lambda: self._sock.shutdown(socket.SHUT_WR))
            return True
        return self._pull() or sent

    def _push(self) -> bool:
        sent = self._try(lambda: self._sock.send(self._unsent))
        if isinstance(sent, OSError):
            self._unsent.clear()  # nobody reads it any more, which the client learns by reading
            return False
        del self._unsent[: sent or 0]
        return bool(sent)

    def _pull(self) -> bool:
        came = False
        while not (self.stopped or self.ended):
            data = self._try(lambda: self._sock.recv(CHUNK))
            if data is None:
                break
            came = True
            if not data or isinstance(data, OSError):
                self.ended = "reset" if isinstance(data, OSError) else "closed"
            else:
                dropped = min(self._filler, len(data))
                self._filler -= dropped
                self.heard += data[dropped:]
        return came

    def _try(self, call: Any) -> Any:
        """What a call on the socket gives: None when it would block, the error of a dead one."""
        try:
            return call()
        except BlockingIOError:
            return None
        except OSError as error:
            return error

    def do(self, what: Do) -> None:
        """END, CLOSE, STOP_READING or READ_AGAIN."""
        {
            Do.END: self._end,
            Do.CLOSE: self.close,
            Do.STOP_READING: self._stop,
            Do.READ_AGAIN: self._read_again,
        }[what]()

    def _end(self) -> None:
        self._finishes = True
        self.move()

    def _stop(self) -> None:
        """The kernel takes no more for this client, and the transport says so at once."""
        self.stopped = True
        if self.transport is None or self.transport.is_closing():
            return
        self.transport.set_write_buffer_limits(0)
        self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        size = 4096
        while size:
            sent = self._try(lambda: self.theirs.send(bytes(size)))  # noqa: B023 - called here
            if isinstance(sent, int):
                self._filler += sent
            else:
                size //= 2

    def _read_again(self) -> None:
        self.stopped = False

    def close(self) -> None:
        """Go away, with whatever was not read."""
        self.ended = self.ended or "left"
        self._sock.close()

    @property
    def unread(self) -> bool:
        """Whether bytes lie before a connection that reads."""
        transport = self.transport
        if transport is None or transport.is_closing() or not transport.is_reading():
            return False
        return bool(_waiting(self.theirs))


def _waiting(sock: socket.socket) -> int:
    if sock.fileno() < 0:
        return 0
    packed = fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0\0\0\0")
    waiting: int = struct.unpack("i", packed)[0]
    return waiting


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
    """``workers`` workers that have never seen anything but ``version``; clients are dealt out."""

    def __init__(self, loop: ManualLoop, subject: Subject, version: str, workers: int = 1) -> None:
        self.loop = loop
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
        client = self.clients[name] = Client(name, slot)
        host = self.hosts[slot]
        served = self.subject.served

        def accept() -> asyncio.Protocol:
            accepted = cast("type[Connection[Any]]", host.present[served])
            return cast("asyncio.Protocol", accepted.accepted(host, LISTENER))

        transport, _ = await self.loop.connect_accepted_socket(accept, client.theirs)
        client.transport = transport

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
