"""How an application that knows nothing of netswap becomes the kind ``http.app``.

Theory. A pushed file or folder may define no implementation and still have something to answer
with: an ``aiohttp.web.Application``, an ASGI 3 callable, a function of one parameter, or a factory
of one of these. ``hosted`` makes a class of it that the mechanism can swap like any other. Its
state is netswap's own and empty (``Hosting``): what an application remembers is its own business,
in its own globals, and every load of the code has globals of its own.

An *adapter* speaks the application's language. It is made once for each load of the code, in the
push's first phase (``on_prepare``), and lives as long as that load::

    class Adapter:
        def __init__(self, application, host): ...
        async def start(self) -> None           start-up hooks; raises what refuses the push
        def answer(self, request) -> Response | Coroutine[Any, Any, Response | None]
        open: int                               requests and sessions in flight
        async def stop(self) -> None            clean-up hooks; once, when ``open`` is 0 or never
        def resume(self, channel) -> Coroutine  goes on with a WebSocket of other code; optional

``start`` and ``stop`` run in one task, so cancel scopes and context variables that the one enters
the other leaves. When ``start`` raises or is cancelled, ``stop`` is called as well, to undo what
was begun. ``SORTS`` names the adapters; they are imported when an application of theirs is loaded.

What an application is, is seen by its signature, since nothing but aiohttp has a class for it.
What this does not know: sockets, how bundles are imported, when anything is flipped.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from netswap.http.app import App
from netswap.http.channel import APP, Channel
from netswap.http.keeping import INSTALLATION, Keeper, abandon
from netswap.http.message import Request, Response
from netswap.stack import Host
from netswap.transfer import State

if TYPE_CHECKING:
    from netswap.http.exchange import Exchange

__all__ = [
    "APP",
    "FACTORIES",
    "INSTALLATION",
    "Adapter",
    "Application",
    "Hosting",
    "Sort",
    "abandon",
    "hosted",
    "sort_of",
]

FACTORIES = ("create_app", "make_app")
"""Names that are called for the application, at its start."""

Answer = Response | Coroutine[Any, Any, Response | None]
Resume = Callable[[Channel], Coroutine[Any, Any, Any]]


class Hosting(State, kind=APP, version=1):
    """Nothing: an application's state is its own."""


class Adapter(Protocol):
    """What speaks an application's language; see above."""

    @property
    def open(self) -> int:
        """Requests and sessions in flight."""

    async def start(self) -> None:
        """Run the start-up hooks."""

    async def stop(self) -> None:
        """Run the clean-up hooks."""

    def answer(self, request: Request) -> Answer:
        """A whole answer, or what will give one."""


class Sort(StrEnum):
    """What an application is."""

    AIOHTTP = "aiohttp application"
    ASGI = "ASGI application"
    FUNCTION = "function of the request"
    FACTORY = "factory"


SORTS: dict[Sort, str] = {
    Sort.AIOHTTP: "netswap.http.aiohttp_app:AiohttpAdapter",
    Sort.ASGI: "netswap.http.asgi:AsgiAdapter",
    Sort.FUNCTION: "netswap.http.hosting:FunctionAdapter",
}
"""Where each sort's adapter is."""

_BY_PARAMETERS = {0: Sort.FACTORY, 1: Sort.FUNCTION, 3: Sort.ASGI}

_WSGI = (
    "it takes two parameters, as a WSGI application does; wrap it: asgiref's "
    "WsgiToAsgi(app) or a2wsgi's WSGIMiddleware(app) make an ASGI application of it"
)
_NONE = (
    "it is neither an aiohttp.web.Application nor an ASGI 3 application (scope, receive, send) "
    "nor a function of one request"
)


class Application(NamedTuple):
    """What was found in a bundle: ``value`` is the global ``name`` of ``module``."""

    module: str
    name: str
    value: Any
    sort: Sort
    keep: tuple[str, ...] = ()
    """The names of what is handed to the version that follows (``__netswap_keep__``)."""


