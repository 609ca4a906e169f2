"""serve --reload: each save of the application's files is a push, for development.

The files are looked at four times a second: their times and sizes, no more. Rejected: a library
that the kernel tells of changes. It brings a compiled module and a second event loop along, and is
told nothing on the network and container mounts that people develop on. What is seen twice the
same is read and pushed; a refusal is shown, and the code before serves on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import click

from netswap.blame import describe
from netswap.errors import BundleError, UsageError
from netswap.options import Options
from netswap.outcome import Outcome
from netswap.supervisor import Result, Supervisor
from netswap.supervisor.application import APP, Found, find_application, look_at

__all__ = ["reloading"]

LOOK_S = 0.25


@asynccontextmanager
async def reloading(supervisor: Supervisor) -> AsyncIterator[None]:
    """Push the application whenever its files change, if that was asked for."""
    config = supervisor.config
    if not config.reload:
        yield
        return
    task = asyncio.create_task(_Reload(supervisor, config.app).run(), name="reload")
    task.add_done_callback(_ended)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _ended(task: asyncio.Task[None]) -> None:
    """The server goes on without it, so nobody else would tell."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        _say(f"it failed, and saves are pushed no more: {describe(error)}; `netswap push` does")


class _Reload:
    def __init__(self, supervisor: Supervisor, named: str) -> None:
        self._supervisor = supervisor
        self._named = named
        self._folder = Path.cwd()
        self._paths: tuple[Path, ...] = ()

    async def run(self) -> None:
        """Until it is cancelled."""
        await asyncio.to_thread(self._find)
        served = before = look_at(self._paths)
        found = await asyncio.to_thread(self._find)
        if isinstance(found, Found) and found.bundle.sha256 != self._active():
            served = {}  # it was saved after it had been read for the start
        while True:
            await asyncio.sleep(LOOK_S)
            now = await asyncio.to_thread(look_at, self._paths)
            is_new = now != served and now == before
            if is_new and await self._take(_difference(served, now)):
                seen = look_at(self._paths).items()
                served = {name: now.get(name, found) for name, found in seen}
            before = now

    def _active(self) -> str | None:
        return self._supervisor.state.versions.active.get(APP)

    async def _take(self, changed: str) -> bool:
        """Read and push; False when another push was under way, and it is to be tried again."""
        found = await asyncio.to_thread(self._find)
        if not isinstance(found, Found):
            _say(f"{changed} changed: {found}")
            return True
        return await self._push(found, changed)

    def _find(self) -> Found | str:
        try:
            found = find_application(self._named, self._folder)
        except (UsageError, BundleError, OSError) as error:
            return str(error)
        self._paths = found.paths
        return found

    async def _push(self, found: Found, changed: str) -> bool:
        started = time.monotonic()
        operations = self._supervisor.operations
        result = await operations.push([found.bundle], Options(), lambda _progress: None)
        if result.outcome is not Outcome.CONFLICT:
            _say(f"{changed} changed: {_ending(result, time.monotonic() - started)}")
        return result.outcome is not Outcome.CONFLICT


def _difference(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    names = [n for n in sorted({*before, *now}) if before.get(n) != now.get(n)]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{Path(names[0]).name}{more}" if names else "nothing"


def _ending(result: Result, seconds: float) -> str:
    if result.outcome is Outcome.DONE:
        return f"{result.what}, in {seconds:.2f} s"
    where = f" ({result.where})" if result.where else ""
    return f"{result.what}{where}; the code before serves on"


def _say(text: str) -> None:
    click.echo(f"netswap reload: {text}", err=True)
