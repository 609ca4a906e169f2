"""A whole server from outside: its processes, its sockets, its commands.

``Server`` runs ``python -m netswap serve`` over a state directory of its own; ``Client`` is a plain
socket. Nothing here imports netswap: what is seen is what an operator and a client see. Waiting is
for conditions, and every wait has an end.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

__all__ = [
    "PUSHED",
    "ROOT",
    "Answer",
    "Client",
    "Process",
    "Server",
    "assert_faultless",
    "lasting",
    "still_runs",
    "until",
]

ROOT = Path(__file__).parents[2]
PUSHED = Path(__file__).with_name("pushed")
PATIENCE = 20.0
"""Seconds within which a condition must come true, on a machine that does much else."""
INTERVAL = 0.02
READY = re.compile(r"netswap ready: (\d+) workers?, (.+) \(pid (\d+), admin (.+)\)")


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """What ``condition()`` returns as soon as that is true; fails after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    pause = threading.Event()
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience:g} s: {what}")
        pause.wait(INTERVAL)
    return found


_UNTOLD = "something unknown: the search "
_DISTURBED = ("the generator stood still", "the generator was late")


def assert_faultless(code: int, report: dict[str, Any]) -> None:
    """Checked load saw no fault of the server's: everything was answered, and rightly.

    Where the machine had no time for the generator, its times prove nothing and make no pass; what
    it counted is as sure as ever.
    """
    counts = dict(report["counts"])
    assert counts.pop("issued") == counts.pop("answered") > 0, report
    assert not any(counts.values()), report
    assert report["connections"]["dropped"] == 0
    assert code in (0, 12), report["reasons"]
    assert all(reason.startswith(_DISTURBED) for reason in report["reasons"]), report["reasons"]


def lasting(seconds: int) -> Callable[[int], bool]:
    """Whether so many whole seconds may be left of what is given ``seconds`` from now on."""
    began = time.monotonic()
    return lambda left: seconds - (time.monotonic() - began) - 1 <= left <= seconds


def still_runs(process: subprocess.Popen[str]) -> bool:
    """Whether it does, a moment later: who asks its server without a pause takes a core from it."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(INTERVAL)
    return process.returncode is None


class Process:
    """A process that is not our child; its end can be waited for."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def kill(self) -> None:
        """End it at once."""
        signal.pidfd_send_signal(self._fd, signal.SIGKILL)

    def wait_ended(self, patience: float = PATIENCE) -> None:
        """Return when it has ended, reaped or not."""
        ended, _, _ = select.select([self._fd], [], [], patience)
        assert ended, f"process {self.pid} still runs after {patience:g} s"


class Answer(NamedTuple):
    """How a command ended: exit code, the JSON on its stdout, and what it said on stderr."""

    code: int
    page: dict[str, Any]
    stderr: str


