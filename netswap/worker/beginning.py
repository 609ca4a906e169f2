"""What begins with new code, tried in the rehearsal's child: fresh objects, and services.

A kind with no live object is tried on a fresh one, so that the first client does not find out. A
service is begun as the swap will do it: the old one's ``on_stop``, then the new one's ``on_start``;
and given up again.

What a start does inside the process is gone with the child. What it does outside would be done
twice, while the old service is still in charge: writing a file, binding, connecting or sending with
a socket, starting or ending a process. ``ELSEWHERE`` lists these; the first of them ends the trial
of that service, undone, and its start is left to the swap. The same holds for what the system
refuses it there, such as a descriptor that the child has let go of. Other workers hear nothing and
answer nothing; tasks and calls for later are taken and never run.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from netswap.blame import accuse, blame, describe
from netswap.confine import leave_room
from netswap.errors import DeadlinePassed
from netswap.events import Refusal, Stage
from netswap.hotswap import Change
from netswap.ott import Entry
from netswap.stack import FACTORY, Connection, Host, Part, Service
from netswap.transfer import decode, encode, plan_transfer
from netswap.worker.deadline import Deadline
from netswap.worker.forked import NoMesh
from netswap.worker.gauges import Stopwatch
from netswap.worker.trial import BLOCKED_S, Altered, Blocks, Trials, Violated

__all__ = ["ELSEWHERE", "Beginnings"]

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
ELSEWHERE = frozenset(
    {
        *("os.chmod", "os.chown", "os.exec", "os.fork", "os.forkpty", "os.killpg", "os.link"),
        *("os.mkdir", "os.posix_spawn", "os.remove", "os.removexattr", "os.rename", "os.rmdir"),
        *("os.setxattr", "os.spawn", "os.symlink", "os.system", "os.truncate", "os.utime"),
        *("socket.bind", "socket.connect", "socket.sendmsg", "socket.sendto"),
        *("sqlite3.connect", "subprocess.Popen"),
    }
)
"""Audit events of what reaches beyond the process; ``open`` to write and ``os.kill`` do so too."""


class _Elsewhere(BaseException):
    """A start was about to do something outside. Not an Exception: no author swallows it."""


class _Nowhere:
    """The transport of a connection that nobody has made."""

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        """Nothing is known of it."""
        return default

    def is_closing(self) -> bool:
        """Not before the child ends."""
        return False

    def get_write_buffer_size(self) -> int:
        """Nothing is ever written."""
        return 0

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_args: None


class Beginnings:
    """The fresh objects and the services of a rehearsal; failures go to ``trials``."""

    def __init__(self, trials: Trials, host: Host) -> None:
        self._trials = trials
        self._host: Any = host

    def fresh(self, live: Iterable[str]) -> None:
        """Try an object of each kind that is not ``live``."""
        seen = set(live)
        for change in self._trials.changes:
            if change.kind not in seen:
                try:
                    self._try_fresh(change)
                except BaseException as error:  # authors' code, which may call sys.exit()
                    self._failed(error, change, "converting a fresh")

    def _try_fresh(self, change: Change) -> None:
        if change.before is not None:
            self._trials.trial.run(self._made(change.before))
            return
        state = change.new.state_type()
        plan_transfer(type(state), type(state), change.migrations).convert(state)
        decode(encode(state), type(state))
        self._trials.trial.keeps(self._made(change.new).target, state, change.new)

    def _made(self, cls: Any) -> Entry:
        """The entry of a new object, in a place of its own."""
        host = self._host
        if issubclass(cls, Connection):
            made: Entry = cls.unconnected(host, _Nowhere()).entry
            return made
        entry: Entry = host.table.create(cls.kind)
        owner = (host.table.create(""),) if issubclass(cls, Part) else ()
        entry.target = (cls.born_for if owner else cls.born)(host, entry, *owner)
        return entry

    def start(self, seconds: float) -> None:
        """Begin every service with the new code, each in so many seconds, until one fails."""
        with self._staged():
            for change in self._trials.changes:
                if change.new.scope != "worker":
                    continue
                for begin in self._begins(change):
                    if not self._begun(begin, change, seconds):
                        return

    def _begins(self, change: Change) -> Iterator[Callable[[], None]]:
        """What is to be tried of one kind: a service that is new, or what follows the old one."""
        host = self._host
        rows = host.factories.values() if change.kind == FACTORY else (host.service(change.kind),)
        for entry in tuple(rows):
            old = entry.target
            if old is None:
                yield lambda row=entry: _begin_new(host, row, change.new)  # type: ignore[misc]
            elif isinstance(old, Service) and type(old) is not change.new:
                yield lambda row=old: self._follow(row, change)  # type: ignore[misc]

    def _follow(self, old: Any, change: Change) -> None:
        way = plan_transfer(type(old.state), change.new.state_type, change.migrations)
        change.new.successor(old, way.convert(old.state)).undo_building()

    def _begun(self, begin: Callable[[], None], change: Change, seconds: float) -> bool:
        """Whether it can be begun, or nobody knows."""
        watch = Stopwatch()
        try:
            with Deadline(seconds):
                begin()
            if watch.blocked_s() > BLOCKED_S:
                raise accuse(Blocks(watch.blocked_s()), change.new.on_start)
        except _Elsewhere:
            return True
        except BaseException as error:  # authors' code, which may call sys.exit()
            if isinstance(error, OSError) and error.errno is not None:
                return True
            self._failed(error, change, "starting")
            return False
        self._trials.took(watch.cpu_ns(), change.kind)
        return True

    @contextmanager
    def _staged(self) -> Iterator[None]:
        """A loop that takes what it is given, nobody to talk to, and no way out."""
        host = self._host
        was, wrote = host.mesh, sys.dont_write_bytecode
        running = asyncio._get_running_loop()
        inside = [True]

        def refuse(event: str, arguments: tuple[Any, ...]) -> None:
            if inside and _reaches_out(event, arguments):
                raise _Elsewhere(event)

        sys.addaudithook(refuse)
        host.mesh = None if was is None else NoMesh()
        sys.dont_write_bytecode = True  # what it imports late is no file of its own
        asyncio._set_running_loop(host.loop)
        try:
            yield
        finally:
            inside.clear()
            asyncio._set_running_loop(running)
            host.mesh, sys.dont_write_bytecode = was, wrote

    def _failed(self, error: BaseException, change: Change, doing: str) -> None:
        if isinstance(error, MemoryError):
            leave_room()
        file, line = blame(error, change.new)
        what = str(error) if isinstance(error, (Altered, Blocks, Violated)) else describe(error)
        if isinstance(error, DeadlinePassed):
            what = f"it hangs: {what}"
        place = msgspec.structs.replace(
            Refusal(Stage.PREPARE, f"{doing} {change.kind} failed in the rehearsal: {what}"),
            file=getattr(error, "file", None) or file,
            line=getattr(error, "line", None) or line,
            kind=change.kind,
            advice="mend it and push again; nothing was touched",
        )
        self._trials.note(place)


def _begin_new(host: Host, entry: Entry, cls: Any) -> None:
    new = cls.born(host, entry)
    new.on_start()
    entry.target = new  # services that are begun after it find it
    new.on_stop()
    new.on_start()


def _reaches_out(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        return bool(arguments[2] and arguments[2] & _WRITES)
    if event == "os.kill":
        return bool(arguments[0] != os.getpid())
    return event in ELSEWHERE
