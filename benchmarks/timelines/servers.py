"""The servers, with the same application and two workers each."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.servers import ROOT, free_port, running

__all__ = ["CARD", "RELOAD", "SERVERS", "Server", "find", "serving", "write_site"]

CARD = "server.json"
"""In a server's folder: the words that make it take new code, and the version that it has."""

RELOAD = "reload"
"""In a server's folder: the command that gives it the next version. Reports have its name."""

_SITE = Path(__file__).with_name("site.py")


class Server(NamedTuple):
    """How it is started, what it says when it serves, and how it is told to take new code.

    Of ``start`` and ``push`` the words have places for ``{folder}`` and ``{port}``. Without a
    ``push`` it gets the signal HUP.
    """

    name: str
    hint: str
    start: str
    ready: str
    push: str = ""


SERVERS = (
    Server(
        "netswap",
        "it comes with this",
        "serve --workers 2 --app {folder}/site_app.py:app --listen http=127.0.0.1:{port} "
        "--state-dir {folder}/state --socket {folder}/s",
        "ready",
        "push {folder}/site_app.py --socket {folder}/s",
    ),
    Server(
        "uvicorn",
        "pip install uvicorn[standard]",
        "--workers 2 --port {port} --no-access-log site_app:app",
        "startup complete",
    ),
    Server(
        "granian",
        "pip install granian",
        "--interface asgi --workers 2 --port {port} site_app:app",
        "Started worker-2",
    ),
)


def find(server: Server, peers: Path | None) -> str:
    """Its program: in the folder of peers, beside this Python, or on the path; else an exit."""
    places = [*([str(peers)] if peers else []), str(Path(sys.executable).parent)]
    found = shutil.which(server.name, path=os.pathsep.join([*places, os.environ["PATH"]]))
    if found is None:
        raise SystemExit(f"{server.name} is needed: {server.hint}, and --peers its bin folder")
    return found


def write_site(folder: Path, version: int) -> None:
    """Make the application one of this version."""
    text = _SITE.read_text(encoding="utf-8")
    changed = text.replace("VERSION = 1", f"VERSION = {version}", 1)
    (folder / "site_app.py").write_text(changed, encoding="utf-8")


def _write_reload(folder: Path) -> None:
    words = [sys.executable, "-m", "benchmarks.timelines.reload", str(folder)]
    command = folder / RELOAD
    command.write_text(f"#!/bin/sh\ncd {shlex.quote(str(ROOT))} && exec {shlex.join(words)}\n")
    command.chmod(0o755)


@contextmanager
def serving(server: Server, program: str) -> Iterator[tuple[Path, int]]:
    """The server, ready: its folder and its port."""
    with tempfile.TemporaryDirectory(prefix="netswap-lines-", ignore_cleanup_errors=True) as name:
        folder, port = Path(name), free_port()
        write_site(folder, 1)
        words = [part.format(folder=folder, port=port) for part in server.start.split()]
        command = ["env", f"PYTHONPATH={folder}", program, *words]
        with running(command, server.ready, None, folder) as process:
            push = [part.format(folder=folder) for part in server.push.split()]
            tell = [program, *push] if push else ["kill", "-HUP", str(process.pid)]
            (folder / CARD).write_text(json.dumps({"version": 1, "words": tell}))
            _write_reload(folder)
            yield folder, port
