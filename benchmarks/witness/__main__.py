"""The load generator beside wrk and h2load, at the same server with the same requests, in turn:
``python -m benchmarks.witness``.

First all of them post 32 bytes to /echo as fast as it goes, A B C A B C: rate, processor time an
operation, percentiles, and how far these are apart. wrk and h2load read what comes back, the load
generator checks all of it. A faster client is answered later by a busy server, so latencies there
are of each tool's own load. Then each is aimed at a server that answers late by a known curve and
stamps every request: there all have the same to see, and the server says what it was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from benchmarks.servers import free_port, netswap, running
from benchmarks.witness.agreement import (
    Exact,
    apart,
    exact,
    little,
    medians,
    noise,
    server_side,
)
from benchmarks.witness.recorder import take
from benchmarks.witness.tools import SHARES, TOOLS, Run, Work, observe, run_of


def main() -> int:
    """In turn, so that none has the quieter machine; the medians of the rounds."""
    parser = argparse.ArgumentParser(prog="benchmarks.witness", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=50)
    asked = parser.parse_args()
    if asked.rounds < 2:
        parser.error("the noise is seen between two rounds: --rounds 2 or more")
    with netswap("http") as server:
        work = Work(server.ports["http"], asked.connections, asked.seconds)
        _print_speed(_in_turn(work, asked.rounds), asked.connections)
    port = free_port()
    words = [sys.executable, "-m", "benchmarks.witness.recorder", str(port)]
    with running(words, "ready", None):
        return _hold_against_stamps(Work(port, asked.connections, asked.seconds), asked.rounds)


def _in_turn(work: Work, rounds: int) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {name: [] for name in TOOLS}
    for _ in range(rounds):
        for name, tool in TOOLS.items():
            runs[name].append(tool(work))
    return runs


def _print_speed(runs: dict[str, list[Run]], connections: int) -> None:
    print("as fast as it goes at netswap's http, medians:")
    for name, each in runs.items():
        run = medians(each)
        spoken = "  ".join(f"{share} {us / 1000:.2f}" for share, us in run.latency.items())
        print(
            f"  {name:<8}{run.rate:>9,.0f} a second{run.cpu_us:>7.1f} us of CPU each  {spoken} ms"
        )
    ours = medians(runs["loadgen"]).latency
    for name in (name for name in runs if name != "loadgen"):
        _print_ratios(f"{name} to loadgen", apart(medians(runs[name]).latency, ours))
    _print_ratios("runs of one tool", noise(runs.values()))
    laws = "  ".join(f"{name} {little(each, connections):.3f}" for name, each in runs.items())
    print(f"  rate times mean latency to connections, 1 by Little's law:  {laws}")


def _hold_against_stamps(work: Work, rounds: int) -> int:
    """1 when an operation was seen by one witness only, or its times are in no possible order."""
    print("\nat a server that answers late by a curve and stamps every request, tool to server:")
    ratios: dict[str, list[Run]] = {name: [] for name in TOOLS}
    pairs: list[Exact] = []
    for _ in range(rounds):
        for name, tool in TOOLS.items():
            if name == "loadgen":
                seen = observe(work)
                run, stamps = run_of(seen), take(work.port)
                pairs.append(exact(seen.samples, stamps))
            else:
                run, stamps = tool(work), take(work.port)
            ratios[name].append(run._replace(latency=apart(run.latency, server_side(stamps))))
    for name, each in ratios.items():
        _print_ratios(name, medians(each).latency)
    return _print_exact(pairs)


def _print_exact(pairs: list[Exact]) -> int:
    both, alone = sum(pair.both for pair in pairs), sum(pair.alone for pair in pairs)
    wrong = sum(pair.out_of_order for pair in pairs)
    print(
        f"\nthe same operations, by the load generator and by the server: {both:,} seen by both, "
        f"{alone} by one alone, {wrong} not in the order sent, received, answered, done"
    )
    for index, pair in enumerate(pairs, 1):
        spoken = "  ".join(f"{share} {pair.difference[share]:,.0f}" for share in SHARES)
        p99 = f"p99 {pair.ours['p99']:,.0f} and {pair.theirs['p99']:,.0f}"
        print(f"  round {index}: longer for the client by {spoken} us; service time {p99} us")
    return int(bool(alone or wrong or not both))


def _print_ratios(name: str, ratios: Mapping[str, float]) -> None:
    print(f"  {name:<18}" + "  ".join(f"{share} {ratio:.3f}" for share, ratio in ratios.items()))


if __name__ == "__main__":
    sys.exit(main())
