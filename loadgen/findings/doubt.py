"""By how much our own pauses may have changed what was measured. Pure arithmetic.

While a load process stands still it asks nothing and hears nothing. That falsifies in two ways.

- *Measured too long.* An answer that came in a pause is read after it, and what was due in it is
  sent after it. So the server took at least what is left of each operation without the pauses that
  it was open in. What a closed loop would have asked in them may have been as quick as the quickest
  of those, and is added so: without it, the slow ones would be too large a share. The percentiles
  of that are ``least``, or the measured ones where those are lower.
- *Not measured.* A closed loop asks nothing in a pause, so it does not see a server that is slow
  then. So the operations that it would have asked are added: as many as in the same time
  without a pause, each open until the pause was over, and then for the median latency. None can
  have taken longer unseen, since what was asked after the pause was measured. The percentiles with
  these are ``most``, or the measured ones where those are higher. An open loop asks all of it
  late, and counts its latency from when it was due, so nothing is added there, except to the time
  from the send.

Both are on the safe side: a pause counts for as long as it may have been. A pause of one process
is taken from what its own connections have measured. A limit that ``most`` keeps is kept, one that
``least`` misses is missed, and of one between them nothing is proved.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import msgspec

from loadgen.findings.omission import corrected
from loadgen.samples import Samples
from loadgen.spread import Spread, spread

__all__ = ["Doubt", "OwnPauses", "Still"]

_LEAST_MOVING = 0.1  # of a stretch, at least, is taken to tell how much is asked in it


class Still(NamedTuple):
    """From when to when a process may have stood still, or another stretch of time (ns)."""

    opens: int
    closes: int


class Doubt(msgspec.Struct, frozen=True):
    """``least``: the spread without our own pauses; ``most``: with what they may have hidden."""

    least: Spread
    most: Spread


class OwnPauses:
    """The pauses of each load process, in their order, beside the operations of the run.
    ``asks_on``: whether what was due in a pause is asked after it, with a latency that counts from
    when it was due (an open loop); ``ahead``: how long before it is due an operation is sent (ns);
    ``interval``: that of a closed loop, which ``omission`` expects (ns).
    """

    def __init__(
        self, samples: Samples, pauses: Iterable[Iterable[tuple[int, int]]], *,
        asks_on: bool = True, ahead: int = 0, interval: int = 0,
    ) -> None:  # fmt: skip
        self._samples = samples
        each = [[Still(*pause) for pause in own] for own in pauses]
        self._pauses = [pause for own in each for pause in own]
        self._processes = len(each)
        self._asks_on = asks_on
        self._ahead = ahead
        self._interval = interval
        self._stood = [_Stood(own) for own in each]

    def latency(self, rows: Sequence[int], pieces: Sequence[tuple[int, int]]) -> Doubt | None:
        """Of the operations in these rows, all that were asked in these pieces of time (ns); None:
        there is no doubt.
        """
        return self._of_latency(rows, pieces, 0)

    def corrected(self, rows: Sequence[int], pieces: Sequence[tuple[int, int]]) -> Doubt | None:
        """The same with what a closed loop leaves out."""
        return self._of_latency(rows, pieces, self._interval)

    def _of_latency(
        self, rows: Sequence[int], pieces: Sequence[tuple[int, int]], interval: int
    ) -> Doubt | None:
        if not self._pauses:
            return None
        done, due = self._samples.done, self._samples.intended
        took = [done[row] - due[row] for row in rows]
        excused = map(self._excused_of_latency, rows)
        return self._doubt(took, excused, [] if self._asks_on else pieces, interval)

    def service(self, rows: Sequence[int], pieces: Sequence[tuple[int, int]]) -> Doubt | None:
        """The same of the time from the send."""
        if not self._pauses:
            return None
        done, sent = self._samples.done, self._samples.sent
        took = [done[row] - sent[row] for row in rows]
        excused = (self._carrier(row).within(sent[row], done[row]) for row in rows)
        return self._doubt(took, excused, pieces)

    def _excused_of_latency(self, row: int) -> int:
        """How much of it was in pauses (ns): until it was sent, and while it was open."""
        due, sent, done = (column[row] for column in self._samples[:3])
        stood = self._carrier(row)
        return stood.within(due - self._ahead, sent) + stood.within(max(due, sent), done)

    def _carrier(self, row: int) -> _Stood:
        """The process that asked it: see ``Plan.share``."""
        return self._stood[self._samples.connection[row] % self._processes]

    def _doubt(
        self, took: list[int], excused: Iterable[int], pieces: Sequence[tuple[int, int]],
        interval: int = 0,
    ) -> Doubt:  # fmt: skip
        lesser = [one - other for one, other in zip(took, excused, strict=True)]
        middle = sorted(took)[len(took) // 2] if took else 0
        unasked = [*self._unasked(len(took), pieces, middle)]
        quick = [min(lesser, default=0)] * len(unasked)
        measured = [*corrected(took, interval)]
        least = spread([*corrected(lesser, interval), *quick])
        most = spread([*measured, *unasked])
        return Doubt(_lower(spread(measured), least), _higher(spread(measured), most))

    def _unasked(self, count: int, pieces: Sequence[tuple[int, int]], middle: int) -> Iterator[int]:
        """How long each that was not asked in these pieces may have taken (ns); ``count`` were."""
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


class _Stood:
    """For how long a process stood still until any time, so that what a backlog of operations met
    in thousands of pauses is two look-ups each.
    """

    def __init__(self, pauses: Sequence[Still]) -> None:
        self._opens = [pause.opens for pause in pauses]
        self._closes = [pause.closes for pause in pauses]
        self._before = [0, *accumulate(closes - opens for opens, closes in pauses)]

    def within(self, opens: int, closes: int) -> int:
        """How much of this stretch (ns); nothing when it ends before it begins."""
        first, last = bisect_right(self._closes, opens), bisect_left(self._opens, closes)
        if first >= last or opens >= closes:
            return 0
        whole = self._before[last] - self._before[first]
        outside = max(0, opens - self._opens[first]) + max(0, self._closes[last - 1] - closes)
        return whole - outside


def _lower(one: Spread, other: Spread) -> Spread:
    """By percentile. What hid in our pauses counts no more, which makes the rest a larger share."""
    return {name: min((one[name], other[name]), key=lambda each: each or 0.0) for name in one}


def _higher(one: Spread, other: Spread) -> Spread:
    """By percentile. Many short operations that are added lower a percentile, which would excuse
    the slow ones that were measured.
    """
    return {name: max((one[name], other[name]), key=lambda each: each or 0.0) for name in one}
