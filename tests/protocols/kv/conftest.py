"""A world of workers in one process for kv: real hosts and tables, fakes at the edges.

The clock is the test's, the loop is a queue of calls that the test runs, the mesh carries what
msgpack can carry, and a transport keeps what was written. Nothing here waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import pytest

from netswap.stack import Host
from netswap.stack.host import Reply
from netswap.transfer import plan_transfer
from protocols.kv import v1, v2

START_MS = 1_700_000_000_000
VERSIONS = {1: v1, 2: v2}
STEPS = vars(v2)["__netswap_migrations__"]


class Clock:
    """Wall clock and monotonic clock; both move when the test says so."""

    def __init__(self) -> None:
        self.ms = START_MS

    def time_ns(self) -> int:
        return self.ms * 1_000_000

    def monotonic_ns(self) -> int:
        return self.ms * 1_000_000


class Turns:
    """The loop: calls for later, in order."""

    def __init__(self) -> None:
        self.calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()

    def call_soon(self, call: Callable[..., Any], *args: Any) -> None:
        self.calls.append((call, args))

    def one(self) -> None:
        """What is due in this turn, without what it asks for."""
        for _ in range(len(self.calls)):
            call, args = self.calls.popleft()
            call(*args)

    def all(self) -> None:
        while self.calls:
            self.one()


class Timers:
    """timer.service: keeps what is armed; ``fire`` calls it."""

    kind, version = "timer.service", 1

    def __init__(self) -> None:
        self.armed: dict[tuple[Any, str], float] = {}

    def arm(self, entry: Any, name: str, seconds: float) -> None:
        self.armed[entry, name] = seconds

    def cancel(self, entry: Any, name: str) -> None:
        self.armed.pop((entry, name), None)

    def cancel_all(self, entry: Any) -> None:
        for key in [key for key in self.armed if key[0] is entry]:
            del self.armed[key]

    def remaining(self, entry: Any, name: str) -> float | None:
        return self.armed.get((entry, name))

    def fire(self) -> None:
        due, self.armed = self.armed, {}
        for entry, name in due:
            getattr(entry.target, name)()


class Wire:
    """A transport: what was written, and whether it reads or is closed."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.reading = True
        self.closed = False
        self.protocol: Any = None

    def write(self, data: bytes) -> None:
        assert not self.closed, f"written after the close: {data!r}"
        self.out += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol


class Mesh:
    """Links between the hosts of a world, as far as msgpack reaches."""

    def __init__(self, world: World) -> None:
        self.world = world

    def request(self, slot: int, call: tuple[str, str, Any], reply: Reply) -> None:
        kind, method, args = call
        args = msgspec.msgpack.decode(msgspec.msgpack.encode(args))
        self.world.turns.call_soon(self._arrives, slot, (kind, method, args), reply)

    def _arrives(self, slot: int, call: tuple[str, str, Any], reply: Reply) -> None:
        target = self.world.hosts.get(slot)
        gone = None, f"worker {slot} is gone: outcome unknown"
        value, error = gone if target is None else target.answer(*call)
        value = msgspec.msgpack.decode(msgspec.msgpack.encode(value))
        here = self.world.hosts[1]
        self.world.turns.call_soon(
            here.guarded, reply.entry, reply.method, reply.token, value, error
        )


class World:
    """``slots`` workers that serve kv; those of slot 0 and of slot 1 can be of other versions."""

    def __init__(self, slots: int = 1) -> None:
        self.clock = Clock()
        self.turns = Turns()
        self.timers = Timers()
        self.slots = tuple(range(slots))
        self.hosts: dict[int, Host] = {}
        for slot in self.slots:
            self.start(slot, v1)

    def start(self, slot: int, module: ModuleType) -> None:
        """A fresh worker with nothing in it."""
        host = Host(self.turns, _Log(), slot)  # type: ignore[arg-type]  # the part that kv uses
        host.slots = self.slots
        host.clock = self.clock
        host.mesh = Mesh(self)  # type: ignore[assignment]  # the part that kv uses
        host.service("timer.service").target = self.timers
        door = SimpleNamespace(admit=lambda _: None, released=lambda _: None)
        host.factories["kv"] = host.table.create("connection.factory", door)
        host.install(module.Store)
        host.install(module.Client)
        self.hosts[slot] = host

    def store(self, slot: int = 0) -> Any:
        return self.hosts[slot].service("kv.store").target

    def connect(self, slot: int = 0) -> Any:
        """The entry of a new connection; its transport is a Wire."""
        host = self.hosts[slot]
        client: Any = host.present["kv.connection"].accepted(host, "kv")  # type: ignore[attr-defined]
        client.connection_made(_Connecting(client))
        return client.entry

    def swap(self, entry: Any, module: ModuleType) -> None:
        """What a swap does to one object."""
        cls = module.Store if entry.kind == "kv.store" else module.Client
        old = entry.target
        transfer = plan_transfer(old.state_type, cls.state_type, STEPS)
        assert not transfer.lossy
        new = cls.successor(old, transfer.convert(old.state))
        entry.target = new
        new.take_over(old)

    def swap_all(self, module: ModuleType) -> None:
        """Every object of every worker, and what is made from now on."""
        for host in self.hosts.values():
            host.present["kv.connection"] = module.Client
            host.present["kv.store"] = module.Store
            for entry in list(host.table.of_kind("kv.connection")):
                self.swap(entry, module)
            self.swap(host.service("kv.store"), module)


class _Connecting(Wire):
    """A Wire that knows its peer."""

    def __init__(self, client: Any) -> None:
        super().__init__()
        self.protocol = client

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 5000)


class _Log:
    def __getattr__(self, name: str) -> Callable[..., None]:
        def say(event: str, **context: Any) -> None:
            assert name != "error", f"{event}: {context}"

        return say


def encode(*words: bytes | str | float) -> bytes:
    """A command as clients send it."""
    raw = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in raw)


def words(line: str) -> list[bytes]:
    """``"SET k v"`` as a command; ``''`` is the empty word."""
    return [b"" if word == "''" else word.encode() for word in line.split()]


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def kv(request: pytest.FixtureRequest) -> ModuleType:
    """Each version in turn."""
    return VERSIONS[request.param]


@pytest.fixture
def world() -> World:
    """One worker, of version 1."""
    return World()


@pytest.fixture
def pair() -> World:
    """Two workers; the store is in the first."""
    return World(2)


@pytest.fixture
def store(world: World, kv: ModuleType) -> Any:
    """The store of each version in turn."""
    world.start(0, kv)
    return world.store()
