"""One worker slot: the process in it, the link to it, and what is known of it.

A worker is executed afresh, never forked from this process, and inherits the slot's descriptors by
number. When it dies the slot starts its successor after a back-off, for as long as the server
lives. A slot talks only to the ``Watcher`` that it was given.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Protocol

from netswap.channel import Link, messages
from netswap.errors import ChannelError
from netswap.events import Refusal, Stuck
from netswap.interpreter import python_module
from netswap.logs import get_logger
from netswap.supervisor.lifecycle import LIFE, Backoff, Happening, WorkerState
from netswap.supervisor.whereabouts import Doing, Whereabouts

__all__ = ["SILENT", "Slot", "SlotSettings", "Watcher"]

log = get_logger("netswap.supervisor")

SERVED_LONG = 60.0
SILENT = 1.2
"""Seconds without a heartbeat after which a worker counts as silent: it sends two a second."""


class Watcher(Protocol):
    """What a slot tells its supervisor."""

    def on_hello(self, slot: Slot) -> None:
        """A worker has started and waits for its Boot."""

    def on_ready(self, slot: Slot) -> None:
        """The worker accepts."""

    def on_message(self, slot: Slot, message: messages.Message) -> None:
        """A vote or an answer."""

    def on_dead(self, slot: Slot) -> None:
        """The worker's process has ended."""


@dataclass(frozen=True)
class SlotSettings:
    """What a slot needs to start workers.

    ``descriptors`` are inherited besides the control channel and ``mesh``; ``command`` is the
    interpreter and module; durations in seconds.
    """

    mesh: int
    descriptors: tuple[int, ...]
    command: Sequence[str] = field(default_factory=lambda: python_module("netswap.worker"))
    loop: str = "uvloop"
    environment: Mapping[str, str] = field(default_factory=dict)
    silent_report: float = 10.0
    silent_kill: float = 30.0


