"""Bundles on disk, one file each, named by the hash of what is in it.

A bundle that is there is whole: it is written beside its place, synced, then renamed. The hash is
checked at every read, so neither a damaged disk nor an edited file can put other code to work
than the code that was agreed on.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

from netswap.errors import BundleError
from netswap.events import Refusal, Stage
from netswap.modules.bundle import Bundle

__all__ = ["BundleStore"]

_SUFFIX: Final = ".bundle"
_INCOMING: Final = ".incoming"
_INCOMING_FILES: Final = ".incoming.files"
_SHA: Final = re.compile(r"[0-9a-f]{64}")


class BundleStore:
    """The bundles under ``folder``, which is made (mode 0700) when it is not there.

    Any number of processes may read and write at once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, bundle: Bundle) -> str:
        """Keep ``bundle`` and return its hash; it is on the disk when this returns.

        Putting it again changes nothing, but mends a damaged copy. Raises OSError when the disk
        does not take it; then nothing has changed.
        """
        with _locked(self._folder) as folder:
            if not self._is_whole(bundle.sha256):
                self._write(self._path(bundle.sha256), bundle.to_message(), folder)
        return bundle.sha256

    def get(self, sha: str) -> Bundle:
        """The bundle with this hash; raises BundleError when it is missing or damaged."""
        if not _SHA.fullmatch(sha):
            _refuse(f"{sha[:80]!r} is not the hash of a bundle", None)
        path = self._path(sha)
        try:
            bundle = Bundle.from_message(path.read_bytes())
        except FileNotFoundError:
            _refuse(f"bundle {sha} is not in the store", path)
        except BundleError as error:
            _refuse(f"stored bundle {sha} is damaged: {error.refusal.reason}", path)
        if bundle.sha256 != sha:
            _refuse(f"stored bundle {sha} is damaged: its content has hash {bundle.sha256}", path)
        return bundle

    def peek(self, sha: str) -> bytes:
        """The first 4 kB of a bundle as it is stored, not checked; b"" when it is missing.

        A bundle may be 16 MB, and its names are in order: a mark comes first.
        """
        if not _SHA.fullmatch(sha) or not self._path(sha).is_file():
            return b""
        with self._path(sha).open("rb") as file:
            return file.read(4096)

    def unpacked(self, bundle: Bundle) -> Path:
        """A folder with the bundle's files, for code that reads what lies beside it.

        It is whole when it is there, and stays. Raises OSError when the disk does not take it.
        """
        place = self._folder / f"{bundle.sha256}.files"
        if not place.is_dir():
            with _locked(self._folder):
                if not place.is_dir():
                    incoming = self._folder / _INCOMING_FILES
                    shutil.rmtree(incoming, ignore_errors=True)
                    bundle.unpack(incoming)
                    incoming.rename(place)
        return place

    def list(self) -> list[str]:
        """The hashes of all bundles that are there, sorted; they are not read."""
        found = (path.name.removesuffix(_SUFFIX) for path in self._folder.glob(f"*{_SUFFIX}"))
        return sorted(sha for sha in found if _SHA.fullmatch(sha))

    def _path(self, sha: str) -> Path:
        return self._folder / f"{sha}{_SUFFIX}"

    def _is_whole(self, sha: str) -> bool:
        try:
            self.get(sha)
        except BundleError:
            return False
        return True

    def _write(self, path: Path, data: bytes, folder: int) -> None:
        # One name for all: the lock is held, and what a crash left here is written over.
        incoming = self._folder / _INCOMING
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        try:
            with open(os.open(incoming, flags, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            incoming.replace(path)
        finally:
            incoming.unlink(missing_ok=True)
        os.fsync(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """A descriptor of ``folder`` that holds the only lock on it, across threads and processes."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse(reason: str, path: Path | None) -> NoReturn:
    advice = (
        "push the same files again, that stores them anew; a server that can't start for it needs "
        "its state directory back, or another --state-dir"
    )
    file = None if path is None else str(path)
    raise BundleError(Refusal(Stage.LOAD, reason, file, advice=advice))
