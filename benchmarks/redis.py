"""redis-benchmark runs on while kv is pushed and rolled back: ``python -m benchmarks.redis``.

The counts that must add up: INCR's key holds exactly the number of INCRs that redis-benchmark
sent, LPUSH's list exactly the number of LPUSHes, whatever the swaps did meanwhile.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Any

from benchmarks.servers import Netswap, need, netswap

MODULE = "protocols/kv/v2.py"
TESTS = "set,get,incr,lpush"


def main() -> int:
    """Run -P 1 and -P 16; 0 when nothing went wrong and everything adds up."""
    parser = argparse.ArgumentParser(prog="benchmarks.redis", description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    wrong = 0
    for pipeline in (1, 16):
        with netswap("kv", workers=2) as server:
            wrong += _storm(server, pipeline, arguments.requests, arguments.rounds)
    return 1 if wrong else 0


def _storm(server: Netswap, pipeline: int, requests: int, rounds: int) -> int:
    port = str(server.ports["kv"])
    words = [need("redis-benchmark", "redis-tools"), "-p", port, "-t", TESTS, "-c", "50"]
    words += ["-n", str(requests), "-P", str(pipeline), "--csv"]
    runs = 0
    swaps: list[tuple[int, dict[str, Any]]] = []
    failed: list[str] = []
    while len(swaps) < 2 * rounds:
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        while process.poll() is None and len(swaps) < 2 * rounds:
            swaps.append(server.run("push", MODULE))
            swaps.append(server.run("rollback"))
        output = process.communicate()[0]
        runs += 1
        if process.returncode or "rr" in output.lower().replace("incr", ""):
            failed.append(output)
    print(f"-P {pipeline}: {runs} runs of {TESTS}, {requests:,} each, {len(swaps)} swaps")
    print(output.rstrip())
    bad = [result for code, result in swaps if code]
    added = {
        "INCR": (int(_cli(port, "GET", "counter:__rand_int__")), runs * requests),
        "LPUSH": (int(_cli(port, "LLEN", "mylist")), runs * requests),
    }
    for name, (found, sent) in added.items():
        print(f"  {name}: sent {sent:,}, there {found:,}")
    worst = max(result["receipt"]["blackout_us"] for code, result in swaps if not code)
    print(f"  swaps failed {len(bad)}, runs failed {len(failed)}")
    print(f"  worst blackout {worst / 1000:.2f} ms\n")
    for result in (*bad, *failed):
        print(result)
    return len(bad) + len(failed) + sum(found != sent for found, sent in added.values())


def _cli(port: str, *words: str) -> str:
    command = [need("redis-cli", "redis-tools"), "-p", port, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
