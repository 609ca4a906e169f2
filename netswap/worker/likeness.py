"""Whether a class is written alike in two bundles, whatever else has changed around it.

A push replaces files, and often only one of the classes in them is another one. Compared is what
the author wrote: the class, and everything at the top of its file that it leads to by name, without
comments and places. What can't be told by that is taken for different: another file of the bundle
that has changed, or a statement at the top that binds no name.
"""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Known", "alike"]

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class _File(NamedTuple):
    """A module's lines, and the statements at its top by the names that they bind."""

    lines: list[str]
    bound: dict[str, list[ast.stmt]]

    def text(self, statement: ast.stmt) -> tuple[int, int | None, list[str]]:
        """The lines of a statement and its place in them: where these are equal, so is its syntax,
        which takes much longer to compare.
        """
        above = [one.lineno for one in getattr(statement, "decorator_list", ())]
        lines = self.lines[min([statement.lineno, *above]) - 1 : statement.end_lineno]
        return statement.col_offset, statement.end_col_offset, lines


Known = dict[str, _File]
"""What was read of modules, by their names."""


def alike(old: type, new: type, known: Known | None = None) -> bool:
    """Whether the second class does what the first one does, as far as their files tell.

    ``known`` keeps what was read, for other classes of the same files.
    """
    if old is new:
        return True
    if old.__name__ != new.__name__ or _others(old) != _others(new):
        return False
    known = {} if known is None else known
    return _lead_alike(old.__name__, *(_file_of(cls.__module__, known) for cls in (old, new)))


def _others(cls: type) -> dict[str, str]:
    """The other files of the bundle that a class comes from, by their names within it."""
    bundle = cls.__module__.partition(".")[0]
    return {
        name.removeprefix(bundle): _source(name)
        for name in list(sys.modules)
        if name.partition(".")[0] == bundle and name not in {cls.__module__, bundle}
    }


def _source(module: str) -> str:
    file = getattr(sys.modules.get(module), "__file__", None)
    return "" if file is None else "".join(linecache.getlines(file))


def _file_of(module: str, known: Known) -> _File:
    if module not in known:
        text = _source(module)
        bound: dict[str, list[ast.stmt]] = {}
        for statement in ast.parse(text).body:
            for name in _bound_by(statement) or [""]:
                bound.setdefault(name, []).append(statement)
        known[module] = _File(text.split("\n"), bound)
    return known[module]


def _lead_alike(name: str, old: _File, new: _File) -> bool:
    """Whether a name, and all at the top of its file that it leads to, is bound alike in both.

    Names that only one of two files leads to are met in a statement that differs. A class that was
    made in another way than by its own statement is bound by none.
    """
    if name not in old.bound:
        return False
    wanted, seen = ["", name], set[str]()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        before, after = (file.bound.get(name, []) for file in (old, new))
        if len(before) != len(after):
            return False
        for one, other in zip(before, after, strict=True):
            if old.text(one) != new.text(other) and ast.dump(one) != ast.dump(other):
                return False
            wanted += _names_in(one)
    return True


def _bound_by(statement: ast.stmt) -> list[str]:
    """The names that a statement gives a value; a docstring gives its file none that matters."""
    if isinstance(statement, _DEFINITIONS):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).partition(".")[0] for alias in statement.names]
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return ["__doc__"]
    inner = [one for one in ast.walk(statement) if isinstance(one, _DEFINITIONS)]
    stored = (n for n in ast.walk(statement) if isinstance(n, ast.Name))
    return [one.name for one in inner] + [
        name.id for name in stored if isinstance(name.ctx, ast.Store)
    ]


def _names_in(statement: ast.stmt) -> Iterator[str]:
    return (node.id for node in ast.walk(statement) if isinstance(node, ast.Name))
