"""The access log: who has asked for what, and which versions have answered.

On the way of a request a tuple is put into a list, and nothing else: no formatting, no writing, no
timer of its own. Half a second after the first of them a thread makes lines of all that have come
and appends them to the file in one write a thousand lines, so those of several workers do not mix.

Memory is bounded: beyond ``MOST`` records that are not written yet (a full disk, one that hangs)
further ones are dropped and counted, and the server's log says how many, also while a write hangs.
At its end a worker waits for the disk for a while and no longer; the threads are its own, since
those of the loop's executor would be waited for.

The file is looked at before each write: one that was moved away or removed, by logrotate for
instance, is opened again under its name. No signal is needed for that.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from netswap.transfer.state import BUNDLED

if TYPE_CHECKING:
    from netswap.http.exchange import Exchange
    from netswap.http.message import Head

__all__ = ["FORMATS", "MOST", "AccessLog", "Record"]

MOST: Final = 20_000
"""Records that wait to be written, of one worker."""
FLUSH_S: Final = 0.5
HANGS_S: Final = 5.0
"""So often it is said that a write has not ended, when lines are dropped for it."""
CLOSE_S: Final = 5.0
"""So long the disk has at the end, unless it is said."""
LINES: Final = 1000
"""So many go out in one write."""
NOT_AWAITED: Final = 499
"""The status of a client that has gone before there was an answer."""


Answerer = tuple[int, str]


class Record(NamedTuple):
    """One answer. ``head`` is None for what could not be understood."""

    at: float
    peer: Any
    head: Head | None
    status: int
    size: int
    """Bytes of the body that went out."""
    seconds: float | None
    """How long a coroutine took; None for a plain function."""
    connection: Answerer
    app: Answerer | None
    """Who has answered, by version and module: nothing that would keep old code."""


class AccessLog:
    """Of one worker. ``say`` is how the server's log is told that something is wrong."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: str,
        form: str,
        say: Callable[..., None],
    ) -> None:
        self.dropped = 0
        self._loop = loop
        self._file = _File(path)
        self._line = FORMATS[form]
        self._say = say
        self._records: list[tuple[Any, ...]] = []
        """As in a Record, which is made later: a plain tuple takes a third of the time."""
        self._writing: asyncio.Future[None] | None = None
        self._written_now: list[tuple[Any, ...]] = []
        """Those that a thread has."""
        self._alarm: asyncio.TimerHandle | None = None
        self._told = 0

    def note(  # noqa: PLR0913, PLR0917 - what there is to say
        self,
        connection: Any,
        head: Head | None,
        status: int,
        size: int,
        began: tuple[float, Answerer] | None = None,
    ) -> None:
        """An answer has gone out; ``began`` is what ``begin`` has said of a coroutine's."""
        records = self._records
        if len(records) >= MOST:
            self.dropped += 1
            if self._alarm is None:
                self._alarm = self._loop.call_later(HANGS_S, self._flush)
            return
        now, who = time.time(), _answerer(connection)
        if began is None:
            seconds, app = None, None if head is None else _answerer(connection.app)
        else:
            seconds, app = self._loop.time() - began[0], began[1]
        records.append((now, connection.peername, head, status, size, seconds, who, app))
        if self._alarm is None:
            self._alarm = self._loop.call_later(FLUSH_S, self._flush)

    def note_parts(self, connection: Any, exchange: Exchange) -> None:
        """An answer in parts is over, or the client has not waited for it."""
        framing = exchange.framing
        status, size = framing.get("status", NOT_AWAITED), framing.get("sent", 0)
        self.note(connection, exchange.request.head, status, size, exchange.began)

    def begin(self, app: Any) -> tuple[float, Answerer]:
        """What is to be remembered of an answer that takes time."""
        return self._loop.time(), _answerer(app)

    def _flush(self) -> None:
        self._alarm = None
        if self._writing is not None:
            self._tell("a write has not ended yet")
        elif self._records:
            self._written_now, self._records = self._records, []
            done = self._writing = self._loop.create_future()
            done.add_done_callback(self._written)
            work = (self._write, self._written_now, done)
            threading.Thread(target=self._in_thread, args=work, daemon=True).start()

    def _in_thread(
        self, work: Callable[[Any], None], records: Any, done: asyncio.Future[None]
    ) -> None:
        try:
            work(records)
        except Exception as error:
            tell: Callable[[], None] = partial(done.set_exception, error)
        else:
            tell = partial(done.set_result, None)
        with suppress(RuntimeError):  # the loop is closed: that was told when it was given up
            self._loop.call_soon_threadsafe(tell)

    def _write(self, records: list[tuple[Any, ...]]) -> None:
        line = self._line
        for start in range(0, len(records), LINES):
            rows = map(Record._make, records[start : start + LINES])
            self._file.append(b"".join(map(line, rows)))

    def _written(self, done: asyncio.Future[None]) -> None:
        error = done.exception()
        if done is not self._writing:  # it was given up
            return
        self._writing = None
        if error is not None:
            self.dropped += len(self._written_now)
        self._written_now = []
        self._tell(None if error is None else str(error))
        if self._records and self._alarm is None:
            self._alarm = self._loop.call_later(FLUSH_S, self._flush)

    def _tell(self, error: str | None) -> None:
        if self.dropped > self._told:
            self._say(
                "access_log_dropped",
                lines=self.dropped - self._told,
                error=error,
                path=self._file.path,
                advice="is there room on the disk, and may the server's user write there?",
            )
            self._told = self.dropped

    async def close(self, limit_s: float = CLOSE_S) -> None:
        """Write what is left; what is not written within so many seconds is dropped and told."""
        end = self._loop.time() + limit_s
        while self._writing is not None or self._records:
            if self._alarm is not None:
                self._alarm.cancel()
            self._flush()
            if self._writing is not None:
                rest = max(end - self._loop.time(), 0)
                if not (await asyncio.wait([self._writing], timeout=rest))[0]:
                    self._give_up(limit_s)
                    return
                await asyncio.sleep(0)  # what is to be done then, is done in the next turn
        self._file.close()

    def _give_up(self, limit_s: float) -> None:
        """The thread has the file, and keeps it."""
        self.dropped += len(self._written_now) + len(self._records)
        self._writing, self._written_now, self._records = None, [], []
        self._tell(f"at the end of the server a write has not ended within {limit_s:g} s")


