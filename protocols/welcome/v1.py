"""http.app, version 1: what a server without an application of its own says."""

from __future__ import annotations

from netswap import State
from netswap.http import App, Channel, Request, Response, route, websocket


class Welcome(State, kind="http.app", version=1):
    """Nothing is kept."""


class WelcomeApp(App[Welcome]):
    """One page, and two places that say everything again."""

    @route("GET", "/")
    @route("HEAD", "/")
    def hello(self, request: Request) -> Response:
        """A greeting."""
        return Response("Hello, world!")

    @route("POST", "/echo")
    def again(self, request: Request) -> Response:
        """The body, and which version of this says so."""
        return Response(request.body.here(), 200, [(b"x-version", b"%d" % self.version)])

    @websocket("/echo")
    def echo(self, channel: Channel, message: str | bytes) -> None:
        """The same."""
        channel.send_nowait(message)
