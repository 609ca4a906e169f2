"""connection.factory: who is admitted, what is counted, and that a swap keeps the counts."""

from __future__ import annotations

import pytest

from protocols.echo import v2 as echo
from protocols.factories import limited, plain

KIND = "echo.connection"
BOTH = pytest.mark.parametrize("module", [plain, limited])


def counts(server) -> tuple[int, int, int]:
    state = server.host.factories["test"].target.state
    return state.accepted, state.refused, state.live


@BOTH
async def test_connections_are_counted_when_they_come_and_when_they_go(serve, module):
    """accepted grows, live goes both ways, and no address is remembered for nothing."""
    server = await serve(module, echo, kind=KIND)
    first, second = await server.connect(), await server.connect()
    assert counts(server) == (2, 0, 2)
    await first.finish()
    await first.read_all()
    assert counts(server) == (2, 0, 1)
    await second.finish()
    await second.read_all()
    assert counts(server) == (2, 0, 0)
    assert not server.host.factories["test"].target.state.addresses


async def test_a_swap_keeps_the_counts_both_ways(serve):
    """Who was admitted by one version is released by the other."""
    server = await serve(plain, echo, kind=KIND)
    first = await server.connect()
    await server.swap(limited)
    second = await server.connect()
    await first.finish()
    await first.read_all()
    assert counts(server) == (2, 0, 1)
    await server.swap(plain)
    await second.finish()
    await second.read_all()
    assert counts(server) == (2, 0, 0)


@pytest.mark.parametrize(("limit", "crowded"), [("MOST", 0), ("MOST_OF_ADDRESS", 1)])
async def test_one_too_many_is_refused_and_those_that_live_are_not(
    serve, monkeypatch, limit, crowded
):
    """A refused connection is closed, counted as refused, and neither begun nor released."""
    monkeypatch.setattr(limited.Limited, limit, 1)
    server = await serve(limited, echo, kind=KIND)
    first = await server.connect()
    second = server.loop.create_task(server.connect())
    while not counts(server)[1] or len(server.clients) < 2:
        await first.send(b"x")
        assert await first.read(1) == b"x"
    client = server.clients[-1]
    assert await client.read_all() == b""
    second.cancel()
    assert counts(server) == (1, 1, 1)
    state = server.host.factories["test"].target.state
    assert state.crowded == crowded
    assert "of at most 1" in server.log.infos[0]["reason"]


async def test_addresses_of_both_families_lose_only_their_port(serve):
    """The limit of an address holds for all ports of it."""
    server = await serve(limited, echo, kind=KIND)
    door = server.host.factories["test"].target
    for peer in ("[::1]:5000", "[::1]:5001", "10.0.0.1:5000", "local"):
        assert door.admit(peer) is None
    assert door.state.addresses == {"[::1]": 2, "10.0.0.1": 1, "local": 1}
