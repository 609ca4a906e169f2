"""wrk, h2load and the load generator, each at the same server with the same closed-loop work.

All post 32 bytes to /echo, over as many connections, one request open on each. CPU is user and
system time divided by the operations: of the process for wrk and h2load, of the load process in
which was sent for ours. Latencies are microseconds.
"""

from __future__ import annotations

import asyncio
import operator
import re
import resource
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.servers import need
from loadgen import Plan, build_report, conduct, judge
from loadgen.conductor import Observation
from loadgen.spread import PERCENTILES, spread

__all__ = [
    "SHARES",
    "TOOLS",
    "Run",
    "Work",
    "observe",
    "percentiles",
    "run_h2load",
    "run_of",
    "run_wrk",
    "spoken",
]

SHARES: Final = tuple(name for name, _ in PERCENTILES)
_BODY: Final = "x" * 32
_FOUND: Final = "asked"
_LUA: Final = f"""wrk.method = "POST"
wrk.path = "/echo"
wrk.body = "{_BODY}"
done = function(summary, latency, requests)
  for _, share in ipairs({{{", ".join(str(share * 100) for _, share in PERCENTILES)}}}) do
    local us = share < 100 and latency:percentile(share) or latency.max
    io.write(string.format("{_FOUND} %d\\n", us))
  end
  io.write(string.format("{_FOUND} %d\\n", latency.mean))
end
"""


class Work(NamedTuple):
    """Where to, over how many connections, for how many seconds."""

    port: int
    connections: int
    seconds: int


class Run(NamedTuple):
    """Operations a second, processor time (us) of each, percentiles and mean of latency (us)."""

    rate: float
    cpu_us: float
    latency: dict[str, float]
    mean_us: float


def run_wrk(work: Work) -> Run:
    """wrk's own percentiles: it adds operations that it reckons it would have sent but for a slow
    one, more of them the slower that was (``stats_correct``).
    """
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_LUA)
        script.flush()
        words = [need("wrk", "wrk"), "-t1", f"-c{work.connections}", f"-d{work.seconds}s"]
        url = f"http://127.0.0.1:{work.port}"
        said, busy_s = spoken([*words, "-s", script.name, url])
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"wrk was not answered as it must be:\n{said}")
    (count,) = re.findall(r"(\d+) requests in", said)
    (rate,) = re.findall(r"Requests/sec:\s+([\d.]+)", said)
    found = re.findall(rf"^{_FOUND} (\d+)$", said, re.MULTILINE)
    *latency, mean_us = map(float, found)
    named = dict(zip(SHARES, latency, strict=True))
    return Run(float(rate), busy_s * 1e6 / int(count), named, mean_us)


def run_h2load(work: Work) -> Run:
    """h2load over HTTP/1.1; percentiles are of every request that its log has."""
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder) / "body", Path(folder) / "log"
        body.write_text(_BODY)
        words = [need("h2load", "nghttp2-client"), "--h1", "-t1", f"-c{work.connections}"]
        words += [f"-D{work.seconds}", f"--data={body}", f"--log-file={log}"]
        said, busy_s = spoken([*words, f"http://127.0.0.1:{work.port}/echo"])
        rows = [line.split("\t") for line in log.read_text().splitlines()]
    (failed,) = re.findall(r"(\d+) failed", said)
    if int(failed) or {row[1] for row in rows} != {"200"}:
        raise SystemExit(f"h2load was not answered as it must be:\n{said}")
    times = [int(row[2]) for row in rows]
    latency = percentiles([us * 1000 for us in times])
    rate, cpu_us = len(rows) / work.seconds, busy_s * 1e6 / len(rows)
    return Run(rate, cpu_us, latency, statistics.fmean(times))


def run_loadgen(work: Work) -> Run:
    """The load generator: every answer is compared with its question."""
    return run_of(observe(work))


def observe(
    work: Work, protocol: str = "http", depth: int = 1, rate: float | None = None
) -> Observation:
    """A run of the load generator with its raw times; one with a fault in it ends all."""
    plan = Plan(
        protocol=protocol,
        host="127.0.0.1",
        port=work.port,
        connections=work.connections,
        duration_ns=work.seconds * 1_000_000_000,
        depth=depth,
        rate=rate,
    )
    seen = asyncio.run(conduct(plan, []))
    verdict = judge(build_report(seen))
    if verdict.exit_code:
        raise SystemExit(f"the load generator says {verdict.name}: {'; '.join(verdict.reasons)}")
    return seen


def run_of(seen: Observation) -> Run:
    """What counts beside the others."""
    report = build_report(seen)
    cpu_us = sum(seen.busy_ns) / 1000 / seen.tally.answered
    latency = {name: value or 0.0 for name, value in report.latency.items()}
    times = map(operator.sub, seen.samples.done, seen.samples.intended)
    return Run(report.rate.achieved, cpu_us, latency, statistics.fmean(times) / 1000)


def percentiles(durations_ns: Sequence[int]) -> dict[str, float]:
    """By nearest rank, microseconds."""
    return {name: value or 0.0 for name, value in spread(durations_ns).items()}


TOOLS: Final[dict[str, Callable[[Work], Run]]] = {
    "loadgen": run_loadgen,
    "wrk": run_wrk,
    "h2load": run_h2load,
}


def spoken(words: list[str]) -> tuple[str, float]:
    """What a command says, and the processor time (s) that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{words[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
