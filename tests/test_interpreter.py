"""Processes of our own import nothing that only happens to lie where they are started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from netswap.interpreter import look_here_last, python_module

ECHO = Path(__file__).parents[1] / "protocols" / "echo" / "v1.py"


def test_a_file_of_somebody_s_is_not_taken_for_a_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by a command nor by the child that loads a module for it."""
    for name in ("queue", "attr", "msgspec", "click"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not mine')\n")
    monkeypatch.chdir(tmp_path)
    command = [*python_module("netswap"), "check", str(ECHO)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_lies_beside_is_found_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application may import what is nowhere else; asked twice, it is there once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for _ in range(2):
        look_here_last()
    assert sys.path[-1] == str(tmp_path)
    assert sys.path.count(str(tmp_path)) == 1


def test_a_folder_that_is_gone_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is found there, and nothing fails."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    here.rmdir()
    monkeypatch.setattr(sys, "path", before := [*sys.path])
    look_here_last()
    assert sys.path == before
    assert "-P" in python_module("netswap")
