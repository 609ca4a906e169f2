"""An ``aiohttp.web.Application`` as ``http.app``, unchanged.

Its start-up is that of ``aiohttp.web.run_app``: ``on_startup`` and the clean-up contexts up to
their ``yield`` before the first request, ``on_shutdown``, ``on_cleanup`` and the rest of the
contexts after the last. A request goes through middlewares and sub-applications by aiohttp's own
code; what is aiohttp's server elsewhere is ``http.connection`` here.

A handler that raises is answered with a 500 that ``on_response_prepare`` sees, and counts as a
fault of the application; so does one that lets a TimeoutError out, which is answered with 504.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

from aiohttp import web

from netswap.errors import HttpError
from netswap.hosting.aiohttp.answers import signed, whole
from netswap.hosting.aiohttp.files import PastTransports
from netswap.hosting.aiohttp.requests import give_back, request_of
from netswap.hosting.aiohttp.sockets import begun_of, resumed_of, spoken
from netswap.http import Exchange
from netswap.http.exchange import Phase

if TYPE_CHECKING:
    from netswap.http import Channel, Request, Response
    from netswap.stack import Host
    from netswap.steps import Around

__all__ = ["AiohttpAdapter"]

SERVICE_RESTART = 1012

Variables = list[tuple[contextvars.ContextVar[Any], Any]]


class AiohttpAdapter:
    """Starts, asks and stops an application, as ``hosting`` says."""

    __slots__ = (
        "_app",
        "_cancels",
        "_handle",
        "_hooked",
        "_loop",
        "_started",
        "_variables",
        "open",
    )

    def __init__(self, application: web.Application, host: Host) -> None:
        self._app = application
        self._handle = application._handle
        self._cancels = bool((application._handler_args or {}).get("handler_cancellation"))
        self._loop = host.loop
        self._hooked = True
        self._started = False
        self._variables: Variables = []
        self.open = 0

    async def start(self, _limit: Around) -> None:
        """Run ``on_startup`` and the clean-up contexts up to their ``yield``."""
        app = self._app
        before = contextvars.copy_context()
        app._set_loop(self._loop)
        app.on_startup.freeze()
        await app.startup()
        app.freeze()
        self._started = True
        self._hooked = _is_hooked(app)
        self._variables = _changed(before, contextvars.copy_context())

    async def stop(self) -> None:
        """Run ``on_shutdown``, ``on_cleanup`` and the rest of the clean-up contexts."""
        try:
            if self._started:
                await self._app.shutdown()
        finally:
            await self._app.cleanup()

    async def answer(self, request: Request) -> Response | None:
        """A whole answer, or None when it has gone out by the exchange."""
        self.open += 1
        try:
            exchange = request.exchange
            for variable, value in self._variables:
                variable.set(value)
            if self._cancels:
                exchange.on_gone(exchange.task.cancel)
            head = request.head
            speaks = head.upgrade and not head.has_body
            asked = (begun_of if speaks else request_of)(self._app, request, self._loop)
            try:
                try:
                    handled = spoken(self._handle, asked) if speaks else self._handle(asked)
                    response = await handled
                except web.HTTPException as error:
                    response = error
                if self._hooked:
                    answer = await signed(response, asked)
                else:
                    answer = whole(response, head.method)
                if answer is None:
                    await _finish(asked, response)
                return answer
            except (Exception, asyncio.CancelledError) as error:
                await _apologize(asked, exchange, error)
                raise
            finally:
                give_back(asked)
        finally:
            self.open -= 1

    async def resume(self, channel: Channel) -> None:
        """Go on with a WebSocket of other code: its handler runs again, with what was carried."""
        self.open += 1
        try:
            for variable, value in self._variables:
                variable.set(value)
            asked = resumed_of(self._app, channel, asyncio.current_task(), self._loop)
            try:
                response: Any = await spoken(self._handle, asked)
            except web.HTTPException as error:
                response = error
            if isinstance(response, web.WebSocketResponse) and response.prepared:
                await response.write_eof()
            else:
                channel.close(SERVICE_RESTART, "nothing speaks here any more")
        finally:
            self.open -= 1


async def _finish(asked: web.Request, response: Any) -> None:
    """Send what a handler has returned, by the exchange."""
    if not isinstance(response, web.StreamResponse):
        raise TypeError(f"a handler has returned {response!r} instead of a response")
    if isinstance(response, web.FileResponse):
        asked._loop = PastTransports(asked)  # type: ignore[assignment]  # it has what is asked of it
    await response.prepare(asked)
    await response.write_eof()


async def _apologize(asked: web.Request, exchange: Exchange, error: BaseException) -> None:
    """Answer for a handler that has failed, if nothing was said yet."""
    if isinstance(error, asyncio.CancelledError):
        if exchange.phase in (Phase.WAITING, Phase.STARTED):
            asked.protocol.abort()  # type: ignore[attr-defined]  # it is a Line
    elif exchange.phase is Phase.WAITING and not isinstance(error, HttpError):
        await _finish(asked, _page(error, "text/html" in asked.headers.get("Accept", "")))


def _page(error: BaseException, html: bool) -> web.Response:
    """What aiohttp's own server says."""
    if isinstance(error, asyncio.TimeoutError):
        return web.Response(status=504, content_type="text/plain")
    title, text = "500 Internal Server Error", "Server got itself in trouble"
    if not html:
        return web.Response(status=500, text=f"{title}\n\n{text}")
    page = (
        f"<html><head><title>{title}</title></head><body>\n<h1>{title}</h1>\n{text}\n</body></html>"
    )
    return web.Response(status=500, text=f"{page}\n", content_type="text/html")


def _changed(before: contextvars.Context, after: contextvars.Context) -> Variables:
    """Context variables that start-up has set; handlers see them, as under aiohttp's server."""
    unset = object()
    return [(name, value) for name, value in after.items() if before.get(name, unset) is not value]


def _is_hooked(app: web.Application) -> bool:
    """Whether it or one within it wants to see an answer before it goes out."""
    return bool(app.on_response_prepare) or any(map(_is_hooked, app._subapps))
