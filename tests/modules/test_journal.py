"""The journal: what was appended is read, whatever moment the writer ended in."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netswap.modules import Journal, JournalError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
RECORDS = st.lists(st.dictionaries(st.text(max_size=3), PLAIN, max_size=3), max_size=4)
THREE: list[dict[str, Any]] = [{"begin": 1}, {"commit": 1, "who": "a\nb"}, {"begin": 2}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal is to be; its folder is not there yet."""
    return tmp_path / "state" / "journal"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """A journal that holds THREE."""
    journal = Journal(path)
    for record in THREE:
        journal.append(record)
    yield journal
    journal.close()


def reopened(path: Path) -> Journal:
    """The journal as the next process sees it."""
    return Journal(path)


@given(RECORDS)
def test_what_is_appended_is_read(records: list[dict[str, Any]]) -> None:
    """Records come back equal and in order, to the writer and to the next process."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal")
        for record in records:
            journal.append(record)
        assert journal.read() == records
        journal.close()
        assert reopened(Path(folder) / "journal").read() == records


def test_a_journal_that_is_not_there_is_empty(path: Path) -> None:
    """Reading makes no file."""
    assert Journal(path).read() == []
    assert not path.exists()


def test_a_cut_at_any_byte_leaves_a_prefix(journal: Journal, path: Path) -> None:
    """A crash after any byte loses at most the record being written, and says so."""
    journal.close()
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        lines = whole[:size].count(b"\n")
        torn = whole[:size].rpartition(b"\n")[2]
        again = reopened(path)
        assert again.read() == THREE[:lines]
        cut = again.recover()
        assert (cut and cut.content) == (torn or None)
        again.append({"after": size})
        again.close()
        assert reopened(path).read() == [*THREE[:lines], {"after": size}]


def test_a_cut_says_what_was_lost(journal: Journal, path: Path) -> None:
    """The report of a torn line names its number and size."""
    journal.close()
    path.write_bytes(path.read_bytes()[:-3])
    again = reopened(path)
    assert "line 3 was not whole and was cut" in str(again.recover())
    assert again.recover() is None
    again.close()


def test_a_damaged_last_line_counts_as_torn(journal: Journal, path: Path) -> None:
    """Blocks may reach the disk out of order: a last line with a wrong sum was never whole."""
    journal.close()
    path.write_bytes(path.read_bytes().replace(b'"begin":2', b'"begin":3'))
    assert reopened(path).read() == THREE[:2]


@pytest.mark.parametrize("number", [1, 2])
def test_every_changed_byte_before_the_last_line_is_found(
    journal: Journal, path: Path, number: int
) -> None:
    """Damage in the middle is an error that names file and line, and changes nothing."""
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    line = lines[number - 1]
    for index in range(len(line) - 1):
        damaged = bytearray(line)
        damaged[index] ^= 1
        path.write_bytes(b"".join([*lines[: number - 1], damaged, *lines[number:]]))
        before = path.read_bytes()
        with pytest.raises(JournalError, match=rf"journal:{number}: this line is damaged"):
            reopened(path).read()
        with pytest.raises(JournalError):
            reopened(path).append({})
        assert path.read_bytes() == before


def test_there_is_one_writer(journal: Journal, path: Path) -> None:
    """A second server on the same state directory is told so; it may still read."""
    second = reopened(path)
    with pytest.raises(JournalError, match="another server writes to it"):
        second.append({"begin": 3})
    assert second.read() == THREE
    journal.close()
    second.append({"begin": 3})
    second.close()


@pytest.mark.parametrize("call", ["fsync", "pwrite"])
def test_an_append_that_fails_changes_nothing(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """When the disk refuses, the error is told and the next append finds a whole journal."""
    real = os.pwrite

    def full(descriptor: int, *arguments: Any) -> int:
        if call == "pwrite":
            real(descriptor, arguments[0][:5], arguments[1])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space"):
            journal.append({"begin": 3})
    assert reopened(path).read() == THREE
    journal.append({"begin": 4})
    assert reopened(path).read() == [*THREE, {"begin": 4}]


def test_a_short_write_is_finished(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that takes one byte at a time still gives whole records."""
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:1], at))
    journal = Journal(path)
    journal.append(THREE[1])
    journal.close()
    assert reopened(path).read() == [THREE[1]]


def test_file_and_folder_are_synced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new journal survives a power cut: its folder is synced, and each record."""
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(stat.S_ISDIR(os.fstat(fd).st_mode)))
    journal = Journal(path)
    journal.append({"begin": 1})
    assert synced == [False, True, False]
    journal.close()


def test_only_the_owner_may_read(journal: Journal, path: Path) -> None:
    """The journal is 0600."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_record_that_is_not_json_changes_nothing(journal: Journal, path: Path) -> None:
    """A record that can't be written is the caller's error, and the journal is as it was."""
    with pytest.raises(TypeError):
        journal.append({"what": object()})
    assert reopened(path).read() == THREE


@pytest.mark.parametrize("how", ["removed", "replaced", "shortened"])
def test_a_file_that_somebody_else_has_changed_takes_no_record(
    journal: Journal, path: Path, how: str
) -> None:
    """A record is not acknowledged where the next process would not find it."""
    content = path.read_bytes()
    if how == "shortened":
        os.truncate(path, len(content) - 1)
    else:
        path.unlink()
    if how == "replaced":
        path.write_bytes(content)
    with pytest.raises(OSError, match="removed, replaced or shortened under the server"):
        journal.append({"begin": 3})
    assert reopened(path).read() == ([] if how == "removed" else THREE[: 2 + (how == "replaced")])


STEPS = ["open", "pwrite", "fsync", "replace", "fsync of the folder"]


def crashing(monkeypatch: pytest.MonkeyPatch, step: str, after: bool) -> None:
    """The writer ends at a step of ``replace``: before it is done, or just after."""

    class Crash(BaseException):
        """Nothing of the writer's runs after it but the closing of files, as at a kill."""

    name, _, of_folder = step.partition(" ")
    owner: Any = Path if name == "replace" else os
    real = getattr(owner, name)

    def call(*words: Any, **more: Any) -> Any:
        where = words[0]
        is_folder = name == "fsync" and stat.S_ISDIR(os.fstat(where).st_mode)
        if is_folder is not bool(of_folder) or (name == "open" and str(where)[-4:] != ".new"):
            return real(*words, **more)
        if after:
            made = real(*words, **more)
            if name == "open":
                os.close(made)
        elif name == "pwrite":
            real(where, words[1][: len(words[1]) // 2], *words[2:])
        raise Crash(step)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_crash_in_a_replacement_leaves_the_old_records_or_the_new(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    """Whole; and whoever comes next can write, replace and read."""
    is_new = STEPS.index(step) > 3 or (step == "replace" and after)
    with monkeypatch.context() as patched:
        crashing(patched, step, after)
        with pytest.raises(BaseException, match=step):
            journal.replace([{"base": 1}])
    journal.close()
    following = reopened(path)
    expected = [{"base": 1}] if is_new else THREE
    assert following.read() == expected
    assert following.recover() is None
    following.append({"next": 1})
    following.replace([{"base": 2}])
    following.append({"next": 2})
    assert following.read() == [{"base": 2}, {"next": 2}]
    following.close()
    assert reopened(path).read() == [{"base": 2}, {"next": 2}]
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_replaced_journal_has_one_writer_still(journal: Journal, path: Path) -> None:
    """The lock is on the new file."""
    journal.replace([{"base": 1}])
    with pytest.raises(JournalError, match="another server"):
        reopened(path).recover()
