"""``python -m benchmarks.web [--peers FOLDER] [--rounds N] [--seconds S] [--only WORK ...]``.

Each row is a work and a way to write the application, each compared with one other server in turn
(A B A B): requests a second and the server's processor time a request, medians over the rounds,
and the ratio of netswap's to the other's, by round.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.reload.peers import PEERS, find
from benchmarks.servers import (
    CLIENT_CPU,
    ROOT,
    SERVER_CPU,
    Netswap,
    cpu_seconds,
    free_port,
    need,
    pinned,
    running,
)

SITES = Path(__file__).with_name("sites")
CONNECTIONS = 50
ECHOES = 1000

PIPELINED = """
init = function(args)
  local one = wrk.format("GET", "/")
  local all = {}
  for n = 1, 16 do all[n] = one end
  many = table.concat(all)
end
request = function() return many end
"""
POSTED = """
wrk.method = "POST"
wrk.path = "/length"
wrk.body = string.rep("x", 10240)
"""
DIFFERENT = """
local n = 0
request = function() n = n + 1; return wrk.format("GET", "/?n=" .. n) end
"""
WORKS = {"hello": "", "different": DIFFERENT, "POST 10 kB": POSTED, "pipelined 16": PIPELINED}


class Way(NamedTuple):
    """How an application is written, and whom it is compared with."""

    site: str
    others: tuple[str, ...]


WAYS = {
    "def": Way("plain.py:app", ("bare httptools", "granian")),
    "async def": Way("coroutine.py:app", ("bare httptools",)),
    "aiohttp": Way("framework.py:make_app", ("aiohttp's own",)),
    "ASGI": Way("asgi.py:app", ("uvicorn", "granian")),
}


class Subject(NamedTuple):
    """A server under test, and the processes whose time is its."""

    port: int
    pids: tuple[int, ...]


class Figure(NamedTuple):
    """Of one run: requests a second, and microseconds of the server's processor time a request."""

    rate: float
    cost_us: float


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.web", description=__doc__)
    parser.add_argument("--peers", type=Path, help="a folder with uvicorn and granian")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", nargs="*", default=[], help="ways: def, ASGI, ...")
    arguments = parser.parse_args()
    need("wrk", "wrk")
    print(
        f"{'work':<14}{'by':<11}{'against':<16}{'netswap/s':>11}{'other/s':>11}{'rate':>7}{'CPU':>7}"
    )
    for name, way in WAYS.items():
        if arguments.only and name not in arguments.only:
            continue
        for other in way.others:
            program = _program(other, arguments.peers)
            if program is None:
                print(f"{name} against {other}: not measured, it is not there (--peers)")
                continue
            _compare(name, way, other, program, arguments.rounds, arguments.seconds)
    print("\nrate: netswap to the other, higher is better; CPU a request: lower is better")
    return 0


def _program(other: str, folder: Path | None) -> str | None:
    peers = {peer.name: peer for peer in PEERS}
    return find(peers[other], folder) if other in peers else sys.executable


def _compare(  # noqa: PLR0913, PLR0917 - what the command line says
    name: str, way: Way, other: str, program: str, rounds: int, seconds: float
) -> None:
    with ExitStack() as stack:
        ours = stack.enter_context(_netswap(way.site))
        theirs = stack.enter_context(_other(other, program))
        for work, script in WORKS.items():
            path = _script(stack, script)
            rows = [
                (_drive(ours, path, seconds), _drive(theirs, path, seconds))
                for _ in range(rounds + 1)
            ]
            _print(work, name, other, rows[1:])  # the first warms both up
        if name in {"aiohttp", "ASGI"}:
            pairs = [(_echo(ours, seconds), _echo(theirs, seconds)) for _ in range(rounds)]
            _print(f"{ECHOES} echoes", name, other, pairs)


def _print(work: str, name: str, other: str, rows: list[tuple[Figure, Figure]]) -> None:
    ours = statistics.median(a.rate for a, _ in rows)
    theirs = statistics.median(b.rate for _, b in rows)
    rate = statistics.median(a.rate / b.rate for a, b in rows)
    cost = statistics.median(a.cost_us / b.cost_us for a, b in rows)
    row = f"{work:<14}{name:<11}{other:<16}{ours:>11,.0f}{theirs:>11,.0f}{rate:>7.2f}{cost:>7.2f}"
    print(row, flush=True)


def _script(stack: ExitStack, text: str) -> str | None:
    if not text:
        return None
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wrk-")))
    path = folder / "script.lua"
    path.write_text(text, encoding="ascii")
    return str(path)


def _drive(subject: Subject, script: str | None, seconds: float) -> Figure:
    """wrk for some seconds. Raises RuntimeError for a status or socket error."""
    words = [
        *pinned((CLIENT_CPU,)),
        need("wrk", "wrk"),
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds:g}s",
    ]
    words += ["-s", script] if script else []
    before = cpu_seconds(*subject.pids)
    done = subprocess.run(
        [*words, f"http://127.0.0.1:{subject.port}/"],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 60,
    )
    used = cpu_seconds(*subject.pids) - before
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(done.stdout)
    (count,) = [line.split()[0] for line in done.stdout.splitlines() if "requests in" in line]
    return Figure(int(count) / seconds, used / int(count) * 1e6)


def _echo(subject: Subject, seconds: float) -> Figure:
    words = [*pinned((CLIENT_CPU,)), sys.executable, "-m", "benchmarks.web.echoes"]
    words += [str(subject.port), str(ECHOES), f"{seconds:g}"]
    with subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        if client.stdout.readline().strip() != "connected":
            raise RuntimeError("the echoes were not connected")
        before = cpu_seconds(*subject.pids)
        client.stdin.write("\n")
        client.stdin.flush()
        count = int(client.stdout.readline())
        used = cpu_seconds(*subject.pids) - before
    return Figure(count / seconds, used / count * 1e6)


@contextmanager
def _netswap(site: str) -> Iterator[Subject]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="netswap-bench-") as folder:
        words = [sys.executable, "-m", "netswap", "serve", "--app", f"{SITES / site}"]
        words += ["--state-dir", folder, "--socket", f"{folder}/s", "--workers", "1"]
        words += ["--listen", f"http=127.0.0.1:{port}"]
        with running(words, "ready", (SERVER_CPU,)):
            workers = Netswap(Path(folder) / "s", {"http": port}).workers()
            yield Subject(port, tuple(workers))


@contextmanager
def _other(name: str, program: str) -> Iterator[Subject]:
    port = free_port()
    with running(_command(name, program, port), _READY[name], (SERVER_CPU,), SITES) as process:
        yield Subject(port, tuple(_family(process.pid)))


_READY = {
    "bare httptools": "ready",
    "aiohttp's own": "ready",
    "uvicorn": "startup complete",
    "granian": "Started worker",
}


def _command(name: str, program: str, port: int) -> Sequence[str]:
    if name == "uvicorn":
        words = ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        return [program, "asgi:app", "--port", str(port), *words]
    if name == "granian":
        words = ["--interface", "asgi", "--loop", "uvloop", "--workers", "1", "--port", str(port)]
        return [program, *words, "--no-access-log", "asgi:app"]
    script = {"bare httptools": SITES.parent / "bare.py", "aiohttp's own": SITES / "framework.py"}
    return [program, str(script[name]), str(port)]


def _family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(found for child in children for found in _family(int(child)))]


if __name__ == "__main__":
    sys.exit(main())
