"""``python -m benchmarks [--rounds N] [--requests N]``: the paired comparisons, as a table."""

from __future__ import annotations

import argparse

from benchmarks import calls, memory, throughput


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=200_000)
    arguments = parser.parse_args()
    called = calls.measure()
    print("a call, nanoseconds:", ", ".join(f"{k} {v:.1f}" for k, v in called.items()))
    print(f"  a handle costs {called['through a handle'] - called['direct']:.1f} ns\n")
    kept = memory.measure()
    print("an idle connection, bytes:", ", ".join(f"{k} {v:,.0f}" for k, v in kept.items()))
    print(f"  netswap to bare: {kept['netswap'] / kept['bare uvloop']:.2f}\n")
    print(f"{'work':<12}{'against':<14}{'netswap/s':>12}{'other/s':>12}{'rate':>7}{'CPU/op':>8}")
    for row in throughput.compare(arguments.rounds, arguments.requests):
        print(
            f"{row.work:<12}{row.other:<14}{row.ours:>12,.0f}{row.theirs:>12,.0f}"
            f"{row.rate_ratio:>7.2f}{row.cpu_ratio:>8.2f}"
        )
    print("\nrate: netswap to the other (higher is better); CPU/op: lower is better; medians")


if __name__ == "__main__":
    main()
