"""One real worker process, and a test in the place of its supervisor.

The test speaks the control channel over a plain blocking socket: what it sends goes at once, and
what it waits for has a bound.
"""

from __future__ import annotations

import fcntl
import select
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from netswap.canary import Canary
from netswap.channel import FrameReader, answers, encode_frame, messages
from netswap.modules import Bundle, BundleStore

__all__ = ["OneWorker"]

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0
FIRST = {
    "timer.service": "protocols/timers/loop.py",
    "connection.factory": "protocols/factories/plain.py",
    "buffer.receive": "protocols/buffers/contiguous.py",
    "watch.policy": "protocols/watch/v1.py",
}
M = TypeVar("M")


class OneWorker:
    """A worker of one slot, booted or not, with a listener for each protocol."""

    def __init__(self, folder: Path, loop: str = "uvloop", slot: int = 0) -> None:
        self.slot = slot
        self.store = BundleStore(folder / "bundles")
        self.active = {
            kind: self.store.put(Bundle.from_paths([ROOT / path])) for kind, path in FIRST.items()
        }
        self.heartbeats: list[messages.Heartbeat] = []
        self.begun: list[messages.Begun] = []
        self._folder = folder
        self._received: list[messages.Message] = []
        self._reader = FrameReader()
        self._mesh = socket.socket(socket.AF_UNIX)
        self._mesh.bind(str(folder / "mesh"))
        self._mesh.listen()
        self._listeners: dict[str, socket.socket] = {}
        self._clients: list[socket.socket] = []
        self.control, theirs = socket.socketpair()
        self.control.settimeout(PATIENCE)
        for name in ("talk", "busy", "late"):
            listener = self._listeners[name] = socket.create_server(("127.0.0.1", 0))
            listener.set_inheritable(True)
        with theirs:
            self.process = self._started(loop, theirs)

    def _started(self, loop: str, theirs: socket.socket) -> subprocess.Popen[bytes]:
        words = ["--slot", self.slot, "--control", theirs.fileno(), "--mesh", self._mesh.fileno()]
        with (self._folder / "log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "netswap.worker", *map(str, words), "--loop", loop],
                pass_fds=[theirs.fileno(), self._mesh.fileno(), *self._descriptors()],
                stderr=log,
                cwd=ROOT,
            )

    def _descriptors(self) -> list[int]:
        return [listener.fileno() for listener in self._listeners.values()]

    @property
    def log(self) -> str:
        """What the worker has written."""
        return (self._folder / "log").read_text(encoding="utf-8")

    def put(self, source: str, name: str = "mine.py") -> str:
        """A bundle of one file in the store; its hash."""
        return self.store.put(Bundle(name, {name: source.encode()}))

    def boot(self, **kinds: str) -> None:
        """Let it serve ``KIND_connection=HASH``; returns when it is ready."""
        self.expect(messages.Hello)
        self.active |= {name.replace("_", "."): sha for name, sha in kinds.items()}
        specs = [
            messages.ListenerSpec(name, name, "", listener.fileno())
            for name, listener in self._listeners.items()
        ]
        paths = {self.slot: str(self._folder / "mesh")}
        store = str(self._folder / "bundles")
        self.send(messages.Boot([self.slot], specs, self.active, store, paths))

    def send(self, *sent: messages.Message) -> None:
        """Say something to the worker."""
        self.control.sendall(b"".join(map(encode_frame, sent)))

    def expect(self, shape: type[M]) -> M:
        """The next message that is no heartbeat and no Begun; it has to be of this shape."""
        while not self._received:
            data = self.control.recv(65536)
            assert data, f"the worker has gone:\n{self.log}"
            self._take(data)
        message = self._received.pop(0)
        assert isinstance(message, shape), message
        return message

    def heard(self) -> list[messages.Message]:
        """What it has said so far and nobody has expected."""
        self.take_what_is_there()
        said, self._received = self._received, []
        return said

    def take_what_is_there(self) -> None:
        """Read what the worker has sent so far, without waiting for more."""
        while select.select([self.control], [], [], 0)[0]:
            self._take(self.control.recv(65536))

    def has_read_all(self) -> bool:
        """Whether nothing that was said to the worker still lies in its socket."""
        unread = fcntl.ioctl(self.control, termios.TIOCOUTQ, bytes(4))
        return not int.from_bytes(unread, sys.byteorder)

    def _take(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            known: dict[type, list[Any]] = {
                messages.Heartbeat: self.heartbeats, messages.Begun: self.begun
            }  # fmt: skip
            known.get(type(message), self._received).append(message)

    def wait_heartbeat(self) -> messages.Heartbeat:
        """The next heartbeat."""
        self.heartbeats.clear()
        while not self.heartbeats:
            self._take(self.control.recv(65536))
        return self.heartbeats[-1]

    def ask(self, what: str, argument: str = "") -> Any:
        """A look's answer, decoded."""
        self.send(messages.Query(1, what, argument))
        answer = self.expect(messages.Answer)
        assert answer.error is None, answer.error
        return answers.decode_answer(what, answer.data)

    def kind(self, kind: str) -> tuple[dict[int, int], int]:
        """How many objects of each version a kind has, and how many bundles are loaded."""
        status: answers.WorkerStatus = self.ask("status")
        counts = status.kinds.get(kind)
        return (counts.by_version if counts else {}), status.bundles

    def prepare(self, tx: int, shape: type[M], timeout: float = PATIENCE, **target: Any) -> M:
        """Prepare ``KIND_connection=HASH``; the answer has to be of this shape."""
        only = target.pop("only", None)
        kinds = {name.replace("_", "."): sha for name, sha in target.items()}
        self.send(messages.Prepare(tx, kinds, only=only, timeout=timeout))
        return self.expect(shape)

    def canary(
        self, tx: int, canary: Canary, shape: type[M], timeout: float = PATIENCE, **target: Any
    ) -> M:
        """The same with a canary, which is on probation."""
        kinds = {name.replace("_", "."): sha for name, sha in target.items()}
        ask = messages.Prepare(tx, kinds, timeout=timeout, canary=canary, probation=True)
        self.send(ask)
        return self.expect(shape)

    def connect(self, name: str = "talk") -> socket.socket:
        """A client of one of the listeners."""
        address = self._listeners[name].getsockname()
        client = socket.create_connection(address, PATIENCE)
        self._clients.append(client)
        return client

    def until(self, condition: Callable[[], bool]) -> None:
        """Ask until it is so."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.log

    def wait_ended(self) -> int:
        """Its exit status, as soon as there is one."""
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """End whatever is left of it."""
        self.process.kill()
        self.process.wait(PATIENCE)
        for sock in [*self._clients, *self._listeners.values(), self._mesh, self.control]:
            sock.close()


def say(client: socket.socket, data: bytes) -> bytes:
    """Send, and return the answer up to the end of its line; b"" when the connection ends."""
    client.sendall(data)
    return hear(client)


def hear(client: socket.socket) -> bytes:
    """A line from the worker, or b"" at the end."""
    line = b""
    while not line.endswith(b"\n"):
        assert select.select([client], [], [], PATIENCE)[0], f"nothing after {line!r}"
        try:
            data = client.recv(1)
        except ConnectionResetError:
            return b""
        if not data:
            return line
        line += data
    return line
