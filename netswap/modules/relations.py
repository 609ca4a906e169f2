"""Which files of a bundle an implementation needs, and what of them differs between two bundles.

A folder is one bundle: a change in a file that several kinds import is a change of all of them.
Only the syntax counts, so a comment changes nothing; a data file counts for every kind, since
nobody can say who reads it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from importlib.util import resolve_name

from netswap.modules.application import MARK, imported, reached
from netswap.modules.bundle import Bundle
from netswap.modules.importer import Importer, Unit
from netswap.modules.syntax import tree_of

__all__ = ["Relations", "differences", "what_changed"]


class Relations:
    """The files of ``bundle`` and how they import each other. Raises BundleError."""

    def __init__(self, bundle: Bundle) -> None:
        importer = Importer(bundle, None)
        self._bundle, self._entrance = bundle, importer.entrance
        self._units = importer.units
        self._package = next(iter(self._units)).partition(".")[0]
        python = bundle.python_files()
        self.trees = (
            {name: tree_of(name, text) for name, text in python.items()}
            if self._entrance is None
            else dict(reached(bundle, self._entrance))
        )
        self.data = {n: data for n, data in bundle.files.items() if n not in python and n != MARK}
        self._direct = {
            unit.file: frozenset(self._imported(unit))
            for unit in self._units.values()
            if unit.file in self.trees
        }

    def files_of(self, module: str) -> list[str]:
        """The files that a module of this bundle needs, itself included.

        ``module`` is its name in the interpreter; the bundle's part of it may be another's.
        """
        pending = list(self._files(f"{self._package}.{module.partition('.')[2]}"))
        found: dict[str, None] = {}
        while pending:
            file = pending.pop()
            if file not in found:
                found[file] = None
                pending += self._direct[file]
        return list(found)

    def content_of(self, module: str) -> dict[str, str]:
        """What the code of a module depends on: the syntax of its files, and all data."""
        data = {name: content.hex() for name, content in self.data.items()}
        return {name: ast.dump(self.trees[name]) for name in self.files_of(module)} | data

    def _imported(self, unit: Unit) -> Iterator[str]:
        if self._entrance is not None:
            mark = self._entrance.mark
            for name in imported(self._bundle, mark, unit.file, self.trees[unit.file]):
                yield from self._files(".".join(filter(None, (self._package, name))))
            return
        package = unit.module if unit.folder is not None else unit.module.rpartition(".")[0]
        for node in ast.walk(self.trees[unit.file]):
            if isinstance(node, ast.ImportFrom) and node.level:
                try:
                    source = resolve_name("." * node.level + (node.module or ""), package)
                except ImportError:  # beyond the bundle's own folder: the import will say so
                    continue
                for alias in node.names:
                    yield from self._files(f"{source}.{alias.name}")

    def _files(self, module: str) -> Iterator[str]:
        """The file of a module and those of the packages above it."""
        while module:
            unit = self._units.get(module)
            if unit is not None and unit.file:
                yield unit.file
            module = module.rpartition(".")[0]


def what_changed(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """The difference between two contents as a part of a sentence."""
    names = differences(before, after)
    return f"changed: {', '.join(names)}" if names else "none of its code has changed"


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The names whose content differs, or that only one side has."""
    names = sorted(before.keys() | after.keys())
    return [name for name in names if before.get(name) != after.get(name)]
