"""The author's side: a fixture that pytest finds by itself, and a message to work with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from netswap.testing import NotSwappable, check_swappable

from .lines import OLD, STEPS, V1, V2, changed

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/modules.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SETTINGS = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def pytest_in(folder: Path) -> subprocess.CompletedProcess[str]:
    """What an author's pytest says in his own folder."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return subprocess.run(
        command, cwd=folder, env=plain, capture_output=True, text=True, check=False
    )


def test_the_test_of_the_documentation_passes_for_the_modules_of_the_readme(tmp_path: Path) -> None:
    """As an author would copy them into a folder, with nothing else in it."""
    modules = [
        block
        for block in _BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
        if "from netswap import" in block
    ]
    (test,) = [block for block in _BLOCK.findall(DOCUMENT) if "check_swappable" in block]
    files = {"v1.py": modules[0], "v2.py": modules[1], "test_it.py": test, "pytest.ini": SETTINGS}
    done = pytest_in(written(tmp_path, files))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_a_failure_is_that_of_the_documentation_and_ends_the_authors_test(tmp_path: Path) -> None:
    """The message stands in the report of the test; paths may be those below the root, too."""
    bad = changed(V2, ('[old["partial"]] if old["partial"] else []', "[]"))
    (source,) = bad.files.values()
    test = (
        "def test_it(check_swappable):\n"
        f'    check_swappable("code/v1.py", "code/v2.py", {[STEPS[0], b"o"]!r}, limit=20)\n'
    )
    files = {"code/v1.py": V1, "code/v2.py": source.decode(), "tests/test_it.py": test}
    done = pytest_in(written(tmp_path, files | {"pytest.ini": SETTINGS}))
    assert done.returncode == 1
    assert "a client would notice a swap" in done.stdout
    assert "behind byte 1 of step 1 of 2 (b'o' | b'ne\\ntw')" in done.stdout
    with pytest.raises(NotSwappable) as failed:
        check_swappable(OLD, bad, STEPS)
    assert f"```text\n{failed.value.report.failures[0]}\n```" in DOCUMENT


def test_pytest_loads_no_more_than_the_fixture() -> None:
    """Everybody's pytest starts with it; the kit itself comes with the first test that asks."""
    said = "import sys, pytest; had = set(sys.modules); import netswap.testing.plugin; "
    said += "print(sorted(set(sys.modules) - had))"
    done = subprocess.run(
        [sys.executable, "-c", said], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == ["['netswap',", "'netswap.testing',", "'netswap.testing.plugin']"]
