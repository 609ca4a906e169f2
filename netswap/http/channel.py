"""A channel: one WebSocket as an application has it. It is never swapped.

The application talks to its channel, the channel to the *entry* of the connection, so a swap of
``websocket.connection`` is nothing that either notices. Messages that have come wait here, and
when they are many the connection reads no more.

An application has a channel in one of two ways. *By calls*: the connection calls the present
``http.app`` for each message; nothing runs in between, and the next message goes to whatever code
is present by then. Or by a *coroutine* that waits in ``receive()``. That is code which a swap of
``http.app`` finds suspended:

* a coroutine that has said what it is about (``channel.carry = {...}``, plain data) is ended where
  it waits for the next message, by CancelledError out of ``receive()``; then the present
  application goes on with ``socket_resume(channel)``, which finds the data in ``channel.carry``.
  The client notices nothing, and no handshake is made again. While the old one ends, what *it*
  sends or closes goes nowhere (``channel.moving``); anybody else may send;
* one that has not said so stays in the code in which it began until its WebSocket is closed, or
  until it says so, and ``netswap blockers`` lists it.

``receive()`` is the only place where a coroutine is ended: what it does between two messages is
done to its end in the old code.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

import msgspec

from netswap.blame import mild
from netswap.errors import HttpError, TransitionError, WebSocketClosedError
from netswap.events import Acted, Blocker
from netswap.http.frames import MESSAGE_LIMIT, Frames, check_code
from netswap.http.handshake import shake
from netswap.http.mailbox import Mailbox
from netswap.http.message import Request, Upgrade
from netswap.http.phases import TRANSITIONS, Event, Phase
from netswap.mediator import present
from netswap.ott import Entry
from netswap.quiescence import suspended_at

__all__ = ["APP", "WEBSOCKET", "Channel"]

APP: Final = "http.app"
WEBSOCKET: Final = "websocket.connection"
"""The kind that an upgraded connection becomes."""

RESTARTED: Final = 1012

_OPEN: Final = Phase.OPEN
_CLOSED: Final = Phase.CLOSED
_NOTHING: Final = msgspec.msgpack.encode(None)
NOWHERE = Entry(0, "", None)


class Channel(Mailbox):
    """One WebSocket: ``async for message in channel: await channel.send(message)``.

    ``request`` is what asked for it, ``subprotocol`` what was agreed on, ``by_call`` whether the
    application is called for each message. ``code`` and ``reason`` are those of the end.
    """

    __slots__ = (
        "_app_entry",
        "_carry",
        "_drained",
        "_early",
        "_since",
        "app",
        "behind",
        "by_call",
        "code",
        "entry",
        "moving",
        "phase",
        "reason",
        "request",
        "subprotocol",
        "task",
    )

    def __init__(
        self,
        request: Request | None = None,
        subprotocol: str | None = None,
        by_call: bool = False,
    ) -> None:
        super().__init__()
        self.request = request
        self.subprotocol = subprotocol
        self.by_call = by_call
        self.phase = Phase.OPENING
        self.entry = NOWHERE
        self.code: int | None = None
        self.reason = ""
        self.app: Any = None
        """The implementation of ``http.app`` whose coroutine, ``task``, has the channel."""
        self.task: asyncio.Task[None] | None = None
        self.moving = False
        """The coroutine is being ended, another one will go on."""
        self.behind = False
        """The coroutine is not of the present application."""
        self._app_entry = NOWHERE
        self._carry = _NOTHING
        self._since = 0
        self._early: list[tuple[str, tuple[Any, ...]]] = []
        self._drained: asyncio.Future[None] | None = None

    # opening

    @classmethod
    def offered(
        cls,
        request: Request,
        subprotocols: Sequence[str] = (),
        headers: Iterable[tuple[bytes, bytes]] = (),
        limit: int = MESSAGE_LIMIT,
        compress: bool = True,
        kind: str = WEBSOCKET,
    ) -> Upgrade:
        """The answer that makes a WebSocket of ``request``, with the application called for each
        message; ``session`` of it is the channel.

        The state of another ``kind`` that is to have it needs fields ``channel`` and ``frames``.
        Raises HttpError when that can't be.
        """
        shaken = shake(request, subprotocols, compress)
        channel = cls(request, shaken.subprotocol, by_call=True)
        frames = Frames(shaken.compression, limit)
        fields = {"channel": channel, "frames": frames}
        return Upgrade((*shaken.headers, *headers), kind, fields, channel)

    @classmethod
    def open(
        cls,
        request: Request,
        subprotocols: Sequence[str] = (),
        headers: Iterable[tuple[bytes, bytes]] = (),
        limit: int = MESSAGE_LIMIT,
        compress: bool = True,
    ) -> Channel:
        """Answer ``request`` with a WebSocket; the coroutine that asks for it is what has it.

        The first of ``subprotocols`` that the client knows is agreed on. Raises HttpError when
        that can't be: let it pass, and the client is told.
        """
        exchange = request.exchange
        host = exchange.entry.target.host if exchange.entry.target is not None else None
        if host is not None and host.maker(WEBSOCKET) is None:
            raise HttpError(501, f"nothing provides {WEBSOCKET} here")
        upgrade = cls.offered(request, subprotocols, headers, limit, compress)
        channel: Channel = upgrade.fields["channel"]
        channel.by_call = False
        channel._held_by(exchange.app, exchange.task)
        exchange.upgrade(upgrade)
        return channel

    def _held_by(self, app: Any, task: asyncio.Task[None]) -> None:
        self.app, self.task, self.steady = app, task, False
        self._since = app.host.clock.monotonic_ns()
        self._app_entry = app.entry
        self.behind = present(app.entry) is not app
        task.add_done_callback(self._ended)

    # what an application uses

    @property
    def path(self) -> str:
        """What was asked for, without the query."""
        return "" if self.request is None else str(self.request.path)

    @property
    def is_open(self) -> bool:
        """Whether something can be sent."""
        return self.phase in (Phase.OPENING, Phase.OPEN)

    @property
    def closed(self) -> bool:
        """Whether it is over: nothing is received but what has come already."""
        return self.phase is Phase.CLOSED

    @property
    def carry(self) -> Any:
        """What code that takes the session over has to know, as plain data; None: it stays.

        Setting it keeps a copy. Raises TypeError for what is not plain.
        """
        return msgspec.msgpack.decode(self._carry, strict=False)

    @carry.setter
    def carry(self, data: Any) -> None:
        self._carry = msgspec.msgpack.encode(data)

    @property
    def backlog(self) -> int:
        """Bytes that were sent and that the client has not taken yet."""
        target = self.entry.target
        return 0 if target is None else int(target.transport.get_write_buffer_size())

    async def receive(self) -> str | bytes:
        """The next message: text as str, binary as bytes.

        Raises WebSocketClosedError when there is none and none will come. To be called by one
        coroutine at a time.
        """
        task = self.task
        while (message := self.poll(task)) is None:
            waiter = self.waiter
            try:
                await waiter
            finally:
                if self.waiter is waiter:
                    self.waiter = None
        return message

    def poll(self, task: asyncio.Task[None] | None) -> str | bytes | None:
        """What ``receive()`` does, without a coroutine. None: wait for ``waiter`` and ask again.

        ``task`` is that of the channel when the receiving began.
        """
        if self.moving or self.task is not task:  # in a task that was made to wait here
            raise self._moved_error()
        if self.behind and self.can_move:
            self.move()
        elif self.messages:
            return self._take()
        elif self.phase is _CLOSED:
            raise self._closed_error()
        else:
            self.steady = self.phase is _OPEN and not self.behind
        self.waiter = asyncio.get_running_loop().create_future()
        return None

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        """All messages until it is closed."""
        return self

    async def __anext__(self) -> str | bytes:
        """The next of them."""
        try:
            return await self.receive()
        except WebSocketClosedError:
            raise StopAsyncIteration from None

    async def send(self, data: str | bytes) -> None:
        """Send a message, and wait while the client does not take what was sent.

        Raises WebSocketClosedError when it is closed, or is being closed.
        """
        self.send_nowait(data)
        if getattr(self.entry.target, "writing_paused", False):
            await self.drained()

    def send_nowait(self, data: str | bytes) -> None:
        """The same without waiting: look at ``backlog``."""
        if self.phase is _OPEN and not self.moving:
            self.entry.target.channel_send(data)
        else:
            self._act("channel_send", data)

    def send_text(self, payload: bytes) -> bool:
        """``send_nowait`` of UTF-8 at hand; whether the client does not take what was sent."""
        target = self.entry.target
        say = getattr(target, "channel_text", None) if self.steady else None
        if say is None:
            self.send_nowait(payload.decode())
            return bool(getattr(target, "writing_paused", False))
        say(payload)
        paused: bool = target.writing_paused
        return paused

    async def ping(self, data: bytes = b"") -> None:
        """Send a ping with at most 125 bytes; the connection sends its own, too."""
        self._act("channel_ping", data)
        await self.drained()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begin the closing handshake, unless it has begun.

        Raises ValueError for a code that RFC 6455 section 7.4 does not let be sent.
        """
        check_code(code)
        if self._is_of_the_past():
            return
        begun = self.phase
        self._move(Event.CLOSE)
        if begun is Phase.OPENING:
            self._early.append(("channel_close", (code, reason)))
        elif begun is Phase.OPEN and self.entry.target is not None:
            self.entry.target.channel_close(code, reason)

    async def drained(self) -> None:
        """Wait while the client does not take what was sent."""
        while self.phase is Phase.OPEN and getattr(self.entry.target, "writing_paused", False):
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    def _act(self, method: str, data: str | bytes) -> None:
        if self._is_of_the_past():
            return
        if self.phase is Phase.OPENING:
            self._early.append((method, (data,)))
        elif self.phase is Phase.OPEN:
            getattr(self.entry.target, method)(data)
        else:
            raise self._closed_error()

    def _moved_error(self) -> BaseException:
        if self._is_of_the_past():
            return WebSocketClosedError(RESTARTED, "a newer version goes on with it")
        return asyncio.CancelledError()

    def _closed_error(self) -> WebSocketClosedError:
        return WebSocketClosedError(1006 if self.code is None else self.code, self.reason)

    def _take(self) -> str | bytes:
        message = self.messages.popleft()
        if not self.messages:
            target = self.entry.target
            if target is not None and target.reading_paused:
                target.channel_taken()
        return message

    # the coroutine that has it

    @property
    def can_move(self) -> bool:
        """Whether the coroutine has said what it is about, and the present code can go on."""
        return (
            self._carry != _NOTHING
            and not self.moving
            and self.phase is Phase.OPEN
            and bool(present(self._app_entry).socket_resumes(self))
        )

    def follow(self, app: Any) -> None:
        """``app`` is the present application: a coroutine of another one moves when it can."""
        self.behind = self.app is not None and self.app is not app
        self.steady = False
        if self.behind and self.waiter is not None and self.can_move:
            self.move()

    def move(self) -> None:
        """End the coroutine where it waits; another one goes on when it has ended."""
        if self.task is not None:
            self.moving, self.steady = True, False
            self.task.cancel()

    def over(self, error: Exception | None) -> None:
        """The coroutine has ended."""
        told = (WebSocketClosedError, *([ConnectionResetError] if self.closed else []))
        failed = error is not None and not isinstance(error, told)
        if failed and self.app is not None:
            self.app.host.failed(self.app, error, "websocket")
        if not self.moving:
            self.close(1011 if failed else 1000)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The task is over, however it came to it."""
        self.app = self.task = None
        self.steady = False
        if self.request is not None and self.request.exchange is not None:
            self.request.exchange.let_go()
        self.behind = False
        self._wake()  # a task of the old one that was left behind
        if not self.moving:
            self.close(RESTARTED)  # somebody has cancelled it; after any other end this is nothing
            return
        self.moving = False
        if self.phase is not Phase.CLOSED:
            self._resume()

    def _resume(self) -> None:
        app = present(self._app_entry)
        try:
            session = app.socket_resume(self)
        except Exception as error:
            app.host.failed(app, error, "socket_resume")
            self.close(1011)
            return
        task = app.host.loop.create_task(self._converse(session))
        self._held_by(app, task)

    async def _converse(self, session: Coroutine[Any, Any, Any]) -> None:
        try:
            await session
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            self.over(mild(error))
        else:
            self.over(None)

    def blocker(self, app: Any) -> Blocker:
        """Where the coroutine is suspended that stays in old code; ``app`` is the present one."""
        where = None if self.task is None else suspended_at(self.task.get_coro())
        age = (app.host.clock.monotonic_ns() - self._since) / 1e9
        name = f"{app.host.slot}.{app.entry.identity}"
        return Blocker(APP, name, where or "?:0", age, f"{name}#{self.entry.identity}")

    def cancel(self, app: Any) -> Acted:
        """End the coroutine where it is, and the session; what it was carrying is lost."""
        row = self.blocker(app)
        self.close(RESTARTED, "an operator has ended it")
        if self.task is not None:
            self.task.cancel()
        what = f"cancelled at {row.where}: its client gets {RESTARTED} and may connect again"
        return Acted(row.id, APP, True, what)

    def _is_of_the_past(self) -> bool:
        """Whether it is a coroutine that speaks which was told to end."""
        return self.moving and asyncio.current_task() is self.task

    # what the connection calls

    def attach(self, entry: Entry) -> None:
        """The connection is that of a WebSocket now."""
        self._move(Event.ATTACH)
        self.entry = entry
        if self.request is not None:
            self.request.entry = entry
        early, self._early = self._early, []
        for method, arguments in early:
            getattr(entry.target, method)(*arguments)

    def end(self, code: int, reason: str = "") -> bool:
        """It is over; says whether that is news."""
        news = self.phase is not Phase.CLOSED
        self._move(Event.END)
        if news:
            self.code, self.reason = code, reason
            self._wake()
            self.resumed()
        return news

    def lost(self) -> None:
        """The client is gone."""
        self.end(1006)

    def resumed(self) -> None:
        """The client takes again what is sent."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _move(self, event: Event) -> None:
        self.steady = False
        try:
            self.phase = TRANSITIONS[self.phase, event]
        except KeyError:
            raise TransitionError("channel", self.phase, event) from None

    # the canonical form

    @staticmethod
    def to_canonical(channel: Channel) -> Any:
        """What is plain: the request, how far it is, what has come and was not received."""
        return [
            None if channel.request is None else channel.request.plain(),
            channel.subprotocol,
            channel.by_call,
            str(channel.phase),
            channel.code,
            channel.reason,
            channel._carry,
            list(channel.messages),
        ]

    @staticmethod
    def from_canonical(plain: Any) -> Channel:
        """A channel that is as far, which nobody has."""
        request, subprotocol, by_call, phase, code, reason, carry, messages = plain
        channel = Channel(
            None if request is None else Request.from_plain(request), subprotocol, by_call
        )
        channel.phase = Phase(phase)
        channel.code, channel.reason, channel._carry = code, reason, carry
        for message in messages:
            channel.deliver(message)
        return channel

    def keep(self) -> Callable[[], Channel]:
        """Note how it is now; what is returned makes it so again."""
        was = (self.phase, self.code, self.reason)
        messages = tuple(self.messages)

        def again() -> Channel:
            self.phase, self.code, self.reason = was
            self.steady = False
            self.messages.clear()
            self.messages.extend(messages)
            return self

        return again
