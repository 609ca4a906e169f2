"""Which version answered each connection, and whether it went back without a reason. No I/O.

A connection *changes* when an answer names another version than the answer before it on the same
connection. When exactly the server changed is not seen, only that it was between the sending of the
older question and the arrival of the newer answer.

A change needs a *reason*: an event of the run, each of which excuses one change of each connection,
from its start until the next event's start (what a command has set going may end after it). An
event that failed excuses two: there and back. So a connection that goes to the new version, back,
and on again within one push is caught, and a rollback that was asked for is not. Each change takes
the oldest event that can be its reason, which leaves most to the later ones.

A run without events of its own knows no reasons, and is not judged: somebody else may push.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from loadgen.samples import UNVERSIONED, Samples

__all__ = ["Change", "changes", "unexcused"]


class Change(NamedTuple):
    """A connection's answers changed from a version to another one, in between these times (ns)."""

    connection: int
    old: int
    new: int
    after: int
    before: int


class Reason(NamedTuple):
    """An event that excuses ``changes`` of each connection, between these times (ns)."""

    opens: int
    closes: float
    changes: int


def changes(samples: Samples) -> Iterator[Change]:
    """Every change, in the order of the rows."""
    if len(set(samples.version) - {UNVERSIONED}) < 2:
        return
    last: dict[int, tuple[int, int]] = {}
    rows = zip(samples.connection, samples.version, samples.sent, samples.done, strict=True)
    for connection, version, sent, done in rows:
        if version == UNVERSIONED:
            continue
        old, after = last.get(connection, (version, sent))
        if old != version:
            yield Change(connection, old, version, after, done)
        last[connection] = version, sent


def reasons(events: Sequence[tuple[int, int, bool]]) -> list[Reason]:
    """What events excuse; each is its start and end (ns) and whether it failed, in order."""
    nexts = [*(start for start, _, _ in events), float("inf")][1:]
    return [
        Reason(start, max(end, following), 2 if failed else 1)
        for (start, end, failed), following in zip(events, nexts, strict=True)
    ]


def unexcused(found: Iterable[Change], events: Sequence[tuple[int, int, bool]]) -> Iterator[Change]:
    """The changes that no event is a reason for; none when there are no events."""
    known = reasons(events)
    spent: dict[int, list[int]] = {}
    for change in found if known else ():
        left = spent.setdefault(change.connection, [reason.changes for reason in known])
        number = _reason(change, known, left)
        if number is None:
            yield change
        else:
            left[number] -= 1


def _reason(change: Change, known: Sequence[Reason], left: Sequence[int]) -> int | None:
    fitting = (
        number
        for number, reason in enumerate(known)
        if left[number] and reason.opens <= change.before and change.after <= reason.closes
    )
    return next(fitting, None)
