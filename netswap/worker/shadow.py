"""The shadow run: what live connections were asked lately is asked of the old and the new code.

It happens in a forked child, which has the real objects and the tape of a recording. Three times
the child forks again; each plays the tape over its own copy of everything, once with the old code,
once more with it, and once with the new code swapped in by the real swap. What is written to each
connection is compared byte for byte. A connection that the old code answers in two ways (a clock,
a random number) can't be compared and is counted.

In a child there is no loop and no peer. ``_Loop`` runs what was called soon and nothing that waits
for time; timers fire where the tape says so. ``_Transport`` keeps what is written. Other workers
do not answer; their answers on the tape do. Services have their state of now, in all three.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable
from difflib import unified_diff
from functools import partial
from itertools import takewhile
from typing import Any

import msgspec

from netswap.blame import blame, defined_at, describe
from netswap.channel import messages
from netswap.events import Refusal, Shadow, Stage
from netswap.hotswap import Change, Phase, Swap
from netswap.interpose import Tape, Window
from netswap.mediator import present
from netswap.ott import Entry
from netswap.stack import Connection, Host
from netswap.stack.hands import rewire
from netswap.worker.deadline import Deadline
from netswap.worker.forked import NoMesh, in_fork

__all__ = ["CONNECTIONS", "INPUTS", "run_shadow", "shadow"]

CONNECTIONS = 64
"""So many connections of a worker are recorded."""
INPUTS = 2_000
"""So many calls of them are in a window."""
SHOWN = 3
LINES = 4
"""So many connections, and lines of each, are shown of what differs."""
TURNS = 10_000
"""Of the child's loop after one input; what still wants to be called then calls itself."""

Transcript = list[tuple[str, bytes]]
"""What one connection was given: ``out`` with bytes, ``closed``, ``raised`` with a sentence."""
Transcripts = dict[str, Transcript]


class _Handle:
    """What a loop gives for something that will not come."""

    def cancel(self) -> None:
        """It does not come anyway."""

    def cancelled(self) -> bool:
        return False

    def add_done_callback(self, _call: Callable[..., Any]) -> None:
        """It is never done."""


class _Loop:
    """The loop of a child in which time stands still."""

    def __init__(self) -> None:
        self._ready: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()

    def call_soon(self, call: Callable[..., Any], *args: Any, context: Any = None) -> _Handle:
        self._ready.append((call, args))
        return _Handle()

    def call_later(self, *_: Any, context: Any = None) -> _Handle:
        return _Handle()

    call_at = call_later

    def create_task(self, work: Any, **_: Any) -> _Handle:
        work.close()
        return _Handle()

    def run(self) -> None:
        """Everything that was called soon, and what that calls soon."""
        for _ in range(TURNS):
            if not self._ready:
                return
            call, args = self._ready.popleft()
            call(*args)
        self._ready.clear()


class _Transport:
    """Keeps what is written to one connection."""

    def __init__(self, real: Any) -> None:
        self.transcript: Transcript = []
        self._closing = real.is_closing()
        names = () if self._closing else ("peername", "sockname", "ssl_object")
        self._known = {name: real.get_extra_info(name) for name in names}

    def write(self, data: Any) -> None:
        if self._closing or not data:
            return
        if self.transcript and self.transcript[-1][0] == "out":
            data = self.transcript.pop()[1] + bytes(data)
        self.transcript.append(("out", bytes(data)))

    def writelines(self, rows: Iterable[Any]) -> None:
        self.write(b"".join(rows))

    def close(self) -> None:
        if not self._closing:
            self.transcript.append(("closed", b""))
        self._closing = True

    abort = write_eof = close

    def is_closing(self) -> bool:
        return bool(self._closing)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._known.get(name, default)

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """Nothing is read."""

    resume_reading = pause_reading

    def set_protocol(self, _protocol: Any) -> None:
        """Nobody is called."""


