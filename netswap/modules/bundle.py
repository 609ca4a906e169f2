"""A bundle: the files of one push as one immutable value, named by its content.

The names inside a bundle do not depend on where the files lay or in which order they were given:
one file keeps its own name, a folder's files have names relative to the folder, and several paths
get the shortest tails that tell them apart (``kv/v2.py`` and ``chat/v2.py``, but ``a.py`` and
``b.py``). So the same content has the same hash on every machine.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final, NoReturn

import msgspec

from netswap.errors import BundleError, UsageError
from netswap.events import Refusal, Stage

__all__ = ["MAX_BYTES", "MAX_FILES", "Bundle"]

MAX_BYTES: Final = 16 * 1024 * 1024
MAX_FILES: Final = 1024
_MAX_NAME: Final = 512
_HASH_DOMAIN: Final = b"netswap.bundle/1\n"
_SHORT: Final = 12

_NAME_FAULTS: Final[tuple[tuple[Callable[[str], bool], str], ...]] = (
    (lambda name: not name, "is empty"),
    (lambda name: len(name) > _MAX_NAME, f"is longer than {_MAX_NAME} characters"),
    (lambda name: not name.isprintable(), "has characters that can't be printed"),
    (lambda name: "\\" in name, "has a backslash"),
    (lambda name: name.startswith("/"), "is absolute"),
    (lambda name: ".." in name.split("/"), "leads out of the bundle"),
    (lambda name: str(PurePosixPath(name)) != name, "is not in its plain form"),
    (lambda name: name == ".", "names no file"),
)


class _Message(msgspec.Struct, tag_field="schema", tag="netswap.bundle/1"):
    """A bundle as it is sent and stored."""

    name: str
    files: dict[str, bytes]


@dataclass(frozen=True)
class Bundle:
    """The files of one push; ``name`` is for people and is no part of the hash.

    ``files`` maps relative names with forward slashes to contents; it is sorted and read-only.
    Raises BundleError when a name is unsafe or the whole exceeds MAX_FILES or MAX_BYTES.
    """

    name: str
    files: Mapping[str, bytes]

    def __post_init__(self) -> None:
        for name in self.files:
            _check_name(name)
        _check_size(len(self.files), sum(map(len, self.files.values())))
        object.__setattr__(self, "name", _printable(self.name))
        object.__setattr__(self, "files", MappingProxyType(dict(sorted(self.files.items()))))

    def __hash__(self) -> int:
        return hash(self.sha256)

    @cached_property
    def sha256(self) -> str:
        """64 hexadecimal digits over the sorted names and contents, each with its length."""
        digest = hashlib.sha256(_HASH_DOMAIN)
        for name, content in self.files.items():
            encoded = name.encode()
            digest.update(struct.pack("!IQ", len(encoded), len(content)))
            digest.update(encoded)
            digest.update(content)
        return digest.hexdigest()

    @property
    def short(self) -> str:
        """The first twelve digits of the hash, as they stand in module and file names."""
        return self.sha256[:_SHORT]

    def python_files(self) -> dict[str, bytes]:
        """The files that are modules; the others are data."""
        return {name: data for name, data in self.files.items() if name.endswith(".py")}

    def unpack(self, folder: Path) -> None:
        """Write the files below ``folder``, which is made; their names lead nowhere else."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(content)

    @classmethod
    def from_paths(cls, paths: Iterable[Path]) -> Bundle:
        """Read files and folders (all below them but ``__pycache__`` and dot files).

        Raises UsageError when a path is not there or can't be read, BundleError when the files
        can't make a bundle.
        """
        given = _outermost(paths)
        reading = _Reading()
        for path, prefix in zip(given, _prefixes(given), strict=True):
            for file, name in _walk(path, prefix):
                reading.add(file, name)
        return cls(_title(given), reading.files)

    def to_message(self) -> bytes:
        """The bundle as bytes (MessagePack), for the admin API and the store."""
        return msgspec.msgpack.encode(_Message(self.name, dict(self.files)))

    @classmethod
    def from_message(cls, data: bytes) -> Bundle:
        """The bundle in ``data``; raises BundleError when it is none or breaks a rule."""
        try:
            message = msgspec.msgpack.decode(data, type=_Message)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            _refuse(f"the bytes are not a bundle: {error}", None, "push it again")
        return cls(message.name, message.files)


