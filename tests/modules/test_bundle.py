"""Bundles: the same content is the same bundle, and nothing unsafe becomes one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netswap.errors import UsageError
from netswap.modules import Bundle, BundleError
from netswap.modules.bundle import MAX_BYTES, MAX_FILES
from tests.anybody import anybody

NAMES = st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3}){0,2}\.(py|txt)", fullmatch=True)
FILES = st.dictionaries(NAMES, st.binary(max_size=40), max_size=5)

Tree = Callable[[dict[str, str]], Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Writes files given by relative name and returns the folder above them."""

    def write(files: dict[str, str]) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path

    return write


def test_one_file_keeps_its_own_name(tree: Tree) -> None:
    """A single file is called by its own name, and the bundle by its last two parts."""
    root = tree({"kv/v2.py": "x = 1\n"})
    bundle = Bundle.from_paths([root / "kv/v2.py"])
    assert dict(bundle.files) == {"v2.py": b"x = 1\n"}
    assert bundle.name == "kv/v2.py"


def test_a_folder_gives_all_below_it_but_caches_and_dot_files(tree: Tree) -> None:
    """A folder's bundle has modules and data, without __pycache__ and dot files."""
    wanted = {"kv/__init__.py", "kv/v2.py", "kv/deep/words.txt"}
    unwanted = {"kv/__pycache__/v2.pyc", "kv/.git/config", "kv/.env"}
    root = tree(dict.fromkeys(wanted | unwanted, ""))
    bundle = Bundle.from_paths([root / "kv"])
    assert set(bundle.files) == {name.removeprefix("kv/") for name in wanted}


def test_files_of_one_folder_are_siblings(tree: Tree) -> None:
    """Several files get the shortest names that differ."""
    root = tree({"kv/a.py": "", "kv/b.py": ""})
    bundle = Bundle.from_paths([root / "kv/b.py", root / "kv/a.py"])
    assert list(bundle.files) == ["a.py", "b.py"]
    assert bundle.name == "kv/a.py and 1 more"


def test_files_of_the_same_name_keep_their_folders(tree: Tree) -> None:
    """kv/v2.py and chat/v2.py can be pushed as one transaction."""
    root = tree({"kv/v2.py": "", "chat/v2.py": ""})
    bundle = Bundle.from_paths([root / "kv/v2.py", root / "chat/v2.py"])
    assert list(bundle.files) == ["chat/v2.py", "kv/v2.py"]


def test_folders_and_files_mix(tree: Tree) -> None:
    """A folder among several paths keeps its name; a path inside another is not taken twice."""
    root = tree({"kv/v2.py": "", "kv/words.txt": "", "echo.py": ""})
    bundle = Bundle.from_paths([root / "kv", root / "echo.py", root / "kv/v2.py"])
    assert list(bundle.files) == ["echo.py", "kv/v2.py", "kv/words.txt"]


def test_the_hash_does_not_depend_on_place_or_order(tree: Tree) -> None:
    """The same files at another place, given in another order, are the same bundle."""
    files = {"a.py": "1", "b.py": "2"}
    root = tree({f"{place}/{name}": text for place in "xy" for name, text in files.items()})
    first = Bundle.from_paths([root / "x/a.py", root / "x/b.py"])
    second = Bundle.from_paths([root / "y/b.py", root / "y/a.py"])
    assert first.sha256 == second.sha256
    assert first.short == first.sha256[:12]


@given(FILES, st.randoms())
def test_the_hash_is_of_the_content_alone(files: dict[str, bytes], random: Random) -> None:
    """Neither the order of the files nor the bundle's name changes the hash."""
    shuffled = list(files.items())
    random.shuffle(shuffled)
    assert Bundle("one", files).sha256 == Bundle("two", dict(shuffled)).sha256


@given(FILES, FILES)
def test_different_content_has_a_different_hash(
    one: dict[str, bytes], two: dict[str, bytes]
) -> None:
    """Two bundles share a hash only if they share all names and contents."""
    assert (Bundle("b", one).sha256 == Bundle("b", two).sha256) == (one == two)


def test_a_byte_moved_from_name_to_content_changes_the_hash() -> None:
    """Names and contents are set apart in the hash."""
    assert Bundle("b", {"a": b"bc"}).sha256 != Bundle("b", {"ab": b"c"}).sha256


@given(FILES)
def test_a_message_brings_the_bundle_back(files: dict[str, bytes]) -> None:
    """A bundle survives its way through the admin API unchanged."""
    bundle = Bundle("kv/v2.py", files)
    assert Bundle.from_message(bundle.to_message()) == bundle


