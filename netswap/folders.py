"""Folders whose files are served, by name: of a setting, a flag or a variable.

One folder needs no name and is ``main``; several are ``NAME=FOLDER``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["MAIN", "folders_beside", "read_folders"]

MAIN = "main"


def read_folders(value: object) -> dict[str, str]:
    """Name to absolute path. Raises ValueError for what is no folder, or named twice."""
    found: dict[str, str] = {}
    for name, path in _rows(value):
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            raise ValueError(f"{name!r} is not the name of a folder: letters, digits and _ . -")
        if name in found:
            raise ValueError(f"two folders are named {name}: give them names, NAME=FOLDER")
        if not os.path.isdir(path):
            raise ValueError(f"there is no folder {path}")
        found[name] = os.path.abspath(path)
    return found


def folders_beside(file: Path, value: object) -> object:
    """Relative paths in a file are relative to it."""
    if isinstance(value, str):
        return str(file.parent / value)
    if isinstance(value, dict):
        return {name: str(file.parent / str(path)) for name, path in value.items()}
    return value


def _rows(value: object) -> Iterable[tuple[str, str]]:
    if isinstance(value, dict):
        return [(str(name), str(path)) for name, path in value.items()]
    words = value.split(os.pathsep) if isinstance(value, str) else value
    if not isinstance(words, list | tuple):
        raise ValueError(f"{value!r} is not a folder, nor a table of NAME = 'FOLDER'")
    pairs = [str(word).rpartition("=") for word in words]
    return [(name or MAIN, path) for name, _, path in pairs]