class _Stage:
    """A worker's objects in a child: no sockets, no time."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self.loop = host.loop = _Loop()
        host.mesh = NoMesh() if host.mesh is not None else None
        host.later = lambda *_: None  # its answer is on the tape
        asyncio._set_running_loop(None)
        self.transports: dict[Entry, _Transport] = {}
        for entry in host.table:
            target = present(entry)
            if isinstance(target, Connection):
                self._silence(entry, target)

    def _silence(self, entry: Entry, target: Any) -> None:
        self.transports[entry] = target.transport = _Transport(target.transport)
        rewire(target)

    def swap(self, changes: list[Change]) -> None:
        """Bring everything to the new code. Raises RuntimeError with what the swap says."""
        host = self._host
        rows = [row for change in changes for row in host.table.of_kind(change.kind)]
        swap = Swap(host.table, changes, rows, host.clock, lambda: Deadline(5))
        while swap.phase is Phase.WORKING and swap.has_work:
            for entry in swap.slice(10**9).busy:
                present(entry).bring_to_rest(lambda: None)
        for change in changes:
            host.install(change.new)
        if swap.phase is not Phase.DONE:
            raise RuntimeError(str(swap.refusal or "objects are busy in the moment of the fork"))

    def play(self, window: Window) -> None:
        """Call every object as the tape says."""
        for entry, method, arguments, keywords in tuple(window.inputs):  # it may still grow
            if entry not in self._host.table or entry not in self.transports:
                continue
            try:
                with Deadline(1):
                    getattr(entry.target, method)(*arguments, **keywords)
                    self.loop.run()
            except BaseException as error:  # authors' code, which may call sys.exit()
                file, line = blame(error)
                said = f"{describe(error)} ({file}:{line})" if file else describe(error)
                self.transports[entry].transcript.append(("raised", said.encode()))

    def transcripts(self) -> Transcripts:
        """What every connection was given, by its entry."""
        rows = self.transports.items()
        return {str(entry.identity): row.transcript for entry, row in rows if row.transcript}


async def shadow(
    host: Host, changes: list[Change], tape: Tape, ask: messages.Prepare
) -> tuple[Shadow, Refusal | None]:
    """Play the tape in a child, for at most ``ask.timeout`` seconds: what came of it.

    With a refusal when it could not be played, or when old and new differ and neither the operator
    nor the new code expects that.
    """

    def played() -> bytes:
        try:
            return msgspec.msgpack.encode(("", run_shadow(host, changes, tape)))
        except RuntimeError as error:
            return msgspec.msgpack.encode((str(error), Shadow()))

    told = await in_fork(played, ask.timeout)
    try:
        said, found = msgspec.msgpack.decode(told.answer, type=tuple[str, Shadow])
    except msgspec.DecodeError:
        said = f"it took longer than {ask.timeout:g} s" if told.late else f"it died ({told.how})"
        found = Shadow()
    if said:
        advice = "push again, with a longer --timeout or without --shadow"
        return found, Refusal(Stage.PREPARE, f"no shadow run: {said}", advice=advice)
    expected = ask.expect_diff or any(change.new.expected_diff for change in changes)
    return found, _unexpected(found, changes) if found.differing and not expected else None


def _unexpected(found: Shadow, changes: list[Change]) -> Refusal:
    new = next((c.new for c in changes if issubclass(c.new, Connection)), changes[0].new)
    file, line = defined_at(new)
    return Refusal(
        Stage.PREPARE,
        f"{found.differing} of {found.connections} recorded connections are answered otherwise: "
        f"{found.first}",
        file,
        line,
        new.kind,
        advice="if that is what you want, push with --expect-diff, or say why in the class: "
        'expected_diff = "..."',
        detail=found.diff,
    )


def run_shadow(host: Host, changes: list[Change], tape: Tape) -> Shadow:
    """Play the tape to old and new; in a forked child only, whose objects are spoilt by it.

    Raises RuntimeError when a play ends without an answer.
    """
    window = tape.window
    for rows in window.before.values():
        for entry, snapshot in rows.items():
            target = present(entry)
            if target is not None:
                snapshot.restore(target)

    def play(swapped: list[Change]) -> Transcripts:
        stage = _Stage(host)
        if swapped:
            stage.swap(swapped)
        stage.play(window)
        return stage.transcripts()

    old, again, new = (_apart(partial(play, swapped)) for swapped in ([], [], changes))
    return _compared(window, host.slot, old, again, new)


def _apart(play: Callable[[], Transcripts]) -> Transcripts:
    """What ``play`` gives in a child of its own."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            with open(writing, "wb") as pipe:  # noqa: PTH123 - a descriptor, not a path
                pipe.write(msgspec.msgpack.encode(_answer(play)))
        finally:
            os.kill(os.getpid(), signal.SIGKILL)  # os._exit tells where it was called: see forked
    os.close(writing)
    with open(reading, "rb") as pipe:  # noqa: PTH123 - a descriptor, not a path
        data = pipe.read()
    os.waitpid(pid, 0)
    try:
        said, transcripts = msgspec.msgpack.decode(data, type=tuple[str, Transcripts])
    except msgspec.DecodeError as error:
        raise RuntimeError("the shadow run's process died before it had answered") from error
    if said:
        raise RuntimeError(said)
    return transcripts


def _answer(play: Callable[[], Transcripts]) -> tuple[str, Transcripts]:
    try:
        return "", play()
    except RuntimeError as error:
        return str(error), {}


def _compared(
    window: Window, slot: int, old: Transcripts, again: Transcripts, new: Transcripts
) -> Shadow:
    names = sorted(old.keys() | again.keys() | new.keys(), key=int)
    unstable = [name for name in names if old.get(name) != again.get(name)]
    differing = [n for n in names if n not in unstable and old.get(n) != new.get(n)]
    diffs = [
        _diff(f"{slot}.{name}", old.get(name, []), new.get(name, [])) for name in differing[:SHOWN]
    ]
    return Shadow(
        len(window.before),
        len(window.inputs),
        len(unstable),
        len(differing),
        _first(diffs[0]) if diffs else "",
        "\n".join(line for rows in diffs for line in rows),
    )


def _first(diff: list[str]) -> str:
    """The first line that the old code wrote otherwise, and the first of the new."""
    gone, come = (next((row for row in diff[2:] if row[:1] == sign), "") for sign in "-+")
    return ", ".join(filter(None, (gone, come)))


def _diff(name: str, old: Transcript, new: Transcript) -> list[str]:
    """A few lines of both from the first that differs, with the one before it."""
    before, after = _lines(old), _lines(new)
    agree = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False))
    )
    first = max(agree - 1, 0)
    part = slice(first, agree + LINES)
    title = f"connection {name}"
    rows = list(
        unified_diff(before[part], after[part], f"{title}, old", f"{title}, new", n=1, lineterm="")
    )
    left = max(len(before), len(after)) - part.stop
    return [*rows, *([f"... and {left} more lines"] if left > 0 else [])]


def _lines(transcript: Transcript) -> list[str]:
    """A line for each line written, as Python shows bytes, and one for each other event."""
    found = []
    for what, data in transcript:
        if what == "out":
            found += [repr(line)[2:-1] for line in data.splitlines(keepends=True)]
        else:
            found.append(f"<{what} {data.decode(errors='replace')}".rstrip() + ">")
    return found
