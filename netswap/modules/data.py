"""A bundle's files as ``importlib.resources`` shows them: they are in memory, not on a disk."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable, TraversableResources
from typing import IO, Any

__all__ = ["BundleResources"]


class _Node(Traversable):
    """The file or folder ``path`` of a bundle; the empty path is the bundle itself."""

    def __init__(self, files: Mapping[str, bytes], path: str) -> None:
        self._files = files
        self._path = path

    @property
    def name(self) -> str:
        return self._path.rpartition("/")[2]

    def iterdir(self) -> Iterator[Traversable]:
        below = f"{self._path}/" if self._path else ""
        names = {file[len(below) :].split("/")[0] for file in self._files if file.startswith(below)}
        return (_Node(self._files, below + name) for name in sorted(names))

    def is_file(self) -> bool:
        return self._path in self._files

    def is_dir(self) -> bool:
        return not self.is_file() and any(True for _ in self.iterdir())

    def open(self, mode: str = "r", *args: Any, **kwargs: Any) -> IO[Any]:
        """The file opened for reading, as text in mode ``r``, as bytes in mode ``rb``."""
        if not self.is_file():
            raise FileNotFoundError(self._path)
        content = io.BytesIO(self._files[self._path])
        return content if "b" in mode else io.TextIOWrapper(content, *args, **kwargs)

    def read_bytes(self) -> bytes:
        with self.open("rb") as file:
            content: bytes = file.read()
        return content

    def read_text(self, encoding: str | None = None, *args: Any, **kwargs: Any) -> str:
        return self.read_bytes().decode(encoding or "utf-8")

    def joinpath(self, *descendants: Any) -> Traversable:
        parts = [self._path, *(str(part) for part in descendants)]
        return _Node(self._files, "/".join(part for part in parts if part))

    __truediv__ = joinpath


class BundleResources(TraversableResources):
    """What ``importlib.resources.files(package)`` reads from."""

    def __init__(self, files: Mapping[str, bytes], folder: str) -> None:
        self._root = _Node(files, folder)

    def files(self) -> Traversable:
        return self._root
