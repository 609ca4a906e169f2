"""A server that answers late and keeps when: ``python -m benchmarks.witness.recorder PORT``.

POST gives the body back, 2 ms and an exponential time (mean 6 ms) after it came, drawn from a fixed
sequence. Of each it keeps which question it is, as the body says, when the last byte of the request
was read, and when the answer was given to the kernel: nanoseconds on CLOCK_MONOTONIC, which is the
client's clock, too.
``GET /stamps`` says them, and forgets them. One request at a time on a connection.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
import urllib.request
from typing import Final, NamedTuple, cast

import uvloop

__all__ = ["Stamp", "delay_s", "name_of", "take"]

_LEAST_S: Final = 0.002
_MEAN_S: Final = 0.006
_GOLDEN: Final = 0.6180339887498949  # its multiples fill the interval from 0 to 1 evenly
_NAMED: Final = slice(1, 3)  # words of the body: the run, the connection, the number
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"


class Stamp(NamedTuple):
    """A request as the server saw it, ns; ``name`` is ``connection:number`` where it has one."""

    name: str
    received: int
    answered: int


def delay_s(number: int) -> float:
    """How late the answer to this request of the run is meant to be."""
    return _LEAST_S - _MEAN_S * math.log(1 - number * _GOLDEN % 1)


def name_of(body: bytes) -> str:
    """``connection:number``, as the load generator writes it into a body; empty for others'."""
    return ":".join(body.decode("latin-1").split(":")[_NAMED])


def take(port: int) -> list[Stamp]:
    """What the server has kept since it was last asked."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/stamps") as answer:
        return [Stamp(*row) for row in json.load(answer)]


class Recorder(asyncio.Protocol):
    """One connection; ``stamps`` are those of all."""

    def __init__(self, stamps: list[Stamp]) -> None:
        self._stamps = stamps
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer a request that is whole, at its time."""
        now = time.monotonic_ns()
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return
        self._buffer = b""
        if head.startswith(b"GET /stamps "):
            said = json.dumps(self._stamps).encode()
            self._stamps.clear()
            self._transport.write(_ANSWER % (len(said), said))
            return
        loop = asyncio.get_running_loop()
        loop.call_later(delay_s(len(self._stamps)), self._answer, now, body)

    def _answer(self, received: int, body: bytes) -> None:
        self._stamps.append(Stamp(name_of(body), received, time.monotonic_ns()))
        self._transport.write(_ANSWER % (len(body), body))


def _length(head: bytes) -> int:
    lines = (line.partition(b":") for line in head.split(b"\r\n"))
    return next((int(value) for name, _, value in lines if name.lower() == b"content-length"), 0)


async def _serve(port: int) -> None:
    stamps: list[Stamp] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: Recorder(stamps), "127.0.0.1", port
    )
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
