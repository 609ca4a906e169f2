"""The bundled handlers on bare uvloop: ``python -m benchmarks.bare echo|kv PORT``.

The very functions of the handler's class run in a plain ``asyncio.Protocol``, with direct
references where netswap has handles; no table, no host's listeners, no entries.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvloop

from netswap.clock import SystemClock
from netswap.modules import Bundle, load_bundle
from netswap.stack import Connection, Host

__all__ = ["plain_protocol"]

PROTOCOLS = Path(__file__).resolve().parent.parent / "protocols"


def plain_protocol(cls: type[Connection[Any]], **used: Any) -> type[asyncio.Protocol]:
    """A protocol class with the functions of ``cls``; ``used`` are the objects that it uses."""
    functions: dict[str, Any] = {}
    for base in reversed([c for c in cls.__mro__ if issubclass(c, Connection)]):
        functions |= {
            name: value
            for name, value in vars(base).items()
            if not name.startswith("__") and type(value).__name__ not in _SLOTS
        }
    for name in ("connection_lost", "pause_writing", "resume_writing", "peer", *cls.uses):
        functions.pop(name, None)

    def connection_made(self: Any, transport: Any) -> None:
        self.transport = transport
        self.write = transport.write
        self.state = cls.state_type()
        self.writing_paused = False

    functions |= {"connection_made": connection_made, "on_resume_writing": _nothing} | used
    return type("Plain", (asyncio.Protocol,), functions)


_SLOTS = ("member_descriptor", "property")


def _nothing(_self: Any) -> None:
    return None


async def serve(kind: str, port: int) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    loaded = load_bundle(Bundle.from_paths([PROTOCOLS / kind / "v2.py"]))
    host = SimpleNamespace(slot=0, slots=(0,), clock=SystemClock(), loop=loop)
    used: dict[str, Any] = {"host": host}
    if kind == "kv":
        store_host = Host(loop, None)
        store_host.install(loaded.implementations["kv.store"])
        used["store"] = store_host.services["kv.store"].target
    connection: Any = loaded.implementations[f"{kind}.connection"]
    server = await loop.create_server(
        plain_protocol(connection, **used), "127.0.0.1", port, backlog=4096
    )
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
