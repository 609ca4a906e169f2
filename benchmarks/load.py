"""Runs the load generator beside something else and keeps its report."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmarks.servers import ROOT, Netswap

__all__ = ["FAULTS", "LIGHT", "Load", "Seen", "checked_load", "seen_by"]

CONNECTED_S = 60.0
LIGHT = ("--connections", "24", "--rate", "200")
"""A load beside which a small machine has time for pushes."""
FAULTS = ("lost", "duplicated", "reordered", "corrupted", "not_carried", "unknown", "dropped")
"""What no client may see."""


@dataclass
class Load:
    """A run of the load generator; ``report`` is there when it has ended."""

    report: dict[str, Any] = field(default_factory=dict)


class Seen(NamedTuple):
    """What the clients of some loads saw: operations ``answered``, and ``faults`` by name."""

    answered: int
    faults: dict[str, int]

    @property
    def clean(self) -> bool:
        """Whether there was load, and no fault in it."""
        return self.answered > 0 and not any(self.faults.values())

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.faults.items())
        return f"of {self.answered:,} operations {counts}"


def seen_by(loads: Iterable[Load]) -> Seen:
    """The counts of loads that have ended, added up."""
    counts = [load.report["counts"] for load in loads]
    faults = {name: sum(row[name] for row in counts) for name in FAULTS}
    return Seen(sum(row["answered"] for row in counts), faults)


@contextmanager
def checked_load(
    server: Netswap, protocol: str, seconds: float, words: Sequence[str], early: bool = False
) -> Iterator[Load]:
    """Load on ``protocol`` for ``seconds``, or ``early`` for as long as the body needs.

    The body begins when all connections are there.
    """
    command = [sys.executable, "-m", "loadgen", "run", "--protocol", protocol, "--json"]
    command += ["--port", str(server.ports[protocol]), "--duration", f"{seconds:g}s", *words]
    wanted = int(words[words.index("--connections") + 1])
    load = Load()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=subprocess.DEVNULL, text=True
        )
        try:
            _wait_connected(server, wanted)
            yield load
        finally:
            if early:
                process.terminate()
            process.wait(seconds + 60)
        output.seek(0)
        lines = re.findall(r"^\{.*\}$", output.read(), re.MULTILINE)
        load.report = json.loads(lines[-1])


def _wait_connected(server: Netswap, wanted: int) -> None:
    until = time.monotonic() + CONNECTED_S
    while time.monotonic() < until:
        workers = server.run("status")[1]["workers"]
        if sum(worker["connections"] for worker in workers) >= wanted:
            return
        time.sleep(0.1)
    raise SystemExit(f"not {wanted} connections within {CONNECTED_S:g} s")
