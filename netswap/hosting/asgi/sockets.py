"""A WebSocket as an ASGI application has it, in front of a channel.

The wait in ``receive`` is where a session may move to new code: what the application has put into
``scope["extensions"]["netswap"]["carry"]``, plain data, is copied to the channel before each wait.
The application of the new code is called from its beginning, with that in its scope; it is told of
a connection and accepts it as ever, and the client hears nothing of either.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, Protocol

from netswap.errors import WebSocketClosedError
from netswap.http import Channel, Request
from netswap.http.handshake import subprotocols_of

__all__ = ["Conversation"]

Message = MutableMapping[str, Any]

PREFIX: Final = "websocket."
ABNORMAL: Final = 1006


class Denial(Protocol):
    """What takes an answer that is no WebSocket."""

    told: bool

    async def receive(self) -> Message:
        """Wait until the client has left."""

    async def send(self, message: Message) -> None:
        """A part of the answer."""

    def returned(self) -> None:
        """Raise RuntimeError when something is missing."""


class Conversation:
    """One call of the application for a WebSocket; with a ``channel`` it goes on with that.

    ``told``: the application knows that nobody is there any more.
    """

    __slots__ = ("_asked", "_carrying", "_channel", "_denial", "_request", "_takes", "told")

    def __init__(self, request: Request, denial: Denial, channel: Channel | None = None) -> None:
        self._request = request
        self._denial = denial
        self._channel = channel
        self._asked = False
        self._takes: Takes = _AT_FIRST
        self._carrying: dict[str, Any] = {}
        if channel is not None:
            self._carrying["carry"] = channel.carry
        self.told = False

    def scope_after(self, scope: Message) -> Message:
        """The scope, made of that of a request."""
        del scope["method"]
        scope["type"] = "websocket"
        scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
        scope["subprotocols"] = subprotocols_of(self._request)
        scope["extensions"] = {"websocket.http.response": {}, "netswap": self._carrying}
        return scope

    async def receive(self) -> Message:
        """What the client does: it connects, sends messages, is gone."""
        if not self._asked:
            self._asked = True
            return {"type": "websocket.connect"}
        channel = self._channel
        if channel is None:
            await self._denial.receive()  # all of the request is here: until it has left
            await self._denial.receive()
            return self._disconnect(ABNORMAL, "")
        carry = self._carrying.get("carry")
        if carry is not None:
            channel.carry = carry
        try:
            message = await channel.receive()
        except WebSocketClosedError as error:
            return self._disconnect(error.code, error.reason)
        if isinstance(message, str):
            return {"type": "websocket.receive", "text": message}
        return {"type": "websocket.receive", "bytes": message}

    async def send(self, message: Message) -> None:
        """What the application says. Raises OSError when nobody is there."""
        kind = message["type"]
        take = self._takes.get(kind)
        if take is None:
            may = " or ".join(self._takes) or "nothing"
            raise RuntimeError(f"{kind} was sent where {may} may be")
        await take(self, message)

    def returned(self) -> None:
        """The application has returned. Raises RuntimeError when something is missing."""
        if self._channel is None and not self.told:
            self._denial.returned()

    def _disconnect(self, code: int, reason: str) -> Message:
        self.told = True
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    async def _accept(self, message: Message) -> None:
        if self._channel is None:
            chosen = message.get("subprotocol")
            headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            self._channel = Channel.open(self._request, [chosen] if chosen else [], headers)
        self._takes = _OPEN

    async def _refuse(self, message: Message) -> None:
        await self._deny({"type": "websocket.http.response.start", "status": 403})
        await self._deny({"type": "websocket.http.response.body"})

    async def _deny(self, message: Message) -> None:
        self._takes = _DENIED
        await self._denial.send({**message, "type": message["type"].removeprefix(PREFIX)})

    async def _say(self, message: Message) -> None:
        data = message.get("bytes")
        if data is None:
            data = message["text"]
        assert self._channel is not None
        try:
            await self._channel.send(data)
        except WebSocketClosedError as error:
            self.told = True
            raise ConnectionResetError(str(error)) from error

    async def _close(self, message: Message) -> None:
        assert self._channel is not None
        self._channel.close(message.get("code", 1000), message.get("reason") or "")
        self._takes = _CLOSED


Takes = Mapping[str, Callable[[Conversation, Message], Awaitable[None]]]

_AT_FIRST: Takes = {
    "websocket.accept": Conversation._accept,
    "websocket.close": Conversation._refuse,
    "websocket.http.response.start": Conversation._deny,
}
_DENIED: Takes = {"websocket.http.response.body": Conversation._deny}
_OPEN: Takes = {"websocket.send": Conversation._say, "websocket.close": Conversation._close}
_CLOSED: Takes = {}