@given(st.binary(max_size=200))
def test_any_bytes_are_a_bundle_or_refused(data: bytes) -> None:
    """Bytes that are no bundle raise BundleError and nothing else."""
    with pytest.raises(BundleError, match="not a bundle"):
        Bundle.from_message(data)


@pytest.mark.parametrize(
    "name",
    ["", ".", "/etc/passwd", "../x.py", "a/../x.py", "a//b.py", "./a.py", "a\\b.py", "a\nb.py",
     "a/", "\ud800.py", "x" * 600],
)  # fmt: skip
def test_an_unsafe_name_is_refused(name: str) -> None:
    """A name that leads out of the bundle, or can't be shown, is refused."""
    with pytest.raises(BundleError, match="file name"):
        Bundle("b", {name: b""})


def test_an_unsafe_name_in_a_message_is_refused() -> None:
    """What came over the admin API is checked like what came from a disk."""
    data = {"schema": "netswap.bundle/1", "name": "x", "files": {"../../x.py": b""}}
    with pytest.raises(BundleError, match="leads out of the bundle"):
        Bundle.from_message(msgspec.msgpack.encode(data))


def test_a_name_is_safe_for_a_terminal() -> None:
    """Control characters in a bundle's name never reach a terminal."""
    assert Bundle("evil\x1b[2J.py", {}).name == "evil?[2J.py"


def test_a_bundle_can_be_a_key() -> None:
    """Equal bundles find each other in a dict."""
    assert {Bundle("b", {"a.py": b""}): 1}[Bundle("b", {"a.py": b""})] == 1


def test_a_bundle_cannot_be_changed() -> None:
    """The content is fixed, as the hash is."""
    with pytest.raises(TypeError):
        Bundle("b", {"a.py": b""}).files["b.py"] = b""  # type: ignore[index]


def test_too_large_is_refused(tmp_path: Path) -> None:
    """A bundle over the limit is refused with the limit, and not read to its end."""
    with (tmp_path / "big.py").open("wb") as file:
        file.truncate(MAX_BYTES * 1000)
    with pytest.raises(BundleError, match="larger than 16 MiB"):
        Bundle.from_paths([tmp_path / "big.py"])


def test_too_many_files_are_refused() -> None:
    """A bundle of too many files is refused with the limit."""
    with pytest.raises(BundleError, match=f"more than {MAX_FILES} files"):
        Bundle("b", {f"{n}.py": b"" for n in range(MAX_FILES + 1)})


def test_a_path_that_is_not_there_is_the_callers_error(tmp_path: Path) -> None:
    """A misspelt path is a usage error that names the path."""
    with pytest.raises(UsageError, match=r"there is no .*v3\.py"):
        Bundle.from_paths([tmp_path / "v3.py"])


def test_no_path_is_the_callers_error() -> None:
    """An empty list of paths is a usage error."""
    with pytest.raises(UsageError, match="no path"):
        Bundle.from_paths([])


def test_an_unreadable_file_is_the_callers_error(tree: Tree) -> None:
    """A file without read permission is a usage error."""
    path = tree({"a.py": ""}) / "a.py"
    path.chmod(0)
    with anybody(path), pytest.raises(UsageError, match="can't be read"):
        Bundle.from_paths([path])


def test_a_pipe_is_refused_without_reading_it(tmp_path: Path) -> None:
    """A named pipe in a folder is refused and does not block the push."""
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(BundleError, match="neither a file nor a folder"):
        Bundle.from_paths([tmp_path])


def test_a_linked_folder_is_refused(tree: Tree) -> None:
    """A link to a folder could be a loop: it is refused by name."""
    root = tree({"kv/v2.py": ""})
    (root / "kv/again").symlink_to(root / "kv")
    with pytest.raises(BundleError, match="not followed"):
        Bundle.from_paths([root / "kv"])


def test_a_linked_file_goes_by_its_own_name(tree: Tree) -> None:
    """A link to a file is read, and called as the author called it."""
    root = tree({"v2.py": "x = 1"})
    (root / "current.py").symlink_to("v2.py")
    assert dict(Bundle.from_paths([root / "current.py"]).files) == {"current.py": b"x = 1"}


def test_a_folder_that_is_too_deep_is_refused_before_it_is_walked(tmp_path: Path) -> None:
    """One of 1,200 levels would end Python's recursion."""
    before, top = os.getcwd(), tmp_path / "deep"
    top.mkdir()
    try:
        os.chdir(top)
        for _ in range(300):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(before)
    with pytest.raises(BundleError, match="is longer than 512 characters"):
        Bundle.from_paths([top])
