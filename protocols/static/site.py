"""http.app, version 1: nothing but the files of ``http.static``."""

from __future__ import annotations

from typing import Any

from netswap import State
from netswap.http import App, Request


class Site(State, kind="http.app", version=1):
    """Nothing is kept."""


class SiteApp(App[Site], uses={"files": "http.static"}):
    """Each path is that of a file."""

    files: Any

    def answer(self, request: Request) -> Any:
        """The file, whatever the method: the files say which ones they know."""
        return self.files.answer(request, request.path.removeprefix("/"))
