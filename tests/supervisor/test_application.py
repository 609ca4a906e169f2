"""What serve --app names is found on the disk, with the files that belong to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netswap.errors import UsageError
from netswap.modules.application import MARK, entrance_of, mark_of
from netswap.supervisor.application import find_application, look_at

APP = "def app(request): ...\n"
TREE = {
    "lone.py": "import beside, os\nfrom pack import x\n" + APP,
    "beside.py": "import deeper\n",
    "deeper.py": "",
    "other.py": APP,
    "pack/__init__.py": "x = 1\n",
    "pack/inner.py": "",
    "shop/__init__.py": "",
    "shop/main.py": APP,
    "shop/.hidden": "",
    "shop/page.html": "hello",
    "plain/web.py": APP,
    "other/data.txt": "a folder of that name is no package",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project."""
    for name, text in TREE.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("named", "files", "entrance"),
    [
        ("lone:app", "beside.py deeper.py lone.py pack/__init__.py pack/inner.py", "lone.py"),
        ("lone", "beside.py deeper.py lone.py pack/__init__.py pack/inner.py", "lone.py"),
        ("./other.py:app", "other.py", "other.py"),
        ("other.py", "other.py", "other.py"),
        ("other:app", "other.py", "other.py"),
        ("shop.main:app", "__init__.py main.py page.html", "main.py"),
        ("./shop:app", "__init__.py main.py page.html", "main.py"),
        ("plain.web:app", "web.py", "web.py"),
    ],
)
def test_an_application_is_found_with_its_files(
    folder: Path, named: str, files: str, entrance: str
) -> None:
    """The package as a whole, or a file with those beside it that it imports."""
    bundle = find_application(named, folder).bundle
    assert " ".join(sorted(bundle.files.keys() - {MARK})) == files
    found = entrance_of(bundle)
    assert found is not None
    assert (found.file, found.name) == (entrance, "app")


def test_a_package_knows_its_own_name(folder: Path) -> None:
    """Also one without an ``__init__``, since it is imported by that."""
    for named, package in (("shop.main:app", "shop"), ("plain.web:app", "plain")):
        mark = mark_of(find_application(named, folder).bundle)
        assert mark is not None
        assert mark.package == package


@pytest.mark.parametrize("named", ["nowhere:app", "./nowhere.py:app", "os:app/x"])
def test_what_is_not_there_is_told(folder: Path, named: str) -> None:
    """Before anything is served."""
    with pytest.raises(UsageError):
        find_application(named, folder)


def test_a_change_is_seen_without_reading(folder: Path) -> None:
    """A file that changed, came or went; hidden ones are no part of it."""
    paths = (folder / "shop",)
    before = look_at(paths)
    assert {Path(name).name for name in before} == {"__init__.py", "main.py", "page.html"}
    os.utime(folder / "shop/main.py", ns=(1, 1))
    assert look_at(paths) != before
    (folder / "shop/page.html").unlink()
    assert len(look_at(paths)) == 2
    assert look_at((folder / "gone.py",)) == {}
