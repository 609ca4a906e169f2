"""Revisions, history and undo, derived from records alone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netswap.errors import UsageError
from netswap.supervisor import state
from netswap.supervisor.state import StateDirectory
from netswap.supervisor.versions import KEPT, SPARE, Change, Record, Undo, Versions

A, B, C = "aa" * 32, "bb" * 32, "cc" * 32


class Author:
    """Writes records as the supervisor does."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.versions = Versions()

    def write(self, record: Record) -> None:
        self.records.append(record)
        self.versions.apply(record)

    def commit(
        self,
        changes: list[Change],
        undoes: list[Undo] | None = None,
        only: str | None = None,
        boot: bool = False,
    ) -> int:
        tx = self.versions.next_tx
        self.write(Record("begin", tx, 1.0, "push", changes, only, undoes=undoes or [], boot=boot))
        self.write(Record("commit", tx, 2.0))
        return tx

    def push(self, kind: str, sha: str, version: int = 1, only: str | None = None) -> int:
        return self.commit([Change(kind, self.versions.active.get(kind), sha, version)], None, only)

    def undo(self, kind: str | None = None) -> None:
        versions = self.versions
        self.commit(*(versions.undo_last() if kind is None else versions.undo_kind(kind)))


@pytest.fixture
def author() -> Author:
    """A server that was booted with bundle A for kind k."""
    author = Author()
    author.commit([Change("k", None, A, 1)], boot=True)
    return author


def test_boot_is_revision_one_and_cannot_be_undone(author: Author) -> None:
    """A server always has something to serve."""
    assert author.versions.revision("k", A) == 1
    with pytest.raises(UsageError, match="nothing to undo"):
        author.versions.undo_last()


def test_revisions_count_bundles_not_transactions(author: Author) -> None:
    """A bundle that comes back keeps its number."""
    author.push("k", B)
    author.push("k", A)
    author.push("k", C)
    assert [row.sha256 for row in author.versions.revisions["k"]] == [A, B, C]


def test_rollbacks_undo_one_transaction_after_the_other(author: Author) -> None:
    """Each rollback goes one further back, until there is nothing left."""
    author.push("k", B)
    author.push("k", C)
    author.undo()
    assert author.versions.active["k"] == B
    author.undo()
    assert author.versions.active["k"] == A
    with pytest.raises(UsageError, match="nothing to undo"):
        author.versions.undo_last()


def test_a_transaction_of_two_kinds_is_undone_as_a_whole(author: Author) -> None:
    """What was changed together goes back together."""
    author.push("l", A)
    author.commit([Change("k", A, B, 2), Change("l", A, B, 2)])
    author.undo()
    assert author.versions.active == {"k": A, "l": A}


def test_rollback_of_one_kind_leaves_the_rest_to_the_next_rollback(author: Author) -> None:
    """Undoing a part does not lose the other part."""
    author.push("l", A)
    author.commit([Change("k", A, B, 2), Change("l", A, B, 2)])
    author.undo("k")
    assert author.versions.active == {"k": A, "l": B}
    author.undo()
    assert author.versions.active == {"k": A, "l": A}


def test_a_kind_that_was_new_stays(author: Author) -> None:
    """There is nothing before it to go back to; what came with it goes back."""
    author.commit([Change("k", A, B, 2), Change("new", None, B, 1)])
    tx = author.versions.history[-1].tx
    author.undo()
    assert author.versions.active == {"k": A, "new": B}
    assert author.versions.brought_by(tx) == ["new"]


def test_what_only_brought_kinds_is_not_passed_over(author: Author) -> None:
    """Else a rollback of it would silently take back what was pushed before."""
    author.push("k", B)
    author.push("new", C)
    with pytest.raises(
        UsageError, match="nothing to undo: `push` brought new, and nothing of that"
    ):
        author.versions.undo_last()
    author.undo("k")
    assert author.versions.active == {"k": A, "new": C}


def test_only_leaves_the_committed_set_and_makes_the_kind_split(author: Author) -> None:
    """A partial swap is not what a new worker boots into, and is not `already active`."""
    author.push("k", B, only="id=0.1")
    assert author.versions.active["k"] == A
    assert not author.versions.is_active("k", A)
    author.undo()
    assert author.versions.is_active("k", A)


def test_what_was_begun_and_not_ended_does_not_count(author: Author) -> None:
    """A crash in the middle leaves the old set."""
    author.write(Record("begin", 2, 1.0, "push", [Change("k", A, B, 2)]))
    assert Versions(map(msgspec.to_builtins, author.records)).active == {"k": A}
    assert author.versions.history[-1].outcome == "interrupted"


