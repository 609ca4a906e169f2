"""A thousand pushes under load: descriptors, memory, modules and objects have to stay flat.

``python -m benchmarks.soak [--pushes N]``: verify under checked load; every other push is a
bundle that the server has never seen, the rest go back and forth between versions. What is
counted is read from the workers' processes after each tenth of the pushes; at the end old code has
to be gone, as `netswap versions` tells it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.load import checked_load
from benchmarks.servers import ROOT, Netswap, netswap

SOURCE = ROOT / "protocols" / "verify" / "v2.py"
PUSHES_A_SECOND = 2.0
RETIRED_S = 10.0


class Reading(NamedTuple):
    """Sums over the workers, and the supervisor's own memory; bytes and counts."""

    pushes: int
    descriptors: int
    memory: int
    supervisor: int
    bundles: int
    objects: int


def main() -> int:
    """Push, read, print; 0 when the load passed, every push ended well and the rest is flat."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__)
    parser.add_argument("--pushes", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=200)
    arguments = parser.parse_args()
    seconds = arguments.pushes / PUSHES_A_SECOND + 10
    words = ["--connections", str(arguments.connections), "--rate", "1000"]
    with (
        netswap("verify", workers=2) as server,
        tempfile.TemporaryDirectory() as folder,
        checked_load(server, "verify", seconds, words) as load,
    ):
        readings, failures = _push_all(server, Path(folder), arguments.pushes)
        old = _wait_retired(server)
    return _verdict(readings, failures, old, load.report)


def _wait_retired(server: Netswap) -> list[dict[str, Any]]:
    """What is left of old code, given time: seconds to go, more to be searched for."""
    deadline = time.monotonic() + RETIRED_S
    while True:
        left: list[dict[str, Any]] = server.run("versions")[1]["retiring"]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.5)


def _push_all(
    server: Netswap, folder: Path, pushes: int
) -> tuple[list[Reading], list[dict[str, Any]]]:
    readings, failures = [], []
    text = SOURCE.read_text(encoding="utf-8")
    module = folder / "v2.py"
    for number in range(1, pushes + 1):
        if number % 2:
            module.write_text(f"{text}\n# {number}\n", encoding="utf-8")
            code, result = server.run("push", str(module))
        else:
            code, result = server.run("rollback")
        if code:
            failures.append(result)
        if number % max(1, pushes // 10) == 0:
            readings.append(_read(server, number))
            print(*readings[-1]._asdict().items(), flush=True)
    return readings, failures


def _read(server: Netswap, pushes: int) -> Reading:
    status = server.run("status")[1]
    pids = [worker["pid"] for worker in status["workers"]]
    workers = server.run("workers")[1]["workers"]
    return Reading(
        pushes,
        sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids),
        sum(_resident(pid) for pid in pids),
        _resident(status["pid"]),
        sum(worker["bundles"] for worker in workers),
        sum(kind["objects"] for kind in status["kinds"].values()),
    )


def _resident(pid: int) -> int:
    fields = Path(f"/proc/{pid}/status").read_text(encoding="ascii").split()
    return int(fields[fields.index("VmRSS:") + 1]) * 1024


def _verdict(
    readings: list[Reading],
    failures: list[dict[str, Any]],
    old: list[dict[str, Any]],
    report: dict[str, Any],
) -> int:
    first, last = readings[len(readings) // 4], readings[-1]
    grown = last.memory / first.memory
    print(f"\nfailed pushes: {len(failures)}; the load: {report['verdict']} {report['counts']}")
    print(f"workers' memory, last to first quarter: {grown:.3f}")
    print(f"generations of old code that are left: {len(old)}")
    for row in [*failures[:3], *old[:3]]:
        print(row)
    flat = all(
        getattr(last, name) == getattr(first, name)
        for name in ("descriptors", "bundles", "objects")
    )
    return (
        0 if flat and not failures and not old and grown < 1.1 and report["exit_code"] == 0 else 1
    )


if __name__ == "__main__":
    sys.exit(main())
