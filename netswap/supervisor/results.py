"""What the supervisor says of a push, swap or rollback: lines while it runs, one result at its end.

A result answers the five questions of a failure: what, where, what state the server is in now,
what to type next, and, of a success, how to undo it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from netswap.events import Acted, Refusal, Rehearsal, VerdictLine, WatchRow, WorkerReceipt
from netswap.outcome import SERVER_STATE, Outcome
from netswap.supervisor.agreement import Agreement

__all__ = [
    "ChangeLine",
    "Progress",
    "Receipt",
    "Result",
    "Tell",
    "apart",
    "failure",
    "figures_of",
    "prepared_of",
    "receipt_of",
    "verdicts_of",
    "watch_line",
    "worker_line",
]


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line while a transaction runs."""

    phase: str
    text: str
    worker: int | None = None


Tell = Callable[[Progress], None]


class ChangeLine(msgspec.Struct, frozen=True):
    """One kind's change, by revision and version; ``old`` ones are None for a new kind."""

    kind: str
    old_version: int | None
    new_version: int
    old_revision: int | None
    new_revision: int | None
    sha256: str


class Receipt(msgspec.Struct, frozen=True):
    """What all workers did, together: sums, and the worst of what is a maximum (µs)."""

    workers: int = 0
    objects: dict[str, int] = {}
    gone: int = 0
    dropped: int = 0
    blackout_us: float = 0.0
    stall_us: float = 0.0
    convert_us: float = 0.0
    slices: int = 0
    held_us: float = 0.0
    left: int = 0


class Result(msgspec.Struct):
    """How it ended."""

    outcome: Outcome
    what: str
    where: str = ""
    state: str = ""
    advice: str = ""
    transaction: int | None = None
    dry_run: bool = False
    only: str | None = None
    changes: list[ChangeLine] = []
    verdicts: list[VerdictLine] = []
    receipt: Receipt | None = None
    watch: list[WatchRow] = []
    refusals: list[Refusal] = []
    undo: str = ""
    rehearsal: list[Rehearsal] = []
    acted: list[Acted] = []
    atomic: bool = False
    remarks: list[str] = []

    def __post_init__(self) -> None:
        self.state = self.state or SERVER_STATE[self.outcome]


def failure(outcome: Outcome, refusals: list[Refusal], transaction: int | None = None) -> Result:
    """A result that says why: the first refusal in full, the others as they are."""
    first = _most_precise(refusals)
    advice = first.advice or _ADVICE[outcome]
    if outcome is Outcome.MIXED and first.advice:
        advice = f"{_ADVICE[outcome]}; {first.advice}"
    return Result(outcome, first.reason, first.where, "", advice, transaction, refusals=refusals)


_ADVICE = {
    Outcome.REFUSED: "mend it, try it with `netswap push --dry-run`, push it again",
    Outcome.ROLLED_BACK: "mend it, try it with `netswap push --dry-run`, push it again",
    Outcome.MIXED: "`netswap status` counts the objects of each version; push or roll back again",
    Outcome.CONFLICT: "wait for it to end (`netswap status` shows it), then try again",
}


def _most_precise(refusals: list[Refusal]) -> Refusal:
    """The refusal that names a line, else a kind, else the first."""
    return min(refusals, key=lambda refusal: (refusal.line is None, refusal.kind is None))


def receipt_of(agreement: Agreement) -> Receipt:
    """The workers' receipts as one."""
    rows = list(agreement.receipts.values())
    return Receipt(
        workers=len(rows),
        objects=_sum_by_kind(row.objects for row in rows),
        gone=sum(row.gone for row in rows),
        dropped=sum(row.dropped for row in rows),
        blackout_us=max((row.blackout_us for row in rows), default=0.0),
        stall_us=max((row.stall_us for row in rows), default=0.0),
        convert_us=sum(row.convert_us for row in rows),
        slices=sum(row.slices for row in rows),
        held_us=max((row.held_us for row in rows), default=0.0),
        left=sum(row.left for row in rows),
    )


def prepared_of(agreement: Agreement) -> Receipt:
    """What a dry run would have converted."""
    counts = agreement.objects.values()
    return Receipt(workers=len(counts), objects=_sum_by_kind(counts))


def verdicts_of(agreement: Agreement) -> list[VerdictLine]:
    """Each verdict once, however many workers gave it."""
    lines: dict[str, VerdictLine] = {}
    for slot in sorted(agreement.verdicts):
        for line in agreement.verdicts[slot]:
            lines.setdefault(f"{line.kind} {line.old} {line.verdict}", line)
    return list(lines.values())


def _sum_by_kind(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for row in counts:
        for kind, number in row.items():
            total[kind] = total.get(kind, 0) + number
    return total


def worker_line(receipt: WorkerReceipt) -> str:
    """A worker's receipt as a line of progress."""
    objects = sum(receipt.objects.values())
    return (
        f"swapped {objects} object{'s' * (objects != 1)} in {receipt.convert_us / 1000:.2f} ms, "
        f"longest stall {receipt.stall_us / 1000:.2f} ms"
    )


_APART = {
    "atomic": "nothing is served until all have swapped; --rolling swaps one after the other",
    "rolling": "{} of two versions ask each other until all have swapped, which was asked for",
    "canary": "{} of two versions ask each other as long as the canary lasts",
    "only": "{} of two versions ask each other, from now on",
}


def apart(clustered: Iterable[str], asking: Iterable[str], way: str) -> list[str]:
    """What it means to swap in that way: ``clustered`` kinds, and ``asking`` which ask which."""
    parts, pairs = sorted(clustered), sorted(asking)
    have = "has" if len(parts) == 1 else "have"
    change = "both change" if len(pairs) == 1 else "all of these change"
    rows = (
        (parts, f"{', '.join(parts)} {have} a part in every worker", "parts"),
        (pairs, f"{', '.join(pairs)}, and {change}", "objects"),
    )
    return [f"{why}: {_APART[way].format(what)}" for found, why, what in rows if found]


def figures_of(agreement: Agreement) -> list[WatchRow]:
    """The latest figures of a watch, worker by worker."""
    return [row for slot in sorted(agreement.figures) for row in agreement.figures[slot]]


def watch_line(rows: Iterable[WatchRow]) -> str:
    """A worker's figures as a line of progress, of new and old code side by side."""
    seen = [row for row in rows if row.on_watch or row.objects or row.calls]
    return "; ".join(
        f"{row.kind} v{row.version} {'new' if row.on_watch else 'old'}: {row.objects} objects, "
        f"{row.calls} calls, {row.errors} errors, {row.mean_us:.0f} µs a call"
        for row in seen
    )
