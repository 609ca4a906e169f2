"""What a process has imported from outside of bundles, and what of it has changed on disk since.

Python imports a module once. A library that is changed on disk stays what it was in the processes
that have it, also for a module that is pushed afterwards and was written for the new one. It owes
a restart, and nobody would notice. So each file is looked at when its import is first seen: its
size, time and place, and of Python files also the content, since a file that was only touched is
the same.
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from netswap.modules.syntax import absolute_imports
from netswap.transfer.state import BUNDLED

__all__ = ["Outside", "Stale"]

_STDLIB = sysconfig.get_path("stdlib")


class _Seen(NamedTuple):
    path: str
    stat: tuple[int, int, int]
    digest: bytes


class Stale(NamedTuple):
    """A module that is not what its file is now, and the line of the import that reaches it."""

    module: str
    path: str
    line: int
    file: str = ""


class Outside:
    """The files of this process's modules as they were when ``note`` first saw each."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def note(self) -> None:
        """Look at the files of the modules that are new since the last time."""
        for name, module in list(sys.modules.items()):
            if name in self._seen or name.startswith(BUNDLED):
                continue
            path = getattr(getattr(module, "__spec__", None), "origin", None)
            stat = _stat(path) if isinstance(path, str) else None
            if isinstance(path, str) and stat is not None:
                self._seen[name] = _Seen(path, stat, _digest(path))

    def stale(self) -> dict[str, str]:
        """The modules whose file is another now, or gone, with their paths."""
        return {name: seen.path for name, seen in self._seen.items() if _has_changed(seen)}

    def stale_for(self, trees: Iterable[ast.Module]) -> list[Stale]:
        """Those that these files of a bundle reach by their imports, directly or through others.

        netswap itself is left out: it is nobody's dependency, it is what runs.
        """
        changed = {n: p for n, p in self.stale().items() if n.partition(".")[0] != "netswap"}
        if not changed:
            return []
        found: dict[str, Stale] = {}
        for name, line in (row for tree in trees for row in _imports(tree)):
            for reached in sorted(changed.keys() & _reach(name)):
                found.setdefault(reached, Stale(reached, changed[reached], line))
        return list(found.values())


def _stat(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:  # built in, frozen, or gone
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _digest(path: str) -> bytes:
    """Of a Python file's content; empty for compiled code and for the standard library."""
    if not path.endswith(".py") or path.startswith(_STDLIB) and "site-packages" not in path:
        return b""
    return hashlib.blake2b(Path(path).read_bytes()).digest()


def _has_changed(seen: _Seen) -> bool:
    now = _stat(seen.path)
    if now == seen.stat:
        return False
    return now is None or not seen.digest or _digest(seen.path) != seen.digest


def _imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Absolute imports anywhere in a file: one inside a function finds the old module, too."""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        for name in absolute_imports(node):
            yield name, node.lineno
            if isinstance(node, ast.ImportFrom):
                yield from ((f"{name}.{alias.name}", node.lineno) for alias in node.names)


def _reach(name: str) -> set[str]:
    """The modules that are reached from one, by what is in their namespaces."""
    pending, found = [name], set[str]()
    while pending:
        module = sys.modules.get(here := pending.pop())
        if module is None or here in found or here.partition(".")[0] == "netswap":
            continue
        found.add(here)
        pending.append(here.rpartition(".")[0])
        for value in list(vars(module).values()):
            home = value.__name__ if isinstance(value, ModuleType) else _home(value)
            if home and home not in found:
                pending.append(home)
    return found


def _home(value: object) -> str:
    try:
        home = getattr(value, "__module__", "")
    except Exception:  # an object may refuse to be asked, and is then no import
        return ""
    return home if isinstance(home, str) else ""
