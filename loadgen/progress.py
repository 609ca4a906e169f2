"""What is told while a run goes on: figures of the last second, of a sample where there are many.

The figures after the run are exact, these are for the eye. What they cost is paid by the load
processes only when somebody watches: some fifty nanoseconds an operation, some of them at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from loadgen.events import EventRecord
from loadgen.messages import Progress
from loadgen.plan import Event
from loadgen.samples import Rows
from loadgen.spread import Spread, spread

__all__ = ["Moment", "OnProgress", "Recent", "merge_progress"]

_KEPT_A_SLICE = 25
_SECOND = 1_000_000_000


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A second of a run, and all until now. Times are seconds of the run.

    ``rate`` is answers a second, ``latency`` from the intended time, ``lately`` the answers of each
    version, all of the last second; ``by_version`` are those until now; ``told`` is when the
    processes said so (ns, CLOCK_MONOTONIC). ``happened`` are the events that have ended,
    ``happening`` those that have begun.
    """

    seconds: float
    duration_s: float
    answered: int
    faults: int
    rate: float = 0.0
    latency: Spread = {}
    by_version: dict[int, int] = {}
    happened: tuple[EventRecord, ...] = ()
    happening: tuple[Event, ...] = ()
    lately: dict[int, int] = {}
    told: int = 0


OnProgress = Callable[[Moment], None]
"""Called once a second."""


class Recent:
    """The latencies of a load process since it told them last."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._seen = 0
        self._sample: list[int] = []
        self._worst = 0

    def take(self) -> None:
        """Look at what has come since; called often, so that it never takes long."""
        first, self._seen = self._seen, len(self._rows)
        if first == self._seen:
            return
        latencies = self._rows.latencies(first)
        self._worst = max(self._worst, *latencies)
        every = -(-len(latencies) // _KEPT_A_SLICE)
        self._sample += latencies[::every]

    def hand_over(self) -> tuple[list[int], int]:
        """A sample of the latencies (ns), and the worst of all; then it is empty."""
        told = self._sample, self._worst
        self._sample, self._worst = [], 0
        return told


def merge_progress(told: Sequence[Progress], seconds: float, before: Moment) -> Moment:
    """What all processes have told, since ``before``.

    They tell once a second by their own clocks: when none has, what was last told stands.
    """
    at = max((each.at for each in told), default=0)
    if at <= before.told and before.told:
        return msgspec.structs.replace(before, seconds=seconds)
    by_version = _added(each.by_version for each in told)
    answered = sum(each.answered for each in told)
    passed = (at - before.told) / _SECOND if before.told else seconds
    return Moment(
        seconds=seconds,
        duration_s=before.duration_s,
        answered=answered,
        faults=sum(each.faults for each in told),
        rate=max(0.0, (answered - before.answered) / passed) if passed > 0 else 0.0,
        latency=_latency(told),
        by_version=by_version,
        lately={v: n - before.by_version.get(v, 0) for v, n in by_version.items()},
        told=at,
    )


def _latency(told: Sequence[Progress]) -> Spread:
    """Of the samples; the worst is of all."""
    latency = spread(each for progress in told for each in progress.latencies)
    worst = max((progress.worst for progress in told), default=0)
    return {**latency, "max": round(worst / 1000, 1)} if worst else latency


def _added(counts: Iterable[dict[int, int]]) -> dict[int, int]:
    total: dict[int, int] = {}
    for each in counts:
        for version, count in each.items():
            total[version] = total.get(version, 0) + count
    return dict(sorted(total.items()))
