"""echo: what goes in comes out, in order, whatever the client does and whatever is swapped."""

from __future__ import annotations

import asyncio
import socket

import pytest

from netswap.transfer import plan_transfer
from protocols.echo import v1, v2

KIND = "echo.connection"
MUCH = 1_000_000
"""More than the kernel takes from version 1, and less than it takes from the client in all."""


async def tail_after_half_close(serve, module) -> int:
    """How much a client gets back that sends much, half-closes and then reads."""
    client = await (await serve(module, kind=KIND)).connect(buffer=65536)
    await client.send(b"x" * MUCH)
    await client.finish()
    return len(await client.read_all())


async def test_version_1_loses_the_tail_when_the_client_half_closes(serve):
    """The bug is real: a client that half-closes after sending a lot misses what was unsent."""
    assert await tail_after_half_close(serve, v1) < MUCH


async def test_a_push_of_version_2_mends_it_for_a_connection_that_lives(serve):
    """A connection with a backlog that gets version 2 before it half-closes loses nothing."""
    server = await serve(v1, kind=KIND)
    client = await server.connect(buffer=65536)
    await client.send(b"x" * MUCH)
    await server.swap(v2)
    await client.finish()
    assert len(await client.read_all()) == MUCH


@pytest.mark.parametrize("module", [v1, v2])
async def test_a_client_that_does_not_read_is_not_read_from(serve, module):
    """The backlog of a client that takes nothing is bounded: flow control goes both ways."""
    server = await serve(module, kind=KIND)
    client = await server.connect(buffer=65536)
    transport = client.entry.target.transport
    sending = asyncio.ensure_future(client.send(b"x" * 30_000_000, read=False))
    await asyncio.wait_for(_paused(client), 5)
    assert transport.get_write_buffer_size() < 2 * 1024 * 1024
    assert len(await client.read(30_000_000)) == 30_000_000
    await sending
    assert client.entry.target.state.pauses >= 1


async def _paused(client) -> None:
    while not client.entry.target.writing_paused:
        await asyncio.sleep(0)


async def test_flow_control_survives_a_swap(serve):
    """A swap while writing and reading are paused loses, repeats and reorders nothing."""
    server = await serve(v1, kind=KIND)
    client = await server.connect(buffer=65536)
    sent = bytes(range(256)) * 80_000
    sending = asyncio.ensure_future(client.send(sent, read=False))
    await asyncio.wait_for(_paused(client), 5)
    await server.swap(v2)
    assert client.entry.target.writing_paused
    assert client.entry.target.reading_paused
    got = await client.read(1_000_000)
    await server.swap(v1)
    got += await client.read(len(sent) - len(got))
    await sending
    assert got == sent


def test_the_state_goes_up_and_down_unchanged():
    """Waiting time survives the change of its unit."""
    rows = [*v2.__netswap_migrations__]
    up = plan_transfer(v1.Talk, v2.Flow, rows)
    down = plan_transfer(v2.Flow, v1.Talk, rows)
    assert not up.lossy
    assert not down.lossy
    old = v1.Talk(pauses=3, waited=1.234567891, paused_at=12345)
    assert down.convert(up.convert(old)) == old


async def test_version_2_sends_the_tail_after_the_end(serve):
    """A client that half-closes while much is under way gets all of it."""
    client = await (await serve(v2, kind=KIND)).connect(buffer=65536)
    sending = asyncio.ensure_future(client.send(b"x" * 20_000_000, read=False))
    sending.add_done_callback(lambda _: client.sock.shutdown(socket.SHUT_WR))
    assert len(await client.read_all()) == 20_000_000