class _Reading:
    """Reads files into a dict and stops as soon as the limits are passed."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self._size = 0

    def add(self, path: Path, name: str) -> None:
        _check_name(name)
        if name in self.files:
            _refuse("two of the paths give the same name", name, "push a folder above both")
        content = _read(path, name, MAX_BYTES - self._size + 1)
        self.files[name] = content
        self._size += len(content)
        _check_size(len(self.files), self._size)


def _refuse(reason: str, file: str | None, advice: str) -> NoReturn:
    raise BundleError(Refusal(Stage.LOAD, reason, file, advice=advice))


def _check_name(name: str) -> None:
    for at_fault, fault in _NAME_FAULTS:
        if at_fault(name):
            shown = _printable(name)
            _refuse(f"the file name {shown!r} {fault}", shown, "rename the file")


def _check_size(files: int, size: int) -> None:
    advice = "push only the folder or the files that make the module"
    if files > MAX_FILES:
        _refuse(f"the bundle has more than {MAX_FILES} files", None, advice)
    if size > MAX_BYTES:
        _refuse(f"the bundle is larger than {MAX_BYTES // 1024 // 1024} MiB", None, advice)


def _printable(name: str) -> str:
    """``name`` bounded, and safe to write to a terminal."""
    return "".join(char if char.isprintable() else "?" for char in name[:_MAX_NAME])


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """The given paths, absolute and sorted, without those inside another one.

    Links are not resolved: a link's own name is the one that the author chose.
    """
    given = {Path(os.path.abspath(path)) for path in paths}
    if not given:
        raise UsageError("no path is given", advice="name a file or a folder")
    return sorted(path for path in given if given.isdisjoint(path.parents))


def _prefixes(paths: Sequence[Path]) -> list[str]:
    """What each path's files are called in the bundle: its shortest tail that is its own."""
    if len(paths) == 1:
        return ["" if paths[0].is_dir() else paths[0].name]
    deepest = max(len(path.parts) for path in paths)
    tails = ([_tail(path, depth) for path in paths] for depth in range(1, deepest))
    return next(names for names in tails if len(set(names)) == len(names))


def _tail(path: Path, depth: int) -> str:
    return "/".join(path.parts[1:][-depth:])


def _title(paths: Sequence[Path]) -> str:
    """One path's last two parts; of several the first and how many more."""
    first = _tail(paths[0], 2)
    return first if len(paths) == 1 else f"{first} and {len(paths) - 1} more"


def _walk(path: Path, prefix: str) -> Iterator[tuple[Path, str]]:
    """Each file at or below ``path`` with its name in the bundle."""
    if not path.is_dir():
        yield path, prefix
        return
    for child in _children(path):
        name = f"{prefix}/{child.name}" if prefix else child.name
        _check_name(name)  # folders too: some are deeper than Python's stack
        if child.is_dir() and child.is_symlink():
            _refuse("a link to a folder is not followed", name, "push the folder it points to")
        yield from _walk(child, name)


def _children(folder: Path) -> list[Path]:
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder} can't be read: {error.strerror}") from error
    return [path for path in found if not path.name.startswith(".") and path.name != "__pycache__"]


def _read(path: Path, name: str, limit: int) -> bytes:
    """Up to ``limit`` bytes; a pipe or a device is refused before it can block the reader."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            _refuse("it is neither a file nor a folder", name, "push plain files")
        with path.open("rb") as file:
            return file.read(limit)
    except FileNotFoundError as error:
        raise UsageError(f"there is no {path}", advice="check the spelling of the path") from error
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
