"""Starts and ends the servers that are measured, each pinned to one processor."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

__all__ = [
    "Netswap",
    "bare",
    "cpu_seconds",
    "free_port",
    "need",
    "netswap",
    "pinned",
    "redis_server",
    "running",
]

ROOT = Path(__file__).resolve().parent.parent
READY_S = 30.0
SERVER_CPU, CLIENT_CPU = 0, (os.cpu_count() or 1) - 1
_TICKS = os.sysconf("SC_CLK_TCK")


def need(program: str, package: str) -> str:
    """The path of a program, or an exit that says which Debian package has it."""
    found = shutil.which(program)
    if found is None:
        raise SystemExit(f"{program} is needed: apt-get install {package}")
    return found


def pinned(cpus: Sequence[int] | None) -> list[str]:
    """The words that put a command on these processors."""
    return [] if cpus is None else ["taskset", "-c", ",".join(map(str, cpus))]


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def cpu_seconds(*pids: int) -> float:
    """User and system time that these processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


class Netswap(NamedTuple):
    """A running server: its commands go through ``run``; ``port`` by protocol."""

    socket: Path
    ports: dict[str, int]

    def run(self, *words: str) -> tuple[int, dict[str, Any]]:
        """``netswap WORDS --json``: the exit code and the result."""
        command = [sys.executable, "-m", "netswap", *words, "--socket", str(self.socket), "--json"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        lines = done.stdout.strip().splitlines()
        return done.returncode, json.loads(lines[-1]) if lines else {"stderr": done.stderr}

    def workers(self) -> list[int]:
        """The workers' process ids."""
        return [row["pid"] for row in self.run("status")[1]["workers"]]


@contextmanager
def netswap(
    *protocols: str, workers: int = 1, cpus: Sequence[int] | None = None, home: Path = ROOT
) -> Iterator[Netswap]:
    """``netswap serve`` with these protocols on free ports.

    It begins with the bundled modules of ``home``, a folder with ``protocols`` in it.
    """
    folder = Path(tempfile.mkdtemp(prefix="netswap-bench-"))
    ports = {protocol: free_port() for protocol in protocols}
    words = [sys.executable, "-m", "netswap", "serve", "--workers", str(workers)]
    words += ["--state-dir", str(folder), "--socket", str(folder / "s")]
    for protocol, port in ports.items():
        words += ["--listen", f"{protocol}=127.0.0.1:{port}"]
    with running(words, "ready", cpus, home):
        yield Netswap(folder / "s", ports)
    shutil.rmtree(folder)


@contextmanager
def bare(kind: str, cpus: Sequence[int] | None = None) -> Iterator[tuple[int, int]]:
    """The same handler on bare uvloop: its port and process id."""
    port = free_port()
    words = [sys.executable, "-m", "benchmarks.bare", kind, str(port)]
    with running(words, "ready", cpus) as process:
        yield port, process.pid


@contextmanager
def redis_server(cpus: Sequence[int] | None = None) -> Iterator[tuple[int, int]]:
    """Debian's redis-server without persistence: its port and process id."""
    port = free_port()
    words = [need("redis-server", "redis-server"), "--port", str(port), "--save", ""]
    with running(words, "Ready to accept", cpus) as process:
        yield port, process.pid


@contextmanager
def running(
    words: Sequence[str], ready: str, cpus: Sequence[int] | None, home: Path = ROOT
) -> Iterator[subprocess.Popen[str]]:
    """A process that has said what the expression ``ready`` matches, until it is ended."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*pinned(cpus), *words], cwd=home, stdout=log, stderr=subprocess.STDOUT, text=True
        )
        try:
            _wait_ready(process, log, ready)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_ready(process: subprocess.Popen[str], log: Any, ready: str) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        log.seek(0)
        text = log.read()
        if re.search(ready, text):
            return
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}:\n{text}")
        time.sleep(0.02)
    raise SystemExit(f"the server was not ready within {READY_S:g} s:\n{text}")
