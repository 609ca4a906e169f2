"""What a rehearsal costs at ten thousand connections, and whether it expects what then happens.

``python -m benchmarks.rehearsal [--connections N] [--rate R] [--rounds N]``: verify connections on
two workers under checked load; each round pushes v2 with a rehearsal and rolls it back with one,
then does both without. Prints, of each worker, how long the fork held its loop, how long the
rehearsal took and what it converted there and back, and the stall that it expected beside the one
that was measured.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.load import checked_load
from benchmarks.servers import Netswap, netswap

MODULE = "protocols/verify/v2.py"
WAYS = (
    ("push", MODULE),
    ("rollback",),
    ("push", MODULE, "--no-rehearsal"),
    ("rollback", "--no-rehearsal"),
)
PATIENCE = ("--timeout", "60s")


def main() -> int:
    """Measure and print; the load generator's exit code, or 1 when a swap failed."""
    parser = argparse.ArgumentParser(prog="benchmarks.rehearsal", description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    words = ["--connections", str(arguments.connections), "--rate", str(arguments.rate)]
    with (
        netswap("verify", workers=2) as server,
        checked_load(server, "verify", 3600, words, early=True) as load,
    ):
        swaps = list(_swaps(server, arguments.rounds))
    _print(swaps)
    counts = ", ".join(f"{name} {count:,}" for name, count in load.report["counts"].items())
    print(f"\nthe load: {load.report['verdict']}: {counts}")
    failed = any(code for _, code, _ in swaps)
    return 1 if failed else int(load.report["exit_code"])


Swapped = tuple[str, int, dict[str, Any]]


def _swaps(server: Netswap, rounds: int) -> Iterator[Swapped]:
    for _ in range(rounds):
        for way in WAYS:
            code, result = server.run(*way, *PATIENCE)
            yield way[0] + ", unrehearsed" * (way[-1] == "--no-rehearsal"), code, result


def _print(swaps: Iterable[Swapped]) -> None:
    heads = ("worker", "objects", "fork ms", "rehearsed s", "us each", "expected ms", "stall ms")
    print(f"{'swap':<22}" + "".join(f"{head:>13}" for head in heads))
    forks, times = [], []
    for name, code, result in swaps:
        stall = (result.get("receipt") or {}).get("stall_us", 0.0) / 1e3
        if code:
            print(f"{name:<22} exit {code}: {result.get('what')} ({result.get('where')})")
        for row in result.get("rehearsal", ()):
            figures = (
                row["fork_us"] / 1e3,
                row["seconds"],
                row["us_per_object"],
                row["stall_us"] / 1e3,
            )
            if not row["sample"]:
                forks.append(figures[0])
                times.append(figures[1])
            print(f"{name:<22}{row['worker']:>13}{row['objects']:>13,}", end="")
            print("".join(f"{figure:>13.2f}" for figure in (*figures, stall)))
    if forks:
        print(
            f"\nfork: median {statistics.median(forks):.2f} ms, at most {max(forks):.2f} ms; ",
            end="",
        )
        print(f"rehearsal: median {statistics.median(times):.2f} s, at most {max(times):.2f} s")


if __name__ == "__main__":
    sys.exit(main())