def test_what_was_aborted_does_not_count(author: Author) -> None:
    """An abort is history and nothing else."""
    author.write(Record("begin", 2, 1.0, "push", [Change("k", A, B, 2)]))
    author.write(Record("abort", 2, 2.0, outcome="rolled back", reason="no"))
    assert author.versions.active == {"k": A}
    assert author.versions.history[-1].reason == "no"
    assert author.versions.revision("k", B) is None


@pytest.mark.parametrize("name", ["2", B[:4], B[:12].upper(), B])
def test_a_revision_is_found_by_number_or_hash(author: Author, name: str) -> None:
    """An operator types what the tables show."""
    author.push("k", B)
    assert author.versions.find("k", name).sha256 == B


def test_an_unknown_revision_names_the_known_ones(author: Author) -> None:
    """The sentence holds what to type instead."""
    with pytest.raises(UsageError, match=rf"known are 1 \({A[:12]}\)"):
        author.versions.find("k", "9")
    with pytest.raises(UsageError, match="known kinds are k"):
        author.versions.find("nope", "1")


@given(st.lists(st.tuples(st.sampled_from("kl"), st.sampled_from([A, B, C, ""]), st.booleans())))
def test_a_restart_knows_what_was_known(steps: list[tuple[str, str, bool]]) -> None:
    """The same records give the same versions, however they came to be."""
    author = Author()
    for kind, sha, only in steps:
        if sha:
            author.push(kind, sha, only="x=1" if only and kind in author.versions.active else None)
        elif any(c.kind == kind for t in author.versions.history for c in t.undoable()):
            author.undo(kind)
    base = author.versions.base(1.0)
    for records in (author.records, [base]):
        again = Versions(map(msgspec.to_builtins, records))
        for what in ("active", "history", "revisions", "version_of", "split", "next_tx"):
            assert getattr(again, what) == getattr(author.versions, what)


def refuse(author: Author, times: int) -> None:
    """Push so often what is refused."""
    for _ in range(times):
        tx = author.versions.next_tx
        author.write(Record("begin", tx, 1.0, "push", [Change("k", A, C, 2)]))
        author.write(Record("abort", tx, 2.0, outcome="rejected", reason="no"))


def test_the_history_is_bounded_and_the_last_good_push_can_be_undone(author: Author) -> None:
    """However many were refused since; the numbers go on, and a restart knows the same."""
    good = author.push("k", B)
    refuse(author, 3 * KEPT)
    versions = author.versions
    assert KEPT <= len(versions.history) <= KEPT + SPARE
    assert versions.next_tx == good + 3 * KEPT + 1
    latest = [one.tx for one in versions.history[-KEPT // 2 :]]
    assert latest == list(range(versions.next_tx - KEPT // 2, versions.next_tx))
    assert Versions(map(msgspec.to_builtins, author.records)).history == versions.history
    author.undo()
    assert versions.active == {"k": A}
    assert versions.revision("k", B) == 2


def test_good_pushes_leave_the_history_too(author: Author) -> None:
    """The oldest first; what they brought can still be gone to, and its undo is no error."""
    for number in range(KEPT + 2 * SPARE):
        author.push("k", B if number % 2 == 0 else A)
    versions = author.versions
    assert KEPT <= len(versions.history) <= KEPT + SPARE
    forgotten = versions.history[0].tx - 1
    author.commit([Change("k", versions.active["k"], B, 1)], [Undo(forgotten, ["k"])])
    assert versions.find("k", "1").sha256 == A
    assert all(one.undone == [] for one in versions.history)


def test_a_long_journal_is_made_shorter_at_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known is the same, also after what is written later; a short one stays as it is."""
    directory = StateDirectory(tmp_path)
    change = [Change("k", None, A, 1)]
    for record in (Record("begin", 1, 1.0, changes=change), Record("commit", 1, 2.0)):
        directory.append(record)
    for tx in range(2, 12):
        directory.append(Record("begin", tx, 1.0, changes=change))
        directory.append(Record("abort", tx, 2.0, outcome="rejected"))
    known = directory.versions
    journal = tmp_path / "journal"
    for limit, lines in ((22, 22), (21, 1), (21, 1)):
        directory.close()
        monkeypatch.setattr(state, "LONG", limit)
        directory = StateDirectory(tmp_path)
        assert len(journal.read_bytes().splitlines()) == lines
        assert directory.versions.history == known.history
        assert directory.versions.active == known.active
    directory.append(Record("begin", 12, 1.0, changes=[Change("k", A, B, 1)]))
    directory.append(Record("commit", 12, 2.0))
    directory.close()
    directory = StateDirectory(tmp_path)
    assert directory.versions.active == {"k": B}
    assert directory.versions.next_tx == 13
    directory.close()
