"""What interposers cost a request while they are in place, and that they cost nothing when not.

``python -m benchmarks.guard [--rounds N]``: one connection of verify on a transport that only
takes what is written; a request of 32 bytes of payload, before anything stood in front of it, with
a monitor, with a guard as a watch places it, and after. Nanoseconds are the best of ``rounds``
taken in turn; instructions are those of the interpreter, which are exact: exit 1 when there is one
more after than before. Then how long it takes to copy a state, by the number of its items.
"""

from __future__ import annotations

import argparse
import asyncio
import struct
import sys
import timeit
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from netswap.interpose import Figures, Guard, Interposition, Monitor, Protection
from netswap.interpose.guard import LARGE, LARGE_BYTES
from netswap.interpose.interposer import Interposer
from netswap.mediator import present
from netswap.ott import Entry
from netswap.stack import Host
from netswap.transfer import State, encode
from netswap.worker.deadline import Deadline
from protocols.factories.plain import Plain
from protocols.timers.loop import LoopTimers
from protocols.verify.v1 import Verify

REQUEST = struct.pack("!IQQQ32s", 56, 1, 1, 1, b"x" * 32)
SIZES = (64, 256, 1_024, 16_384, 1_000_000)
Make = Callable[[Entry], Interposer | None]


class Wire:
    """The end of a connection: keeps whom to call, and how much was written."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.written = 0

    def set_protocol(self, protocol: Any) -> None:
        """From now on calls go there."""
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        """Take an answer."""
        self.written += len(data)

    def is_closing(self) -> bool:
        """Never."""
        return False

    def get_extra_info(self, _name: str) -> tuple[str, int]:
        """Some address."""
        return "127.0.0.1", 1


class Items(State, kind="bench.items", version=1):
    """A state of any size."""

    held: dict[bytes, bytes] = {}


class Nothing:
    """A log that keeps nothing."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_args, **_fields: None


def connection(loop: asyncio.AbstractEventLoop) -> tuple[Host, Wire]:
    """A live connection of verify."""
    host, wire = Host(loop, Nothing()), Wire()
    for cls in (LoopTimers, Plain, Verify):
        host.install(cls)
    host.add_listener("bench")
    wire.protocol = Verify.accepted(host, "bench")
    wire.protocol.connection_made(wire)
    return host, wire


def guarding() -> Make:
    """Guards as a watch of verify places them."""
    limit = Deadline(1.0)
    protection = Protection(
        lambda: limit, lambda _: True, lambda _states: None, lambda _firing: None
    )
    return lambda _entry: Guard(Figures(), protection)


def _watched(make: Make) -> Make:
    return lambda entry: make(entry) if isinstance(present(entry), Verify) else None


def measure(rounds: int, number: int = 20_000) -> dict[str, tuple[float, int]]:
    """Nanoseconds and instructions of a request, by what stands in front of the connection."""
    loop = asyncio.new_event_loop()
    host, wire = connection(loop)
    stages: dict[str, Make | None] = {
        "nothing yet": None,
        "a monitor": lambda _entry: Monitor(Figures()),
        "a guard": guarding(),
        "nothing any more": None,
    }
    best = dict.fromkeys(stages, float("inf"))
    counted = {}
    for turn in range(rounds + 1):
        for name, make in stages.items():
            placed = None if make is None else Interposition(host, _watched(make))
            if placed is not None:
                placed.place()
                assert len(placed) == 1, "it is in front of the connection"
            ask = partial(wire.protocol.data_received, REQUEST)
            if turn == rounds:
                counted[name] = instructions(ask)
            else:
                best[name] = min(best[name], timeit.timeit(ask, number=number) / number * 1e9)
            if placed is not None:
                placed.remove()
    assert wire.written
    loop.close()
    return {name: (best[name], counted[name]) for name in stages}


def copies(items: int, rounds: int) -> tuple[float, int]:
    """Nanoseconds and bytes of the copy of a dict of so many short byte strings."""
    state = Items(held={b"key:%d" % number: b"value %d" % number for number in range(items)})
    number = max(1, 20_000 // items)
    best = min(timeit.repeat(lambda: encode(state), number=number, repeat=rounds))
    return best / number * 1e9, len(encode(state).payload)


def instructions(call: Callable[[], object]) -> int:
    """How many instructions of the interpreter a call takes."""
    count = 0

    def trace(frame: FrameType, event: str, _value: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(None)
    return count


def main() -> int:
    """Measure and print; 0 when what is taken out leaves nothing behind."""
    parser = argparse.ArgumentParser(prog="benchmarks.guard", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    found = measure(rounds)
    bare, before = found["nothing yet"]
    print(f"{'in front of a connection':<26}{'ns':>10}{'more':>10}{'instructions':>14}")
    for name, (took, count) in found.items():
        print(f"{name:<26}{took:>10,.0f}{took - bare:>10,.0f}{count:>14,}")
    print(f"\n{'to copy a state of':<26}{'ns':>10}{'an item':>10}{'bytes':>14}")
    for items in SIZES:
        took, size = copies(items, rounds)
        note = "" if items <= LARGE and size <= LARGE_BYTES else "   not guarded"
        print(f"{items:<26,}{took:>10,.0f}{took / items:>10,.1f}{size:>14,}{note}")
    return 0 if found["nothing any more"][1] == before else 1


if __name__ == "__main__":
    sys.exit(main())
