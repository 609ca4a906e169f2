"""The rehearsal: load and convert in a forked child what is about to be swapped.

The child has the real objects, as they were at the moment of the fork. It imports the bundles,
takes state of the kinds concerned to the new shape, through the canonical form and back, and
tells the parent what happened; then it leaves with ``_exit``, so that neither the parent's
sockets nor its loop see any of it. A crash, an endless loop or an exit at import ends the child.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import time
from collections.abc import Callable
from math import ceil
from typing import NoReturn

import msgspec

from netswap.blame import describe, place_of_death, tell_where_it_dies
from netswap.events import Refusal, Stage

__all__ = ["Rehearsed", "rehearse"]

NICER = 10
"""The child gives way to the workers that serve."""

LIMIT = 64 * 1024 * 1024
STDERR = 2


class Rehearsed(msgspec.Struct, frozen=True):
    """What the child found: a refusal or none, objects converted, and the slowest in seconds.

    ``compiled`` is the code of the new bundles, so that the worker's loop need not compile it;
    ``fork_s`` is how long the fork held that loop.
    """

    refusal: Refusal | None
    objects: int = 0
    slowest_s: float = 0.0
    compiled: dict[str, dict[str, bytes]] = {}
    fork_s: float = 0.0


async def rehearse(play: Callable[[], Rehearsed], timeout: float) -> Rehearsed:
    """Run ``play`` in a forked child, for at most ``timeout`` seconds; the fork itself blocks.

    Every end of the child is a result: a crash or a time-out is a refusal that says so.
    """
    reading, writing = os.pipe()
    started = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        _child(play, writing, timeout)
    fork_s = time.perf_counter() - started
    os.close(writing)
    try:
        rehearsed = await _heard(reading, pid, timeout)
        return msgspec.structs.replace(rehearsed, fork_s=fork_s)
    finally:
        os.close(reading)


def _child(play: Callable[[], Rehearsed], writing: int, timeout: float) -> NoReturn:
    code = 1
    leave = tell_where_it_dies(writing)
    try:
        gc.disable()
        os.nice(NICER)
        _detach(writing, timeout)
        _write(writing, play())
        code = 0
    except BaseException as error:
        refusal = Refusal(Stage.PREPARE, f"the rehearsal failed: {describe(error)}")
        _write(writing, Rehearsed(refusal))
        code = 0
    finally:
        leave(code)


def _detach(writing: int, timeout: float) -> None:
    """Let go of what the worker has open, and end by itself should the worker not end us.

    A child that hangs would keep its worker's listeners and clients open beyond the worker's
    death. A signal that comes here must not be told to the worker's loop.
    """
    signal.set_wakeup_fd(-1)
    os.closerange(STDERR + 1, writing)
    os.closerange(writing + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    seconds = ceil(timeout) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


def _write(writing: int, rehearsed: Rehearsed) -> None:
    with open(writing, "wb", closefd=False) as pipe:  # noqa: PTH123 - a descriptor, not a path
        pipe.write(msgspec.msgpack.encode(rehearsed))


async def _heard(reading: int, pid: int, timeout: float) -> Rehearsed:
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
        await asyncio.wait_for(ended, timeout)
    except TimeoutError:
        reason = f"the rehearsal did not end within {timeout:g} s and was stopped"
        return Rehearsed(Refusal(Stage.PREPARE, reason, advice="look for an endless loop"))
    finally:
        loop.remove_reader(reading)
        # Nobody listens any more, and the loop must not wait for a child that goes on. One that
        # is ending keeps its own status.
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    try:
        return msgspec.msgpack.decode(data, type=Rehearsed)
    except msgspec.DecodeError:
        return _died(status, data.decode(errors="replace"))


def _died(status: int, told: str) -> Rehearsed:
    how = f"signal {status & 0x7F}" if status & 0x7F else f"exit code {status >> 8}"
    file, line = place_of_death(told)
    reason = f"the rehearsal's process died ({how})"
    advice = "the module ends the process that runs it"
    return Rehearsed(Refusal(Stage.PREPARE, reason, file, line, advice=advice))
