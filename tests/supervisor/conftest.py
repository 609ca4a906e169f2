"""A supervisor over stand-ins: real processes, real sockets, no protocols."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netswap.config import Address, load_config
from netswap.modules import Bundle
from netswap.options import Options
from netswap.supervisor import Progress, Result, Supervisor, supervisor

ROOT = Path(__file__).parents[2]
MODULE = """
from netswap import Service, State

class Hall(State, kind="{kind}", version={version}):
    n: int = {mark}

class Rooms(Service[Hall]):
    pass
"""


def bundle(version: int = 1, kind: str = "k", mark: int = 0) -> Bundle:
    """A module of ``kind``; ``mark`` makes another bundle of the same version."""
    text = MODULE.format(kind=kind, version=version, mark=mark)
    return Bundle(f"{kind}/v{version}.py", {f"v{version}.py": text.encode()})


class Server:
    """A supervisor under test, and the faults of its workers."""

    def __init__(self, supervised: Supervisor, faults: Path) -> None:
        self.supervisor = supervised
        self._faults = faults
        self.lines: list[Progress] = []

    def fault(self, slot: int, *faults: str) -> None:
        """From now on the worker of ``slot`` has these faults and no others."""
        known = json.loads(self._faults.read_text()) if self._faults.exists() else {}
        known[str(slot)] = faults
        fresh = self._faults.with_suffix(".new")
        fresh.write_text(json.dumps(known))
        fresh.replace(self._faults)

    @property
    def active(self) -> dict[str, str]:
        return self.supervisor.state.versions.active

    async def push(self, *bundles: Bundle, **options: Any) -> Result:
        operations = self.supervisor.operations
        return await operations.push(bundles, Options(**options), self.lines.append)

    async def promote(self) -> Result:
        return await self.supervisor.operations.promote(self.lines.append)

    async def wait_running(self, part: str) -> None:
        """Return when what runs says so."""
        operations = self.supervisor.operations
        while part not in (operations.running or ""):
            await asyncio.sleep(0)

    async def rollback(self, kind: str | None = None, to: str | None = None) -> Result:
        return await self.supervisor.operations.rollback(kind, to, Options(), self.lines.append)

    async def swap(self, kind: str, revision: str) -> Result:
        return await self.supervisor.operations.swap(kind, revision, Options(), self.lines.append)

    async def wait_serving(self, count: int = 2) -> None:
        """Return when ``count`` workers serve."""
        fleet = self.supervisor.fleet
        while len(fleet.serving()) < count:
            await fleet.wait_changed()


Serve = Callable[..., AbstractAsyncContextManager[Server]]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Starts servers over one state directory; ``async with serve() as server``."""
    faults = tmp_path / "faults"
    monkeypatch.setenv("STAND_IN", str(faults))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(supervisor, "first_paths", lambda _protocols, _active, **_: [])

    @contextlib.asynccontextmanager
    async def start(
        ready: bool = True, load: tuple[Path, ...] = (), tls: Any = None, **worker: Any
    ) -> AsyncIterator[Server]:
        flags = {"workers": 2, "state_dir": str(tmp_path / "state"), "drain": 2, "timeout": 20}
        config = load_config({**flags, "load": list(map(str, load))}, environ={})
        listen = {"echo": (Address("127.0.0.1", 0),)}
        config = msgspec.structs.replace(config, listen=listen, tls=tls or {})
        command = (sys.executable, str(Path(__file__).with_name("stand_in.py")))
        server = Server(Supervisor(config, {"command": command, **worker}), faults)
        try:
            if ready:
                async with asyncio.timeout(20):
                    await server.supervisor.start()
            yield server
        finally:
            await server.supervisor.abandon()

    return start
