"""Where a process is that answers nobody, told by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from netswap.supervisor import whereabouts as module
from netswap.supervisor.whereabouts import Whereabouts

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])

BUSY = """
import faulthandler, os, signal, sys
faulthandler.register(signal.SIGURG, int(sys.argv[1]), all_threads=False)
code = compile("def loop():\\n\\n  print('on', flush=True); " + sys.argv[3] + "\\n\\nloop()",
               sys.argv[2], "exec")
exec(code, {"os": os, "gate": sys.argv[4]})
"""
ENDLESS = "any(iter(int, 1))"
WAITING = (
    "os.posix_spawn('/bin/true', ['true'], {}, "
    "file_actions=[(os.POSIX_SPAWN_OPEN, 0, gate, os.O_RDONLY, 0)]); "
) + ENDLESS
"""The kernel holds it until its child has opened the gate, which takes somebody who writes."""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with other work on it a process may wait long for its processor."""
    monkeypatch.setattr(module, "ANSWER_S", 30.0)
    monkeypatch.setattr(module, "REST_S", 0.5)


@asynccontextmanager
async def busy(
    name: str, code: str = ENDLESS, gate: Path = Path()
) -> AsyncIterator[tuple[Whereabouts, int]]:
    """A process that is for ever in C code that was called on line 3 of a file of that name."""
    whereabouts = Whereabouts()
    number = whereabouts.writing
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY, str(number), name, code, str(gate)],
        pass_fds=[number],
        stdout=subprocess.PIPE,
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


@asynccontextmanager
async def waiting(gate: Path) -> AsyncIterator[tuple[Whereabouts, int]]:
    """Such a process while the kernel holds it, until somebody writes into the gate."""
    os.mkfifo(gate)
    async with busy("mine.py@0123456789ab", WAITING, gate) as (whereabouts, pid):
        while module._state_of(pid) != "D":
            await asyncio.sleep(0)
        try:
            yield whereabouts, pid
        finally:
            with suppress(OSError):  # nobody waits there any more
                os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))


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
    try:
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            whereabouts.started()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"loaded\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"loaded\n"
            assert await whereabouts.ask(process.pid) == ("", None, None)
            assert process.poll() is None
            process.communicate()
        assert await whereabouts.ask(process.pid) == ("", None, None)
    finally:
        whereabouts.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the state of a process")
async def test_a_process_that_waits_for_the_kernel_is_told_as_such(tmp_path: Path) -> None:
    """It has half a second to tell more."""
    async with waiting(tmp_path / "gate") as (whereabouts, pid):
        assert (await whereabouts.ask(pid)).words == "it waits for the kernel"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the state of a process")
@pytest.mark.usefixtures("patient")
async def test_a_process_that_waited_for_a_moment_tells_its_line(tmp_path: Path) -> None:
    """What the kernel said when it was asked is nothing that it is stuck in."""
    gate = tmp_path / "gate"
    async with waiting(gate) as (whereabouts, pid):
        asked = asyncio.create_task(whereabouts.ask(pid))
        await asyncio.sleep(0)
        os.close(os.open(gate, os.O_WRONLY))
        assert await asked == ("it is at mine.py:3 in loop()", "mine.py", 3)
