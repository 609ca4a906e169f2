"""A function of the request: the sort of application for which there is nothing to adapt."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from netswap.hosting.sorts import Answer
from netswap.http import Request, Response
from netswap.stack import Host
from netswap.steps import Around

__all__ = ["FunctionAdapter"]


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

    async def start(self, _limit: Around) -> None:
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
