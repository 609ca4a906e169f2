"""By how much our own pauses may have changed what was measured. Pure arithmetic.

While a load process stands still it asks nothing and hears nothing. That falsifies in two ways.

- *Too long.* An answer that came meanwhile is read afterwards, and what was due is sent afterwards.
  So of each operation that was open in a pause the server's part is at least what is left when the
  pause is taken away. That is ``least``.
- *Not measured.* A closed loop would have asked on, and who was slow meanwhile was not seen. So
  what was not asked is put in: as many operations as in as much of the rest of the time, each open
  until the pause was over, and then for as long as usual. Longer can none have taken, since what
  was asked after the pause was measured. That is ``most``. An open loop asks it, late, and counts
  from when it was due, so nothing is to be put in, except where time counts from the send.

Both are on the safe side: a pause is as long as it may have been, and that of one process excuses
what others have measured, too. So a limit holds when it holds at most, is missed when it is missed
at least, and between them nothing is proved.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from loadgen.samples import Samples
from loadgen.spread import Spread, spread

__all__ = ["Doubt", "OwnPauses", "Still"]

_LEAST_MOVING = 0.1  # of a stretch, at least, is taken to tell how much is asked in it


class Still(NamedTuple):
    """From when to when a process may have stood still, or another stretch of time (ns)."""

    opens: int
    closes: int


class Doubt(msgspec.Struct, frozen=True):
    """A spread without what may have been our own pauses, and with what they may have hidden."""

    least: Spread
    most: Spread


class _Excused(NamedTuple):
    """What of an operation's latency, and of its time from the send, was in pauses (ns)."""

    latency: int
    service: int


class OwnPauses:
    """Beside the operations of a run. ``processes``: of how many the pauses are; ``asks_on``:
    whether what is due in one is asked afterwards and counts from then; ``ahead``: how long before
    it is due an operation is sent (ns).
    """

    def __init__(
        self, samples: Samples, pauses: Iterable[tuple[int, int]], *,
        processes: int = 1, asks_on: bool = True, ahead: int = 0,
    ) -> None:  # fmt: skip
        self._samples = samples
        self._pauses = [Still(*pause) for pause in sorted(pauses)]
        self._processes = processes
        self._asks_on = asks_on
        self._excused = _excused(samples, _merged(self._pauses), ahead)

    def latency(self, rows: Sequence[int], pieces: Sequence[tuple[int, int]]) -> Doubt | None:
        """Of the operations in these rows, all that were asked in these pieces of time (ns); None:
        there is no doubt.
        """
        if not self._pauses:
            return None
        done, due = self._samples.done, self._samples.intended
        took = [done[row] - due[row] for row in rows]
        excused = [self._excused[row].latency if row in self._excused else 0 for row in rows]
        return self._doubt(took, excused, [] if self._asks_on else pieces)

    def service(self, rows: Sequence[int], pieces: Sequence[tuple[int, int]]) -> Doubt | None:
        """The same of the time from the send."""
        if not self._pauses:
            return None
        done, sent = self._samples.done, self._samples.sent
        took = [done[row] - sent[row] for row in rows]
        excused = [self._excused[row].service if row in self._excused else 0 for row in rows]
        return self._doubt(took, excused, pieces)

    def _doubt(
        self, took: list[int], excused: list[int], pieces: Sequence[tuple[int, int]]
    ) -> Doubt:
        least = spread(one - other for one, other in zip(took, excused, strict=True))
        middle = sorted(took)[len(took) // 2] if took else 0
        return Doubt(least, spread([*took, *self._unasked(len(took), pieces, middle)]))

    def _unasked(self, count: int, pieces: Sequence[tuple[int, int]], middle: int) -> Iterator[int]:
        """How long each may have taken (ns)."""
        within = [
            (Still(max(pause.opens, opens), min(pause.closes, closes)), pause.closes)
            for opens, closes in pieces
            for pause in self._pauses
            if pause.opens < closes and opens < pause.closes
        ]
        length = sum(closes - opens for opens, closes in pieces)
        still = sum(closes - opens for (opens, closes), _ in within) / self._processes
        moving = max(length - still, length * _LEAST_MOVING)
        for (opens, closes), end in within:
            number = round(count * (closes - opens) / self._processes / moving)
            for k in range(number):
                yield round(end - opens - (closes - opens) * k / number) + middle


def _merged(pauses: Sequence[Still]) -> list[Still]:
    """Those of several processes, none within or across another."""
    merged: list[Still] = []
    for pause in pauses:
        if merged and pause.opens <= merged[-1].closes:
            merged[-1] = Still(merged[-1].opens, max(merged[-1].closes, pause.closes))
        else:
            merged.append(pause)
    return merged


def _excused(samples: Samples, pauses: Sequence[Still], ahead: int) -> dict[int, _Excused]:
    """By the row, where there is something."""
    if not pauses:
        return {}
    found: dict[int, _Excused] = {}
    ends = [pause.closes for pause in pauses]
    for row, (due, sent, done) in enumerate(
        zip(samples.intended, samples.sent, samples.done, strict=True)
    ):
        first = bisect_right(ends, min(due - ahead, sent))
        if first == len(pauses) or pauses[first].opens >= done:
            continue
        some = pauses[first : bisect_right(ends, done) + 1]
        late = _common(some, due - ahead, sent)
        found[row] = _Excused(late + _common(some, max(due, sent), done), _common(some, sent, done))
    return found


def _common(pauses: Iterable[Still], opens: int, closes: int) -> int:
    """How much of a stretch is in them."""
    return sum(max(0, min(pause.closes, closes) - max(pause.opens, opens)) for pause in pauses)
