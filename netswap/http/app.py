"""What answers: the base of every ``http.app``.

``answer(request)`` is called when a request's head is whole. A plain ``def`` gives a Response, and
it is on its way before the next request is looked at; no task is made for it. An ``async def``
gives a coroutine, which the connection runs as a task. Such a coroutine ends in the code in which
it began, whatever is swapped meanwhile, so a swap does not wait for it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from inspect import iscoroutinefunction
from types import CodeType, MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from netswap.events import Acted, Blocker
from netswap.http.channel import APP, WEBSOCKET, Channel
from netswap.http.inside import Inside, held, where
from netswap.http.message import Request, Response, Upgrade
from netswap.http.sockets import SOCKETS, Socket
from netswap.mediator import present
from netswap.stack import Service
from netswap.transfer import State
from netswap.transfer.state import shape_of

if TYPE_CHECKING:
    from netswap.http.exchange import Exchange

__all__ = ["App", "route"]

S = TypeVar("S", bound=State)
Handler = Callable[..., Any]
Answer = Response | Upgrade | Coroutine[Any, Any, Response | None]

_MARK = "__netswap_routes__"
_AT_ONCE = 100
"""Sessions that are moved in one turn of the loop."""


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

    __slots__ = ("__weakref__", "inside")

    waits_for_calls: ClassVar[bool] = False
    inside: Inside
    _askable: ClassVar[frozenset[CodeType]] = frozenset()
    """The code of coroutines that were only made, and that nobody misses who asks once more."""
    _routes: ClassVar[Mapping[tuple[str, str], Handler]] = MappingProxyType({})
    _templates: ClassVar[tuple[_Template, ...]] = ()
    _sockets: ClassVar[Mapping[str, Socket]] = MappingProxyType({})

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        sockets = _sockets_of(cls)
        by_socket = (("GET", path, _by_socket(socket)) for path, socket in sockets.items())
        rows = [*_routes_of(cls), *by_socket]
        exact = {(method, path): handler for method, path, handler in rows if "{" not in path}
        cls._routes = MappingProxyType(exact)
        cls._templates = tuple(
            _Template(method, _pattern(path), handler)
            for method, path, handler in rows
            if "{" in path
        )
        cls._sockets = MappingProxyType(sockets)
        handlers = (*exact.values(), *(row.handler for row in cls._templates))
        cls._askable = _askable(cls.answer, handlers)

    def answer(self, request: Request) -> Answer:
        """A whole answer, or what will give one."""
        head = request.head
        handler = self._routes.get((head.method, head.path))
        if handler is not None:
            answer: Answer = handler(self, request)
            return answer
        return self._answer_by_template(request)

    def _answer_by_template(self, request: Request) -> Answer:
        for method, pattern, handler in self._templates:
            found = pattern.fullmatch(request.path)
            if found is not None and method == request.method:
                params = request.params = found.groupdict()
                answer: Answer = handler(self, request, **params)
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

    # coroutines inside

    def coroutine_comes(
        self, exchange: Exchange, answer: Coroutine[Any, Any, Any]
    ) -> Coroutine[Any, Any, Any]:
        """A coroutine of this object is about to begin: it, or what waits until it may."""
        if self.inside.holding and getattr(answer, "cr_code", None) in self._askable:
            return held(self, exchange, answer)
        self.inside.enter(exchange, self.host.clock.monotonic_ns())
        return answer

    def coroutine_left(self, exchange: Exchange) -> None:
        """It has ended, or has become a session."""
        self.inside.leave(exchange)

    def must_rest(self, new: type[Any]) -> bool:
        """Only for a state of another shape; else what coroutines write is written to the same."""
        return not self._shares_with(new)

    def at_rest(self) -> bool:
        """Whether no coroutine is inside, of this object or of one before it."""
        return not self.inside.open()

    def bring_to_rest(self, tell: Callable[[], None]) -> None:
        """Hold coroutines that would begin; ``tell`` is called when none is inside."""
        self.inside.rest(tell)

    def carry_on(self) -> None:
        """Coroutines that were held begin."""
        self.inside.release()

    def state_replaced(self) -> None:
        """Objects that were present before have it too."""
        self.inside.share(self, self._shares_with)

    def _shares_with(self, other: type[Any]) -> bool:
        theirs: type[State] = other.state_type
        return self.version == other.version and shape_of(self.state_type) == shape_of(theirs)

    def _blocking(self) -> Iterator[tuple[Exchange, Blocker]]:
        name = f"{self.host.slot}.{self.entry.identity}"
        now = self.host.clock.monotonic_ns()
        for exchange, began in self.inside.open() if self.inside.holding else ():
            number = f"{name}#{exchange.entry.identity}"
            yield exchange, Blocker(APP, name, where(exchange), (now - began) / 1e9, number)

    def _bind(self) -> None:
        super()._bind()
        self.inside = Inside(self.host.loop)

    def _bind_after(self, old: Any) -> None:
        super()._bind_after(old)
        self.inside = old.inside

    # WebSockets

    def take_over(self, old: Any) -> None:
        """Present from here on: sessions of other code go on here when they can."""
        super().take_over(old)
        self.inside.follow(self, old, self._shares_with)
        self.inside.release()
        self.host.later(_call_over, self.host, list(self.host.table.of_kind(WEBSOCKET)))

    def blockers(self) -> list[Blocker]:
        """What a swap waits for, and the sessions that stay in code that is not present."""
        waited_for = (row for _, row in self._blocking())
        return [*waited_for, *(row.blocker(self) for row in _pinned(self.host))]

    def pinned_sessions(self) -> int:
        """How many of them there are."""
        return len(_pinned(self.host))

    def cancel_suspended(self, number: int | None) -> list[Acted]:
        """End them: 503 to those who asked, 1012 to the clients of sessions."""
        found = []
        for exchange, row in self._blocking():
            if number in (None, exchange.entry.identity):
                exchange.cancel()
                what = f"cancelled at {row.where}: its client gets 503, or the end of its answer"
                found.append(Acted(row.id, APP, True, what))
        for channel in _pinned(self.host):
            if number in (None, channel.entry.identity):
                found.append(channel.cancel(self))
        return found

    def socket_event(self, channel: Channel, on: str, message: str | bytes | None = None) -> None:
        """Something has happened on a channel that is served by calls."""
        socket = self._socket_of(channel)
        if socket is None:
            channel.close(1001, "nothing speaks here any more")
            return
        handler = socket.calls.get(on)
        if handler is not None:
            arguments = (channel, message) if on == "message" else (channel,)
            handler(self, *arguments)

    def socket_resumes(self, channel: Channel) -> bool:
        """Whether this code can go on with a session of other code."""
        socket = self._socket_of(channel)
        return socket is not None and socket.session is not None

    def socket_resume(self, channel: Channel) -> Coroutine[Any, Any, Any]:
        """A coroutine that goes on with a session of other code, from ``channel.carry``."""
        socket = self._socket_of(channel)
        if socket is None or socket.session is None:
            raise LookupError(f"no coroutine is at {channel.path}")
        session: Coroutine[Any, Any, Any] = socket.session(self, channel)
        return session

    def _socket_of(self, channel: Channel) -> Socket | None:
        socket = self._sockets.get(channel.path)
        if socket is not None:
            return socket
        rows = ((path, one) for path, one in self._sockets.items() if "{" in path)
        return next((one for path, one in rows if _pattern(path).fullmatch(channel.path)), None)

    def _methods_at(self, path: str) -> set[str]:
        exact = {method for method, place in self._routes if place == path}
        return exact | {row.method for row in self._templates if row.pattern.fullmatch(path)}


def _routes_of(cls: type) -> Iterator[tuple[str, str, Handler]]:
    """Method, path and handler of what the methods of a class are marked with."""
    for base in reversed(cls.__mro__):
        for member in vars(base).values():
            for method, path in getattr(member, _MARK, ()):
                handler = member if iscoroutinefunction(member) else _when_whole(member)
                yield method, path, handler


def _sockets_of(cls: type) -> dict[str, Socket]:
    """By path what the methods of a class are marked with."""
    found: dict[str, Socket] = {}
    for base in reversed(cls.__mro__):
        for member in vars(base).values():
            for path, *mark in getattr(member, SOCKETS, ()):
                found.setdefault(path, Socket()).add(member, *mark)
    return found


def _askable(answer: Handler, handlers: Iterable[Handler]) -> frozenset[CodeType]:
    """Of coroutine functions. A plain function that gives a coroutine has done something before."""
    if answer is not App.answer:
        handlers = (answer,)
    own = {one.__code__ for one in handlers if iscoroutinefunction(one)}
    ours = {_wait_and_call.__code__, Socket._converse.__code__} if answer is App.answer else set()
    return frozenset(own | ours)


def _by_socket(socket: Socket) -> Handler:
    def answer(app: Any, request: Request, **_params: str) -> Any:
        return socket.answer(app, request)

    return answer


def _channels(rows: Iterable[Any]) -> Iterator[Channel]:
    for row in rows:
        channel = getattr(getattr(present(row), "state", None), "channel", None)
        if channel is not None:
            yield channel


def _pinned(host: Any) -> list[Channel]:
    """The channels of coroutines of other code than the present."""
    return [one for one in _channels(host.table.of_kind(WEBSOCKET)) if one.behind]


def _call_over(host: Any, rows: list[Any]) -> None:
    """Tell the channels which application is present; so many in one turn of the loop."""
    app = present(host.service(APP))
    for channel in _channels(rows[:_AT_ONCE]):
        channel.follow(app)
    if len(rows) > _AT_ONCE:
        host.later(_call_over, host, rows[_AT_ONCE:])


@functools.cache
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
