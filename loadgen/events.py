"""Events of a run, as processes of their own: a push, or any command, at its time."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from pathlib import Path

import msgspec

from loadgen.execution import execute
from loadgen.plain import plain_words
from loadgen.plan import Event

__all__ = ["EventRecord", "carry_out", "push_command", "wait_for"]

_SECOND = 1_000_000_000


class _Told(msgspec.Struct):
    """What an answer in JSON may say of a failure."""

    what: str
    where: str | None = None


_DECODER = msgspec.json.Decoder(_Told)


class EventRecord(msgspec.Struct, frozen=True):
    """What happened. Times are ns on CLOCK_MONOTONIC; ``exit_code`` None: it had to be ended."""

    event: Event
    command: list[str]
    start: int
    end: int
    exit_code: int | None
    stdout: str
    stderr: str

    @property
    def promises(self) -> bool:
        """Whether it says that all answers are of its code from its end on: a push that is done."""
        return self.event.kind == "push" and not self.failed

    @property
    def failed(self) -> bool:
        """Whether it did not end well."""
        return self.exit_code != 0

    @property
    def reason(self) -> str:
        """Why it failed, in its own words: ``where`` and ``what`` of a JSON answer, else the last
        line that it said.
        """
        try:
            told = _DECODER.decode(self.stdout)
            return plain_words(f"{told.where}: {told.what}" if told.where else told.what)
        except msgspec.DecodeError:
            lines = map(plain_words, reversed((self.stderr or self.stdout).splitlines()))
            return next(filter(None, lines), "it said nothing")


def push_command(named: tuple[str, ...] | None, socket: str | None) -> list[str]:
    """The words before the path: the command named, the one beside this Python, or PATH's."""
    beside = Path(sys.executable).with_name("netswap")
    if named is not None:
        words = [*named]
    elif beside.exists():
        words = [str(beside)]
    else:
        found = shutil.which("netswap")
        words = [found] if found else [sys.executable, "-m", "netswap"]
    return [*words, "push", "--json", *(["--socket", socket] if socket else [])]


async def wait_for(moment: int) -> None:
    """Until this time (ns, CLOCK_MONOTONIC)."""
    await asyncio.sleep((moment - time.monotonic_ns()) / _SECOND)


async def carry_out(event: Event, pushing: list[str], limit_s: float) -> EventRecord:
    """Run it now and keep what it said. ``limit_s`` bounds the process's life."""
    command = [*(pushing if event.kind == "push" else ()), *event.words]
    began = time.monotonic_ns()
    told = await execute(command, limit_s)
    return EventRecord(event, command, began, time.monotonic_ns(), *told)
