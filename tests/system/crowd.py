"""Many clients that each ask again as soon as they are answered, and note what was wrong.

They can rest: what a push does before the workers hear of it takes longer than its swap, and has no
use for them.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.system.harness import PATIENCE, Answer, Server, until

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
        self._loop = asyncio.new_event_loop()
        self._awake = asyncio.Event()
        self._awake.set()

    def run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._all())

    def rest(self) -> None:
        """Ask no more, for now, when answered."""
        self._loop.call_soon_threadsafe(self._awake.clear)

    def go_on(self) -> None:
        """Ask again."""
        self._loop.call_soon_threadsafe(self._awake.set)

    def through(self, server: Server, *words: object) -> Answer:
        """How a push or rollback ends that they ask through, from its first word to the workers."""
        self.rest()
        with server.starts(*words) as command:
            assert command.stderr is not None
            told = []
            for line in command.stderr:
                told.append(line)
                if "preparing" in line:
                    break
            self.go_on()
            out, rest = command.communicate(timeout=PATIENCE)
        return Answer(command.returncode, json.loads(out.splitlines()[-1]), "".join(told) + rest)

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
            await self._awake.wait()
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
        asking.go_on()
        asking.join(2 * PATIENCE)
