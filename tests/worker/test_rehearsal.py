"""The rehearsal: however its child ends, that is a result, and nothing is left of it."""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from netswap.blame import blame, describe
from netswap.confine import leave_room
from netswap.events import Refusal, Rehearsal, Stage, VerdictLine
from netswap.worker import forked
from netswap.worker.rehearsal import Rehearsed, rehearse
from tests.machine import children

PATIENT = 20.0
"""Seconds that no child here needs: the bound of those that end by themselves."""

Play = Callable[[], Rehearsed]


async def refused(play: Play, timeout: float = PATIENT) -> Refusal:
    """The refusal that a play has to end in."""
    refusal = (await rehearse(play, timeout)).refusal
    assert refusal is not None
    assert refusal.stage == Stage.PREPARE
    return refusal


def raises(error: BaseException) -> Play:
    """A play that fails."""

    def play() -> Rehearsed:
        raise error

    return play


def counted(number: int) -> Rehearsed:
    """A play that went well with so many objects."""
    return Rehearsed(None, Rehearsal(objects=number))


def endless() -> Rehearsed:
    """Bounded by the child's own limit of processor time only."""
    while True:
        pass


async def test_what_was_found_comes_back() -> None:
    """Counts, times and code; the time of the fork is the parent's own measurement."""
    code = {"sha": {"v2.py": b"\x00\xff"}}
    lines = [VerdictLine("k", "as is", "same", 1, 1)]
    found = Rehearsed(None, Rehearsal(objects=7, slowest_us=25.0), lines, code)
    rehearsed = await rehearse(lambda: found, PATIENT)
    report = rehearsed.report
    assert (rehearsed.refusal, report.objects, report.slowest_us) == (None, 7, 25.0)
    assert (rehearsed.verdicts, rehearsed.compiled) == (lines, code)
    assert 0 < report.fork_us < report.seconds * 1e6


async def test_a_refusal_comes_back_whole() -> None:
    """With its file and line."""
    refusal = Refusal(Stage.VERDICT, "no", "v2.py", 3, "k", entry="9", advice="do")
    assert (await rehearse(lambda: Rehearsed(refusal), PATIENT)).refusal == refusal


async def test_what_happens_in_the_child_stays_there() -> None:
    """The play has the real objects and changes copies of them."""
    live = [1]

    def play() -> Rehearsed:
        live.append(2)
        return counted(len(live))

    assert (await rehearse(play, PATIENT)).report.objects == 2
    assert live == [1]


async def test_an_answer_may_be_bigger_than_a_pipe() -> None:
    """It is read while the child writes it."""
    code = {"sha": {"v2.py": bytes(1_000_000)}}
    assert (await rehearse(lambda: Rehearsed(None, compiled=code), PATIENT)).compiled == code


@pytest.mark.parametrize(
    "error", [ValueError("k is wrong"), SystemExit("k is wrong"), KeyboardInterrupt("k is wrong")]
)
async def test_an_exception_is_a_refusal(error: BaseException) -> None:
    """Even one that would end a process."""
    refusal = await refused(raises(error))
    assert refusal.reason == f"the rehearsal failed: {type(error).__name__}: k is wrong"


async def test_a_crash_is_a_refusal_that_names_the_signal() -> None:
    """A child that died has told nothing."""
    refusal = await refused(lambda: os.kill(os.getpid(), signal.SIGKILL))  # type: ignore[arg-type, return-value]
    assert refusal.reason == "the rehearsal's process died (signal 9)"
    assert "ends the process" in refusal.advice


BUNDLED = "import os\n\ndef leave():\n    {}\n"


@pytest.mark.parametrize(
    ("line", "how"),
    [
        ("os._exit(3)", "exit code 3"),
        ("os._exit(0)", "exit code 0"),
        ("os.abort()", f"signal {signal.SIGABRT.value}"),
    ],
)
async def test_a_module_that_ends_its_process_is_named_with_its_line(line: str, how: str) -> None:
    """Also when it claims that all went well."""
    module: dict[str, Play] = {}
    exec(compile(BUNDLED.format(line), "v2.py@0123456789ab", "exec"), module)
    refusal = await refused(module["leave"])
    assert refusal.reason == f"the rehearsal's process died ({how})"
    assert (refusal.file, refusal.line) == ("v2.py", 4)


async def test_an_endless_loop_is_stopped_at_the_deadline() -> None:
    """The loop of the worker turns meanwhile."""
    turned = asyncio.create_task(asyncio.sleep(0.01))
    started = time.monotonic()
    refusal = await refused(endless, 0.1)
    assert "did not end within 0.1 s and was stopped" in refusal.reason
    assert turned.done()
    assert time.monotonic() - started < PATIENT / 2


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[mmap.mmap]:
    """A byte that the child sets when it is where it stays; its time begins then."""
    fork = os.fork
    with mmap.mmap(-1, 1) as shared:

        def patient() -> int:
            pid = fork()
            until = time.monotonic() + PATIENT
            while pid and not shared[0] and time.monotonic() < until:
                os.sched_yield()
            return pid

        monkeypatch.setattr(os, "fork", patient)
        monkeypatch.setattr(forked, "LAST_WORDS_S", PATIENT)
        yield shared


