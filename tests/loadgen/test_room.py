"""The room: an independent witness behind a small door."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import loadgen
from loadgen.events import push_command

ROOM = Path(loadgen.__file__).parent
FILES = sorted(ROOM.rglob("*.py"))


def imported(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add(node.module or "")
    return {name.split(".")[0] for name in found}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOM)))
def test_the_witness_is_independent(file: Path) -> None:
    """It imports the standard library, four packages, and itself."""
    allowed = {*sys.stdlib_module_names, "loadgen", "click", "msgspec", "rich", "uvloop"}
    assert imported(file.read_text()) <= allowed


def test_the_mechanism_does_no_io() -> None:
    """Checker, conversations and findings can't touch a socket, a loop or a clock."""
    pure = [
        ROOM / "continuity.py",
        ROOM / "lines" / "pace.py",
        *sorted((ROOM / "dialects").glob("*.py")),
        *sorted((ROOM / "findings").glob("*.py")),
    ]
    for file in pure:
        assert not imported(file.read_text()) & {"asyncio", "socket", "time", "uvloop"}


def test_the_door_is_small() -> None:
    """At most eight names, and all of them there."""
    assert len(loadgen.__all__) <= 8
    assert all(hasattr(loadgen, name) for name in loadgen.__all__)


def test_the_push_command_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The one named, else beside this Python, else on PATH, else as a module."""
    python, other = tmp_path / "bin" / "python", tmp_path / "other"
    python.parent.mkdir()
    other.mkdir()
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PATH", str(other))
    assert push_command(("my", "netswap"), None) == ["my", "netswap", "push", "--json"]
    assert push_command(None, "s") == [
        str(python), "-m", "netswap", "push", "--json", "--socket", "s",
    ]  # fmt: skip
    for folder in (other, python.parent):
        script = folder / "netswap"
        script.touch(0o755)
        assert push_command(None, None)[0] == str(script)