class Slot:
    """Number ``number`` of the server's worker slots."""

    def __init__(self, number: int, settings: SlotSettings, watcher: Watcher) -> None:
        self.number = number
        self.state = WorkerState.DEAD
        self.pid: int | None = None
        self.connections = 0
        self.restarts = 0
        self.booting = False
        self.unbooted: Refusal | None = None
        self.backoff = Backoff()
        self._settings = settings
        self._watcher = watcher
        self._link: Link | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._whereabouts: Whereabouts | None = None
        self._life: asyncio.Task[None] | None = None
        self._since = 0.0
        self._heard = 0.0
        self._reported = False
        self._stopping = False

    def start(self) -> None:
        """Keep a worker in this slot from now on."""
        self._life = asyncio.create_task(self._live(), name=f"slot {self.number}")

    async def _live(self) -> None:
        while True:
            await self._run_one()
            if self._stopping:
                return
            delay = self.backoff.died(_now())
            self._report_death(delay)
            await asyncio.sleep(delay)
            self.restarts += 1

    async def _run_one(self) -> None:
        """One worker, from its start to its end."""
        ours, theirs = socket.socketpair()
        with theirs, ExitStack() as undo:
            undo.callback(ours.close)
            try:
                whereabouts = Whereabouts()
                undo.callback(whereabouts.close)
                self._process = await self._spawn(theirs.fileno(), whereabouts.writing)
            except OSError as error:
                log.error("worker can't be started", worker=self.number, reason=str(error))
                return
            undo.pop_all()
        whereabouts.started()
        self._whereabouts = whereabouts
        self.pid = self._process.pid
        self._since = self._heard = _now()
        self._move(Happening.SPAWNED)
        link = self._link = Link(f"worker {self.number}", self._on_message, self._on_lost)
        await Link.over(ours, link)
        await self._process.wait()
        self._on_exit(link)

    async def _spawn(self, control: int, frames: int) -> asyncio.subprocess.Process:
        settings = self._settings
        numbers = {
            "--slot": self.number, "--control": control, "--mesh": settings.mesh, "--frames": frames
        }  # fmt: skip
        return await asyncio.create_subprocess_exec(
            *settings.command,
            *(str(word) for row in numbers.items() for word in row),
            *("--loop", settings.loop),
            pass_fds=(control, frames, settings.mesh, *settings.descriptors),
            stdin=asyncio.subprocess.DEVNULL,
            # The supervisor's stdout carries results only; a worker's prints are diagnostics.
            stdout=2,
            env={**os.environ, **settings.environment},
            # A Ctrl-C at the terminal is for the supervisor, which drains its workers.
            start_new_session=True,
        )

    def _on_exit(self, link: Link) -> None:
        link.abort()
        if self._whereabouts is not None:
            self._whereabouts.close()
            self._whereabouts = None
        self._move(Happening.EXITED)
        self.connections = 0
        self.booting = False
        if _now() - self._since > SERVED_LONG:
            self.backoff.forgive()
        self._watcher.on_dead(self)

    def _report_death(self, delay: float) -> None:
        status = self._process.returncode if self._process is not None else None
        log.warning(
            "worker died",
            worker=self.number,
            pid=self.pid,
            ended_by=_how(status),
            next_in_s=round(delay, 2),
        )
        if self.backoff.crash_loop:
            log.error(
                "worker is in a crash loop",
                worker=self.number,
                advice="its log lines say why; `netswap rollback` undoes the last push",
            )

    def _move(self, happening: Happening) -> None:
        self.state = LIFE[self.state, happening]
        self._reported = False

    def _on_message(self, message: messages.Message) -> None:
        self._heard = _now()
        if self._reported:
            log.info("worker answers again", worker=self.number)
            self._reported = False
        match message:
            case messages.Hello():
                if not self._stopping:  # it has its Drain, and the listeners are closed by now
                    self._watcher.on_hello(self)
            case messages.Unbooted(refusal=refusal):
                self.unbooted = refusal
            case messages.Ready():
                self.booting = False
                self.unbooted = None
                self._move(Happening.READY)
                self._watcher.on_ready(self)
            case messages.Heartbeat(connections=connections):
                self.connections = connections
            case _:
                self._watcher.on_message(self, message)

    def _on_lost(self, error: Exception | None) -> None:
        # A worker without its control channel ends itself; one that can't is ended here.
        # One that ends, and has not read that it shall, resets it: that is no news.
        if error is not None and not (self._stopping and isinstance(error, ConnectionError)):
            log.error("control channel broke", worker=self.number, reason=str(error))
            self.kill()

    def send(self, message: messages.Message) -> bool:
        """Send, or say that it could not be sent: the worker is dead or does not read."""
        try:
            if self._link is not None:
                self._link.send(message)
                return True
        except ChannelError as error:
            log.warning("message not sent", worker=self.number, reason=str(error))
        return False

    def boot(self, message: messages.Boot) -> None:
        """Answer a Hello."""
        self.booting = self.send(message)

    async def check_heartbeat(self) -> None:
        """Report a worker whose loop is stuck, with its line, and kill it when that lasts."""
        if self.silence > self._settings.silent_kill:
            await self._report("worker is stuck and is killed")
            self.kill()
        elif self.silence > self._settings.silent_report and not self._reported:
            self._reported = True
            await self._report("worker does not answer")

    async def _report(self, what: str) -> None:
        stuck = await self.stuck()
        log.error(what, worker=self.number, silent_s=round(stuck.silent_s), doing=stuck.doing)

    @property
    def silence(self) -> float:
        """Seconds since the worker was heard; 0.0 when there is none."""
        return 0.0 if self.state is WorkerState.DEAD else _now() - self._heard

    async def stuck(self) -> Stuck:
        """What the worker does that answers nobody."""
        silence, pid = self.silence, self.pid or 0
        doing = Doing() if self._whereabouts is None else await self._whereabouts.ask(pid)
        return Stuck(self.number, pid, silence, doing.words, doing.file, doing.line)

    @property
    def silent(self) -> bool:
        """Whether the worker has missed its heartbeats for long."""
        return self._reported

    def drain(self, limit: float) -> None:
        """Let this slot's worker end its connections and exit; there is no successor."""
        self._stopping = True
        self._move(Happening.DRAIN)
        if self.state is not WorkerState.DEAD:
            self.send(messages.Drain(limit))

    def kill(self) -> None:
        """End the worker's process at once.

        Not by asyncio's ``send_signal``: that of 3.11 looks first whether it has ended, and takes
        its exit status away from the one who waits for it.
        """
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def wait_ended(self) -> None:
        """Return when the worker has ended and no other will follow; needs ``drain`` first."""
        if self._life is None:
            return
        if self.state is WorkerState.DEAD:
            self._life.cancel()
        with suppress(asyncio.CancelledError):
            await self._life


def _now() -> float:
    return asyncio.get_running_loop().time()


def _how(status: int | None) -> str:
    if status is None:
        return "not started"
    if status < 0:
        with suppress(ValueError):
            return signal.Signals(-status).name
    return f"exit status {status}"
