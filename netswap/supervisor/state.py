"""The state directory: bundles, journal, and the lock that keeps a second server out.

::

    DIR/lock            held (flock) while a server runs; holds its pid
    DIR/journal         one line per begin, commit and abort; made shorter at a start when long
    DIR/bundles/        one file per bundle, named by its hash
    DIR/mesh/           sockets between workers, while a server runs
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import IO

import msgspec

from netswap.errors import CallerError
from netswap.modules import BundleStore, Journal
from netswap.supervisor.versions import Record, Versions

__all__ = ["StateDirectory", "StateDirectoryBusy"]


LONG = 5_000
"""A journal of more records is made shorter at the next start; ``versions`` says what is kept."""


class StateDirectoryBusy(CallerError):
    """Another server holds the state directory."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(path, holder)
        self.path = path
        self.holder = holder

    def __str__(self) -> str:
        return (
            f"{self.path} is the state directory of another running server ({self.holder}); "
            "stop that one, or give this one a directory of its own with --state-dir"
        )


class StateDirectory:
    """What a server keeps across restarts.

    :raises StateDirectoryBusy: another server holds it.
    :raises OSError: it can't be written.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path
        self._lock = _lock(path / "lock")
        self.store = BundleStore(path / "bundles")
        self._journal = Journal(path / "journal")
        self.cut = self._journal.recover()
        records = self._journal.read()
        self.versions = Versions(records)
        if len(records) > LONG:
            self._shorten()

    @property
    def bundles(self) -> Path:
        """Where workers read bundles."""
        return self.path / "bundles"

    def append(self, record: Record) -> None:
        """Write ``record`` to the journal, then take it into account.

        :raises OSError: the disk does not take it; nothing has changed.
        """
        self._journal.append(msgspec.to_builtins(record))
        self.versions.apply(record)

    def _shorten(self) -> None:
        """Let the journal hold what is known, and not how it came to be.

        :raises OSError: the disk does not take it; what is known is there as before.
        """
        self._journal.replace([msgspec.to_builtins(self.versions.base(time.time()))])

    def close(self) -> None:
        """Let another server have it."""
        self._journal.close()
        self._lock.close()


def _lock(path: Path) -> IO[str]:
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = file.read().strip() or "unknown"
        file.close()
        raise StateDirectoryBusy(path.parent, f"pid {holder}") from None
    file.seek(0)
    file.truncate()
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file
