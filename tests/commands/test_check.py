"""check: what a push would say, with no server asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from netswap.cli import root

GOOD = """
from netswap import Service, State

class Hall(State, kind="test.hall", version=1):
    n: int = 0

class Rooms(Service[Hall]):
    pass
"""
NEWER = """
from netswap import Connection, State, migration

class Talk(State, kind="echo.connection", version=2):
    n: int = 0

@migration("echo.connection", 1, 2)
def up(old):
    raise ValueError("no way")

class Echo(Connection[Talk]):
    def on_data(self, data):
        pass
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A module to write."""
    return tmp_path / "mine.py"


def check(file: Path, *flags: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(root, ["check", str(file), *flags])


def test_what_can_be_pushed_is_shown_with_its_verdicts(file: Path) -> None:
    """As text, and as one object with every kind and version."""
    file.write_text(GOOD)
    done = check(file)
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "ok: a server would take it, as far as can be seen without one",
        "  test.hall  v1  new (there is no other version to compare with)",
    ]
    page = json.loads(check(file, "--json").stdout)
    assert (page["outcome"], page["kinds"]) == ("done", {"test.hall": 1})
    assert page["verdicts"][0]["verdict"] == "new"


def test_what_can_not_be_pushed_is_refused_with_line_and_code(file: Path) -> None:
    """All reasons are there; the first is the headline."""
    file.write_text("A = {}\nB = []\n" + GOOD)
    done = check(file)
    assert done.exit_code == 20
    assert done.stdout == ""
    said = done.stderr.splitlines()
    assert "A" in said[0]
    assert said[1] == "  where:  mine.py:1"
    assert said[2] == "  server: no server was asked"
    assert said[3].startswith("  next:   ")
    assert said[4].endswith("(mine.py:2)")


def test_refusals_are_machine_readable(file: Path) -> None:
    """With file and line as fields of their own."""
    file.write_text("import os\nraise OSError('no disk')\n")
    done = check(file, "--json")
    assert done.exit_code == 20
    page = json.loads(done.stdout)
    assert (page["outcome"], page["where"]) == ("refused", "mine.py:2")
    (refusal,) = page["refusals"]
    assert (refusal["file"], refusal["line"]) == ("mine.py", 2)


def test_steps_from_the_bundled_version_are_tried(file: Path) -> None:
    """Without a live object: from the default state."""
    file.write_text(NEWER)
    done = check(file, "--json")
    assert done.exit_code == 20
    reasons = [refusal["reason"] for refusal in json.loads(done.stdout)["refusals"]]
    assert "version 1 to 2: ValueError: no way" in reasons


def test_what_is_no_module_is_refused(tmp_path: Path) -> None:
    """A folder with nothing in it, as a push would say."""
    done = check(tmp_path)
    assert done.exit_code == 20
    assert done.stderr.startswith("netswap: ")


def test_a_kind_that_two_of_the_paths_provide_is_refused(file: Path) -> None:
    """As by a push."""
    file.write_text(GOOD)
    done = check(file, str(file))
    assert done.exit_code == 20
    assert "is provided by" in done.stderr


def test_two_versions_are_compared_with_each_other(tmp_path: Path) -> None:
    """What changed, and which kinds the new one has no more."""
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, mark in ((old, 1), (new, 2)):
        folder.mkdir()
        (folder / "hall.py").write_text(f"from .shared import MARK\n{GOOD}")
        (folder / "shared.py").write_text(f"MARK = {mark}\n")
    (old / "gone.py").write_text(GOOD.replace("test.hall", "test.gone"))
    (new / "same.py").write_text(GOOD.replace("test.hall", "test.same"))
    (old / "same.py").write_text(GOOD.replace("test.hall", "test.same") + "# a comment\n")
    done = CliRunner().invoke(root, ["check", str(new), "--against", str(old)])
    assert done.exit_code == 0, done.output
    assert sorted(done.stdout.splitlines()[1:]) == [
        "  test.gone  v1 → v1  as is (not in what is checked: a server keeps its old code)",
        "  test.hall  v1 → v1  as is (same format, version 1; changed: shared.py)",
        "  test.same  v1 → v1  as is (same format, version 1; none of its code has changed)",
    ]
