"""The commands of events: what they say and leave behind, and those that do not end."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from loadgen.execution import execute


async def test_a_command_has_ended_when_its_process_has() -> None:
    """A server that it started keeps its standard output open: nobody waits for that."""
    began = time.monotonic()
    told = await execute(["sh", "-c", "sleep 60 & echo started $!; exit 3"], 30)
    child = int(told.stdout.removeprefix("started "))
    os.kill(child, 9)  # it lived on, as a server has to
    assert (told.exit_code, told.stderr) == (3, "")
    assert time.monotonic() - began < 30


async def test_one_that_has_to_be_ended_is_so_with_all_that_it_started() -> None:
    """Also the shell's child, which holds the pipes; what it said until then is kept."""
    told = await execute(["sh", "-c", "sleep 61 & echo $!; wait; true"], 1)
    assert told.exit_code is None
    assert told.stderr == "ended after 1 s without an answer"
    while _lives(int(told.stdout)):
        pass


def _lives(number: int) -> bool:
    """Until it is dead, waited for or not."""
    ps = ["ps", "-o", "stat=", "-p", str(number)]
    state = subprocess.run(ps, check=False, capture_output=True, text=True).stdout.strip()
    return state[:1] not in ("", "Z")


async def test_of_endless_words_the_last_are_kept() -> None:
    """However much it prints, memory holds 64 KiB of it; its last words are there."""
    many = "import sys; sys.stdout.write('x' * 3_000_000 + 'last'); sys.stderr.write('err')"
    told = await execute([sys.executable, "-c", many], 30)
    assert told == (0, "x" * (65_536 - 4) + "last", "err")


@pytest.mark.parametrize("command", ["/no/such/command", "/etc/passwd"])
async def test_what_cant_be_run_is_127_as_in_a_shell(command: str) -> None:
    """It fails, with the reason."""
    told = await execute([command], 30)
    assert (told.exit_code, told.stdout) == (127, "")
    assert told.stderr.startswith(f"{command} can't be run: ")


async def test_no_descriptor_is_left() -> None:
    """A run of ten thousand events has as many as one without."""
    before = len(os.listdir("/proc/self/fd"))
    for command in (["true"], ["/no/such/command"], ["sh", "-c", "kill -9 $$"]):
        await execute(command, 30)
    assert len(os.listdir("/proc/self/fd")) == before
