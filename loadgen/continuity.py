"""What every answer must prove, connection by connection. No I/O, O(1) an operation.

Rules. Operations of a connection are numbered from 0 and are answered in that order.

- the answer to the oldest open operation settles it;
- the answer to a later one settles it too; those before it are *missing* from then on;
- the answer to a missing one settles it, *reordered*;
- an answer to what is settled is *duplicated*; one that nobody asked for is *corrupted*;
- at the end, what is missing is *lost*: a later answer came. What is open is *lost* when the
  connection still lives, and of *unknown* outcome when it was dropped: it may have been done.

So at the end ``issued == answered + lost + unknown``, whatever the server did. When it
announces that it ends a connection, what is open there is *withdrawn*: that is issued elsewhere.
What an answer holds is judged by the dialects, with ``Tally.fault``. One mistake of the server is
counted once: after a fault the model goes on from what the server says.

============== =================================================================================
not carried    state that an answer shows is not that of the answer before it
mixed version  parts of one answer name different versions of the server's code
early          a timer's answer came before its time
not monotone   a connection went back to older code without a reason (afterwards: ``versions``)
miscounted     a value of the counter that all share came twice or never (afterwards: ``counter``)
============== =================================================================================
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, Literal, get_args

import msgspec

__all__ = [
    "CONNECTION_FAULTS",
    "FAULTS",
    "OPERATION_FAULTS",
    "Continuity",
    "Fault",
    "FaultName",
    "Operation",
    "Tally",
    "STRIDES",
    "pattern",
    "stretch",
]

FaultName = Literal[
    "lost",
    "duplicated",
    "reordered",
    "corrupted",
    "not_carried",
    "unknown",
    "dropped",
    "refused",
    "not_monotone",
    "mixed_version",
    "miscounted",
    "early",
]
CONNECTION_FAULTS: Final[tuple[FaultName, ...]] = ("refused", "dropped")
OPERATION_FAULTS: Final[tuple[FaultName, ...]] = tuple(
    name for name in get_args(FaultName) if name not in CONNECTION_FAULTS
)
FAULTS: Final = OPERATION_FAULTS + CONNECTION_FAULTS
_KIND: Final = {name: kind for kind, name in enumerate(FAULTS)}
_EXAMPLES_OF_A_KIND = 3
_TIMES_KEPT = 1_000_000
STRIDES = 256


class Operation(msgspec.Struct, gc=False):
    """One question, open until its answer came. Times are nanoseconds on CLOCK_MONOTONIC.

    ``version`` is that of the code that answered, set by who judges the answer: -1 names none.
    """

    sequence: int
    intended: int
    sent: int
    body: bytes
    version: int = -1


class Fault(msgspec.Struct, frozen=True):
    """An example of what went wrong; ``sequence`` is -1 when it isn't about one operation."""

    what: FaultName
    connection: int
    sequence: int
    detail: str


class Tally(msgspec.Struct):
    """The counts of many connections; tallies of several processes add up exactly.

    ``now`` is set by who has a clock before it asks for a judgement (ns, CLOCK_MONOTONIC): the
    ``fault_times`` are of it, in no order, 0 when nobody said; kept up to a million.
    ``fault_kinds`` stand beside them: the place of the name in ``FAULTS``. ``short`` are connects
    that failed for want of something of our own, no fault, by what the system said. ``closed`` are
    connections that the server ended in order, as it had announced, which is no fault;
    ``closed_times`` when it did (ns), up to a million.
    """

    issued: int = 0
    answered: int = 0
    connected: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    corrupted: int = 0
    not_carried: int = 0
    unknown: int = 0
    dropped: int = 0
    refused: int = 0
    by_version: dict[int, int] = msgspec.field(default_factory=dict)
    examples: list[Fault] = msgspec.field(default_factory=list)
    not_monotone: int = 0
    mixed_version: int = 0
    miscounted: int = 0
    early: int = 0
    now: int = 0
    fault_times: list[int] = msgspec.field(default_factory=list)
    fault_kinds: list[int] = msgspec.field(default_factory=list)
    short: dict[str, int] = msgspec.field(default_factory=dict)
    closed: int = 0
    closed_times: list[int] = msgspec.field(default_factory=list)

    def fault(self, what: FaultName, connection: int, sequence: int, detail: str) -> None:
        """Count one fault; the first few of a kind are kept as examples."""
        setattr(self, what, getattr(self, what) + 1)
        if len(self.fault_times) < _TIMES_KEPT:
            self.fault_times.append(self.now)
            self.fault_kinds.append(_KIND[what])
        if sum(each.what == what for each in self.examples) < _EXAMPLES_OF_A_KIND:
            self.examples.append(Fault(what, connection, sequence, detail))

    def close(self) -> None:
        """Count a connection that ended in order, ``now``."""
        self.closed += 1
        if len(self.closed_times) < _TIMES_KEPT:
            self.closed_times.append(self.now)

    def faults(self) -> int:
        """All faults together."""
        return sum(getattr(self, name) for name in FAULTS)

    def add(self, other: Tally) -> None:
        """Take in another process's counts."""
        for name in ("issued", "answered", "connected", "closed", *FAULTS):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for version, count in other.by_version.items():
            self.by_version[version] = self.by_version.get(version, 0) + count
        for want, count in other.short.items():
            self.short[want] = self.short.get(want, 0) + count
        self.examples = _some_of_each(self.examples + other.examples)
        self.fault_times = (self.fault_times + other.fault_times)[:_TIMES_KEPT]
        self.fault_kinds = (self.fault_kinds + other.fault_kinds)[:_TIMES_KEPT]
        self.closed_times = (self.closed_times + other.closed_times)[:_TIMES_KEPT]

    def timed(self) -> Iterator[tuple[int, FaultName]]:
        """The faults whose times are kept, each with its time (ns), in no order."""
        for at, kind in zip(self.fault_times, self.fault_kinds, strict=True):
            yield at, FAULTS[kind]


