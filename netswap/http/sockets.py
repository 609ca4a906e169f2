"""WebSockets of an application that is written for netswap: what ``@websocket`` marks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from inspect import iscoroutinefunction
from typing import Any, Final

from netswap.errors import HttpError
from netswap.http.channel import WEBSOCKET, Channel
from netswap.http.message import Request, Response, Upgrade

__all__ = ["SOCKETS", "Socket", "websocket"]

Handler = Callable[..., Any]

SOCKETS: Final = "__netswap_sockets__"
"""The attribute of a method in which its marks are."""
CALLS: Final = ("message", "open", "close", "request")
"""What a plain function may be called for."""
SAME: Final = "same"
"""In ``origins``: pages of the host that the request names."""


def websocket(
    path: str,
    on: str = "message",
    *,
    subprotocols: Collection[str] = (),
    origins: Collection[str] | None = None,
) -> Callable[[Handler], Handler]:
    """Mark a method of an App as what speaks over the WebSocket at ``path``.

    An ``async def`` is a coroutine for each session, called with its Channel. A plain ``def`` costs
    no task: it is called ``on`` each "message" with channel and message, when the session is "open"
    or has "close"d with the channel, or with the "request", which it may refuse by returning a
    Response or raising HttpError. What ``path`` names is in ``channel.request.params``.

    The first of ``subprotocols`` that the client knows is agreed on. ``origins`` are those of pages
    that may connect, such as ``https://example.org``; "same" is the host that is asked. Who sends
    no origin is no page. Both count where they are given, on any method of the path.
    """
    if on not in CALLS:
        raise ValueError(f"on is one of {', '.join(CALLS)}, not {on!r}")

    def mark(handler: Handler) -> Handler:
        row = (path, on, tuple(subprotocols), None if origins is None else frozenset(origins))
        setattr(handler, SOCKETS, (*getattr(handler, SOCKETS, ()), row))
        return handler

    return mark


class Socket:
    """What an application says at one path."""

    __slots__ = ("calls", "origins", "session", "subprotocols")

    def __init__(self) -> None:
        self.calls: dict[str, Handler] = {}
        self.session: Handler | None = None
        self.subprotocols: tuple[str, ...] = ()
        self.origins: frozenset[str] | None = None

    def add(
        self,
        handler: Handler,
        on: str,
        subprotocols: tuple[str, ...],
        origins: frozenset[str] | None,
    ) -> None:
        """One mark."""
        self.subprotocols = subprotocols or self.subprotocols
        self.origins = self.origins if origins is None else origins
        if iscoroutinefunction(handler):
            self.session = handler
        else:
            self.calls[on] = handler

    def answer(
        self, app: Any, request: Request
    ) -> Response | Upgrade | Coroutine[Any, Any, Response | None]:
        """What is answered to somebody who asks at this path. Raises HttpError."""
        if app.host.maker(WEBSOCKET) is None:
            raise HttpError(501, f"nothing provides {WEBSOCKET} here")
        offered = Channel.offered(request, self.subprotocols)
        self._check_origin(request)
        refuse = self.calls.get("request")
        refused: Response | None = None if refuse is None else refuse(app, request)
        if refused is not None:
            return refused
        if self.session is None:
            return offered
        return self._converse(app, request, self.session)

    async def _converse(self, app: Any, request: Request, session: Handler) -> None:
        await session(app, Channel.open(request, self.subprotocols))

    def _check_origin(self, request: Request) -> None:
        origin = request.header(b"origin")
        if origin is None or self.origins is None:
            return
        name = origin.decode("latin-1")
        host = (request.header(b"host") or b"").decode("latin-1")
        same = SAME in self.origins and name.partition("://")[2] == host
        if name not in self.origins and not same:
            raise HttpError(403, f"pages of {name} may not connect")
