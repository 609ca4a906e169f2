"""The implementation of ``http.app`` that is made for an application."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from netswap.hosting.installed import Installed
from netswap.hosting.sorts import Answer, Application, Sort, adapter_of
from netswap.http import App, Channel, Request
from netswap.http.channel import APP
from netswap.stack import Host
from netswap.steps import Around
from netswap.transfer import State

if TYPE_CHECKING:
    from netswap.http import Exchange

__all__ = ["Hosting", "hosted"]


class Hosting(State, kind=APP, version=1):
    """Nothing: an application's state is its own."""


class _Hosted(App[Hosting]):
    """Base of what ``hosted`` makes. ``answer`` is the adapter's own: a method would be a call."""

    __slots__ = ("answer",)

    answer: Callable[[Request], Answer]  # type: ignore[assignment]  # a method of App
    application: ClassVar[Application]
    remark: ClassVar[str] = ""
    """What a verdict says of it."""

    @classmethod
    async def on_prepare(cls, host: Host) -> Installed:
        """Start the application."""
        return await cls.prepare_within(host, nullcontext)

    @classmethod
    def prepare_within(cls, host: Host, limit: Around) -> Coroutine[Any, Any, Installed]:
        """The same, with a limit of its steps."""
        return Installed.begun(cls.application, host, limit)

    def _bind(self) -> None:
        super()._bind()
        self._point_to_adapter()

    def _bind_after(self, old: Any) -> None:
        super()._bind_after(old)
        self._point_to_adapter()

    def _point_to_adapter(self) -> None:
        if self.started is not None:  # nothing is in a trial of the code alone
            self.answer = _at_once(self.started.answer)  # type: ignore[attr-defined]  # Installed's

    def coroutine_comes(
        self, exchange: Exchange, answer: Coroutine[Any, Any, Any]
    ) -> Coroutine[Any, Any, Any]:
        """Its adapter counts it; what an application remembers is its own, and no swap's."""
        return answer

    def coroutine_left(self, exchange: Exchange) -> None:
        """It was not counted here."""

    def must_rest(self, new: type[Any]) -> bool:
        """Never: nothing of a hosted application crosses a swap."""
        return False

    def socket_resumes(self, channel: Channel) -> bool:
        """Whether its adapter goes on with sessions of other code."""
        return self.started.resume is not None  # type: ignore[union-attr]

    def socket_resume(self, channel: Channel) -> Coroutine[Any, Any, Any]:
        """What goes on with a WebSocket whose coroutine was ended."""
        return self.started.resume(channel)  # type: ignore[union-attr, no-any-return]


def _at_once(answer: Callable[[Request], Answer]) -> Callable[[Request], Answer]:
    """``answer``, but never a coroutine function: calls of one would be held in front of a swap."""
    if not inspect.iscoroutinefunction(answer):
        return answer

    def make(request: Request) -> Answer:
        return answer(request)

    return make


def hosted(application: Application, threads: int = 0) -> type[App[Hosting]]:
    """The implementation of ``http.app`` that hosts ``application``; it counts as its module's.

    Its import has left ``threads`` running.
    """
    if application.sort is not Sort.FACTORY:
        adapter_of(application.sort)
    remark = f"{application.sort}, which keeps its own state"
    if threads > 0:
        noun = "a thread" if threads == 1 else f"{threads} threads"
        remark += f"; its import left {noun} running, which no swap ends"
    namespace = {"__module__": application.module, "application": application, "remark": remark}
    make: Any = type(_Hosted)
    made: type[App[Hosting]] = make(application.name, (_Hosted,), namespace)
    return made
