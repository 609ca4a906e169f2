"""When each operation of an open loop is due. Pure arithmetic.

A pace numbers the operations of one process from 0 and knows the time of each; the processes of a
run take the operations of the whole in turn, so that together they keep the pace of one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, count, pairwise
from typing import Protocol

import msgspec

__all__ = ["Pace", "Pacing", "Profile", "Waves", "levels", "slopes"]

_SECOND = 1_000_000_000


class Pacing(Protocol):
    """What every pace can tell."""

    def intended(self, k: int) -> int:
        """The time (ns) at which operation ``k`` of this process must be sent."""

    def due(self, now: int) -> int:
        """How many operations are intended at ``now`` (ns) or before."""

    def times(self) -> Iterator[int]:
        """``intended`` of 0, 1, 2 and so on, without an end."""


class Pace(msgspec.Struct, frozen=True):
    """A constant total ``rate`` (operations a second) over ``processes``, of which this is one.

    Operation ``k`` of process ``index`` is number ``k * processes + index`` of the whole run.
    """

    start: int
    rate: float
    index: int = 0
    processes: int = 1

    def intended(self, k: int) -> int:
        """The time (ns) at which operation ``k`` must be sent."""
        return self.start + math.ceil((k * self.processes + self.index) * _SECOND / self.rate)

    def due(self, now: int) -> int:
        """How many operations are intended at ``now`` or before."""
        passed = (now - self.start) * self.rate / _SECOND
        return _corrected(self, now, int((passed - self.index) / self.processes) + 1)

    def times(self) -> Iterator[int]:
        """The same, one after the other, at a third of the cost."""
        start, rate, ceil = self.start, self.rate, math.ceil
        for number in count(self.index, self.processes):
            yield start + ceil(number * _SECOND / rate)


class Slope(msgspec.Struct, frozen=True):
    """From one total rate to another (operations a second), evenly over ``long`` seconds."""

    long: float
    first: float
    last: float

    def count(self, t: float) -> float:
        """Operations in the first ``t`` seconds."""
        return self.first * t + (self.last - self.first) / (2 * self.long) * t * t

    def time(self, count: float) -> float:
        """Seconds until so many operations: the positive root, without a difference of equals."""
        bend = (self.last - self.first) / self.long
        root = math.sqrt(max(0.0, self.first * self.first + 2 * bend * count))
        return 2 * count / (self.first + root) if count else 0.0


def slopes(rates: Sequence[float], duration_ns: int) -> tuple[Slope, ...]:
    """A ramp: the rates are its corners, at even distances."""
    long = duration_ns / _SECOND / (len(rates) - 1)
    return tuple(Slope(long, first, last) for first, last in pairwise(rates))


def levels(rates: Sequence[float], duration_ns: int) -> tuple[Slope, ...]:
    """Steps: each rate for as long as the others."""
    long = duration_ns / _SECOND / len(rates)
    return tuple(Slope(long, rate, rate) for rate in rates)


class Profile:
    """A total rate that changes, over ``processes`` of which this is one; nothing after its end."""

    def __init__(self, start: int, slopes: Sequence[Slope], index: int, processes: int) -> None:
        self._start = start
        self._slopes = slopes
        self._index = index
        self._processes = processes
        self._counts = [0.0, *accumulate(slope.count(slope.long) for slope in slopes)]
        self._times = [0.0, *accumulate(slope.long for slope in slopes)]

    def intended(self, k: int) -> int:
        """The time (ns) at which operation ``k`` must be sent; past the end, a second each."""
        number = k * self._processes + self._index
        at = bisect_right(self._counts, number) - 1
        more = number - self._counts[at]
        inside = at < len(self._slopes)
        passed = self._times[at] + (self._slopes[at].time(more) if inside else more + 1)
        return self._start + math.ceil(passed * _SECOND)

    def due(self, now: int) -> int:
        """How many operations are intended at ``now`` or before."""
        passed = min(max(0.0, (now - self._start) / _SECOND), self._times[-1])
        at = min(bisect_right(self._times, passed) - 1, len(self._slopes) - 1)
        counted = self._counts[at] + self._slopes[at].count(passed - self._times[at])
        return _corrected(self, now, int((counted - self._index) / self._processes) + 1)

    def times(self) -> Iterator[int]:
        """One after the other."""
        return map(self.intended, count())


class Waves(msgspec.Struct, frozen=True):
    """Each of ``lines`` twice, in waves of a fifth of the duration: from the start, and from three
    quarters on; what is left at the end is for those that are late.
    """

    start: int
    duration_ns: int
    lines: int

    def intended(self, k: int) -> int:
        """The time (ns) at which operation ``k`` must be sent; there is no third wave."""
        wave, line = divmod(k, self.lines)
        long = self.duration_ns // 5
        begins = (0, self.duration_ns * 3 // 4, self.duration_ns)[min(wave, 2)]
        return self.start + begins + long * line // self.lines

    def due(self, now: int) -> int:
        """How many operations are intended at ``now`` or before."""
        return bisect_right(range(2 * self.lines), now, key=self.intended)

    def times(self) -> Iterator[int]:
        """One after the other."""
        return map(self.intended, count())


def _corrected(pace: Pacing, now: int, guess: int) -> int:
    """What ``intended`` says, from a guess that is nearly right."""
    guess = max(0, guess)
    while guess and pace.intended(guess - 1) > now:
        guess -= 1
    while pace.intended(guess) <= now:
        guess += 1
    return guess