@pytest.mark.parametrize("line", ["sum(range(1 << 60))", "[0 for _ in iter(int, 1) if _]"])
async def test_what_is_stopped_says_where_it_was(line: str, here: mmap.mmap) -> None:
    """Python or C code that no exception reaches: the author's line is named."""
    module: dict[str, Any] = {"here": here}
    source = BUNDLED.format(f"here[0] = 1; {line}")
    exec(compile(source, "v2.py@0123456789ab", "exec"), module)
    refusal = await refused(module["leave"], 0.2)
    assert "was stopped" in refusal.reason
    assert (refusal.file, refusal.line) == ("v2.py", 4)


async def test_a_rehearsal_that_is_cancelled_ends_its_child() -> None:
    """A worker that ends does not wait for it; the fixtures see that no process is left."""
    task = asyncio.create_task(rehearse(endless, PATIENT))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def deaf() -> Rehearsed:
    """Gives up its end of the pipe and stays."""
    os.closerange(3, 4096)
    signal.pause()
    raise AssertionError


async def test_a_child_that_stays_without_a_word_does_not_hold_the_loop() -> None:
    """Nobody waits for one that can't tell anything any more."""
    refusal = await refused(deaf)
    assert "the rehearsal's process died" in refusal.reason


async def test_an_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's memory is worth more, and the child does not wait for it for ever."""
    monkeypatch.setattr(forked, "LIMIT", 100_000)
    code = {"sha": {"v2.py": bytes(2_000_000)}}
    refusal = await refused(lambda: Rehearsed(None, compiled=code))
    assert "the rehearsal's process died" in refusal.reason


async def test_the_child_lets_go_of_what_the_worker_has_open() -> None:
    """It can neither speak to a client nor keep a connection open."""
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def play() -> Rehearsed:
            try:
                theirs.send(b"x")
            except OSError:
                return counted(1)
            return counted(2)

        assert (await rehearse(play, PATIENT)).report.objects == 1
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ours.recv(1)


async def test_no_process_and_no_descriptor_is_left() -> None:
    """One after the other uses the same numbers, however each ended."""
    before = os.listdir("/proc/self/fd"), children()
    plays: list[Play] = [lambda: Rehearsed(None), raises(ValueError()), lambda: os._exit(1)]
    for play in plays:
        await rehearse(play, PATIENT)
    assert (os.listdir("/proc/self/fd"), children()) == before


HOG = """
import os

def hog():
    held = []
    while True:
        held.append(GREED)

def flood():
    while True:
        os.write(1, b"x" * 1000)

def whisper():
    os.write(2, b"I was here")
"""


def bundled(source: str) -> dict[str, Play]:
    """What a bundle's file of this source defines."""
    module: dict[str, Play] = {}
    exec(compile(source, "v2.py@0123456789ab", "exec"), module)
    return module


def failing(play: Callable[[], object]) -> Play:
    """A play in which an object fails as this does."""

    def played() -> Rehearsed:
        try:
            play()
        except Exception as error:
            leave_room()
            file, line = blame(error)
            return Rehearsed(Refusal(Stage.PREPARE, f"it failed: {describe(error)}", file, line))
        return Rehearsed(None)

    return played


# on one loop: the child runs none, and fills a quarter of a gigabyte in pieces of 64 bytes
@pytest.mark.asyncio(loop_factories=["uvloop"])
@pytest.mark.parametrize("greed", ["bytes(1 << 20)", "str(len(held))", "[held]"])
async def test_an_allocation_without_end_meets_its_limit(greed: str) -> None:
    """The refusal says that memory ran out and where, however small the pieces were.

    Small pieces may fill the very blocks that a traceback needs (64 bytes, as a string of a number
    has). Where none could be made, the place is that of the state's class: here none.
    """
    refusal = await refused(failing(bundled(HOG.replace("GREED", greed))["hog"]), 60.0)
    assert "memory ran out: it asked for more than" in refusal.reason
    place = (refusal.file, refusal.line)
    in_small_pieces = not greed.startswith("bytes")
    assert place == ("v2.py", 7) or (in_small_pieces and place == (None, None))


async def test_an_output_without_end_meets_its_limit() -> None:
    """The worker would write it for each object; the log has none of it."""
    refusal = await refused(failing(bundled(HOG)["flood"]))
    assert refusal.reason == "it wrote more than 64 KiB to stdout and stderr"
    assert (refusal.file, refusal.line) == ("v2.py", 11)


async def test_what_is_printed_is_told() -> None:
    """A line does no harm, and the operator sees it."""
    rehearsed = await rehearse(failing(bundled(HOG)["whisper"]), PATIENT)
    assert rehearsed.refusal is None
    assert rehearsed.report.output == "I was here"


async def test_what_the_child_starts_ends_with_it(tmp_path: Path) -> None:
    """Its session is ended with it."""
    told = tmp_path / "pid"

    def play() -> Rehearsed:
        told.write_text(str(subprocess.Popen(["sleep", "600"]).pid))
        return Rehearsed(None)

    assert (await rehearse(play, PATIENT)).refusal is None
    deadline = time.monotonic() + PATIENT
    while Path(f"/proc/{told.read_text()}/stat").exists():
        assert time.monotonic() < deadline, "it still runs"
        await asyncio.sleep(0)
