"""The wheel is complete: in an empty environment it does all that the tree does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import need_index
from tests.system.harness import assert_faultless

ROOT = Path(__file__).parents[1]
TREES = ("netswap", "protocols", "loadgen")

pytestmark = pytest.mark.timeout(300)


def ran(*command: str | Path, **how: object) -> str:
    """Run a command that must succeed; its output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **how)  # type: ignore[call-overload]  # any of run's own
    if done.returncode:
        need_index(done.stderr)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return str(done.stdout)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built once from the tree as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    ran(*build, "--outdir", folder, ROOT)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The bin folder of an environment that has the wheel and its pinned dependencies alone.

    Without a pip of its own, and what is never imported is never compiled: both take seconds.
    """
    folder = tmp_path_factory.mktemp("environment")
    ran(sys.executable, "-m", "venv", "--without-pip", folder)
    pip = [*pip_for(folder / "bin"), "install", "--quiet", "--no-compile"]
    ran(*pip, "--require-hashes", "-r", ROOT / "deploy" / "requirements.txt")
    ran(*pip, "--no-deps", "--no-index", wheel)
    return folder / "bin"


def pip_for(folder: Path) -> list[str | Path]:
    """Our own pip, at work on another environment."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    return [*pip, "--python", folder / "python"]


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, object]:
    """A place and an environment from which the tree can't be seen."""
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    return {"cwd": tmp_path, "env": environ}


def test_the_wheel_has_every_file_of_the_three_trees(wheel):
    """Bundles are pushed from where they are installed, so their sources are part of it."""
    tracked = ran("git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", *TREES).splitlines()
    expected = {name for name in tracked if (ROOT / name).exists()}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert "netswap/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_installed_commands_say_what_they_are(installed, elsewhere):
    """Both programs start, with the version of the wheel."""
    assert "0.1.0" in ran(installed / "netswap", "--version", **elsewhere)
    assert "run" in ran(installed / "python", "-m", "loadgen", "--help", **elsewhere)


def test_the_dependencies_suffice(installed, elsewhere):
    """What the pins install is what the package says that it needs."""
    ran(*pip_for(installed), "check", **elsewhere)


def test_the_installed_demo_tells_the_whole_story(installed, elsewhere):
    """Serve, load, push, roll back, refuse, with no error that a client could see."""
    words = [installed / "netswap", "demo", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, **elsewhere)
    assert done.stdout, done.stderr
    story = json.loads(done.stdout.splitlines()[-1])
    assert all(scene["as_expected"] for scene in story["scenes"]), story
    passes = all(load["exit_code"] == 0 for load in story["loads"])
    assert (done.returncode == 0) is story["ok"] is passes
    codes = {scene["command"].split()[1]: scene["exit_code"] for scene in story["scenes"]}
    assert codes["rollback"] == 0
    assert {scene["exit_code"] for scene in story["scenes"]} == {0, 20, 21}
    for load in story["loads"]:
        assert_faultless(load["exit_code"], load)
    assert os.listdir(elsewhere["cwd"]) == []
