"""Operations a second and processor time an operation, in pairs, driven by redis-benchmark.

redis-benchmark also drives echo: a request in RESP comes back as a valid reply of RESP.
"""

from __future__ import annotations

import csv
import functools
import statistics
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from benchmarks.servers import (
    CLIENT_CPU,
    SERVER_CPU,
    bare,
    cpu_seconds,
    need,
    netswap,
    pinned,
    redis_server,
)

__all__ = ["Row", "compare"]


class Subject(NamedTuple):
    """A server under test; ``pids`` are what its processor time is read from."""

    name: str
    port: int
    pids: tuple[int, ...]


class Row(NamedTuple):
    """One comparison: medians over the rounds; ratios are of netswap to the other, by round."""

    work: str
    other: str
    ours: float
    theirs: float
    rate_ratio: float
    cpu_ratio: float


def drive(subject: Subject, tests: str, pipeline: int, requests: int) -> tuple[float, float]:
    """Operations a second (all tests together) and server microseconds an operation."""
    words = [
        *pinned((CLIENT_CPU,)),
        need("redis-benchmark", "redis-tools"),
        "-p",
        str(subject.port),
        "-t",
        tests,
    ]
    words += ["-n", str(requests), "-c", "50", "-P", str(pipeline), "--csv"]
    before = cpu_seconds(*subject.pids)
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    used = cpu_seconds(*subject.pids) - before
    rows = [row for row in csv.reader(done.stdout.splitlines()) if row[0] != "test"]
    seconds = sum(requests / float(row[1]) for row in rows)
    operations = requests * len(rows)
    return operations / seconds, used / operations * 1e6


def compare(rounds: int = 3, requests: int = 200_000) -> list[Row]:
    """Echo and kv against bare uvloop, kv against redis-server, each A B A B."""
    need("redis-benchmark", "redis-tools")
    rows = []
    for kind, tests in (("echo", "ping_mbulk"), ("kv", "set,get,incr,lpush")):
        rows += _pairs(kind, tests, functools.partial(_bare, kind), rounds, requests)
    rows += _pairs("kv", "set,get,incr,lpush", _redis, rounds, requests)
    return rows


def _bare(kind: str, stack: ExitStack) -> Subject:
    port, pid = stack.enter_context(bare(kind, (SERVER_CPU,)))
    return Subject("bare uvloop", port, (pid,))


def _redis(stack: ExitStack) -> Subject:
    port, pid = stack.enter_context(redis_server((SERVER_CPU,)))
    return Subject("redis-server", port, (pid,))


def _pairs(
    kind: str,
    tests: str,
    start: Callable[[ExitStack], Subject],
    rounds: int,
    requests: int,
) -> list[Row]:
    rows = []
    with ExitStack() as stack:
        server = stack.enter_context(netswap(kind, cpus=(SERVER_CPU,)))
        server.run("push", f"protocols/{kind}/v2.py")
        ours = Subject("netswap", server.ports[kind], tuple(server.workers()))
        other = start(stack)
        for pipeline in (1, 16):
            drive(ours, tests, pipeline, requests // 10)
            drive(other, tests, pipeline, requests // 10)
            pairs = [
                (drive(ours, tests, pipeline, requests), drive(other, tests, pipeline, requests))
                for _ in range(rounds)
            ]
            rows.append(_row(f"{kind} -P {pipeline}", other.name, pairs))
    return rows


def _row(
    work: str, other: str, pairs: list[tuple[tuple[float, float], tuple[float, float]]]
) -> Row:
    return Row(
        work,
        other,
        statistics.median(ours[0] for ours, _ in pairs),
        statistics.median(theirs[0] for _, theirs in pairs),
        statistics.median(ours[0] / theirs[0] for ours, theirs in pairs),
        statistics.median(ours[1] / theirs[1] for ours, theirs in pairs),
    )