class Client:
    """A plain TCP client that speaks lines."""

    def __init__(self, at: int | str | tuple[str, int], receive_buffer: int = 0) -> None:
        """``at``: a port of 127.0.0.1, the path of a Unix socket, or an address."""
        families = {str: socket.AF_UNIX, tuple: socket.AF_INET6}
        self.sock = socket.socket(families.get(type(at), socket.AF_INET))
        self.sock.settimeout(PATIENCE)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.sock.connect(("127.0.0.1", at) if isinstance(at, int) else at)
        except OSError:
            self.sock.close()
            raise
        self.address = _address(self.sock.getsockname())
        self._buffer = bytearray()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def finish(self) -> None:
        """Half-close: nothing more will be sent."""
        self.sock.shutdown(socket.SHUT_WR)

    def line(self) -> str:
        """The next line; what is left at the end of the stream."""
        while b"\n" not in self._buffer and self._more():
            pass
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer[:] = rest
        return line.decode()

    def ask(self, line: str) -> str:
        """Send a line and read one."""
        self.send(line.encode() + b"\n")
        return self.line()

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes, or what comes before the end."""
        while len(self._buffer) < size and self._more():
            pass
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def rest(self) -> bytes:
        """Everything up to the end of the stream."""
        while self._more():
            pass
        found = bytes(self._buffer)
        self._buffer.clear()
        return found

    def _more(self) -> bool:
        data = self.sock.recv(1 << 20)
        self._buffer += data
        return bool(data)


class Server:
    """One server over ``folder``; ``listen`` maps a protocol to a port, 0 being a free one."""

    def __init__(
        self, folder: Path, listen: Iterable[str] | Mapping[str, int], *options: str
    ) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self.socket = self.state_dir / "admin.sock"
        self.options = options
        self.wanted = dict(listen) if isinstance(listen, Mapping) else dict.fromkeys(listen, 0)
        self.ports: dict[str, int] = {}
        self.process: subprocess.Popen[str] | None = None
        self.ready_line = ""
        self._log = folder / "server.log"

    # -- its life --

    def command(self) -> list[str]:
        """What starts it."""
        listen = [
            word
            for name, port in self.wanted.items()
            for word in ("--listen", f"{name}=127.0.0.1:{port}")
        ]
        words = ["serve", *_workers(self.options), "--state-dir", str(self.state_dir)]
        return [sys.executable, "-m", "netswap", *words, *listen, *self.options]

    def start(self, log_to: int | None = None) -> Server:
        """Start it and return when it says that it is ready; its log may go to a descriptor."""
        with self._log.open("a") as file:
            log = file if log_to is None else log_to
            self.process = subprocess.Popen(
                self.command(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment(self.folder),
                cwd=self.folder,
            )
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        self.ready_line = self.process.stdout.readline().rstrip() if readable else ""
        ready = READY.fullmatch(self.ready_line)
        if ready is None:
            self.kill()
            raise AssertionError(f"not ready: {self.ready_line!r}\n{self._log.read_text()}")
        pairs = (word.rpartition(":") for word in ready[2].split(", "))
        self.ports = {name.split()[0]: int(port) for name, _, port in pairs if port.isdecimal()}
        return self

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to the supervisor."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, patience: float = PATIENCE) -> int:
        """The exit status, when it has ended."""
        assert self.process is not None
        status = self.process.wait(patience)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def stop(self) -> None:
        """Drain it; it must end in order."""
        self.signal()
        assert self.wait() == 0, self._log.read_text()

    def kill(self) -> None:
        """End it and its workers at once, if it runs."""
        if self.process is not None:
            self.process.kill()
            self.wait()

    # -- what it says --

    def netswap(self, *words: object, timeout: float = 60) -> Answer:
        """Run a command of netswap against it, with --json."""
        done = run(*words, "--json", "--socket", self.socket, timeout=timeout, home=self.folder)
        return Answer(done.returncode, _page(done.stdout), done.stderr)

    def starts(self, *words: object) -> subprocess.Popen[str]:
        """Start a command of netswap against it; for those that run beside others."""
        return subprocess.Popen(
            [*NETSWAP, *map(str, words), "--json", "--socket", str(self.socket)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(self.folder),
        )

    def push(self, *words: object) -> dict[str, Any]:
        """A push that must succeed: its result."""
        answer = self.netswap("push", *words)
        assert answer.code == 0, answer
        return answer.page

    def rollback(self, *words: object) -> dict[str, Any]:
        """A rollback that must succeed: its result."""
        answer = self.netswap("rollback", *words)
        assert answer.code == 0, answer
        return answer.page

    def look(self, resource: str) -> dict[str, Any]:
        """A GET of the admin API, without the cost of a command."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(str(self.socket))
            sock.sendall(f"GET /v1/{resource} HTTP/1.0\r\nHost: netswap\r\n\r\n".encode())
            with sock.makefile("rb") as answer:
                head, _, body = answer.read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 200"), (resource, head, body)
        page: dict[str, Any] = json.loads(body)
        return page

    def workers(self) -> list[dict[str, Any]]:
        """The rows of the worker slots."""
        found: list[dict[str, Any]] = self.look("status")["workers"]
        return found

    def wait_serving(self, without: Iterable[int | None] = ()) -> list[int]:
        """Return the workers' pids when all serve and none of the pids ``without`` is left."""
        gone = set(without)

        def serving() -> list[int]:
            rows = self.workers()
            pids = [row["pid"] for row in rows if row["state"] == "serving"]
            return pids if len(pids) == len(rows) and not gone & set(pids) else []

        found: list[int] = until(serving, "all workers serve")
        return found

    def kinds(self) -> dict[str, Any]:
        """What `status` says of each kind."""
        found: dict[str, Any] = self.look("status")["kinds"]
        return found

    def object_of(self, client: Client, kind: str) -> dict[str, Any]:
        """The object that serves ``client``, with its state."""

        def served() -> list[str]:
            rows = self.look(f"objects?selector=kind%3D{kind}")["objects"]
            return [row["id"] for row in rows if row["attributes"]["address"] == client.address]

        found: dict[str, Any] = self.look(f"inspect/{until(served, 'the client is served')[0]}")
        row: dict[str, Any] = found["object"]
        return row

    # -- its clients --

    def client(self, protocol: str, **how: int) -> Client:
        """A new client of a protocol."""
        return Client(self.ports[protocol], **how)

    @contextmanager
    def clients(self, protocol: str, workers: Callable[[Client], Any]) -> Iterator[list[Client]]:
        """One client of each worker, in the order of the slots; ``workers`` asks one for its pid.

        The kernel chooses the worker, so several may be needed.
        """
        found: dict[Any, Client] = {}
        pids = [row["pid"] for row in self.workers()]
        spare: list[Client] = []
        try:
            while len(found) < len(pids):
                spare.append(client := self.client(protocol))
                found.setdefault(int(workers(client)), client)
                assert len(spare) < 100, "the kernel gives all connections to one worker"
            chosen = [found[pid] for pid in pids]
            for client in spare:
                if client not in chosen:
                    client.close()
            yield chosen
        finally:
            for client in spare:
                client.close()

    # -- its log --

    def log(self) -> list[dict[str, Any]]:
        """The events of its log."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def accused(self) -> list[str]:
        """Who was said to hold old code; a search that a busy machine has ended accuses nobody."""
        told = [row["held_by"] for row in self.log() if row["event"] == "old_code_held"]
        return [one for all_ in told for one in all_ if not one.startswith(_UNTOLD)]

    def errors(self) -> list[dict[str, Any]]:
        """What was logged as an error."""
        return [row for row in self.log() if row["level"] in ("error", "critical")]


NETSWAP = (sys.executable, "-m", "netswap")


def environment(home: Path) -> dict[str, str]:
    """The environment of our processes: nothing of this user's configuration.

    Nor is their coverage measured, which takes two thirds as long again; the rooms' own tests do.
    Nor does asyncio tell in their log, in words that are no JSON, what it finds slow.
    """
    ours = ("NETSWAP_", "COVERAGE_", "PYTHONASYNCIODEBUG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def run(*words: object, home: Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command of netswap to its end."""
    return subprocess.run(
        [*NETSWAP, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(home),
        cwd=home,
        check=False,
    )


def _address(own: Any) -> str:
    """As the server names it; a Unix socket's client has a user and a process."""
    if not isinstance(own, tuple):
        return f"unix:{os.getuid()}:{os.getpid()}"
    host, port = own[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _workers(options: Iterable[str]) -> list[str]:
    return [] if "--workers" in options else ["--workers", "2"]


def _page(text: str) -> dict[str, Any]:
    lines = text.strip().splitlines()
    page: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return page
