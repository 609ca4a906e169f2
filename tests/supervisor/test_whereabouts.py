"""Where a process is that answers nobody, told by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from netswap.supervisor import whereabouts as module
from netswap.supervisor.whereabouts import Whereabouts

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])

BUSY = """
import faulthandler, signal, sys, threading
faulthandler.register(signal.SIGURG, int(sys.argv[1]), all_threads=False)
code = compile("def loop():\\n\\n  print('on', flush=True); any(iter(int, 1))\\n\\nloop()",
               sys.argv[2], "exec")
exec(code, {})
"""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with other work on it a process may wait long for its processor."""
    monkeypatch.setattr(module, "ANSWER_S", 30.0)
    monkeypatch.setattr(module, "REST_S", 0.5)


@asynccontextmanager
async def busy(name: str) -> AsyncIterator[tuple[Whereabouts, int]]:
    """A process that is for ever in C code that was called on line 3 of a file of that name."""
    whereabouts = Whereabouts()
    number = whereabouts.writing
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY, str(number), name], pass_fds=[number], stdout=subprocess.PIPE
    )
    whereabouts.started()
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"on\n"
            yield whereabouts, process.pid
        finally:
            process.kill()
            whereabouts.close()


@pytest.mark.usefixtures("patient")
async def test_an_endless_loop_is_named_by_its_authors_line() -> None:
    """More than once, and by the author's name of the file."""
    async with busy("mine.py@0123456789ab") as (whereabouts, pid):
        for _ in range(2):
            doing = await whereabouts.ask(pid)
            assert doing == ("it is at mine.py:3 in loop()", "mine.py", 3)


@pytest.mark.usefixtures("patient")
async def test_a_line_of_nobodys_is_told_without_blaming_a_file() -> None:
    """A place in netswap or in a library is no place in what was pushed."""
    async with busy("/lib/other.py") as (whereabouts, pid):
        assert await whereabouts.ask(pid) == ("it is at /lib/other.py:3 in loop()", None, None)


async def test_a_stopped_process_is_told_as_such() -> None:
    """It runs no handler either; where there is no /proc nothing is known."""
    async with busy("mine.py@0123456789ab") as (whereabouts, pid):
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
        words = (await whereabouts.ask(pid)).words
        assert words.startswith("it is stopped by a signal" if sys.platform == "linux" else "")


async def test_a_process_that_has_no_handler_is_left_as_it_is() -> None:
    """The signal is one that is ignored unless it is asked for; so is a process that has ended."""
    whereabouts = Whereabouts()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        whereabouts.started()
        assert await whereabouts.ask(process.pid) == ("", None, None)
        assert process.poll() is None
        process.communicate()
    assert await whereabouts.ask(process.pid) == ("", None, None)
    whereabouts.close()
