"""A WebSocket as aiohttp's applications have it, in front of a channel.

``web.WebSocketResponse`` speaks the protocol itself, by a writer and a reader of its own. Here the
protocol is ``websocket.connection``'s, so that a swap at any byte keeps the session, and the two
are replaced as soon as the response has made them: by one that sends messages to the channel, and
one that waits as ``Channel.receive()`` does.

That wait is where a session may move to new code: ``request["netswap.carry"]``, plain data, is what
the handler there will find in its request. The channel gets a copy before each wait. The handler in
the new code runs from its beginning, and its ``prepare()`` finds the WebSocket agreed on.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from aiohttp import (
    ClientConnectionResetError,
    EofStream,
    WSMessage,
    WSMessageTypeError,
    WSMsgType,
    web,
)

from netswap.errors import HttpError, WebSocketClosedError
from netswap.hosting.aiohttp.answers import Writer
from netswap.hosting.aiohttp.line import Line, Transport, peer_of
from netswap.hosting.aiohttp.private import EMPTY_PAYLOAD
from netswap.hosting.aiohttp.requests import Asked, message_of
from netswap.http import Channel, Request
from netswap.http.lines import Headers

__all__ = ["CARRY", "begun_of", "resumed_of", "spoken"]

CARRY: Final = "netswap.carry"
"""The key of a request under which is what a session takes along."""
ABNORMAL, NO_STATUS = 1006, 1005

_TEXT, _BINARY = WSMsgType.TEXT, WSMsgType.BINARY
_new: Final[Callable[[Any, Any], WSMessage]] = tuple.__new__  # past the parsing of its arguments
_OURS: Final = frozenset(
    {b"upgrade", b"connection", b"date", b"content-length", b"content-type", b"transfer-encoding"}
)

# else the first use of what is recommended here would be warned of
web.BaseRequest._seen_str_keys.add(CARRY)


def begun_of(app: web.Application, request: Request, loop: asyncio.AbstractEventLoop) -> Any:
    """A ``web.Request`` that asks for an upgrade."""
    return _request(app, SocketLine(request, None), request.exchange.task, loop, {})


def resumed_of(
    app: web.Application, channel: Channel, task: Any, loop: asyncio.AbstractEventLoop
) -> Any:
    """The same of a session that goes on."""
    assert channel.request is not None
    line = SocketLine(channel.request, channel)
    return _request(app, line, task, loop, {CARRY: channel.carry})


async def spoken(handle: Any, asked: Any) -> Any:
    """What the handler of a WebSocket returns.

    Raises WebSocketClosedError for one that found the end in the place of a message.
    """
    try:
        return await handle(asked)
    except WSMessageTypeError as error:
        channel = asked.protocol.channel
        if channel is None or not channel.closed:
            raise
        raise WebSocketClosedError(channel.code, channel.reason) from error


def _request(
    app: web.Application,
    line: SocketLine,
    task: Any,
    loop: asyncio.AbstractEventLoop,
    state: dict[Any, Any],
) -> Any:
    return _Asking(
        message_of(line.request.head),
        EMPTY_PAYLOAD,
        line,  # type: ignore[arg-type]  # stands in for aiohttp's own protocol
        None,  # type: ignore[arg-type]  # it makes one when it needs it
        task,
        loop,
        client_max_size=app._client_max_size,
        client_max_fields=app._client_max_fields,
        state=state,
    )


class _Asking(Asked):
    """Tells its line which response it is that answers."""

    def make_writer(self) -> Any:
        """What its answer is written to."""
        line: Any = self._protocol
        return _SocketWriter(line)

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        line: Any = self._protocol
        line.response = response
        await super()._prepare_hook(response)


class SocketLine(Line):
    """What a request for an upgrade calls its protocol."""

    __slots__ = ("channel", "request", "response")

    def __init__(self, request: Request, channel: Channel | None) -> None:
        self.request = request
        self.channel = channel
        self.response: Any = None
        self.exchange = request.exchange
        self._transport = None
        target = self.target()
        self.peername = None if target is None else peer_of(target)

    def target(self) -> Any:
        """The connection, while somebody is there."""
        channel = self.channel
        if channel is None:
            return super().target()
        return None if channel.closed else channel.entry.target or self.exchange.entry.target

    @property
    def transport(self) -> Transport | None:
        """None when it is closed."""
        return super().transport

    def close(self) -> None:
        """Close in order: a WebSocket by its closing handshake."""
        if self.channel is None:
            super().close()
        else:
            self.channel.close()

    force_close = close

    def abort(self) -> None:
        """Close at once, unless other code goes on with it."""
        if self.channel is None or not self.channel.moving:
            super().abort()

    def agree(self, headers: Headers) -> None:
        """The answer 101 is ready to go out. Raises HttpError."""
        response = self.response
        if not isinstance(response, web.WebSocketResponse):
            raise HttpError(501, "no upgrade is known but that to a WebSocket")
        if self.channel is not None:
            return
        said = {name.lower(): value for name, value in headers}
        protocol = said.get(b"sec-websocket-protocol")
        self.channel = Channel.open(
            self.request,
            [] if protocol is None else [protocol.decode()],
            [row for row in headers if _is_authors(row[0].lower())],
            response._max_msg_size or sys.maxsize,
            b"sec-websocket-extensions" in said,
        )

    def set_parser(self, _parser: Any, data_received_cb: Any = None) -> None:
        """The response has made its writer and its reader: put ours in their place."""
        response, channel = self.response, self.channel
        assert channel is not None
        response._cancel_heartbeat()
        response._heartbeat = None  # the connection pings
        response._writer = _Sender(self, channel)
        response._reader = _Receiver(response, channel)
        response._parser = None

    def keep_alive(self, _value: bool) -> None:
        """It is no connection of HTTP any more."""


def _is_authors(name: bytes) -> bool:
    return name not in _OURS and not name.startswith(b"sec-websocket-")


class _SocketWriter(Writer):
    """A writer whose answer may be 101."""

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        line: Any = self._line
        if status == 101:
            line.agree(headers)
        elif line.channel is not None:
            raise RuntimeError("this WebSocket is agreed on; it can't be answered by anything else")
        else:
            super()._start(status, headers)

    async def drain(self) -> None:
        """Wait while the client does not read."""
        line: Any = self._line
        if line.channel is None:
            await super().drain()
        else:
            await line.channel.drained()


class _Sender:
    """What a ``WebSocketResponse`` has for its writer."""

    __slots__ = ("_channel", "_line")

    def __init__(self, line: SocketLine, channel: Channel) -> None:
        self._line = line
        self._channel = channel

    @property
    def transport(self) -> Transport | None:
        """None when it is closed."""
        return self._line.transport

    async def send_frame(self, message: Any, opcode: int, compress: int | None = None) -> None:
        """A message, or a ping. Raises ClientConnectionResetError when it is closed.

        A pong is the connection's to send.
        """
        channel = self._channel
        try:
            if opcode is _TEXT:
                if channel.send_text(message):
                    await channel.drained()
                return
            if opcode == _TEXT:
                channel.send_text(bytes(message))
            elif opcode == _BINARY:
                channel.send_nowait(bytes(message))
            elif opcode == WSMsgType.PING:
                await channel.ping(bytes(message))
            elif opcode != WSMsgType.PONG:
                raise ValueError(f"frames of opcode {opcode} are the connection's to send")
        except WebSocketClosedError:
            raise ClientConnectionResetError("Cannot write to closing transport") from None
        if getattr(channel.entry.target, "writing_paused", False):
            await channel.drained()

    async def close(self, code: int = 1000, message: bytes | str = b"") -> None:
        """Begin the closing handshake. Raises ClientConnectionResetError when nobody is there."""
        channel = self._channel
        if channel.closed and channel.code == ABNORMAL:
            raise ClientConnectionResetError("Cannot write to closing transport")
        reason = message if isinstance(message, str) else message.decode("utf-8", "replace")
        channel.close(int(code), reason)


class _Receiver:
    """What a ``WebSocketResponse`` has for its reader.

    What the response tells itself is noted here, and a bytearray, which no client sends, stands for
    it among the messages of the channel.
    """

    __slots__ = ("_as_bytes", "_channel", "_notices", "_state")

    def __init__(self, response: Any, channel: Channel) -> None:
        self._channel = channel
        self._state = response._req._state
        self._as_bytes = not response._decode_text
        self._notices: deque[WSMessage] = deque()

    async def read(self) -> WSMessage:
        """The next message. Raises EofStream when the client is gone without a word."""
        if CARRY in self._state:
            self._note()
        channel = self._channel
        task = channel.task
        try:
            message: Any = channel.poll(task)
            while message is None:
                waiter = channel.waiter
                try:
                    await waiter
                finally:
                    if channel.waiter is waiter:
                        channel.waiter = None
                if channel.steady and channel.task is task:
                    message = channel.messages.popleft()
                else:
                    message = channel.poll(task)
        except WebSocketClosedError as error:
            return _ended(error)
        if type(message) is str and not self._as_bytes:
            return _new(WSMessage, (_TEXT, message, ""))
        return await self._other(message)

    async def _other(self, message: Any) -> WSMessage:
        """Anything but a text that is read as such."""
        if type(message) is bytes:
            return _new(WSMessage, (_BINARY, message, ""))
        if type(message) is str:
            return _new(WSMessage, (_TEXT, message.encode(), ""))
        return self._notices.popleft() if self._notices else await self.read()

    def _note(self) -> None:
        """What is not plain is the application's fault, of which a response says nothing."""
        carry = self._state[CARRY]
        if carry is None:
            return
        try:
            self._channel.carry = carry
        except Exception as error:
            self._channel.over(error)
            raise

    def feed_data(self, message: WSMessage, _size: int = 0) -> None:
        """Wake whoever reads, with this."""
        self._notices.append(message)
        self._channel.deliver(bytearray())  # type: ignore[arg-type]  # see above

    def set_exception(self, error: BaseException, _cause: BaseException | None = None) -> None:
        """Wake whoever reads, with an error."""
        self.feed_data(WSMessage(WSMsgType.ERROR, error, None))


def _ended(error: WebSocketClosedError) -> WSMessage:
    """How a WebSocket has ended, in aiohttp's terms."""
    if error.code == ABNORMAL:
        raise EofStream from None
    return WSMessage(WSMsgType.CLOSE, 0 if error.code == NO_STATUS else error.code, error.reason)
