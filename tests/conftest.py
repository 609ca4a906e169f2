"""What every test gets: both event loops, and a proof that it left nothing behind.

An ``async def test_...`` runs twice, on uvloop and on asyncio's own loop. To choose one, with a
reason beside it: ``@pytest.mark.asyncio(loop_factories=["uvloop"])``.

After each test no task, descriptor or child process may be left that was not there before, and no
exception may have ended in a loop's exception handler. A test that provokes one asks for
``loop_errors`` and empties it when it has looked.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, settings

# Where it is set, each process of ours compiles all of netswap before it begins: half its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Under nohup hangups are ignored, by the servers of the tests too; a handler is not inherited.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

# Of make test, the same examples on every run; make fuzz looks for new ones.
settings.register_profile("test", deadline=None, derandomize=True, print_blob=True)
settings.register_profile(
    "fuzz",
    deadline=None,
    max_examples=5_000,
    stateful_step_count=100,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("test")

# libuv makes a pipe for signals with the first loop of a process: it is not that test's leak
uvloop.new_event_loop().close()

PATIENCE = 20.0
"""Seconds within which what a test closed must be gone."""

SHORT = 24
"""Characters of the folder of temporary files, below which the tests make others."""

_errors: list[dict[str, Any]] = []


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give the tests a folder with a short name: a Unix socket's path has 107 bytes at most.

    So has everything that asks for the folder of temporary files, here and in our processes.
    """
    if len(tempfile.gettempdir()) > SHORT:
        os.environ["TMPDIR"] = tempfile.tempdir = "/tmp"
    if config.option.basetemp is None:
        config.option.basetemp = tempfile.mkdtemp(prefix="netswap-")
        config.add_cleanup(lambda: shutil.rmtree(config.option.basetemp, ignore_errors=True))


def _watched(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> Callable[[], Any]:
    """A factory of loops whose errors are kept instead of logged."""

    def make() -> asyncio.AbstractEventLoop:
        loop = make_loop()
        loop.set_exception_handler(lambda _, context: _errors.append(context))
        return loop

    return make


LOOPS = {"uvloop": _watched(uvloop.new_event_loop), "asyncio": _watched(asyncio.new_event_loop)}


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], Any]]:
    """pytest-asyncio's hook: every asynchronous test runs once for each."""
    return LOOPS


LONG = ("tests/system/", "tests/deploy/", "tests/test_package.py")
"""Files of few tests that take long: they go first, lest one be left at the end on one core."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give asynchronous tests, and only them, the fixture that needs a loop; long files first."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("asyncio"):
            item.fixturenames.insert(0, "_loop_is_left_clean")


def pytest_collection_finish() -> None:
    """Take what is there before the first test out of the collector's sight.

    The collection after each asynchronous test then looks at what that test has made: a millisecond
    instead of forty, three quarters of these tests' processor time.
    """
    gc.collect()
    gc.freeze()


def _descriptors() -> dict[str, str]:
    """What this process has open: number to target. The listing's own is gone by its look-up.

    Without /dev/null: libuv reserves one for the life of a loop when it first listens.
    """
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue
    return {number: target for number, target in found.items() if target != os.devnull}


def _children() -> dict[str, str]:
    """This process's children with their command lines, without multiprocessing's own."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            pids = (task / "children").read_text().split()
        except OSError:  # a thread that ends; another one has its children now
            continue
        for pid in pids:
            try:
                command = Path("/proc", pid, "cmdline").read_text().replace("\0", " ").strip()
            except OSError:
                continue
            if "multiprocessing." not in command:
                found[pid] = command
    return found


def _new(now: dict[str, str], before: dict[str, str]) -> dict[str, str]:
    """What there is more of. By number, not by name: uvloop's own pair is a new one in each run."""
    kinds = Counter(map(_kind, now.values())) - Counter(map(_kind, before.values()))
    fresh = dict(now.items() - before.items())
    return {number: what for number, what in fresh.items() if _kind(what) in kinds}


def _kind(target: str) -> str:
    """``socket:[16371]`` is a socket; a file is itself."""
    return target.partition(":[")[0]


@pytest.fixture
def loop_errors() -> list[dict[str, Any]]:
    """The contexts that reached the loop's exception handler; what is left in it fails the test."""
    return _errors


@pytest.fixture(autouse=True)
def _process_is_left_clean() -> Iterator[None]:
    """No descriptor and no child process outlives its test."""
    before = _descriptors(), _children()
    yield
    deadline = time.monotonic() + PATIENCE
    while left := _new(_descriptors(), before[0]) | _new(_children(), before[1]):
        gc.collect()
        if time.monotonic() > deadline:
            pytest.fail(f"left open or running: {left}")


@pytest.fixture
async def _loop_is_left_clean() -> AsyncIterator[None]:
    """No task and no descriptor outlives its test, and no exception passed in silence."""
    _errors.clear()
    before = _descriptors()
    yield
    me = asyncio.current_task()
    deadline = time.monotonic() + PATIENCE
    while True:
        await asyncio.sleep(0)
        tasks = asyncio.all_tasks() - {me}
        left = _new(_descriptors(), before)
        if not (tasks or left) or time.monotonic() > deadline:
            break
        gc.collect()
    del me
    gc.collect()  # an exception that nobody fetched is told when its task goes
    errors = [*_errors]
    _errors.clear()
    assert not errors, f"silent exceptions: {errors}"
    assert not tasks, f"tasks left over: {tasks}"
    assert not left, f"descriptors left open: {left}"
