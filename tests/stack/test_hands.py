"""What an object has in its hands, and what an interposer puts there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import netswap

ROOMS = Path(netswap.__file__).parent
BEHIND = {
    "_wire",
    "_part_entries",
    "_at_swap_point",
    "_bind",
    "_bind_after",
    "_owner",
    "_use_output",
}


@pytest.mark.parametrize("room", ["interpose", "worker", "testing", "supervisor"])
def test_nobody_reaches_past_the_door(room: str) -> None:
    """What the stack has for itself is asked for by its functions in other rooms."""
    for path in sorted((ROOMS / room).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            own = isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "super()")
            if isinstance(node, ast.Attribute) and not own:
                assert node.attr not in BEHIND, f"{path.name}:{node.lineno} {ast.unparse(node)}"
