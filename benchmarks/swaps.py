"""Push and rollback under ten thousand live connections that carry checked load.

``python -m benchmarks.swaps [--connections N] [--rate R] [--rounds N]``: verify connections on two
workers; each round pushes v2 and rolls it back. Prints the cost of a connection, the longest
stall of a loop and the blackout of each swap, and the load generator's verdict on all of it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

from benchmarks.load import checked_load
from benchmarks.servers import netswap

MODULE = "protocols/verify/v2.py"


def main() -> int:
    """Measure and print; the load generator's exit code, or 1 when a swap failed."""
    parser = argparse.ArgumentParser(prog="benchmarks.swaps", description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    seconds = 12 + 3 * arguments.rounds
    swaps: list[tuple[str, int, dict[str, Any]]] = []
    with netswap("verify", workers=2) as server:
        words = ["--connections", str(arguments.connections), "--rate", str(arguments.rate)]
        with checked_load(server, "verify", seconds, words) as load:
            for _ in range(arguments.rounds):
                swaps.append(("push", *server.run("push", MODULE)))
                swaps.append(("rollback", *server.run("rollback")))
        report = load.report
    _print(swaps, report)
    failed = any(code for _, code, _ in swaps)
    return 1 if failed else int(report["exit_code"])


def _print(swaps: list[tuple[str, int, dict[str, Any]]], report: dict[str, Any]) -> None:
    print(f"{'swap':<10}{'exit':>5}{'objects':>9}{'us each':>9}{'stall ms':>10}{'blackout ms':>13}")
    costs = []
    for name, code, result in swaps:
        receipt = result.get("receipt") or {}
        objects = sum(receipt.get("objects", {}).values())
        cost = receipt.get("convert_us", 0.0) / max(objects, 1)
        costs.append(cost)
        stall, blackout = receipt.get("stall_us", 0) / 1e3, receipt.get("blackout_us", 0) / 1e3
        print(f"{name:<10}{code:>5}{objects:>9,}{cost:>9.2f}{stall:>10.2f}{blackout:>13.2f}")
        if code:
            print(f"  {result.get('what')} ({result.get('where')})")
    print(f"\na connection: median {statistics.median(costs):.2f} us")
    counts = ", ".join(f"{name} {count:,}" for name, count in report["counts"].items())
    print(f"the load: {report['verdict']}: {counts}")
    print(f"latency from the intended time, us: {report['latency_us']}")


if __name__ == "__main__":
    sys.exit(main())
