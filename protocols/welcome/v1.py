"""http.app, version 1: what a server without an application of its own says."""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import parse_qs

from netswap import State
from netswap.http import App, Channel, HttpError, Request, Response, route, websocket

LATEST_MS: Final = 60_000
_DIGITS: Final = 5


class Welcome(State, kind="http.app", version=1):
    """Nothing is kept."""


class WelcomeApp(App[Welcome]):
    """One page, and places that say everything again: at once, over a WebSocket, and later."""

    @route("GET", "/")
    @route("HEAD", "/")
    def hello(self, request: Request) -> Response:
        """A greeting."""
        return Response("Hello, world!")

    @route("POST", "/echo")
    def again(self, request: Request) -> Response:
        """The body, and which version of this says so."""
        return Response(request.body.here(), 200, [(b"x-version", b"%d" % self.version)])

    @route("POST", "/later")
    async def later(self, request: Request) -> Response:
        """The body, ``?ms=`` milliseconds after it was whole; the version that it came to."""
        wait_s = _milliseconds(request.query) / 1000
        body = await request.body.read()
        await asyncio.sleep(wait_s)
        return Response(body, 200, [(b"x-version", b"%d" % self.version)])

    @websocket("/echo")
    def echo(self, channel: Channel, message: str | bytes) -> None:
        """The same."""
        channel.send_nowait(message)


def _milliseconds(query: bytes) -> int:
    (said, *more) = parse_qs(query.decode("latin-1")).get("ms", [""])
    if more or not (said.isascii() and said.isdigit()) or len(said) > _DIGITS:
        raise HttpError(400, f"/later?ms= takes whole milliseconds up to {LATEST_MS}")
    if int(said) > LATEST_MS:
        raise HttpError(400, f"{said} ms are more than the {LATEST_MS} that anything waits here")
    return int(said)
