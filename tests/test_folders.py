"""folders: what is served from the disk is named in one way in files, flags and variables."""

from __future__ import annotations

import pytest

from netswap.config import check


def static_of(tmp_path, flags=None, file=None, **environ):
    found = check(flags or {}, file, {"HOME": str(tmp_path), **environ})
    return found.config.static if found.config else [str(row) for row in found.problems]


@pytest.fixture
def folders(tmp_path):
    for name in ("www", "media"):
        (tmp_path / name).mkdir()
    return {name: str(tmp_path / name) for name in ("www", "media")}


def test_one_folder_is_the_main_one(tmp_path, folders):
    """By flag, by variable, and by a file, to which it is relative."""
    file = tmp_path / "netswap.toml"
    file.write_text('static = "www"\n')
    expected = {"main": folders["www"]}
    assert static_of(tmp_path, {"static": (folders["www"],)}) == expected
    assert static_of(tmp_path, NETSWAP_STATIC=folders["www"]) == expected
    assert static_of(tmp_path, file=file) == expected


def test_several_folders_have_names(tmp_path, folders):
    """So that an application can say which one it means."""
    file = tmp_path / "netswap.toml"
    file.write_text('[static]\nmain = "www"\nmedia = "media"\n')
    expected = {"main": folders["www"], "media": folders["media"]}
    rows = (folders["www"], f"media={folders['media']}")
    assert static_of(tmp_path, {"static": rows}) == expected
    assert static_of(tmp_path, file=file) == expected


def test_what_can_not_be_served_is_a_problem(tmp_path, folders):
    """Said before anything is started."""
    [missing] = static_of(tmp_path, {"static": (str(tmp_path / "none"),)})
    assert "there is no folder" in missing
    [twice] = static_of(tmp_path, {"static": (folders["www"], folders["media"])})
    assert "two folders are named main" in twice


def test_static_alone_is_served_over_http(tmp_path, folders):
    """As an application is, and nothing else."""
    found = check({"static": (folders["www"],)}, None, {"HOME": str(tmp_path)})
    assert found.config is not None
    assert list(found.config.listen) == ["http"]
