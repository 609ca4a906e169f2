"""A command and what it said, with bounds: on its time, and on what is kept of its words.

It has ended when its process has, whatever it left behind: a server that it started keeps the
command's standard output open for as long as it lives, and asyncio's own pipes wait for that. One
that has to be ended is ended with all that it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from types import TracebackType
from typing import NamedTuple

__all__ = ["Execution", "execute"]

_KEPT = 65_536
_AT_ONCE = 65_536  # what a pipe holds on Linux: after the end one reading has all of it
_CANT_BE_RUN = 127  # as a shell says it


class Execution(NamedTuple):
    """``exit_code`` None: it had to be ended. Of each stream the last 64 KiB, as text."""

    exit_code: int | None
    stdout: str
    stderr: str


async def execute(command: list[str], limit_s: float) -> Execution:
    """Run it now, for ``limit_s`` seconds at most."""
    with _Ear() as out, _Ear() as err:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out.mouth,
                stderr=err.mouth,
                start_new_session=True,
            )
        except OSError as error:
            return Execution(_CANT_BE_RUN, "", f"{command[0]} can't be run: {error.strerror}")
        out.listen()
        err.listen()
        why = await _end_of(process, limit_s)
        exit_code = None if why else process.returncode
        return Execution(exit_code, out.text(), "\n".join(filter(None, (err.text(), why))))


async def _end_of(process: asyncio.subprocess.Process, limit_s: float) -> str:
    """Wait for it; why it had to be ended, or nothing."""
    try:
        async with asyncio.timeout(limit_s):
            await process.wait()
        return ""
    except TimeoutError:
        return f"ended after {limit_s:g} s without an answer"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it ended just now
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


class _Ear:
    """A pipe of which the last words are kept; ``mouth`` is the end to write to."""

    def __init__(self) -> None:
        self._descriptor, self.mouth = os.pipe()
        os.set_blocking(self._descriptor, False)
        self._heard = b""

    def __enter__(self) -> _Ear:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._close_mouth()

    def listen(self) -> None:
        """Only the command speaks from now on."""
        self._close_mouth()
        asyncio.get_running_loop().add_reader(self._descriptor, self._hear)

    def text(self) -> str:
        """What was heard, with what is in the pipe yet."""
        self._hear()
        return self._heard.decode(errors="replace").strip()

    def _hear(self) -> None:
        try:
            words = os.read(self._descriptor, _AT_ONCE)
        except BlockingIOError:
            return
        self._heard = (self._heard + words)[-_KEPT:]
        if not words:
            asyncio.get_running_loop().remove_reader(self._descriptor)

    def _close_mouth(self) -> None:
        if self.mouth >= 0:
            os.close(self.mouth)
            self.mouth = -1
