"""The table of pitfalls names tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| [^|]+ \| (?P<tests>.+) \|$", re.MULTILINE)
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def functions_of(file: str) -> set[str]:
    """The test functions of a file."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_pitfall_is_held_by_a_test_that_is_there() -> None:
    """A row whose tests were renamed or taken out says so here."""
    head, *rows = ROW.findall((ROOT / "docs" / "pitfalls.md").read_text(encoding="utf-8"))
    assert (head, len(rows) >= 32) == ("held by", True)
    for row in rows:
        named = NAMED.findall(row)
        assert named, f"no test in {row}"
        missing = [f"{file}::{name}" for file, name in named if name not in functions_of(file)]
        assert not missing, missing
