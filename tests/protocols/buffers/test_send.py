"""buffer.send: all that is written arrives, once and in order, whichever version sends it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netswap import Connection, State
from netswap.transfer import decode, encode, plan_transfer
from protocols.buffers import coalescing, immediate

KIND = "test.connection"
BOTH = pytest.mark.parametrize("module", [immediate, coalescing])


class Nothing(State, kind=KIND, version=1):
    """Nothing to carry."""

    quiet: bool = False


class Talker(Connection[Nothing], uses={"output": "buffer.send"}):
    """Answers each byte with a write of its own; ``!`` closes."""

    def on_data(self, data):
        for byte in data:
            self.write(bytes([byte]) * 3)
            if byte == ord("!"):
                self.close()


class Protocol:
    """A module for the server: the connection under test."""

    Talker = Talker


class Counting:
    """A transport that counts the writes and passes everything on."""

    def __init__(self, transport):
        self.transport, self.writes = transport, []

    def write(self, data):
        self.writes.append(bytes(data))
        self.transport.write(data)

    def __getattr__(self, name):
        return getattr(self.transport, name)


async def counted(serve, module):
    """A server, a client, and its connection with a counting transport."""
    server = await serve(Protocol, module, kind=KIND)
    client = await server.connect()
    connection = client.entry.target
    connection.transport = Counting(connection.transport)
    return server, client, connection


def present_output(server):
    (entry,) = server.host.table.of_kind("buffer.send")
    return entry.target


@BOTH
async def test_what_is_written_arrives_in_order(serve, module):
    """Many small writes and large ones, in the order of the calls."""
    _, client, connection = await counted(serve, module)
    pieces = [b"a", b"b" * 70_000, b"c" * 10, b"", bytearray(b"d" * 65_536), memoryview(b"ef")]
    for piece in pieces:
        connection.write(piece)
    expected = b"".join(map(bytes, pieces))
    assert await client.read(len(expected)) == expected


@BOTH
async def test_closing_sends_what_was_written_before(serve, module):
    """close() flushes: the last write of a conversation is not lost."""
    _, client, _ = await counted(serve, module)
    await client.send(b"abc!")
    assert await client.read_all() == b"aaabbbccc!!!"


@pytest.mark.parametrize(("module", "writes"), [(immediate, 3), (coalescing, 1)])
async def test_writes_of_one_turn_of_the_loop(serve, module, writes):
    """Version 1 makes a transport write of each, version 2 one of all; neither keeps any."""
    server, client, connection = await counted(serve, module)
    await client.send(b"abc")
    assert await client.read(9) == b"aaabbbccc"
    assert len(connection.transport.writes) == writes
    assert present_output(server).size() == 0


async def test_much_does_not_wait_for_the_turn_to_end(serve):
    """Over the high-water mark the transport has it at once, and can say that it is too much."""
    server, client, connection = await counted(serve, coalescing)
    connection.write(b"x" * (coalescing.HIGH_WATER - 1))
    assert not connection.transport.writes
    connection.write(b"x")
    assert [len(piece) for piece in connection.transport.writes] == [coalescing.HIGH_WATER]
    assert present_output(server).size() == 0
    assert len(await client.read(coalescing.HIGH_WATER)) == coalescing.HIGH_WATER


async def test_a_changed_buffer_of_the_caller_changes_nothing(serve):
    """What is kept until the turn ends is a copy of what can change."""
    _, client, connection = await counted(serve, coalescing)
    data = bytearray(b"before")
    connection.write(data)
    data[:] = b"after!"
    assert await client.read(6) == b"before"


@pytest.mark.parametrize(("first", "second"), [(immediate, coalescing), (coalescing, immediate)])
async def test_a_swap_between_write_and_flush_loses_nothing(serve, first, second):
    """What one version still holds is sent by the other, before what is written to that one."""
    server, client, connection = await counted(serve, first)
    connection.write(b"one ")
    swap = server.prepare(second)
    swap.slice(10_000_000)
    connection.write(b"two ")
    server.prepare(first).slice(10_000_000)
    connection.write(b"three")
    assert await client.read(13) == b"one two three"
    await client.send(b"!")
    assert await client.read_all() == b"!!!"


@pytest.mark.parametrize(("first", "second"), [(immediate, coalescing), (coalescing, immediate)])
async def test_what_is_left_is_sent_without_a_further_write(serve, first, second):
    """The flush that the first version asked for reaches the second."""
    server, client, connection = await counted(serve, first)
    connection.write(b"tail")
    server.prepare(second).slice(10_000_000)
    assert await client.read(4) == b"tail"
    assert present_output(server).size() == 0


async def test_a_connection_that_is_gone_before_the_flush_is_no_fault(serve):
    """Bytes for a client that left are dropped in silence."""
    server, client, connection = await counted(serve, coalescing)
    connection.write(b"late")
    connection.abort()
    assert await client.read_all() in {b"", b"late"}
    assert not server.log.errors


@given(st.lists(st.binary(min_size=1), max_size=5))
def test_the_state_goes_up_and_down_unchanged(pieces):
    """What is unsent survives both steps and the canonical form."""
    rows = coalescing.__netswap_migrations__
    old = coalescing.Unsent(pieces, sum(map(len, pieces)))
    down = plan_transfer(coalescing.Unsent, immediate.Unsent, rows).convert(old)
    assert down.unsent == b"".join(pieces)
    up = plan_transfer(immediate.Unsent, coalescing.Unsent, rows).convert(down)
    assert b"".join(up.pieces) == down.unsent
    assert up.size == len(down.unsent)
    assert decode(encode(up), coalescing.Unsent) == up