def sort_of(value: Any, name: str = "") -> Sort:
    """What an application is. Raises TypeError with a sentence when it is none."""
    aiohttp = sys.modules.get("aiohttp.web")
    if aiohttp is not None and isinstance(value, aiohttp.Application):
        return Sort.AIOHTTP
    if not callable(value) or (isinstance(value, type) and name not in FACTORIES):
        raise TypeError(f"{name} is {_article(value)}: {_NONE}")
    try:
        count = _required(value)
    except (TypeError, ValueError):  # built in, without a signature
        count = -1
    if name in FACTORIES and count == 0:
        return Sort.FACTORY
    sort = _BY_PARAMETERS.get(count)
    if sort is None:
        raise TypeError(f"{name} can't be hosted: {_WSGI if count == 2 else _NONE}")
    return sort


def _article(value: Any) -> str:
    kind = "the class " + value.__name__ if isinstance(value, type) else type(value).__name__
    return kind if isinstance(value, type) else f"of the type {kind}"


def _required(value: Any) -> int:
    """How many parameters have to be given by position; -1 where that can't be said."""
    parameters = list(inspect.signature(value).parameters.values())
    required = [p for p in parameters if p.default is p.empty]
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    count = sum(p.kind in by_place for p in required)
    takes_any = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    by_name = any(p.kind is inspect.Parameter.KEYWORD_ONLY for p in required)
    return -1 if by_name or (takes_any and count == 0) else count


def adapter_of(sort: Sort) -> Callable[[Any, Host], Adapter]:
    """The class that adapts applications of a sort; imports it, which may take a while."""
    module, _, name = SORTS[sort].partition(":")
    made: Callable[[Any, Host], Adapter] = getattr(importlib.import_module(module), name)
    return made


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
        return await Installed.begun(cls.application, host)

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


class Installed:
    """One load of an application, started."""

    __slots__ = ("_adapter", "_keeper", "answer", "resume")

    def __init__(self, adapter: Adapter, keeper: Keeper) -> None:
        self._adapter = adapter
        self._keeper = keeper
        self.answer = adapter.answer
        self.resume: Resume | None = getattr(adapter, "resume", None)

    @classmethod
    async def begun(cls, application: Application, host: Host) -> Installed:
        """Start ``application``; raises what its start-up raises."""
        space = vars(sys.modules[application.module])
        keeper = Keeper(application.keep, space)
        adapter: Adapter | None = None
        try:
            with keeper.installing():
                value, sort = await _made(application)
                keeper.hand_over(value)
                adapter = adapter_of(sort)(value, host)
                await adapter.start()
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


def _over(_request: Request) -> Response:
    return Response("503: Service Unavailable\n", 503)


class FunctionAdapter:
    """``def app(request)`` or ``async def app(request)``, which gives a Response."""

    __slots__ = ("_function", "answer", "open")

    def __init__(self, function: Callable[[Request], Any], _host: Host) -> None:
        self._function = function
        self.open = 0
        call = function if inspect.isroutine(function) else type(function).__call__
        suspends = inspect.iscoroutinefunction(call)
        self.answer: Callable[[Request], Answer] = self._counted if suspends else self._at_once()

    async def start(self) -> None:
        """There is nothing to start."""

    async def stop(self) -> None:
        """Nor to stop; but nothing refers to itself any more."""
        self.answer = _over

    def _at_once(self) -> Callable[[Request], Answer]:
        """Answers at once where the body is whole: a closure, which looks nothing up."""
        function, when_whole = self._function, self._when_whole

        def answer(request: Request) -> Answer:
            return function(request) if request.body.complete else when_whole(request)

        return answer

    async def _when_whole(self, request: Request) -> Response | None:
        self.open += 1
        try:
            body = await request.body.read()
            request.body.put_back(body)
            answer: Response = self._function(request)
            return answer
        finally:
            self.open -= 1

    async def _counted(self, request: Request) -> Response | None:
        self.open += 1
        try:
            response: Response | None = await self._function(request)
            return response
        finally:
            self.open -= 1
