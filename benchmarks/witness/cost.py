"""What an operation costs the load generator, beside the fastest tools: ``python -m
benchmarks.witness.cost``.

http beside wrk at netswap's http, kv beside redis-benchmark at Debian's redis-server, in turn, A B
A B, over as many connections with one request open on each. The cost is processor time, user and
system, of the process that sends, by the operation; wall time says more of the server. The load
generator checks every answer against its question, the other two read it. Then one load process
alone on its core, the server on another one: how fast it goes, and how busy the core was.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.servers import CLIENT_CPU, SERVER_CPU, need, netswap, redis_server
from benchmarks.witness.tools import Work, observe, run_wrk, spoken

_KV_RATE = 40_000  # a second: how much work redis-benchmark, which takes a count, is given
_VERBS = ("set", "get", "incr")
_PAYLOAD = "40"  # bytes: what kv's values come to
_DEPTHS = (1, 16)


class Pair(NamedTuple):
    """Processor time an operation (us) of the load generator and of the other, a round each."""

    ours: list[float]
    theirs: list[float]

    def say(self, what: str, other: str) -> str:
        """One line; the ratio is of what ran one after the other."""
        ratios = [mine / theirs for mine, theirs in zip(*self, strict=True)]
        ours, theirs = (statistics.median(each) for each in self)
        return (
            f"  {what:<22} loadgen {ours:5.1f} us  {other} {theirs:5.1f} us  "
            f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="benchmarks.witness.cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=50)
    asked = parser.parse_args()
    print(f"processor time an operation, {asked.connections} connections, medians of the rounds:")
    with netswap("http") as server:
        work = Work(server.ports["http"], asked.connections, asked.seconds)
        pair = _in_turn(asked.rounds, work, "http", lambda: run_wrk(work).cpu_us)
        print(pair.say("http at netswap", "wrk"))
    with redis_server() as (port, _):
        work = Work(port, asked.connections, asked.seconds)
        pair = _in_turn(asked.rounds, work, "kv", lambda: _redis_benchmark(work))
        print(pair.say("kv at redis-server", "redis-benchmark"))
    _print_alone(asked.connections, asked.seconds)
    return 0


def _in_turn(rounds: int, work: Work, protocol: str, other: Callable[[], float]) -> Pair:
    pair = Pair([], [])
    for _ in range(rounds):
        pair.ours.append(_cpu_us(work, protocol))
        pair.theirs.append(other())
    return pair


def _cpu_us(work: Work, protocol: str) -> float:
    seen = observe(work, protocol)
    return sum(seen.busy_ns) / 1000 / seen.tally.answered


def _redis_benchmark(work: Work) -> float:
    count = work.seconds * _KV_RATE // len(_VERBS)
    words = [need("redis-benchmark", "redis-tools"), "-p", str(work.port), "-q"]
    words += ["-c", str(work.connections), "-n", str(count), "-d", _PAYLOAD, "-t", ",".join(_VERBS)]
    said, busy_s = spoken(words)
    if "rror" in said:
        raise SystemExit(f"redis-benchmark was not answered as it must be:\n{said}")
    return busy_s * 1e6 / (count * len(_VERBS))


def _print_alone(connections: int, seconds: int) -> None:
    if SERVER_CPU == CLIENT_CPU:
        print("a load process on a core of its own needs a machine with two")
        return
    os.sched_setaffinity(0, {CLIENT_CPU})  # of this process and of the load process
    print("one load process on its own core, kv at redis-server on another:")
    with redis_server((SERVER_CPU,)) as (port, _):
        work = Work(port, connections, seconds)
        for depth in _DEPTHS:
            seen = observe(work, "kv", depth)
            busy = sum(seen.busy_ns) / seen.plan.duration_ns
            rate = seen.tally.answered / seconds
            print(
                f"  {depth:>2} open on each: {rate:>9,.0f} a second, the core {busy:.0%} busy: "
                f"{rate / busy:,.0f} if it never waited"
            )


if __name__ == "__main__":
    sys.exit(main())
