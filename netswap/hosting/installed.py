"""One load of an application, from its start to its clean-up."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from netswap.hosting.sorts import Adapter, Application, Resume, Sort, adapter_of, sort_of
from netswap.keeping import Keeper
from netswap.stack import Host
from netswap.steps import Around

__all__ = ["Installed"]


class Installed:
    """One load of an application, started."""

    __slots__ = ("_adapter", "_keeper", "answer", "resume")

    def __init__(self, adapter: Adapter, keeper: Keeper) -> None:
        self._adapter = adapter
        self._keeper = keeper
        self.answer = adapter.answer
        self.resume: Resume | None = getattr(adapter, "resume", None)

    @classmethod
    async def begun(cls, application: Application, host: Host, limit: Around) -> Installed:
        """Start ``application``, each step within ``limit``; raises what its start-up raises."""
        space = vars(sys.modules[application.module])
        keeper = Keeper(application.keep, space)
        adapter: Adapter | None = None
        try:
            with keeper.installing():
                value, sort = await _made(application)
                keeper.hand_over(value)
                adapter = adapter_of(sort)(value, host)
                await adapter.start(limit)
            keeper.note()
        except BaseException:
            try:
                if adapter is not None:
                    keeper.shield()
                    await adapter.stop()
            finally:
                await keeper.release()
            raise
        return cls(adapter, keeper)

    @property
    def open(self) -> int:
        """Requests and sessions in flight."""
        return self._adapter.open

    async def stop(self) -> None:
        """Clean up; what another version keeps is left alone, what nobody keeps is closed."""
        self._keeper.shield()
        try:
            await self._adapter.stop()
        finally:
            await self._keeper.release()


async def _made(application: Application) -> tuple[Any, Sort]:
    """The application itself; a factory is called, once."""
    if application.sort is not Sort.FACTORY:
        return application.value, application.sort
    value = application.value()
    if inspect.isawaitable(value):
        value = await value
    sort = sort_of(value, f"what {application.name}() returned")
    if sort is Sort.FACTORY:
        raise TypeError(f"{application.name}() returned another function without parameters")
    return value, sort