def _some_of_each(examples: Iterable[Fault]) -> list[Fault]:
    """The first few of each kind."""
    kept: dict[str, list[Fault]] = {}
    for example in examples:
        kept.setdefault(example.what, []).append(example)
    return [example for kind in kept.values() for example in kind[:_EXAMPLES_OF_A_KIND]]


class Continuity:
    """The order of one connection's answers."""

    __slots__ = ("answered", "blamed", "connection", "issued", "missing", "pending", "tally")

    def __init__(self, connection: int, tally: Tally) -> None:
        self.connection = connection
        self.tally = tally
        self.issued = 0
        self.answered = 0
        self.pending: deque[Operation] = deque()
        self.missing: dict[int, Operation] = {}
        self.blamed: set[int] | None = None  # the operations with a fault, kept for who asks

    def issue(self, intended: int, sent: int, body: bytes) -> None:
        """Open the next operation; its number is ``issued`` before this call."""
        self.pending.append(Operation(self.issued, intended, sent, body))
        self.issued += 1

    def settle(self, sequence: int) -> Operation | None:
        """The operation that this answer ends, or None when there is none to end (counted)."""
        pending = self.pending
        if pending and pending[0].sequence == sequence:
            self.answered += 1
            return pending.popleft()
        return self._settle_out_of_turn(sequence)

    def settle_oldest(self) -> Operation:
        """The oldest open operation, which has to be there and is answered: the usual case."""
        self.answered += 1
        return self.pending.popleft()

    def answered_by(self, operation: Operation, version: int, *others: int) -> None:
        """The version of the server's code that answered; ``others`` are what parts of it say."""
        operation.version = version
        for other in others:
            if other != version:
                detail = f"version {version} and version {other} in one answer"
                self.fault("mixed_version", operation.sequence, detail)
                break
        versions = self.tally.by_version
        versions[version] = versions.get(version, 0) + 1

    def outstanding(self) -> int:
        """Operations without an answer so far."""
        return len(self.pending) + len(self.missing)

    def withdraw(self) -> list[Operation]:
        """Take back what is open: the server has said that it does none of it."""
        taken = [*self.pending]
        self.pending.clear()
        self.issued -= len(taken)
        return taken

    def fault(self, what: FaultName, sequence: int, detail: str) -> None:
        """Count a fault of this connection."""
        if self.blamed is not None:
            self.blamed.add(sequence)
        self.tally.fault(what, self.connection, sequence, detail)

    def close(self, *, dropped: bool, heard: bytes = b"") -> None:
        """The connection is over; called once. What is lost is so from when it was due. ``heard``
        came last and is no whole answer: it may tell what the server speaks instead.
        """
        came = f"; {len(heard)} bytes that are no whole answer came: {heard[:40]!r}" * bool(heard)
        for sequence, operation in self.missing.items():
            self.tally.now = operation.intended
            self.fault("lost", sequence, "a later answer came, this one never")
        for operation in self.pending:
            self.tally.now = operation.intended
            if dropped:
                self.fault("unknown", operation.sequence, "the connection ended before the answer")
            else:
                self.fault("lost", operation.sequence, f"no answer, and the connection lives{came}")
                came = ""
        self.tally.issued += self.issued
        self.tally.answered += self.answered
        self.pending.clear()
        self.missing.clear()

    def _settle_out_of_turn(self, sequence: int) -> Operation | None:
        if sequence >= self.issued:
            self.fault("corrupted", sequence, f"answers what was never asked ({self.issued} asked)")
            return None
        if sequence in self.missing:
            self.fault("reordered", sequence, "came after a later answer")
            self.answered += 1
            return self.missing.pop(sequence)
        if not self.pending or sequence < self.pending[0].sequence:
            self.fault("duplicated", sequence, "was answered before")
            return None
        while (operation := self.pending.popleft()).sequence != sequence:
            self.missing[operation.sequence] = operation
        self.answered += 1
        return operation


def pattern(connection: int, sequence: int, size: int) -> bytes:
    """``size`` bytes that differ between neighbours in connection and sequence."""
    start = (connection * 31 + sequence * 7) % STRIDES
    return stretch(size)[start : start + size]


@lru_cache(maxsize=8)
def stretch(size: int) -> bytes:
    """What the patterns of this size are cut from: see ``pattern``."""
    # 167 generates the multiplicative group modulo 257: a period of 256 without a repeated byte.
    period, value = bytearray(), 1
    for _ in range(256):
        value = value * 167 % 257
        period.append(value % 256)
    return bytes(period) * ((size + STRIDES) // 256 + 1)
