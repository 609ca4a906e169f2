"""http.app, version 1: what a server without an application of its own says."""

from __future__ import annotations

from netswap import State
from netswap.http import App, Request, Response, route


class Welcome(State, kind="http.app", version=1):
    """Nothing is kept."""


class WelcomeApp(App[Welcome]):
    """One page."""

    @route("GET", "/")
    @route("HEAD", "/")
    def hello(self, request: Request) -> Response:
        """A greeting."""
        return Response("Hello, world!")
