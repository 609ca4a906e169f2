"""A library that changes on disk stays what it was in a process that has it; that is seen."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netswap.modules.outside import Outside

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a library that can be imported; it is forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def written(name: str, text: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        return path

    yield written
    for name in set(sys.modules) - before:
        del sys.modules[name]


def reached(outside: Outside, source: str) -> list[tuple[str, int]]:
    """The stale modules that a file of this source reaches, with the lines."""
    return [(stale.module, stale.line) for stale in outside.stale_for([ast.parse(source)])]


def test_a_changed_library_is_stale_for_who_imports_it(write: Write) -> None:
    """Directly, in a function, or through another library; not for who does not."""
    write("x_lower", "def low(): pass\n")
    write("x_upper", "from x_lower import low\n")
    importlib.import_module("x_upper")
    outside = Outside()
    outside.note()
    assert outside.stale() == {}
    assert reached(outside, "import x_upper") == []
    path = write("x_lower", "def low(): return 1\n")
    assert outside.stale() == {"x_lower": str(path)}
    assert reached(outside, "import json\nimport x_lower") == [("x_lower", 2)]
    assert reached(outside, "def f():\n    from x_upper import low") == [("x_lower", 2)]
    assert reached(outside, "import json") == []


def test_what_was_only_touched_is_the_same(write: Write) -> None:
    """A checkout there and back changes times alone."""
    path = write("x_touched", "X = 1\n")
    importlib.import_module("x_touched")
    outside = Outside()
    outside.note()
    os.utime(path, (1, 1))
    assert outside.stale() == {}
    path.unlink()
    assert list(outside.stale()) == ["x_touched"]


def test_what_is_imported_later_is_noted_later(write: Write) -> None:
    """As it is then."""
    outside = Outside()
    outside.note()
    path = write("x_later", "X = 1\n")
    importlib.import_module("x_later")
    assert outside.stale() == {}
    outside.note()
    path.write_text("X = 2\n")
    assert list(outside.stale()) == ["x_later"]


def test_netswap_is_nobody_s_dependency(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of it is told once, not for each module that imports it."""
    outside = Outside()
    outside.note()
    seen = outside._seen["netswap"]
    outside._seen["netswap"] = seen._replace(stat=(0, 0, 0), digest=b"other")
    assert list(outside.stale()) == ["netswap"]
    assert reached(outside, "import netswap") == []
