"""What each tool says of a server that stood still for 0.1 s: ``python -m
benchmarks.witness.stall``.

wrk, h2load and the load generator post 32 bytes to /echo in closed loop, in turn. In each run the
server's worker is stopped once and let go on. Who would have asked in that time is in no percentile
of a closed loop: one operation of each connection was slow. The load generator's corrected
percentiles put them in, and so do wrk's, in a way of its own. An open loop has asked them all: it
is what the others are to be held against.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from benchmarks.servers import cpu_seconds, netswap
from benchmarks.witness.tools import SHARES, Work, observe, run_h2load, run_wrk
from loadgen import build_report
from loadgen.spread import Spread

_STALL_S: Final = 0.1
_BUSY_S: Final = 0.2
"""Processor time of the worker after which a tool's run is under way."""
_LOOK_S: Final = 0.01


def main() -> int:
    """Print the medians of the rounds."""
    parser = argparse.ArgumentParser(prog="benchmarks.witness.stall", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--rate", type=float, default=10_000.0, help="of the open loop")
    asked = parser.parse_args()
    with netswap("http") as server:
        work = Work(server.ports["http"], asked.connections, asked.seconds)
        (worker,) = server.workers()
        told: dict[str, list[Spread]] = {}
        for _ in range(asked.rounds):
            for name, spread in _round(work, asked.rate, worker):
                told.setdefault(name, []).append(spread)
    print(f"a server that stood still for {_STALL_S:g} s of {asked.seconds}, medians:")
    for name, spreads in told.items():
        cells = (statistics.median(each[share] or 0.0 for each in spreads) for share in SHARES)
        spoken = "  ".join(
            f"{share} {us / 1000:6.2f}" for share, us in zip(SHARES, cells, strict=True)
        )
        print(f"  {name:<24}{spoken} ms")
    return 0


def _round(work: Work, rate: float, worker: int) -> Iterator[tuple[str, Spread]]:
    with stalling(worker):
        yield "wrk", {**run_wrk(work).latency}
    with stalling(worker):
        yield "h2load", {**run_h2load(work).latency}
    with stalling(worker):
        closed = build_report(observe(work))
    yield "loadgen, as measured", closed.latency
    yield "loadgen, corrected", closed.corrected
    with stalling(worker):
        yield "loadgen, open loop", build_report(observe(work, rate=rate)).latency


@contextmanager
def stalling(worker: int) -> Iterator[None]:
    """The worker is stopped once, when what happens here has it work."""
    over, stopped = threading.Event(), threading.Event()
    thread = threading.Thread(target=_stall, args=(worker, over, stopped))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if not stopped.is_set():
        raise SystemExit("the server had too little to do to be stopped in it: use more --seconds")


def _stall(worker: int, over: threading.Event, stopped: threading.Event) -> None:
    until = cpu_seconds(worker) + _BUSY_S
    while cpu_seconds(worker) < until:
        if over.wait(_LOOK_S):
            return
    os.kill(worker, signal.SIGSTOP)
    stopped.set()
    time.sleep(_STALL_S)
    os.kill(worker, signal.SIGCONT)


if __name__ == "__main__":
    sys.exit(main())
