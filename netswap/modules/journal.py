"""The journal: what was begun, committed and aborted, so that a crash can be outlived.

One record is one line, ``{"crc32":N,"record":{...}}``; the sum is over the bytes of the record.
A record counts when ``append`` has returned: it is synced, and so is the folder that names the
file. A crash while writing can only hurt the last line, so a last line that is not whole was never
acknowledged and is cut; a damaged line before it means that the disk or a person changed history,
and nothing is guessed from there on.

``replace`` writes a new file beside this one, syncs it, gives it the name and syncs the folder, so
a crash leaves the old file or the new one, whole. What is left of an earlier try is overwritten.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from netswap.errors import CallerError

__all__ = ["Cut", "Journal", "JournalError"]


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    crc32: int
    record: msgspec.Raw


_LINES: Final = msgspec.json.Decoder(_Line)
_RECORDS: Final = msgspec.json.Decoder(dict[str, Any])


class JournalError(CallerError):
    """The journal at ``path`` can't be used: ``reason``, at ``line`` where there is one."""

    def __init__(self, path: Path, reason: str, line: int | None = None, advice: str = "") -> None:
        super().__init__(path, reason, line, advice)
        self.path = path
        self.reason = reason
        self.line = line
        self.advice = advice

    def __str__(self) -> str:
        place = f"{self.path}" if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.reason}" + (f"; {self.advice}" if self.advice else "")


class Cut(NamedTuple):
    """A torn last line that was cut away: its number and its bytes."""

    line: int
    content: bytes

    def __str__(self) -> str:
        return (
            f"line {self.line} was not whole and was cut ({len(self.content)} bytes): "
            "the writer ended while it wrote"
        )


class _Content(NamedTuple):
    records: list[dict[str, Any]]
    end: int
    torn: bytes


class Journal:
    """An append-only file of records (dicts of plain JSON data) with one writer at a time.

    Reading takes no lock and changes nothing. The first ``recover`` or ``append`` makes this
    journal the writer until ``close``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._end = 0

    def read(self) -> list[dict[str, Any]]:
        """All whole records, oldest first; a torn last line is passed over.

        Raises JournalError when a line before the last is damaged.
        """
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        return _parse(self._path, data).records

    def recover(self) -> Cut | None:
        """Become the writer, and cut a torn last line; returns what was cut.

        Raises JournalError when another process is the writer or a line before the last is
        damaged; then the file is as it was.
        """
        if self._descriptor is not None:
            return None
        descriptor = _open(self._path)
        try:
            _lock(self._path, descriptor)
            content = _parse(self._path, self._path.read_bytes())
            if content.torn:
                os.ftruncate(descriptor, content.end)
            os.fsync(descriptor)
            _sync_folder(self._path.parent)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor, self._end = descriptor, content.end
        return Cut(len(content.records) + 1, content.torn) if content.torn else None

    def append(self, record: Mapping[str, Any]) -> None:
        """Add ``record``; it is on the disk when this returns.

        Raises OSError when the disk does not take it, or when the file was removed, replaced or
        shortened by somebody else: a record there would be lost with the next start. Then the
        journal is as it was before.
        """
        self.recover()
        assert self._descriptor is not None  # recover() returned
        _see_that_it_stands(self._path, self._descriptor, self._end)
        line = _encode(record)
        try:
            _write_all(self._descriptor, line, self._end)
            os.fsync(self._descriptor)
        except BaseException:
            # half a line must not become the middle of the file
            os.ftruncate(self._descriptor, self._end)
            raise
        self._end += len(line)

    def replace(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Hold ``records`` and nothing else from now on; they are on the disk when this returns.

        Raises OSError when the disk does not take them: then the file of before is there, or the
        new one, and what is done next with this journal begins with a look which it is.
        """
        self.recover()
        assert self._descriptor is not None  # recover() returned
        _see_that_it_stands(self._path, self._descriptor, self._end)
        fresh = self._path.with_name(f"{self._path.name}.new")
        fresh.unlink(missing_ok=True)
        descriptor = _open(fresh)
        try:
            _lock(fresh, descriptor)
            _write_all(descriptor, b"".join(map(_encode, records)), 0)
            os.fsync(descriptor)
            fresh.replace(self._path)
            _sync_folder(self._path.parent)
        finally:
            os.close(descriptor)
            self.close()
        self.recover()

    def close(self) -> None:
        """Stop being the writer; harmless when it is not."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _encode(record: Mapping[str, Any]) -> bytes:
    body = msgspec.json.encode(dict(record))
    line = _Line(zlib.crc32(body), msgspec.Raw(body))
    return msgspec.json.encode(line) + b"\n"


def _decode(line: bytes) -> dict[str, Any] | None:
    """The record in a line, or None when the line is damaged."""
    try:
        outer = _LINES.decode(line)
        if zlib.crc32(outer.record) != outer.crc32:
            return None
        return _RECORDS.decode(outer.record)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _parse(path: Path, data: bytes) -> _Content:
    lines = io.BytesIO(data).readlines()
    records: list[dict[str, Any]] = []
    end = 0
    for number, line in enumerate(lines, 1):
        record = _decode(line) if line.endswith(b"\n") else None
        if record is None and number == len(lines):
            return _Content(records, end, line)
        if record is None:
            reason = "this line is damaged, and it is not the last one"
            advice = f"keep a copy, then delete from line {number} on to lose what came after it"
            raise JournalError(path, reason, number, advice)
        records.append(record)
        end += len(line)
    return _Content(records, end, b"")


def _open(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _lock(path: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        advice = "give each server its own state directory"
        raise JournalError(path, "another server writes to it", advice=advice) from error


def _see_that_it_stands(path: Path, descriptor: int, end: int) -> None:
    """Raises OSError unless the file that ``path`` names is still the one that is written."""
    own = os.fstat(descriptor)
    with suppress(FileNotFoundError):
        if os.path.samestat(own, path.lstat()) and own.st_size >= end:
            return
    what = "the journal was removed, replaced or shortened under the server; restart it"
    raise OSError(errno.ESTALE, what, str(path))


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
