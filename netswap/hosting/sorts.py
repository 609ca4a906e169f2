"""What an application is, seen by its signature, and which adapter speaks its language."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from netswap.hosting import FACTORIES
from netswap.http import Channel, Request, Response
from netswap.stack import Host
from netswap.steps import Around

__all__ = [
    "SORTS",
    "Adapter",
    "Answer",
    "Application",
    "Resume",
    "Sort",
    "adapter_of",
    "sort_of",
]

Answer = Response | Coroutine[Any, Any, Response | None]
Resume = Callable[[Channel], Coroutine[Any, Any, Any]]


class Adapter(Protocol):
    """What speaks an application's language; see above."""

    @property
    def open(self) -> int:
        """Requests and sessions in flight."""

    async def start(self, limit: Around) -> None:
        """Run the start-up hooks; in a task of its own each step within ``limit``."""

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
    Sort.AIOHTTP: "netswap.hosting.aiohttp:AiohttpAdapter",
    Sort.ASGI: "netswap.hosting.asgi:AsgiAdapter",
    Sort.FUNCTION: "netswap.hosting.functions:FunctionAdapter",
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
