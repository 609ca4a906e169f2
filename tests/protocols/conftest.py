"""A worker in this process for the protocols: a real loop, real sockets, the real swap and driver.

``world`` makes servers; a ``Server`` is a host with the given modules behind a listener on port 0,
a ``Client`` a raw socket. Nothing sleeps: a client's ``send`` returns when the server has read
what was sent, and waiting is for conditions.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import msgspec
import pytest

from netswap.hotswap import Change, Phase, Swap
from netswap.mediator import present
from netswap.stack import Connection, Host, Implementation
from netswap.transfer import Migration
from netswap.worker.driver import Driver
from protocols.buffers import chunked, coalescing, contiguous, immediate
from protocols.factories import limited, plain
from protocols.timers import loop as loop_timers
from protocols.timers import wheel

PATIENCE = 20.0
"""Seconds within which a condition must come true."""

STACK = (loop_timers, contiguous, immediate, plain)
OTHERS = (wheel, chunked, coalescing, limited)
PAIRS = tuple(zip(STACK, OTHERS, strict=True))


def implementations(module: ModuleType) -> dict[str, type[Implementation[Any]]]:
    """What a module provides, by kind."""
    return {
        cls.kind: cls
        for cls in vars(module).values()
        if isinstance(cls, type) and issubclass(cls, Implementation) and cls.kind
    }


def steps(*modules: ModuleType) -> tuple[Migration, ...]:
    """The migrations of some modules."""
    return tuple(row for m in modules for row in getattr(m, "__netswap_migrations__", ()))


class Log:
    """Keeps what would be logged; errors fail the test that did not provoke them."""

    def __init__(self) -> None:
        self.errors: list[dict[str, Any]] = []
        self.infos: list[dict[str, Any]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.infos.append({"event": event, **fields})

    def error(self, event: str, **fields: Any) -> None:
        self.errors.append({"event": event, **fields})

    exception = error


class Mesh:
    """The links of one host to the others of this process; arguments go through msgpack."""

    def __init__(self, hosts: dict[int, Host]) -> None:
        self.hosts = hosts

    def cast(self, slot: int, kind: str, method: str, args: tuple[Any, ...]) -> None:
        host = self.hosts.get(slot)
        if host is not None:
            plain_args = msgspec.msgpack.decode(msgspec.msgpack.encode(args), strict=False)
            host.loop.call_soon(host.answer, kind, method, plain_args)


class Client:
    """A raw socket whose sends end when the server has read them."""

    def __init__(self, sock: socket.socket, server: Server) -> None:
        self.sock = sock
        self.server = server
        self.loop = asyncio.get_running_loop()
        self.connection: Connection[Any] | None = None
        self.was_reset = False

    @property
    def entry(self) -> Any:
        """The entry of the object that serves this client."""
        return self.server.entry_of(self.sock.getsockname())

    async def send(self, data: bytes, *, read: bool = True) -> None:
        """Send; with ``read``, until nothing is left in the server's kernel."""
        await self.loop.sock_sendall(self.sock, data)
        if read:
            await self.settled()

    async def settled(self) -> None:
        """Wait until the server has read all that was sent."""
        entry = self.entry
        await until(lambda: entry.target is None or not unread(entry.target.transport))

    async def finish(self) -> None:
        """Half-close."""
        self.sock.shutdown(socket.SHUT_WR)

    async def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes, or what came before the end."""
        data = bytearray()
        async with asyncio.timeout(PATIENCE):
            while len(data) < size:
                more = await self.loop.sock_recv(self.sock, size - len(data))
                if not more:
                    break
                data += more
        return bytes(data)

    async def read_all(self) -> bytes:
        """Everything until the end of the stream; a reset is an end, too."""
        data = bytearray()
        async with asyncio.timeout(PATIENCE):
            try:
                while more := await self.loop.sock_recv(self.sock, 1 << 20):
                    data += more
            except ConnectionResetError:
                self.was_reset = True
        return bytes(data)

    async def read_lines(self, count: int) -> list[str]:
        """So many lines."""
        lines = []
        for _ in range(count):
            line = bytearray()
            while not line.endswith(b"\n"):
                more = await self.read(1)
                assert more, f"the stream ended after {lines} and {bytes(line)!r}"
                line += more
            lines.append(line.decode().removesuffix("\n"))
        return lines


def unread(transport: asyncio.Transport) -> int:
    """Bytes in the kernel that the server has not read; none when it is closing."""
    if transport.is_closing():
        return 0
    packed = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, b"\0\0\0\0")
    waiting: int = struct.unpack("i", packed)[0]
    return waiting


async def until(condition: Callable[[], Any], patience: float = PATIENCE) -> None:
    """Turn the loop until a condition is true."""
    async with asyncio.timeout(patience):
        while not condition():
            await asyncio.sleep(0)


class Server:
    """A worker: its host, and one listener for the connections of ``kind``."""

    def __init__(self, modules: Iterable[ModuleType], kind: str, hosts: dict[int, Host]) -> None:
        self.loop = asyncio.get_running_loop()
        self.log = Log()
        self.kind = kind
        self.modules = list(modules)
        self.clients: list[Client] = []
        self.host = Host(self.loop, self.log, len(hosts))
        hosts[self.host.slot] = self.host
        self.host.mesh = Mesh(hosts)  # type: ignore[assignment]  # casts are all that is used
        self._server: asyncio.Server

    @property
    def address(self) -> Any:
        """Where it listens."""
        return self._server.sockets[0].getsockname()

    async def start(self, tls: Any = None) -> None:
        """Install the modules and listen, perhaps for TLS."""
        for module in (*STACK, *self.modules):
            for cls in implementations(module).values():
                self.host.install(cls)
        self.host.add_listener("test")
        present = self.host.present

        def accept() -> Any:
            found: Any = present[self.kind]
            return found.accepted(self.host, "test")

        self._server = await self.loop.create_server(accept, "127.0.0.1", 0, ssl=tls)

    async def connect(self, *, buffer: int = 0) -> Client:
        """A client that is served; ``buffer`` is its receive buffer's size, if given."""
        sock = socket.socket()
        sock.setblocking(False)
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        await self.loop.sock_connect(sock, self._server.sockets[0].getsockname())
        client = Client(sock, self)
        self.clients.append(client)
        await until(lambda: client.entry is not None)
        return client

    def entry_of(self, address: Any) -> Any:
        """The entry whose peer has this address, or None; of whatever kind it has become."""
        for entry in self._connections():
            if entry.target.peername == address:
                return entry
        return None

    def _connections(self) -> list[Any]:
        return [row for row in self.host.table if isinstance(present(row), Connection)]

    async def swap(self, *modules: ModuleType) -> Swap:
        """Push some modules; the swap must succeed."""
        swap = self.prepare(*modules)
        await Driver(self.host, swap).run(PATIENCE)
        assert swap.phase is Phase.DONE, swap.refusal
        swap.finish()
        return swap

    def prepare(self, *modules: ModuleType) -> Swap:
        """A swap of all that some modules provide, with new objects made by them already."""
        present = self.host.present
        known = [*STACK, *OTHERS, *self.modules, *modules]
        new = {kind: cls for m in modules for kind, cls in implementations(m).items()}
        changes = [Change(k, cls, present.get(k), steps(*known)) for k, cls in new.items()]
        present.update(new)
        self.modules.extend(modules)
        entries = [entry for kind in new for entry in self.host.table.of_kind(kind)]
        return Swap(self.host.table, changes, entries, self.host.clock, nullcontext)

    async def stop(self) -> None:
        """Close everything; nothing may be left in the table but services."""
        for client in self.clients:
            client.sock.close()
        self._server.close()
        for entry in self._connections():
            entry.target.abort()
        await until(lambda: not self._connections())
        for entry in [*self.host.services.values(), *self.host.factories.values()]:
            if entry.target is not None:
                entry.target.on_stop()
        left = [e for e in self.host.table if e.target is not None and e.target.scope != "worker"]
        assert not left, f"left in the table: {left}"
        assert not self.log.errors, self.log.errors


Serve = Callable[..., Any]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """``await serve(*modules, kind="echo.connection")``: a server; several make a cluster."""
    servers: list[Server] = []
    hosts: dict[int, Host] = {}

    async def make(*modules: ModuleType, kind: str, slots: int = 1, tls: Any = None) -> Server:
        server = Server(modules, kind, hosts)
        server.host.slots = tuple(range(slots))
        servers.append(server)
        await server.start(tls)
        return server

    yield make
    for server in servers:
        await server.stop()
