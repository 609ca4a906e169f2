"""What the conductor and its worker processes say to each other: framed msgpack over pipes.

conductor: Assignment, then Start, perhaps Stop (or the end of the stream: give up, now)
worker: Ready, Progress once a second when asked for, Outcome
"""

from __future__ import annotations

import asyncio
import struct

import msgspec

from loadgen.continuity import Tally
from loadgen.fanout import Member
from loadgen.plan import Plan
from loadgen.samples import Columns

__all__ = [
    "Assignment",
    "Message",
    "Outcome",
    "Progress",
    "Ready",
    "Start",
    "Stop",
    "encode",
    "receive",
]

_LENGTH = struct.Struct(">Q")


class Assignment(msgspec.Struct, frozen=True, tag=True):
    """Which worker of the plan this is; ``nonce`` is the same for all."""

    plan: Plan
    index: int
    nonce: str


class Start(msgspec.Struct, frozen=True, tag=True):
    """Begin at this time (ns, CLOCK_MONOTONIC, which the processes of a machine share)."""

    at: int


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Send nothing that is due after this time (ns, CLOCK_MONOTONIC): the run is over by then."""

    at: int


class Ready(msgspec.Struct, frozen=True, tag=True):
    """All connects have ended, one way or the other."""

    tally: Tally


class Progress(msgspec.Struct, frozen=True, tag=True):
    """So far; ``latencies`` (ns) are a sample of those since the last, ``worst`` is of them all.

    ``at`` is when it was told (ns, CLOCK_MONOTONIC).
    """

    answered: int
    faults: int
    by_version: dict[int, int] = {}
    latencies: list[int] = []
    worst: int = 0
    at: int = 0


class Outcome(msgspec.Struct, frozen=True, tag=True):
    """All that a worker saw. ``samples`` are raw: see ``samples``.

    ``due`` is how many operations an open loop had to send; ``busy_ns`` the processor time of the
    window in which was sent; ``counted`` are int64: the values that a shared counter gave;
    ``paused_ns`` is the longest time in which the process did nothing although it had to;
    ``members`` are those of rooms; ``left`` are int64 in pairs: who is gone, and when; ``late`` are
    int64: how late we were ourselves (ns), where that is not sent minus intended. ``waited_ns`` is
    for how long there was no processor, in the same window as ``busy_ns``. ``pauses`` are int64 in
    pairs: from when to when the process may have done nothing.
    """

    tally: Tally
    samples: Columns
    due: int
    busy_ns: int
    counted: bytes = b""
    paused_ns: int = 0
    members: list[Member] = []
    left: bytes = b""
    late: bytes = b""
    waited_ns: int = 0
    pauses: bytes = b""


Message = Assignment | Start | Stop | Ready | Progress | Outcome

_DECODER: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The frame of a message."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


async def receive(stream: asyncio.StreamReader) -> Message | None:
    """The next message, or None when the other side is gone."""
    try:
        (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
        return _DECODER.decode(await stream.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
