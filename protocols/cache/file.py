"""cache.file, version 1: one file below a folder, as it was when it was last looked at.

A small one has its bytes here, of a larger one only what the head of an answer needs is kept. The
folder is a real path. What is opened is looked at once more when it is open: a link that leads out
of the folder, or to something hidden, is no file, whatever was put where in the meantime.
"""

from __future__ import annotations

import errno
import os
import stat
from email.utils import formatdate
from types import MappingProxyType
from typing import Any, Final

from netswap import Part, State, reference
from netswap.http import HttpError, OpenFile

SMALL: Final = 65_536
"""Bytes of the largest file that is kept in memory."""
LOOK_NS: Final = 1_000_000_000
"""So long what was seen of a file is believed."""
OVERHEAD: Final = 1024
"""Bytes that an object without contents counts for."""
SHOWN: Final = ".well-known"
"""The one name with a dot in front that is not hidden, RFC 8615."""
_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""What says nothing about the file."""

_TEXT: Final = b"; charset=utf-8"
TYPES: Final = MappingProxyType(
    {
        ".html": b"text/html" + _TEXT,
        ".htm": b"text/html" + _TEXT,
        ".css": b"text/css" + _TEXT,
        ".js": b"text/javascript" + _TEXT,
        ".mjs": b"text/javascript" + _TEXT,
        ".txt": b"text/plain" + _TEXT,
        ".log": b"text/plain" + _TEXT,
        ".md": b"text/markdown" + _TEXT,
        ".csv": b"text/csv" + _TEXT,
        ".ics": b"text/calendar" + _TEXT,
        ".xml": b"application/xml",
        ".rss": b"application/rss+xml",
        ".atom": b"application/atom+xml",
        ".json": b"application/json",
        ".map": b"application/json",
        ".webmanifest": b"application/manifest+json",
        ".wasm": b"application/wasm",
        ".svg": b"image/svg+xml",
        ".png": b"image/png",
        ".gif": b"image/gif",
        ".ico": b"image/x-icon",
        ".jpg": b"image/jpeg",
        ".jpeg": b"image/jpeg",
        ".webp": b"image/webp",
        ".avif": b"image/avif",
        ".mp3": b"audio/mpeg",
        ".ogg": b"audio/ogg",
        ".wav": b"audio/wav",
        ".flac": b"audio/flac",
        ".mp4": b"video/mp4",
        ".webm": b"video/webm",
        ".mov": b"video/quicktime",
        ".woff": b"font/woff",
        ".woff2": b"font/woff2",
        ".ttf": b"font/ttf",
        ".otf": b"font/otf",
        ".pdf": b"application/pdf",
        ".zip": b"application/zip",
        ".gz": b"application/gzip",
        ".tar": b"application/x-tar",
        ".zst": b"application/zstd",
    }
)
UNKNOWN: Final = b"application/octet-stream"


def _nothing(_derived: Any) -> None:
    """The stand-in of what can be read again."""


class Seen(State, kind="cache.file", version=1):
    """``path`` below ``root``; size and time of change (ns) as they were ``looked`` at (ns).

    The tag is a strong validator: the time of change and the size.
    """

    root: str = ""
    path: str = ""
    size: int = -1
    changed: int = 0
    looked: int = 0
    etag: bytes = b""
    modified: bytes = b""
    content_type: bytes = b""
    content: bytes | None = reference(lambda: None, _nothing)
    name: bytes = b""
    """The path as the disk has it, if it is no text."""


class CachedFile(Part[Seen]):
    """What is known of a file."""

    def begin(self, root: str, path: str) -> bool:
        """Be the file at ``path`` below the folder ``root``; False when there is none."""
        name = os.fsencode(path)
        self.state.root, self.state.path = root, name.decode(errors="replace")
        self.state.name = name if self.state.path != path else b""
        return self.read()

    @property
    def _path(self) -> str:
        return os.fsdecode(self.state.name) if self.state.name else self.state.path

    def is_fresh(self) -> bool:
        """Whether what is known is what the disk has; asked of the disk once in a while."""
        state = self.state
        now = self.host.clock.monotonic_ns()
        if now - state.looked < LOOK_NS:
            return True
        try:
            seen = os.stat(os.path.join(state.root, self._path))
        except OSError:
            return False
        state.looked = now
        return (seen.st_size, seen.st_mtime_ns) == (state.size, state.changed)

    def read(self) -> bool:
        """Learn what the disk has now, the contents too if they are small; False without a file."""
        file = self.open()
        if file is not None:
            self.state.content = _contents(file) if file.size <= SMALL else None
            file.close()
        return file is not None

    def open(self) -> OpenFile | None:
        """The file, open, and what is known of it is of this one; None when none may be shown."""
        state = self.state
        file = opened(state.root, self._path)
        if file is not None:
            state.looked = self.host.clock.monotonic_ns()
            if (file.size, file.changed) != (state.size, state.changed):
                self._describe(file)
        return file

    def _describe(self, file: OpenFile) -> None:
        state = self.state
        state.size, state.changed = file.size, file.changed
        state.etag = b'"%x-%x"' % (file.changed, file.size)
        state.modified = formatdate(file.changed // 1_000_000_000, usegmt=True).encode()
        state.content_type = TYPES.get(os.path.splitext(state.path)[1].lower(), UNKNOWN)

    @property
    def cost(self) -> int:
        """Bytes that it counts for."""
        return OVERHEAD + len(self.state.content or b"")


def _contents(file: OpenFile) -> bytes | None:
    """All of a small file, or None when it changes while it is read."""
    data = os.pread(file.number, file.size + 1, 0)
    return data if len(data) == file.size and file.is_same() else None


def opened(root: str, path: str) -> OpenFile | None:
    """The regular file at ``path`` below the real path ``root``."""
    try:
        number = os.open(os.path.join(root, path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:  # a null byte
        return None
    except OSError as error:
        if error.errno in _OURS:
            raise HttpError(503, f"no file can be opened now: {error.strerror}") from None
        return None
    file = OpenFile(number)
    if stat.S_ISREG(os.fstat(number).st_mode) and _is_inside(number, root):
        return file
    file.close()
    return None


def _is_inside(number: int, root: str) -> bool:
    """Whether an open file is below ``root`` by the system's own word, and not hidden."""
    real = os.readlink(f"/proc/self/fd/{number}")
    above = root.rstrip("/") + "/"
    if not real.startswith(above):
        return False
    return not any(
        name.startswith(".") and name != SHOWN for name in real.removeprefix(above).split("/")
    )
