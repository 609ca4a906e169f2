"""Where a worker is that answers nobody, as its own interpreter tells it from outside of its loop.

A worker has ``faulthandler`` write its frames into a pipe at SIGURG. That is C code, which needs
neither a turn of the loop nor the lock of the interpreter, so it also tells where an endless loop
or a C function is. A process that has no handler for that signal yet, or none at all, ignores it.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from netswap.blame import author_file

__all__ = ["Doing", "Whereabouts"]

ANSWER_S = 0.5
"""Seconds that the frames may take: a process that waits for a processor is no better known."""
REST_S = 0.02
"""And that the rest of them may take once the first have come."""

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<name>\S+)')
_HELD = {
    "T": "it is stopped by a signal, and SIGCONT lets it go on",
    "t": "a debugger holds it",
}
"""What the kernel says of a process that somebody has to let go."""
_SILENT = {**_HELD, "D": "it waits for the kernel"}
"""And of one that told nothing: every process waits for a disk at times, for a moment."""


class Doing(NamedTuple):
    """What a process does, in words, at ``file`` and ``line`` if it is known."""

    words: str = ""
    file: str | None = None
    line: int | None = None


class Whereabouts:
    """The pipe of one worker; its process inherits ``writing``."""

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self.writing, False)
        self._asking = asyncio.Lock()
        self._open, self._reads = True, False

    def started(self) -> None:
        """The worker has its end."""
        os.close(self.writing)
        self.writing = -1

    def close(self) -> None:
        """The worker has ended; what is asked at the moment may end first."""
        self._open = False
        if self.writing >= 0:
            self.started()
        if not self._reads:
            os.close(self._reading)

    async def ask(self, pid: int) -> Doing:
        """What the worker does, which is process ``pid``; nothing when it can't be known."""
        async with self._asking:
            if (state := _state_of(pid)) in _HELD:
                return Doing(_HELD[state])
            if self._closed():
                return Doing()
            frames = await self._frames(pid)
        return _doing(frames) if frames else Doing(_SILENT.get(_state_of(pid), ""))

    async def _frames(self, pid: int) -> str:
        loop = asyncio.get_running_loop()
        told: asyncio.Future[None] = loop.create_future()
        self._read()
        self._reads = True
        loop.add_reader(self._reading, _once, told)
        try:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGURG)
            await asyncio.wait([told], timeout=ANSWER_S)
            if told.done():
                await asyncio.sleep(REST_S)
            return self._read()
        finally:
            loop.remove_reader(self._reading)
            self._reads = False
            if self._closed():
                os.close(self._reading)

    def _closed(self) -> bool:
        return not self._open

    def _read(self) -> str:
        with suppress(BlockingIOError):
            return os.read(self._reading, 1 << 16).decode(errors="replace")
        return ""


def _once(told: asyncio.Future[None]) -> None:
    if not told.done():
        told.set_result(None)


def _doing(frames: str) -> Doing:
    """The innermost frame of an author's, or of anybody's: a line of asyncio's tells little."""
    found = [(author_file(row["file"]), row) for row in _FRAME.finditer(frames)]
    for file, row in found:
        if file is not None:
            line = int(row["line"])
            return Doing(f"it is at {file}:{line} in {row['name']}()", file, line)
    if not found:
        return Doing()
    row = found[0][1]
    return Doing(f"it is at {row['file']}:{row['line']} in {row['name']}()")


def _state_of(pid: int) -> str:
    """The letter of the kernel's, where there is a /proc."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""
