"""What an idle connection costs in memory, on netswap and on bare uvloop."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack
from pathlib import Path

from benchmarks.servers import bare, netswap

__all__ = ["measure"]


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def _per_connection(port: int, pid: int, count: int) -> float:
    """Bytes more for each of ``count`` connections that have each had one echo."""
    with ExitStack() as stack:
        for _round in range(2):
            before = _resident(pid)
            for _ in range(count):
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                sock.sendall(b"x")
                sock.recv(1)
        return (_resident(pid) - before) / count


def measure(count: int = 4000) -> dict[str, float]:
    """Bytes a connection; the first ``count`` warm the allocators, the second are counted."""
    wanted = 2 * count + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(wanted, hard)), hard))
    with bare("echo") as (port, pid):
        plain = _per_connection(port, pid, count)
    with netswap("echo") as server:
        server.run("push", "protocols/echo/v2.py")
        swappable = _per_connection(server.ports["echo"], server.workers()[0], count)
    return {"bare uvloop": plain, "netswap": swappable}
