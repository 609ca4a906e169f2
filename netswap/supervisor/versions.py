"""What is active, what was, and what can be undone: all of it derived from the journal.

Pure: records go in, in the order of the journal, live or at start-up. The same records give the
same answers, so a restarted server knows what the one before it knew.

Records (JSON objects) are ``begin``, ``commit`` and ``abort``, joined by ``tx``, and ``base``,
which stands for all before it. A begin whose end is missing was interrupted by a crash and counts
as aborted.

Words: a *change* is one kind going from one bundle to another. A *revision* is the n-th bundle
accepted for a kind. A transaction with ``only`` swaps some live objects and leaves the committed
set as it is; until the kind is next swapped as a whole, it is *split*.

The history is bounded: ``KEPT`` transactions, and up to ``SPARE`` more until they are thrown out
together. Of its older half those go first that a rollback can't take back, refused ones above all,
so a thousand refused pushes do not hide the last good one. Revisions are kept for ever: any of
them can be gone to by its number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from netswap.errors import UsageError
from netswap.outcome import Outcome

__all__ = ["Base", "Change", "Record", "Revision", "Transaction", "Undo", "Versions"]


KEPT = 1_000
SPARE = 100


class Change(msgspec.Struct, frozen=True):
    """One kind from bundle ``old`` (None: it had none) to ``new``, of state version ``version``."""

    kind: str
    old: str | None
    new: str
    version: int


class Revision(msgspec.Struct, frozen=True):
    """The ``number``-th bundle accepted for ``kind``; ``time`` in seconds since the epoch."""

    kind: str
    number: int
    sha256: str
    version: int
    time: float
    bundle: str = ""


class Undo(msgspec.Struct, frozen=True):
    """What a rollback takes back: kinds of an earlier transaction."""

    tx: int
    kinds: list[str]


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the journal; which fields are set depends on ``type``."""

    type: str
    tx: int
    time: float
    command: str = ""
    changes: list[Change] = []
    only: str | None = None
    undoes: list[Undo] = []
    boot: bool = False
    bundles: dict[str, str] = {}
    outcome: str = ""
    reason: str = ""
    receipt: dict[str, Any] = {}
    base: Base | None = None


class Transaction(msgspec.Struct):
    """One transaction as the history shows it; ``undone`` are the kinds taken back since."""

    tx: int
    time: float
    command: str
    changes: list[Change]
    only: str | None = None
    outcome: str = "interrupted"
    reason: str = ""
    receipt: dict[str, Any] = {}
    boot: bool = False
    undoes: list[Undo] = []
    bundles: dict[str, str] = {}
    undone: list[str] = []

    @property
    def committed(self) -> bool:
        """Whether it counts."""
        return self.outcome == Outcome.DONE

    def undoable(self) -> list[Change]:
        """What a rollback of it would take back: kinds that had something before."""
        if not self.committed or self.boot or self.undoes:
            return []
        return [c for c in self.changes if c.old is not None and c.kind not in self.undone]

    def only_brought(self) -> bool:
        """Whether nothing of it can be taken back, since all that it changed was new."""
        counts = self.committed and not self.boot and not self.undoes and bool(self.changes)
        return counts and all(change.old is None for change in self.changes)


class Base(msgspec.Struct, frozen=True):
    """All that is known at one moment: what a journal begins with that was made shorter."""

    active: dict[str, str]
    version_of: list[tuple[str, str, int]]
    revisions: dict[str, list[Revision]]
    history: list[Transaction]
    split: dict[str, str]


