"""Servers for the tests of the whole: one a test, or one a module where tests share it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.harness import Server

Make = Callable[..., Server]


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Make]:
    """``make_server("echo", "kv", options)`` starts one over this test's folder."""
    yield from _servers(tmp_path)


@pytest.fixture(scope="module")
def make_shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """The same for a fixture of a module."""
    yield from _servers(tmp_path_factory.mktemp("shared"))


def _servers(folder: Path) -> Iterator[Make]:
    made: list[Server] = []

    def make(listen: Any, *options: str) -> Server:
        own = folder / f"server{len(made)}"
        own.mkdir()
        made.append(Server(own, listen, *options))
        return made[-1].start()

    yield make
    for server in made:
        server.kill()
