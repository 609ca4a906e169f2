"""The load generator beside wrk, at the same server with the same requests, in turn:
``python -m benchmarks.witness``.

Both post 32 bytes to /echo as fast as it goes, over as many connections. wrk reads what comes back,
the load generator checks all of it. CPU is user and system time of the sending window, divided by
the operations: wrk's of its process, ours of the load process.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.servers import ROOT, need, netswap

SCRIPT = 'wrk.method = "POST"\nwrk.path = "/echo"\nwrk.body = string.rep("x", 32)\n'
SHARES = ("p50", "p90", "p99")
_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}


class Run(NamedTuple):
    """Operations a second, processor time (us) of each, and percentiles of latency (us)."""

    rate: float
    cpu_us: float
    latency: dict[str, float]


def main() -> int:
    """In turn, so that neither has the quieter machine; the medians of the rounds."""
    parser = argparse.ArgumentParser(prog="benchmarks.witness", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=50)
    asked = parser.parse_args()
    wrk, ours = need("wrk", "wrk"), [sys.executable, "-m", "loadgen", "run"]
    runs: dict[str, list[Run]] = {"wrk": [], "loadgen": []}
    with netswap("http") as server, tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(SCRIPT)
        port = server.ports["http"]
        for _ in range(asked.rounds):
            words = [wrk, "-t1", f"-c{asked.connections}", f"-d{asked.seconds}s", "--latency"]
            runs["wrk"].append(_wrk([*words, "-s", str(script), f"http://127.0.0.1:{port}"]))
            words = [*ours, "--protocol", "http", "--port", str(port), "--json"]
            words += ["--connections", str(asked.connections), "--duration", f"{asked.seconds}s"]
            runs["loadgen"].append(_loadgen(words))
    for name, each in runs.items():
        _print(name, each)
    return 0


def _wrk(words: list[str]) -> Run:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"wrk was not answered as it must be:\n{said}")
    (count,) = re.findall(r"(\d+) requests in", said)
    (rate,) = re.findall(r"Requests/sec:\s+([\d.]+)", said)
    found = re.findall(r"^\s+(\d+)%\s+([\d.]+)(us|ms|s)$", said, re.MULTILINE)
    latency = {f"p{share}": float(value) * _UNITS[unit] for share, value, unit in found}
    return Run(float(rate), busy * 1e6 / int(count), {name: latency[name] for name in SHARES})


def _loadgen(words: list[str]) -> Run:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the load generator ended with {done.returncode}:\n{done.stdout}")
    report = json.loads(done.stdout)
    cpu = sum(report["cpu_s"]) * 1e6 / report["counts"]["answered"]
    return Run(report["rate"]["achieved"], cpu, {k: report["latency_us"][k] for k in SHARES})


def _print(name: str, runs: list[Run]) -> None:
    rate = statistics.median(run.rate for run in runs)
    cpu = statistics.median(run.cpu_us for run in runs)
    times = {share: statistics.median(run.latency[share] for run in runs) for share in SHARES}
    spoken = "  ".join(f"{share} {time / 1000:.2f} ms" for share, time in times.items())
    print(f"{name:<8} {rate:>9,.0f} a second  {cpu:5.1f} us of CPU each  {spoken}")


if __name__ == "__main__":
    sys.exit(main())
