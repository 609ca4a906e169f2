"""What answers: the base of every ``http.app``.

``answer(request)`` is called when a request's head is whole. A plain ``def`` gives a Response, and
it is on its way before the next request is looked at; no task is made for it. An ``async def``
gives a coroutine, which the connection runs as a task. Such a coroutine ends in the code in which
it began, whatever is swapped meanwhile, so a swap does not wait for it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from inspect import iscoroutinefunction
from types import MappingProxyType
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from netswap.http.message import Request, Response
from netswap.stack import Service
from netswap.transfer import State

__all__ = ["App", "route"]

S = TypeVar("S", bound=State)
Handler = Callable[..., Any]

_MARK = "__netswap_routes__"


def route(method: str, path: str) -> Callable[[Handler], Handler]:
    """Mark a method of an App as what answers ``method`` at ``path``.

    ``/item/{name}`` passes what stands there as ``name=``, without slashes; ``{rest:path}`` with.
    """

    def mark(handler: Handler) -> Handler:
        setattr(handler, _MARK, (*getattr(handler, _MARK, ()), (method, path)))
        return handler

    return mark


class _Template(NamedTuple):
    method: str
    pattern: re.Pattern[str]
    handler: Handler


class App(Service[S], Generic[S]):
    """Base of an application with routes: ``class Shop(App[Cart])`` with ``@route`` methods.

    A handler is called with the request, and with what its path names; it returns a Response. A
    ``def`` gets the request when its body is whole.
    """

    waits_for_calls: ClassVar[bool] = False
    _routes: ClassVar[Mapping[tuple[str, str], Handler]] = MappingProxyType({})
    _templates: ClassVar[tuple[_Template, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        exact: dict[tuple[str, str], Handler] = {}
        templates: list[_Template] = []
        for base in reversed(cls.__mro__):
            for member in vars(base).values():
                for method, path in getattr(member, _MARK, ()):
                    handler = member if iscoroutinefunction(member) else _when_whole(member)
                    if "{" in path:
                        templates.append(_Template(method, _pattern(path), handler))
                    else:
                        exact[method, path] = handler
        cls._routes = MappingProxyType(exact)
        cls._templates = tuple(templates)

    def answer(self, request: Request) -> Response | Coroutine[Any, Any, Response | None]:
        """A whole answer, or what will give one."""
        head = request.head
        handler = self._routes.get((head.method, head.path))
        if handler is not None:
            answer: Response | Coroutine[Any, Any, Response | None] = handler(self, request)
            return answer
        return self._answer_by_template(request)

    def _answer_by_template(
        self, request: Request
    ) -> Response | Coroutine[Any, Any, Response | None]:
        for method, pattern, handler in self._templates:
            found = pattern.fullmatch(request.path)
            if found is not None and method == request.method:
                params = request.params = found.groupdict()
                answer: Response | Coroutine[Any, Any, Response | None] = handler(
                    self, request, **params
                )
                return answer
        return self.not_found(request)

    def not_found(self, request: Request) -> Response:
        """No route is for this request: 405 if one is for its path, else 404."""
        allowed = sorted(self._methods_at(request.path))
        if allowed:
            return Response(
                "405: Method Not Allowed\n", 405, [(b"allow", ", ".join(allowed).encode())]
            )
        return Response("404: Not Found\n", 404)

    def _methods_at(self, path: str) -> set[str]:
        exact = {method for method, place in self._routes if place == path}
        return exact | {row.method for row in self._templates if row.pattern.fullmatch(path)}


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)(:path)?\}", path)
    text = re.escape(parts[0])
    for name, greedy, after in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        text += f"(?P<{name}>{'.+' if greedy else '[^/]+'})" + re.escape(after)
    return re.compile(text)


def _when_whole(handler: Handler) -> Handler:
    """Call a plain handler when the body is whole; at once if it is."""

    @functools.wraps(handler)
    def call(self: Any, request: Request, **params: str) -> Any:
        if request.body.complete:
            return handler(self, request, **params)
        return _wait_and_call(handler, self, request, params)

    return call


async def _wait_and_call(
    handler: Handler, app: Any, request: Request, params: dict[str, str]
) -> Response | None:
    body = await request.body.read()
    request.body.put_back(body)
    answer = handler(app, request, **params)
    response: Response | None = await answer if isinstance(answer, Awaitable) else answer
    return response