class _File:
    """A file that is appended to, whoever moves it away."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._number = -1

    def append(self, data: bytes) -> None:
        """Raises OSError."""
        if self._number >= 0 and not self._is_there():
            self.close()
        if self._number < 0:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._number = os.open(self.path, flags, 0o640)
        while data:
            data = data[os.write(self._number, data) :]

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._number))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)


def _combined(row: Record) -> bytes:
    """The "combined" format of Apache and nginx, and behind it the versions."""
    at = datetime.fromtimestamp(row.at, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    asked, referer, agent = "-", "-", "-"
    if row.head is not None:
        head = row.head
        asked = f"{head.method} {_escaped(head.target)} HTTP/{head.version}"
        referer, agent = (_header(head, name) for name in (b"referer", b"user-agent"))
    versions = f"http.connection/{_name(row.connection)} http.app/{_name(row.app)}"
    return (
        f'{_host(row.peer)} - - [{at}] "{asked}" {row.status} {row.size} "{referer}" "{agent}"'
        f" {versions}\n"
    ).encode()


def _json(row: Record) -> bytes:
    """An object a line."""
    found: dict[str, Any] = {
        "time": datetime.fromtimestamp(row.at, UTC).isoformat(timespec="milliseconds"),
        "peer": _host(row.peer),
        "status": row.status,
        "bytes": row.size,
        "seconds": None if row.seconds is None else round(row.seconds, 6),
        "connection": _name(row.connection),
        "app": _name(row.app),
    }
    if row.head is not None:
        head = row.head
        found |= {
            "method": head.method,
            "target": _escaped(head.target),
            "version": head.version,
            "referer": _header(head, b"referer"),
            "agent": _header(head, b"user-agent"),
        }
    return msgspec.json.encode(found) + b"\n"


FORMATS: Final[dict[str, Callable[[Record], bytes]]] = {"combined": _combined, "json": _json}


def _answerer(implementation: Any) -> Answerer:
    return implementation.version, type(implementation).__module__


def _name(who: Answerer | None) -> str:
    """The version, and the bundle that it is of: ``2@4bbb1665a87f``."""
    if who is None:
        return "-"
    version, module = who
    found = re.match(rf"{BUNDLED}([0-9a-f]+)", module)
    return f"{version}@{found[1]}" if found else str(version)


def _host(peer: Any) -> str:
    return str(peer[0]) if isinstance(peer, tuple) else str(peer or "-").replace(" ", "")


def _header(head: Head, name: bytes) -> str:
    return next((_escaped(value) for key, value in head.headers if key == name), "-")


def _escaped(value: bytes) -> str:
    """Printable, and without what could end a field or a line."""
    text = value.decode("latin-1")
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(
        char if " " <= char <= "~" and char not in '"\\' else f"\\x{ord(char):02x}" for char in text
    )