class Versions:
    """The committed set, the revisions and the history."""

    def __init__(self, records: Iterable[Mapping[str, Any]] = ()) -> None:
        self.active: dict[str, str] = {}
        self.version_of: dict[tuple[str, str], int] = {}
        self.revisions: dict[str, list[Revision]] = {}
        self.history: list[Transaction] = []
        self.split: dict[str, str] = {}
        for record in records:
            self.apply(msgspec.convert(record, Record))

    @property
    def next_tx(self) -> int:
        """The number of the next transaction."""
        return self.history[-1].tx + 1 if self.history else 1

    def apply(self, record: Record) -> None:
        """Take one record of the journal into account."""
        if record.base is not None:
            self._begin_with(record.base)
        elif record.type == "begin":
            self._begin(record)
        elif self.history and self.history[-1].tx == record.tx:
            self._end(self.history[-1], record)

    def base(self, time: float) -> Record:
        """One record that stands for all that were applied."""
        known = [(kind, sha, version) for (kind, sha), version in self.version_of.items()]
        base = Base(self.active, known, self.revisions, self.history, self.split)
        return Record("base", self.next_tx - 1, time, base=base)

    def _begin_with(self, base: Base) -> None:
        self.active, self.split = dict(base.active), dict(base.split)
        self.version_of = {(kind, sha): version for kind, sha, version in base.version_of}
        self.revisions = {kind: list(rows) for kind, rows in base.revisions.items()}
        self.history = list(base.history)

    def _begin(self, record: Record) -> None:
        self.history.append(
            Transaction(
                record.tx,
                record.time,
                record.command,
                record.changes,
                record.only,
                boot=record.boot,
                undoes=record.undoes,
                bundles=record.bundles,
            )
        )
        if len(self.history) > KEPT + SPARE:
            self._forget()

    def _forget(self) -> None:
        """Down to ``KEPT``: what can't be undone first, then the oldest; the newer half stays."""
        older = self.history[: -KEPT // 2]
        excess = len(self.history) - KEPT
        gone = {one.tx for one in sorted(older, key=lambda one: bool(one.undoable()))[:excess]}
        self.history = [one for one in self.history if one.tx not in gone]

    def _end(self, transaction: Transaction, record: Record) -> None:
        transaction.outcome = record.outcome or transaction.outcome
        transaction.reason = record.reason
        transaction.receipt = record.receipt
        if record.type == "commit":
            transaction.outcome = Outcome.DONE.value
            self._accept(transaction)

    def _accept(self, transaction: Transaction) -> None:
        for change in transaction.changes:
            self._number(change, transaction)
            if transaction.only is None:
                self.active[change.kind] = change.new
                self.split.pop(change.kind, None)
            else:
                self.split[change.kind] = change.new
        for undo in transaction.undoes:
            for done in self.history:
                if done.tx == undo.tx:
                    done.undone = sorted({*done.undone, *undo.kinds})

    def _number(self, change: Change, transaction: Transaction) -> None:
        self.version_of[change.kind, change.new] = change.version
        rows = self.revisions.setdefault(change.kind, [])
        if any(row.sha256 == change.new for row in rows):
            return
        name = transaction.bundles.get(change.new, "")
        number = len(rows) + 1
        when = transaction.time
        rows.append(Revision(change.kind, number, change.new, change.version, when, name))

    def revision(self, kind: str, sha: str) -> int | None:
        """The number under which ``sha`` was accepted for ``kind``."""
        rows = self.revisions.get(kind, ())
        return next((row.number for row in rows if row.sha256 == sha), None)

    def is_active(self, kind: str, sha: str) -> bool:
        """Whether every live object of ``kind`` is of bundle ``sha``."""
        return self.active.get(kind) == sha and kind not in self.split

    def find(self, kind: str, revision: str) -> Revision:
        """The revision of ``kind`` named by a number or by the start of a hash.

        :raises UsageError: there is none, or more than one.
        """
        rows = self._rows(kind)
        found = [
            row
            for row in rows
            if revision == str(row.number)
            or (len(revision) >= 4 and row.sha256.startswith(revision.lower()))
        ]
        if len(found) == 1:
            return found[0]
        known = ", ".join(f"{row.number} ({row.sha256[:12]})" for row in rows)
        problem = "is ambiguous" if found else "is not a revision"
        raise UsageError(f"{revision} {problem} of {kind}", "", f"known are {known}")

    def _rows(self, kind: str) -> list[Revision]:
        rows = self.revisions.get(kind)
        if not rows:
            known = ", ".join(sorted(self.revisions)) or "none"
            raise UsageError(f"no bundle provides {kind}", "", f"known kinds are {known}")
        return rows

    def change_to(self, revision: Revision) -> Change:
        """The change that makes ``revision`` the active one of its kind."""
        old = self.active.get(revision.kind)
        return Change(revision.kind, old, revision.sha256, revision.version)

    def undo_last(self) -> tuple[list[Change], list[Undo]]:
        """What takes back the last transaction that is not undone yet.

        One that only brought kinds is not passed over: who asks means that one, and not another.

        :raises UsageError: there is none.
        """
        for transaction in reversed(self.history):
            if transaction.only_brought():
                kinds = ", ".join(change.kind for change in transaction.changes)
                what = f"there is nothing to undo: `{transaction.command}` brought {kinds}, and "
                what += "nothing of that kind was there before"
                raise UsageError(
                    what, "", "`netswap rollback KIND` undoes the last change of another"
                )
            if changes := transaction.undoable():
                back = [self._back(change) for change in changes]
                return back, [Undo(transaction.tx, [change.kind for change in changes])]
        raise UsageError("there is nothing to undo", "", "`netswap history` shows why")

    def undo_kind(self, kind: str) -> tuple[list[Change], list[Undo]]:
        """What takes back the last change of ``kind`` that is not undone yet.

        :raises UsageError: there is none.
        """
        self._rows(kind)
        for transaction in reversed(self.history):
            for change in transaction.undoable():
                if change.kind == kind:
                    return [self._back(change)], [Undo(transaction.tx, [kind])]
        raise UsageError(f"{kind} has nothing to undo", "", "`netswap history` shows why")

    def brought_by(self, tx: int) -> list[str]:
        """The kinds that a transaction brought: they stay when it is undone."""
        found = (one for one in self.history if one.tx == tx)
        return [change.kind for one in found for change in one.changes if change.old is None]

    def _back(self, change: Change) -> Change:
        assert change.old is not None  # undoable() leaves the others out
        version = self.version_of[change.kind, change.old]
        return Change(change.kind, self.active.get(change.kind), change.old, version)
