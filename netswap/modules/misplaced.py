"""Files of a push that would not be what runs: a swap can't replace them, or nothing imports them.

Each would be left out in silence otherwise. What no swap can replace owes a restart.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from netswap.events import Refusal, Stage, Verdict
from netswap.modules.bundle import Bundle
from netswap.modules.syntax import File, absolute_imports

__all__ = ["misplaced"]

_COMPILED: Final = (".so", ".pyd", ".dll", ".dylib", ".pyc", ".pyo")
_OURS: Final = frozenset({"hotswap.py", "mediator.py", "ott.py", "quiescence.py"})
"""Files that only netswap itself has side by side."""


def misplaced(bundle: Bundle, files: list[File]) -> Iterator[Refusal]:
    """A refusal for compiled code, for a copy of netswap, and for each import of a file beside
    the importing one by an absolute name, which finds another file or none.
    """
    for name in bundle.files:
        if name.endswith(_COMPILED):
            reason = f"{Verdict.RESTART_OWED}: {name} is compiled code, which no swap replaces"
            advice = "install it beside the server and restart that; push the Python files alone"
            yield Refusal(Stage.VERDICT, reason, name, 1, advice=advice)
    yield from _own_netswap(bundle)
    for file in files:
        yield from _absolute(bundle, file)


def _own_netswap(bundle: Bundle) -> Iterator[Refusal]:
    folders: dict[PurePosixPath, set[str]] = {}
    for name in bundle.files:
        path = PurePosixPath(name)
        folders.setdefault(path.parent, set()).add(path.name)
    for folder, names in folders.items():
        if names >= _OURS or (folder.name == "netswap" and "__init__.py" in names):
            place = str(folder / "__init__.py")
            reason = (
                f"{Verdict.RESTART_OWED}: it brings a netswap of its own, which no swap replaces"
            )
            advice = "install that netswap and restart the server; push the protocol's files alone"
            yield Refusal(Stage.VERDICT, reason, place, 1, advice=advice)
            return


def _absolute(bundle: Bundle, file: File) -> Iterator[Refusal]:
    """Imports of what lies beside the file, or at the top, by a name that is looked for elsewhere.

    A name of the standard library is meant as such.
    """
    folders = {PurePosixPath(file.name).parent, PurePosixPath()}
    for node in file.nodes:
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        for name in absolute_imports(node):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top == "netswap":
                continue
            beside = [str(f / n) for f in folders for n in (f"{top}.py", f"{top}/__init__.py")]
            found = next((path for path in beside if path in bundle.files), None)
            if found is not None:
                reason = f"it imports {name}, and that is not the {found} of this push"
                advice = f"write `from . import {top}`: other names are looked for outside"
                yield Refusal(Stage.CHECK, reason, file.name, node.lineno, advice=advice)
