"""http.app, version 1: what a server without an application of its own says."""

from __future__ import annotations

from netswap import State
from netswap.http import App, Channel, Request, Response, route, websocket


class Welcome(State, kind="http.app", version=1):
    """Nothing is kept."""


class WelcomeApp(App[Welcome]):
    """One page, and a WebSocket that says everything again."""

    @route("GET", "/")
    @route("HEAD", "/")
    def hello(self, request: Request) -> Response:
        """A greeting."""
        return Response("Hello, world!")

    @websocket("/echo")
    def echo(self, channel: Channel, message: str | bytes) -> None:
        """The same."""
        channel.send_nowait(message)
