"""``python -m benchmarks.files``: processor time of files and of the access log, in one run.

A small file against a "hello", with and without the access log, on a connection whose transport
takes everything; and a large file to a client of another process over loopback, past the transport
and written to it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import structlog
import uvloop

from netswap.http.accesslog import AccessLog
from netswap.stack import Host, Implementation
from protocols.buffers import contiguous, immediate
from protocols.cache import file as cached_file
from protocols.cache import lru
from protocols.factories import plain
from protocols.http import v1 as http
from protocols.static import site, v2
from protocols.timers import wheel
from protocols.welcome import v1 as welcome

ROUNDS = 9
REQUESTS = 20_000
LARGE = 300_000_000
TIMES = 3
MODULES = (wheel, contiguous, immediate, plain, lru, cached_file, v2, http)
CLIENT = """
import socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
sock.sendall(b"GET /large HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
room = bytearray(1 << 20)
while sock.recv_into(room): pass
"""


class _Sink(asyncio.Transport):
    """A transport that takes everything at once."""

    def write(self, data: Any) -> None:
        """It is gone."""

    def is_closing(self) -> bool:
        """Never."""
        return False

    def set_protocol(self, protocol: Any) -> None:
        """Nothing is ever read."""


def _hosted(app: Any, root: str) -> Any:
    """A host with what HTTP needs, and ``app``."""
    host: Any = Host(asyncio.get_running_loop(), structlog.get_logger("benchmarks"))
    host.settings = {"static": {"main": root}}
    for module in (*MODULES, app):
        for cls in vars(module).values():
            if isinstance(cls, type) and issubclass(cls, Implementation) and cls.kind:
                host.install(cls)
    host.add_listener("files")
    return host


def _microseconds(connection: Any, request: bytes) -> float:
    began = time.process_time()
    for _ in range(REQUESTS):
        connection.data_received(request)
    return (time.process_time() - began) / REQUESTS * 1e6


async def _small(root: str) -> dict[str, float]:
    """Microseconds a request, the best of some rounds taken in turn."""
    best: dict[str, float] = {}
    for name, app, path in (("hello", welcome, b""), ("a small file", site, b"small.txt")):
        host = _hosted(app, root)
        connection = host.present["http.connection"].accepted(host, "files", ("127.0.0.1", 1))
        connection.begin(_Sink())
        request = b"GET /%b HTTP/1.1\r\nHost: x\r\nUser-Agent: x\r\n\r\n" % path
        for _ in range(ROUNDS):
            took = _microseconds(connection, request)
            best[name] = min(took, best.get(name, took))
            log = host.access = AccessLog(host.loop, f"{root}/access.log", "combined", print)
            took = _microseconds(connection, request)
            best[f"{name}, noted"] = min(took, best.get(f"{name}, noted", took))
            host.access = None
            await log.close()
            assert not log.dropped
    return best


async def _large(root: str) -> dict[str, float]:
    """Seconds for a large file, so many times, in turn."""
    host = _hosted(site, root)
    kind: Any = host.present["http.connection"]
    way = kind.way_past
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: kind.accepted(host, "files"), "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    took = {"past the transport": 0.0, "written to it": 0.0}
    for _ in range(TIMES):
        for name, present in (("past the transport", way), ("written to it", lambda *_: None)):
            kind.way_past = present
            client = await asyncio.create_subprocess_exec(sys.executable, "-c", CLIENT, port)
            began = time.process_time()
            await client.wait()
            took[name] += time.process_time() - began
    kind.way_past = way
    server.close()
    return took


async def _measure(root: str) -> None:
    Path(root, "small.txt").write_bytes(b"x" * 1000)
    with Path(root, "large").open("wb") as file:
        for _ in range(LARGE // 1_000_000):
            file.write(b"x" * 1_000_000)
    small = await _small(root)
    print("processor time of a request, µs:", ", ".join(f"{k} {v:.1f}" for k, v in small.items()))
    large = await _large(root)
    print(
        f"of {TIMES} times {LARGE // 1_000_000} MB over loopback, s:",
        ", ".join(f"{k} {v:.2f}" for k, v in large.items()),
    )


def main() -> None:
    """Measure and print."""
    with TemporaryDirectory() as root, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_measure(root))


if __name__ == "__main__":
    main()
