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

__all__ = ["alike"]

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def alike(old: type, new: type) -> bool:
    """Whether the second class does what the first one does, as far as their files tell."""
    files, others = _others(old), _others(new)
    return files == others and _closure(old) == _closure(new)


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


def _closure(cls: type) -> dict[str, list[str]]:
    """What a class leads to at the top of its file: names, and the statements that bind them."""
    bound: dict[str, list[ast.stmt]] = {}
    for statement in ast.parse(_source(cls.__module__)).body:
        for name in _bound_by(statement) or [""]:
            bound.setdefault(name, []).append(statement)
    found: dict[str, list[str]] = {}
    wanted = [cls.__name__, ""]
    while wanted:
        name = wanted.pop()
        if name in bound and name not in found:
            found[name] = [ast.dump(statement) for statement in bound[name]]
            wanted += [one for statement in bound[name] for one in _names_in(statement)]
    if cls.__name__ not in found:  # made in another way than by its own statement
        found[cls.__qualname__] = [str(id(cls))]
    return found


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
