"""Over TLS a line waits for the answer to its last words, and cuts what does not come."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from loadgen.dialects import Opening, dialect
from loadgen.lines import Traffic, complete
from loadgen.lines.line import Line
from loadgen.plan import Plan


class Wire:
    """A transport that can't close a half, as over TLS."""

    def __init__(self) -> None:
        self.closed = False

    def write(self, data: bytes) -> None: ...

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("said", "corrupted"),
    [
        pytest.param(b":0", 0, id="half of what it waits for"),
        pytest.param(b":0\r\n:", 1, id="behind what it has waited for"),
    ],
)
async def test_half_an_answer_is_nobodys_fault_where_we_cut(said: bytes, corrupted: int) -> None:
    """But half of one that nobody asked for is the server's."""
    plan = Plan(protocol="kv", host="h", port=1, connections=1, duration_ns=1, grace_ns=10**9)
    traffic = Traffic(complete(plan, None, None), 0, "nonce")
    opening = Opening(0, 32, "nonce", traffic.tally, traffic.counted)
    line, wire = Line(traffic, 0, dialect("kv")(opening)), Wire()
    line.connection_made(cast(asyncio.Transport, wire))
    line.leave()
    line.data_received(said)
    line._hear_on(20)
    assert wire.closed
    line.connection_lost(None)
    assert traffic.tally.corrupted == corrupted
