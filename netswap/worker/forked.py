"""Work in a forked child, which has this worker's objects as they were at the moment of the fork.

The child lets go of everything that the worker has open, gives its answer into a pipe and leaves
with ``_exit``, so neither the parent's sockets nor its loop see any of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import time
from collections.abc import Callable
from math import ceil
from typing import Any, NamedTuple, NoReturn

from netswap.blame import tell_where_it_dies
from netswap.worker.kinship import end_with_parent

__all__ = ["NoMesh", "Told", "in_fork"]

NICER = 10
"""The child gives way to the workers that serve."""

LAST_WORDS_S = 0.5
LIMIT = 64 * 1024 * 1024
"""Bytes of an answer; a child that says more is ended."""

STDERR = 2


class NoMesh:
    """The other workers for what is tried in a child: they hear nothing, and nobody answers."""

    def cast(self, *_words: Any) -> None:
        """Nobody hears it."""

    request = cast


class Told(NamedTuple):
    """What came of a child: its ``answer``, or what it left when it died; in time or ``late``.

    ``fork_s`` is how long the fork held the parent's loop, in seconds.
    """

    answer: bytes
    status: int
    late: bool
    fork_s: float

    @property
    def how(self) -> str:
        """How the child ended, for a sentence about one that died."""
        signalled = self.status & 0x7F
        return f"signal {signalled}" if signalled else f"exit code {self.status >> 8}"


async def in_fork(work: Callable[[], bytes], timeout: float) -> Told:
    """Run ``work`` in a child, for at most ``timeout`` seconds; the fork itself blocks.

    ``work`` raises nothing, or the child dies of it. Raises OSError when no child is to be had.
    """
    reading, writing = os.pipe()
    worker = os.getpid()
    started = time.perf_counter()
    try:
        pid = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if pid == 0:
        _child(work, writing, timeout, worker)
    fork_s = time.perf_counter() - started
    os.close(writing)
    try:
        return await _heard(reading, pid, timeout, fork_s)
    finally:
        os.close(reading)


def _child(work: Callable[[], bytes], writing: int, timeout: float, worker: int) -> NoReturn:
    code = 1
    leave = tell_where_it_dies(writing)
    try:
        os.setsid()
        gc.disable()
        os.nice(NICER)
        end_with_parent(worker)
        _detach(writing, timeout)
        answer = work()
        with open(writing, "wb", closefd=False) as pipe:  # noqa: PTH123 - a descriptor, not a path
            pipe.write(answer)
        code = 0
    finally:
        leave(code)


def _detach(writing: int, timeout: float) -> None:
    """Let go of what the worker has open; computing for too long ends the child by itself.

    A child that hangs would keep its worker's listeners and clients open. A signal that comes here
    must not be told to the worker's loop.
    """
    signal.set_wakeup_fd(-1)
    os.closerange(STDERR + 1, writing)
    os.closerange(writing + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    seconds = ceil(timeout) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


async def _heard(reading: int, pid: int, timeout: float, fork_s: float) -> Told:
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    data = bytearray()

    def readable() -> None:
        chunk = os.read(reading, 65536)
        data.extend(chunk)
        if (not chunk or len(data) > LIMIT) and not ended.done():
            ended.set_result(None)

    loop.add_reader(reading, readable)
    try:
        await asyncio.wait([ended], timeout=timeout)
        if late := not ended.done():
            os.kill(pid, signal.SIGABRT)  # it says where it is, even out of C code
            # its memory is given back before its end of the pipe: not while the loop is held
            await asyncio.wait([ended], timeout=LAST_WORDS_S)
    finally:
        loop.remove_reader(reading)
        # Nobody listens any more, and the loop must not wait for a child that goes on. One that
        # is ending keeps its own status.
        _end(pid)
        _, status = os.waitpid(pid, 0)
    return Told(bytes(data), status, late, fork_s)


def _end(pid: int) -> None:
    """End the child and whatever it has started; it may not have a session of its own yet."""
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
