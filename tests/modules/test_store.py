"""The store: what is there is whole, what is not whole is refused by name."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netswap.modules import Bundle, BundleError, BundleStore
from netswap.modules.application import MARK

BUNDLE = Bundle("kv/v2.py", {"v2.py": b"x = 1\n", "words.txt": b"one"})
CONTENTS = st.dictionaries(st.sampled_from(["a.py", "b.py", "c/d.py"]), st.binary(max_size=60))


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    """An empty store."""
    return BundleStore(tmp_path / "state" / "bundles")


def stored_file(tmp_path: Path) -> Path:
    """The file of BUNDLE."""
    return tmp_path / "state" / "bundles" / f"{BUNDLE.sha256}.bundle"


@given(st.lists(CONTENTS, max_size=4))
def test_what_is_put_can_be_got(contents: list[dict[str, bytes]]) -> None:
    """Every bundle comes back equal, and the list names each once."""
    with tempfile.TemporaryDirectory() as folder:
        store = BundleStore(Path(folder))
        bundles = [Bundle("b", files) for files in contents]
        hashes = [store.put(bundle) for bundle in bundles]
        assert [store.get(sha) for sha in hashes] == bundles
        assert store.list() == sorted(set(hashes))


def written(file: Path) -> tuple[int, ...]:
    """Which file it is, and when it was written or changed; not when it was read."""
    seen = file.stat()
    return seen.st_ino, seen.st_size, seen.st_mode, seen.st_mtime_ns, seen.st_ctime_ns


def test_putting_twice_writes_once(store: BundleStore, tmp_path: Path) -> None:
    """A bundle that is there is left alone."""
    store.put(BUNDLE)
    before = written(stored_file(tmp_path))
    store.put(BUNDLE)
    assert written(stored_file(tmp_path)) == before


def test_only_the_owner_may_read(store: BundleStore, tmp_path: Path) -> None:
    """Files are made 0600 in a folder of 0700, whatever the umask allows."""
    umask = os.umask(0)
    try:
        store.put(BUNDLE)
        BundleStore(tmp_path / "other")
    finally:
        os.umask(umask)
    assert stat.S_IMODE(stored_file(tmp_path).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o700


@pytest.mark.parametrize("cut", ["flip", "truncate", "empty"])
def test_a_damaged_bundle_is_refused_and_named(
    store: BundleStore, tmp_path: Path, cut: str
) -> None:
    """Damage of any sort is refused with the hash and the file."""
    store.put(BUNDLE)
    path = stored_file(tmp_path)
    whole = path.read_bytes()
    damages = {"flip": whole.replace(b"x = 1", b"x = 2"), "truncate": whole[:-1], "empty": b""}
    path.write_bytes(damages[cut])
    with pytest.raises(BundleError, match=f"{BUNDLE.sha256} is damaged") as caught:
        store.get(BUNDLE.sha256)
    assert caught.value.refusal.file == str(path)


def test_putting_again_mends(store: BundleStore, tmp_path: Path) -> None:
    """A damaged copy is replaced when the same files are pushed again."""
    store.put(BUNDLE)
    stored_file(tmp_path).write_bytes(b"")
    store.put(BUNDLE)
    assert store.get(BUNDLE.sha256) == BUNDLE


def test_a_missing_bundle_is_refused(store: BundleStore) -> None:
    """An unknown hash is refused by name."""
    with pytest.raises(BundleError, match="not in the store"):
        store.get("0" * 64)


@pytest.mark.parametrize("sha", ["", "../../etc/passwd", "0" * 63, "G" * 64])
def test_what_is_no_hash_is_refused(store: BundleStore, sha: str) -> None:
    """Only a hash can name a bundle, so nothing outside the store can be read."""
    with pytest.raises(BundleError, match="not the hash"):
        store.get(sha)


def test_a_write_that_fails_leaves_nothing(
    store: BundleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk refuses, the store is as it was and the error is told."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.put(BUNDLE)
    assert list((tmp_path / "state" / "bundles").iterdir()) == []


def test_what_a_crash_left_behind_is_no_bundle(store: BundleStore, tmp_path: Path) -> None:
    """A half-written file of an earlier crash is neither listed nor in the way."""
    (tmp_path / "state" / "bundles" / ".incoming").write_bytes(b"half")
    assert store.list() == []
    assert store.get(store.put(BUNDLE)) == BUNDLE
    assert [path.name for path in stored_file(tmp_path).parent.iterdir()] == [
        f"{BUNDLE.sha256}.bundle"
    ]


def test_the_files_of_a_bundle_can_be_read_from_a_folder(
    store: BundleStore, tmp_path: Path
) -> None:
    """Unpacked once, whole, for the owner alone; what a crash left half done is begun anew."""
    bundle = Bundle("shop", {"main.py": b"x = 1\n", "pages/a.html": b"hello"})
    left = tmp_path / "state" / "bundles" / ".incoming.files"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"")
    place = store.unpacked(bundle)
    found = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
    assert found == {"main.py", "pages/a.html"}
    assert (place / "pages/a.html").read_bytes() == b"hello"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert store.unpacked(bundle) == place
    assert store.list() == []


def test_a_mark_is_seen_without_reading_a_bundle(store: BundleStore) -> None:
    """It is the first of the names."""
    files = {MARK: b"{}", "a.py": b"", "b.txt": bytes(100_000)}
    assert MARK.encode() in store.peek(store.put(Bundle("shop", files)))
    assert MARK.encode() not in store.peek(store.put(BUNDLE))
    assert store.peek("0" * 64) == store.peek("no hash") == b""
