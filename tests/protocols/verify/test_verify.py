"""verify: every reply proves what was carried, at any cut, in any version, across any swap."""

from __future__ import annotations

import struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netswap.transfer import decode, encode, plan_transfer
from protocols.verify import v1, v2

KIND = "verify.connection"
BOTH = pytest.mark.parametrize("module", [v1, v2])


def body(sequence: int, payload: bytes = b"") -> bytes:
    return struct.pack("!QQQ", 7, sequence, 123_456_789 + sequence) + payload


def frame(content: bytes) -> bytes:
    return struct.pack("!I", len(content)) + content


def replies(bodies: list[bytes], versions: list[int]) -> bytes:
    """What the wire format says the answers are."""
    out, rolling = b"", 0
    for number, (content, version) in enumerate(zip(bodies, versions, strict=True), 1):
        rolling = crc32(content, rolling)
        own = struct.pack("!IQI", version, number, rolling)
        out += frame(content[:24] + own + content[24:])
    return out


SOME = [body(1), body(2, b"payload"), body(3, b"x" * 300), body(4)]
STREAM = b"".join(map(frame, SOME))


@BOTH
async def test_the_reply_is_as_the_format_says(serve, module):
    """Header echoed, version, count and rolling hash of this connection, payload echoed."""
    client = await (await serve(module, kind=KIND)).connect()
    await client.send(STREAM)
    expected = replies(SOME, [module.VERSION] * 4)
    assert await client.read(len(expected)) == expected


@BOTH
async def test_many_requests_in_a_chunk_are_answered_in_one_write(serve, module):
    """A pipelining client costs one write a chunk."""
    client = await (await serve(module, kind=KIND)).connect()
    writes = []
    connection = client.entry.target
    connection.write = writes.append
    connection.on_data(STREAM)
    assert writes == [replies(SOME, [module.VERSION] * 4)]


@BOTH
async def test_any_cut_of_the_stream_gives_the_same_replies(serve, module):
    """The answers depend on the bytes and not on the packets."""
    expected = replies(SOME, [module.VERSION] * 4)
    server = await serve(module, kind=KIND)
    client = await server.connect()
    for cut in range(len(STREAM) + 1):
        connection = client.entry.target
        connection.state = module.Verify.state_type()
        written = bytearray()
        connection.write = written.extend
        for part in (STREAM[:cut], STREAM[cut:]):
            if part:
                connection.on_data(part)
        assert written == expected, f"cut at {cut}"


@BOTH
@pytest.mark.parametrize("length", [0, 23, "limit", 2**32 - 1])
async def test_a_malformed_length_closes_the_connection_after_the_answers(serve, module, length):
    """What came before is answered, then the connection ends; another one is served on."""
    server = await serve(module, kind=KIND)
    number = module.LIMIT + 1 if length == "limit" else length
    client, other = await server.connect(), await server.connect()
    await client.send(STREAM + struct.pack("!I", number))
    assert await client.read_all() == replies(SOME, [module.VERSION] * 4)
    await other.send(frame(SOME[0]))
    assert len(await other.read(44)) == 44


@BOTH
async def test_a_body_may_be_as_long_as_the_limit(serve, module):
    """Version 1 takes 65,536 bytes, version 2 a megabyte."""
    client = await (await serve(module, kind=KIND)).connect()
    largest = body(1, b"y" * (module.LIMIT - 24))
    await client.send(frame(largest), read=False)
    assert await client.read(module.LIMIT + 20) == replies([largest], [module.VERSION])


async def test_a_client_that_does_not_read_is_not_read_from(serve):
    """Replies to a client that takes none are bounded."""
    client = await (await serve(v2, kind=KIND)).connect(buffer=4096)
    connection = client.entry.target
    connection.write(b"z" * 30_000_000)
    assert connection.writing_paused
    assert connection.reading_paused
    await client.read(30_000_000)
    await client.send(STREAM)
    assert len(await client.read(len(replies(SOME, [2] * 4)))) > 0


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=200))
def test_the_state_goes_up_and_down_unchanged(operations, rolling, partial):
    """Two steps, or the canonical form, give back the state that went in."""
    rows = [*v2.__netswap_migrations__]
    old = v1.Account(operations, rolling, partial)
    up = plan_transfer(v1.Account, v2.Ledger, rows).convert(old)
    assert decode(encode(up), v2.Ledger) == up
    assert plan_transfer(v2.Ledger, v1.Account, rows).convert(up) == old
