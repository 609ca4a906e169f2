"""What ``serve --app`` names: an application on the disk, and the files that belong to it.

``MODULE:NAME`` is looked for as ``python -m`` does it: below the working directory, then where
libraries are installed. The whole top-level package belongs to it; a lone file brings the files
beside it that it imports. ``PATH:NAME`` names a file or a folder.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from netswap.errors import UsageError
from netswap.hosting import APP
from netswap.modules import Bundle
from netswap.modules.application import MARK, bundle_of

__all__ = ["APP", "Found", "find_application", "look_at"]

Look = Mapping[str, tuple[int, int]]
"""Each file's time of change in nanoseconds, and its size."""


class Found(NamedTuple):
    """An application as it is on the disk now, and the files and folders that it is made of."""

    bundle: Bundle
    paths: tuple[Path, ...]


def find_application(named: str, folder: Path) -> Found:
    """The application that ``named`` names, seen from ``folder``.

    Raises UsageError when there is none, BundleError when its files can't make a bundle.
    """
    where, _, name = named.partition(":")
    if where.endswith(".py") or os.sep in where or where in (".", ".."):
        path = folder / where
        if not path.exists():
            raise UsageError(f"there is no {path}", "", "check --app")
        return _lone(path, name) if path.is_file() else _of_folder(path, f":{name}" if name else "")
    top = where.partition(".")[0]
    if (folder / top / "__init__.py").is_file():
        return _of_folder(folder / top, named)
    if (folder / f"{top}.py").is_file():
        return _lone(folder / f"{top}.py", name)
    if (folder / top).is_dir():
        return _of_folder(folder / top, named)
    return _of_folder(_installed(top, folder), named)


def _of_folder(path: Path, named: str) -> Found:
    if path.is_file():
        return _lone(path, named.partition(":")[2])
    return Found(bundle_of(path, named), (path,))


def _installed(top: str, folder: Path) -> Path:
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        what = f"there is no module {top} in {folder}, nor is one installed"
        raise UsageError(what, "", "--app MODULE:NAME or PATH:NAME, seen from where serve runs")
    places = spec.submodule_search_locations
    return Path(next(iter(places))) if places else Path(spec.origin)


def _lone(path: Path, name: str) -> Found:
    """A file, with those beside it that it imports."""
    bundle = bundle_of(path, f"{path.stem}:{name}")
    files = (path.absolute().parent / file for file in bundle.files if file != MARK)
    return Found(bundle, tuple(files))


def look_at(paths: tuple[Path, ...]) -> Look:
    """What is seen of the files without reading them; a file that is gone is left out."""
    return {
        str(file): (seen.st_mtime_ns, seen.st_size)
        for path in paths
        for file in _files(path)
        if (seen := _stat(file)) is not None
    }


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = [one for one in folders if not one.startswith((".", "__pycache__"))]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
