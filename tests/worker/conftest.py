"""Worker processes for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.worker.one_worker import OneWorker


@pytest.fixture
def make_worker(tmp_path: Path) -> Iterator[Callable[..., OneWorker]]:
    """Makes a worker process that does not outlive the test."""
    with ExitStack() as stack:

        def make(loop: str = "uvloop") -> OneWorker:
            made = OneWorker(tmp_path, loop)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def worker(make_worker: Callable[..., OneWorker]) -> OneWorker:
    """A worker on uvloop that was told nothing yet."""
    return make_worker()


@pytest.fixture(params=["uvloop", "asyncio"])
def either(request: pytest.FixtureRequest, make_worker: Callable[..., OneWorker]) -> OneWorker:
    """A worker on each of the loops."""
    return make_worker(request.param)
