"""Many clients that each ask again as soon as they are answered, and note what was wrong."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.system.harness import PATIENCE, Server, until

__all__ = ["Crowd", "crowd"]


class Crowd(threading.Thread):
    """``count`` of them, until it is enough; not to be answered within ``patience`` is a fault."""

    def __init__(self, port: int, count: int, patience: float) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.count = count
        self.patience = patience
        self.answered: dict[str, int] = {"v1": 0, "v2": 0}
        self.faults: list[str] = []
        self.enough = threading.Event()

    def run(self) -> None:
        asyncio.run(self._all())

    def wait_answered(self, version: str) -> None:
        """Return when that version has answered as many requests as there are clients."""
        wanted = self.answered[version] + self.count
        until(lambda: self.answered[version] > wanted, f"all are answered by {version}")

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self.count):
                group.create_task(self._one())

    async def _one(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while not self.enough.is_set():
            writer.write(b"1\n")
            try:
                async with asyncio.timeout(self.patience):
                    version, _, rest = (await reader.readline()).decode().partition(" ")
                int(rest)
                self.answered[version] += 1
            except (OSError, ValueError, KeyError, TimeoutError) as error:
                self.faults.append(repr(error))
                break
        writer.close()


@contextmanager
def crowd(
    server: Server, protocol: str, count: int = 200, patience: float = PATIENCE
) -> Iterator[Crowd]:
    """They ask before this begins, and have stopped when it ends."""
    asking = Crowd(server.ports[protocol], count, patience)
    asking.start()
    try:
        until(lambda: sum(asking.answered.values()) > count, "they are answered")
        yield asking
    finally:
        asking.enough.set()
        asking.join(2 * PATIENCE)
