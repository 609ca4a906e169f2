"""What coroutines of an application write to its state is not lost, whatever is swapped."""

from __future__ import annotations

import asyncio
import inspect
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from netswap import State, migration
from netswap.channel import messages
from netswap.errors import StateMovedError
from netswap.events import Refusal, Stage
from netswap.hotswap import Phase
from netswap.http import App, Request, Response, route
from netswap.mediator import present
from netswap.worker.driver import Driver
from netswap.worker.gate.holding import Holding
from protocols.http import limits, v2
from tests.protocols.conftest import serve, until

__all__ = ["serve"]

WAITS = "await " + "DOORS"
ROUNDS = 12
CLIENTS = 6


class Count(State, kind="http.app", version=1):
    """How many have been counted."""

    count: int = 0


class Total(State, kind="http.app", version=2):
    """The same by another name and in another form."""

    total: str = "0"


@migration("http.app", 1, 2)
def up(old: dict[str, Any]) -> dict[str, Any]:
    """A text."""
    return {"total": str(old["count"])}


@migration("http.app", 2, 1)
def down(new: dict[str, Any]) -> dict[str, Any]:
    """A number."""
    return {"count": int(new["total"])}


STEPS = (up, down)
DOORS: dict[str, asyncio.Future[None]] = {}
"""What a request to ``/wait/NAME`` waits for."""


def counter(name: str) -> type[App[Count]]:
    """A class of its own for each load, as a push has."""

    class Counter(App[Count]):
        @route("GET", "/add")
        async def add(self, request: Request) -> Response:
            for _ in range(3):
                await asyncio.sleep(0)
            self.state.count += 1
            return Response(name)

        @route("GET", "/wait/{door}")
        async def wait(self, request: Request, door: str) -> Response:
            await DOORS[door]
            self.state.count += 1
            return Response(name)

        @route("GET", "/at-once")
        def at_once(self, request: Request) -> Response:
            self.state.count += 1
            return Response(name)

        @route("POST", "/sum")
        async def sum(self, request: Request) -> Response:
            self.state.count += len(await request.body.read())
            return Response(name)

    return Counter


def totaller(name: str) -> type[App[Total]]:
    """The same with the other state."""

    class Totaller(App[Total]):
        @route("GET", "/add")
        async def add(self, request: Request) -> Response:
            for _ in range(3):
                await asyncio.sleep(0)
            self.state.total = str(int(self.state.total) + 1)
            return Response(name)

        @route("GET", "/wait/{door}")
        async def wait(self, request: Request, door: str) -> Response:
            await DOORS[door]
            self.state.total = str(int(self.state.total) + 1)
            return Response(name)

        @route("GET", "/at-once")
        def at_once(self, request: Request) -> Response:
            self.state.total = str(int(self.state.total) + 1)
            return Response(name)

    return Totaller


MIGRATIONS = tuple(globals().get("__netswap_migrations__", ()))


def load(cls: type[App[Any]]) -> Any:
    """A module with it, as ``swap`` takes it."""
    return SimpleNamespace(App=cls, __netswap_migrations__=MIGRATIONS)


