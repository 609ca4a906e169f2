"""http.app of the tests: answers in every way that there is."""

from __future__ import annotations

import asyncio
from typing import Any

from netswap import State
from netswap.http import App, Channel, Request, Response, route, websocket


class Nothing(State, kind="http.app", version=1):
    """No state."""


class Own(Response):
    """An answer of the author's own class."""


class Site(App[Nothing]):
    """Whole and in parts, at once and later."""

    @route("GET", "/")
    @route("HEAD", "/")
    @route("OPTIONS", "*")
    def hello(self, request: Request) -> Response:
        """At once."""
        return Response("hello")

    @route("POST", "/length")
    def length(self, request: Request) -> Response:
        """When the body is whole."""
        return Response(str(request.body.size))

    @route("POST", "/early")
    async def early(self, request: Request) -> Response:
        """Before the body has come, and without it."""
        return Response("no, thanks", 403)

    @route("POST", "/echo")
    async def echo(self, request: Request) -> None:
        """In parts, while the body comes."""
        request.exchange.start(200, [(b"content-type", b"application/octet-stream")])
        while data := await request.body.chunk():
            await request.exchange.write(data)

    @route("GET", "/item/{name}")
    async def item(self, request: Request, name: str) -> Response:
        """In a turn of its own."""
        await asyncio.sleep(0)
        return Response(name)

    @route("GET", "/slow/{seconds}")
    async def slow(self, request: Request, seconds: str) -> Response:
        """After a while."""
        await asyncio.sleep(float(seconds))
        return Response(f"after {seconds} s")

    @route("GET", "/long")
    @route("HEAD", "/long")
    async def long(self, request: Request) -> None:
        """Longer than any buffer, as fast as it is read."""
        request.exchange.start(200, [(b"x-long", b"yes")])
        for number in range(20):
            await request.exchange.write(b"%05d\n" % number * 100)

    @route("GET", "/drip")
    async def drip(self, request: Request) -> None:
        """A line a second."""
        request.exchange.start(200, [(b"content-length", b"24")])
        for number in range(4):
            await request.exchange.write(b"line %d" % number)
            await asyncio.sleep(1)

    @route("GET", "/cancelled")
    async def cancelled(self, request: Request) -> Response:
        """Waits for what somebody else has cancelled."""
        asyncio.get_running_loop().call_soon(request.exchange.task.cancel)
        await asyncio.Event().wait()
        return Response("never")

    @route("GET", "/cancelled/late")
    async def cancelled_late(self, request: Request) -> Response:
        """When its answer has begun."""
        request.exchange.start(200, [(b"content-length", b"9")])
        request.exchange.write_nowait(b"begun")
        return await self.cancelled(request)

    @websocket("/calls")
    def repeat(self, channel: Channel, message: str | bytes) -> None:
        """A message by a message; the last one by a close."""
        if channel.is_open:
            channel.send_nowait(message)
        if message == "end":
            channel.close(4000, "as you like")

    @websocket("/session")
    async def session(self, channel: Channel) -> None:
        """The same by a coroutine."""
        async for message in channel:
            await channel.send(message)
            if message == "end":
                channel.close(4000, "as you like")

    @route("GET", "/exits/{how}")
    async def exits(self, request: Request, how: str) -> Response:
        """As if the process were its own."""
        await asyncio.sleep(0)
        raise {
            "exit": SystemExit(3),
            "interrupt": KeyboardInterrupt(),
            "base": BaseException("no"),
            "generator": GeneratorExit(),
        }[how]

    @route("GET", "/exits/late/{how}")
    async def exits_late(self, request: Request, how: str) -> Response:
        """When its answer has begun."""
        request.exchange.start(200, [(b"content-length", b"9")])
        request.exchange.write_nowait(b"begun")
        return await self.exits(request, how)

    @route("GET", "/own")
    def own(self, request: Request) -> Response:
        """A subclass is an answer, too."""
        return Own("own")

    @route("GET", "/text")
    def text(self, request: Request) -> Any:
        """What is no answer."""
        return "text"

    @route("GET", "/text/later")
    async def text_later(self, request: Request) -> Any:
        """The same from a coroutine."""
        return "text"

    @route("GET", "/fails")
    async def fails(self, request: Request) -> Response:
        """Not at all."""
        raise ValueError("no")
