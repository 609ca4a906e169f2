"""Where a module reaches beyond itself, as far as its source shows.

A pushed module shares its process with every other module, with the versions before and after it
and with netswap. What it changes there no rollback takes back, and a rehearsal in a child does not
show it: so it is refused by its source. And an implementation may not hold on to anything that
its successor goes on using: it ends while its state lives.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from netswap.events import Refusal
from netswap.modules.syntax import File, derived

__all__ = ["IMPLEMENTATIONS", "beyond_itself"]

IMPLEMENTATIONS: Final = frozenset(
    f"netswap.{name}" for name in ("Connection", "Part", "Service", "Session", "State", "http.App")
)
OPEN_ROOMS: Final = frozenset({"autonomic", "http", "interpose", "testing"})
"""Rooms of netswap that authors may import, besides its front door."""

OTHERS_OBJECTS: Final = frozenset(
    {"gc.get_objects", "gc.get_referents", "gc.get_referrers", "sys._current_frames"}
)
"""What hands out the objects of others."""

_EVERYTHING: Final = frozenset({"BaseException", "builtins.BaseException"})
_CHANGES: Final = frozenset({"setattr", "delattr", "builtins.setattr", "builtins.delattr"})


def beyond_itself(files: list[File]) -> Iterator[Refusal]:
    """A refusal for each line that imports netswap's inner rooms, changes what was imported, looks
    for objects of others, swallows the deadline that ends an endless loop, or gives an
    implementation a ``__del__`` or slots of its own.
    """
    lasting = derived(files, IMPLEMENTATIONS)
    for file in files:
        own = _bound(file)
        for node in file.nodes:
            match node:
                case ast.Import() | ast.ImportFrom():
                    yield from _inner_rooms(file, node)
                case ast.Call():
                    yield from _calls(file, node, own)
                case ast.Attribute(ctx=ast.Store() | ast.Del()):
                    yield from _stores(file, node, node, own)
                case ast.Subscript(ctx=ast.Store() | ast.Del()):
                    yield from _stores(file, node, node, own)
                case ast.ExceptHandler():
                    yield from _swallows(file, node)
                case ast.ClassDef() if node.name in lasting:
                    yield from _unlasting(file, node)


def _bound(file: File) -> frozenset[str]:
    """Names that are bound by something else than an import, anywhere: they may hide one."""
    names = {node.arg for node in file.nodes if isinstance(node, ast.arg)}
    names |= {
        node.id
        for node in file.nodes
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    return frozenset(names)


def _imported(file: File, node: ast.expr, own: frozenset[str]) -> str:
    """The full name of what an expression refers to when that was imported from elsewhere."""
    root = node
    while isinstance(root, (ast.Attribute, ast.Subscript)):
        root = root.value
    if not isinstance(root, ast.Name) or root.id in own or root.id not in file.origins:
        return ""
    dotted = file.dotted(node)
    return "" if dotted.startswith(".") else dotted


def _inner_rooms(file: File, node: ast.Import | ast.ImportFrom) -> Iterator[Refusal]:
    names = [name.name for name in node.names]
    if isinstance(node, ast.ImportFrom):
        names = [] if node.level else [f"{node.module}.{name}" for name in names]
    inner = next(filter(_is_inner, names), None)
    if inner is not None:
        reason = f"it imports {inner}, which is netswap's own and not for modules"
        yield file.refusal(node, reason, "import what `from netswap import ...` offers")


def _is_inner(name: str) -> bool:
    first, _, rest = name.partition(".")
    return first == "netswap" and rest.partition(".")[0] in _rooms() - OPEN_ROOMS


@cache
def _rooms() -> frozenset[str]:
    house = Path(__file__).parents[1]
    return frozenset(path.stem for path in house.iterdir() if path.is_dir() or path.suffix == ".py")


def _calls(file: File, node: ast.Call, own: frozenset[str]) -> Iterator[Refusal]:
    called = file.dotted(node.func)
    if called in OTHERS_OBJECTS:
        reason = f"it calls {called}, which hands out objects that are not its own"
        yield file.refusal(node, reason, "reach other objects by uses={...} alone")
    elif called in _CHANGES and node.args and (name := _imported(file, node.args[0], own)):
        yield _change(file, node, name)


def _stores(
    file: File, node: ast.expr, changed: ast.expr, own: frozenset[str]
) -> Iterator[Refusal]:
    name = _imported(file, changed, own)
    if name:
        yield _change(file, node, name)


def _change(file: File, node: ast.expr, name: str) -> Refusal:
    reason = f"it changes {name}, which the whole process uses, and no rollback takes that back"
    return file.refusal(node, reason, "derive a class, or pass what is to be different")


def _swallows(file: File, node: ast.ExceptHandler) -> Iterator[Refusal]:
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    everything = any(part is None or file.dotted(part) in _EVERYTHING for part in caught)
    if everything and not any(isinstance(part, ast.Raise) for part in ast.walk(node)):
        reason = "it catches everything, also the deadline by which netswap ends an endless loop"
        yield file.refusal(node, reason, "catch Exception, or end the handler with `raise`")


def _unlasting(file: File, node: ast.ClassDef) -> Iterator[Refusal]:
    """What would end with an object whose state lives on in its successor."""
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__del__":
            reason = f"{node.name}.__del__ would run when its successor uses the same state"
            advice = "a Connection's on_close and a Service's on_stop run at the end"
            yield file.refusal(statement, reason, advice)
        slots = _slots(statement)
        if slots:
            reason = f"{node.name} has slots of its own, {slots}, which do not cross a swap"
            yield file.refusal(statement, reason, "what has to live is a field of the State")


def _slots(statement: ast.stmt) -> str:
    """The source of the slots that a statement declares; empty for none."""
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or statement.value is None:
        return ""
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    named = any(isinstance(target, ast.Name) and target.id == "__slots__" for target in targets)
    value = statement.value
    none = isinstance(value, (ast.Tuple, ast.List)) and not value.elts
    return ast.unparse(value) if named and not none else ""