def module() -> Any:
    return sys.modules[__name__]


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def body(client: Any) -> str:
    """The next answer's."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        more = await client.read(1)
        assert more, f"the stream ended in {head!r}"
        head += more
    [length] = [row for row in head.lower().split(b"\r\n") if row.startswith(b"content-length")]
    return (await client.read(int(length.split(b":")[1]))).decode()


def app_of(server: Any) -> Any:
    return present(server.host.service("http.app"))


def counted(server: Any) -> int:
    state = app_of(server).state
    return int(getattr(state, "count", None) or getattr(state, "total", 0))


async def served(serve: Any, cls: type[App[Any]]) -> Any:
    DOORS.clear()
    return await serve(v2, limits, load(cls), kind="http.connection")


@pytest.mark.parametrize(
    "follow", [(counter, counter), (totaller, counter)], ids=["as-is", "by-step"]
)
async def test_no_increment_is_lost(serve, follow):
    """Clients ask at once and later while the application is swapped again and again."""
    server = await served(serve, counter("first"))
    clients = [await server.connect() for _ in range(CLIENTS)]
    asked = 0
    over = False

    async def ask(client: Any, path: str) -> None:
        nonlocal asked
        while not over:
            await client.send(get(path), read=False)
            await body(client)
            asked += 1

    paths = ["/add", "/at-once"] * CLIENTS
    tasks = [asyncio.create_task(ask(*row)) for row in zip(clients, paths, strict=False)]
    for number in range(ROUNDS):
        before = asked
        await server.swap(load(follow[number % 2](str(number))))
        await until(lambda before=before: asked > before + 2 * CLIENTS)
    over = True
    await asyncio.gather(*tasks)
    assert asked > ROUNDS * CLIENTS
    assert counted(server) == asked


async def test_one_in_flight_through_a_chain_of_swaps_writes_to_the_present_state(serve):
    """What began in the first code counts in the fourth."""
    server = await served(serve, counter("first"))
    DOORS["a"] = asyncio.get_running_loop().create_future()
    client = await server.connect()
    await client.send(get("/wait/a"))
    await until(app_of(server).inside.open)
    for name in ("second", "third", "fourth"):
        await server.swap(load(counter(name)))
    DOORS["a"].set_result(None)
    assert await body(client) == "first"
    assert counted(server) == 1


async def test_another_shape_waits_and_new_coroutines_begin_in_new_code(serve):
    """Held in their order, while plain functions are answered by the old code."""
    server = await served(serve, counter("old"))
    DOORS["a"] = asyncio.get_running_loop().create_future()
    slow, held, other, plain = [await server.connect() for _ in range(4)]
    await slow.send(get("/wait/a"))
    await until(app_of(server).inside.open)
    swap = asyncio.create_task(server.swap(load(totaller("new"))))
    await until(lambda: app_of(server).inside.holding)
    await held.send(get("/add"))
    await other.send(get("/add"))
    await plain.send(get("/at-once"))
    assert await body(plain) == "old"
    assert len(app_of(server).inside.open()) == 1
    assert not swap.done()
    DOORS["a"].set_result(None)
    assert await body(slow) == "old"
    await swap
    assert [await body(held), await body(other)] == ["new", "new"]
    assert app_of(server).state == Total("4")


async def test_one_that_never_ends_has_the_swap_given_up_with_its_line(serve):
    """Nothing is lost: it, and what was held, goes on in the old code."""
    server = await served(serve, counter("old"))
    DOORS["a"] = asyncio.get_running_loop().create_future()
    slow, held = await server.connect(), await server.connect()
    await slow.send(get("/wait/a"))
    await until(app_of(server).inside.open)
    old = server.host.present["http.app"]
    swap = server.prepare(load(totaller("new")))
    run = asyncio.create_task(Driver(server.host, swap).run(0.3))
    await until(lambda: app_of(server).inside.holding)
    await held.send(get("/add"))
    await run
    server.host.present["http.app"] = old
    assert swap.phase is Phase.RESTORED
    line = next(
        n for n, row in enumerate(inspect.getsource(module()).splitlines(), 1) if WAITS in row
    )
    assert (swap.refusal.file, swap.refusal.line, swap.refusal.kind) == (__file__, line, "http.app")
    assert await body(held) == "old"
    DOORS["a"].set_result(None)
    assert await body(slow) == "old"
    assert app_of(server).state == Count(2)


async def test_an_operator_ends_what_a_swap_waits_for(serve):
    """Its client gets 503, and the swap goes on."""
    server = await served(serve, counter("old"))
    DOORS["a"] = asyncio.get_running_loop().create_future()
    client = await server.connect()
    await client.send(get("/wait/a"))
    await until(app_of(server).inside.open)
    assert not app_of(server).blockers()
    swap = asyncio.create_task(server.swap(load(totaller("new"))))
    await until(lambda: app_of(server).inside.holding)
    [row] = app_of(server).blockers()
    assert __file__ in row.where
    [acted] = app_of(server).cancel_suspended(int(row.id.rpartition("#")[2]))
    assert acted.done
    await swap
    assert await body(client) == "503: Service Unavailable\n"
    assert app_of(server).state == Total("0")


async def test_code_of_the_past_has_no_state_of_another_shape(serve):
    """Whoever keeps an object of old code is told, and finds the state again after the way back."""
    server = await served(serve, counter("old"))
    old = app_of(server)
    old.state.count = 3
    await server.swap(load(totaller("new")))
    with pytest.raises(StateMovedError, match="from version 1 to 2"):
        old.state.count += 1
    with pytest.raises(StateMovedError, match="would be lost"):
        old.state.count = 7
    await server.swap(load(counter("back")))
    old.state.count += 1
    assert app_of(server).state == Count(4)


async def test_the_way_back_waits_for_what_new_code_has_begun(serve):
    """At once it is refused, for then a write would be lost; in its turn it is made."""
    server = await served(serve, counter("old"))
    DOORS["a"] = asyncio.get_running_loop().create_future()
    client = await server.connect()
    old = server.host.present["http.app"]
    swap = server.prepare(load(totaller("new")))
    driver = Driver(server.host, swap)
    await driver.run(5)
    await client.send(get("/wait/a"))
    await until(app_of(server).inside.open)
    entry = server.host.service("http.app")
    assert swap.take_back_now({entry: app_of(server).state}) is not None
    assert type(app_of(server)) is server.host.present["http.app"]
    server.host.present["http.app"] = old
    driver.give_up(Refusal(Stage.WATCH, "the watch has failed"))
    run = asyncio.create_task(driver.run(5))
    await until(lambda: app_of(server).inside.holding)
    DOORS["a"].set_result(None)
    await run
    assert await body(client) == "new"
    assert (swap.phase, app_of(server).state) == (Phase.RESTORED, Count(1))


async def half_sent(serve: Any) -> tuple[Any, Any]:
    """A coroutine that has begun and has half of its body; nothing else is asked."""
    server = await served(serve, counter("old"))
    server.host.mesh = None
    client = await server.connect()
    await client.send(b"POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nhal")
    await until(app_of(server).inside.open)
    return server, client


async def test_a_gate_lets_those_inside_have_the_rest_of_their_bodies(serve):
    """Clients wait only when no coroutine needs them any more; new ones begin in new code."""
    server, client = await half_sent(serve)
    other = await server.connect()
    swap = server.prepare(load(totaller("new")))
    holding = Holding(server.host, 1, 5.0, list(swap.changes.values()))
    hold = asyncio.create_task(holding.hold(None, None))
    await until(lambda: app_of(server).inside.holding)
    await other.send(get("/add"))
    await client.send(b"ves", read=False)
    assert await body(client) == "old"
    assert type(await hold) is messages.Held
    assert await holding.settled([0]) is None
    await Driver(server.host, swap).run(1)
    assert (swap.phase, app_of(server).state) == (Phase.DONE, Total("6"))
    await holding.serve()
    assert await body(other) == "new"
    swap.finish()


async def test_a_gate_that_gives_up_lets_held_coroutines_begin_in_old_code(serve):
    """The one that it has waited for is named, and goes on."""
    server, client = await half_sent(serve)
    other = await server.connect()
    swap = server.prepare(load(totaller("new")))
    holding = Holding(server.host, 1, 0.3, list(swap.changes.values()))
    hold = asyncio.create_task(holding.hold(None, None))
    await until(lambda: app_of(server).inside.holding)
    await other.send(get("/add"))
    failed = await hold
    assert failed.refusal.kind == "http.app"
    assert failed.refusal.line
    assert await body(other) == "old"
    await client.send(b"ves")
    assert await body(client) == "old"
