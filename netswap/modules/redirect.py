"""How an application's modules import each other by the names that they have on a disk.

``from shop.db import pool`` in a bundle of the folder ``shop`` means this bundle's ``db``, not one
that lies somewhere on ``sys.path`` and would be shared by all versions. Each module of such a
bundle gets builtins of its own, whose ``__import__`` knows the bundle's own names.

What goes another way than an import statement (``importlib.import_module("shop.db")``) can't be
told apart from anybody else's by the import system. It is refused where it is met, by a finder
that looks whether the bundle's code is among the callers: a second, never swapped copy of a module
would be worse.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType, ModuleType
from typing import Any

from netswap.keeping import INSTALLATION

__all__ = ["asked_by", "own_builtins"]

_import: Callable[..., ModuleType] = builtins.__import__


def own_builtins(package: str, own: Callable[[str], str | None]) -> dict[str, Any]:
    """The builtins for the modules of ``package``; ``own`` maps a name to one below the bundle."""

    def import_own(
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the names are Python's
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        below = None if level else own(name)
        if below is None:
            return _import(name, globals, locals, fromlist, level)
        module = importlib.import_module(_join(package, below))
        if fromlist:
            return _import(module.__name__, globals, locals, fromlist, 0)
        top = own(name.partition(".")[0])
        return sys.modules[_join(package, top or "")]

    return {**vars(builtins), "__import__": import_own, INSTALLATION: object()}


def _join(package: str, below: str) -> str:
    return f"{package}.{below}" if below else package


def asked_by(space: Mapping[str, Any]) -> bool:
    """Whether code with these builtins is among the callers."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_builtins is space:
            return True
        frame = frame.f_back
    return False
