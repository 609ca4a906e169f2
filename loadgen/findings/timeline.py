"""A run by time, in buckets, for whoever draws it. Pure arithmetic.

A bucket tells the least, the most and percentiles of all that is in it, so that however wide it is
no spike is lost: nothing is thinned. Latencies stand where their operation was *due*, which shows a
stall as the slope that its victims saw; answers, versions and the rate stand where they *came*.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from loadgen.conductor import Observation
from loadgen.continuity import Tally
from loadgen.samples import UNVERSIONED

__all__ = ["Buckets", "Facts", "curve", "fill", "gather", "nice_width", "whole_run"]

_SECOND = 1_000_000_000
_MOST = 300  # buckets of a run: about as many as a screen shows apart
_FULL = 50  # operations that a bucket has on the average, so that its percentiles mean something,
_LEAST = 50  # unless that makes fewer buckets
_STEPS = (1, 2, 5)
_POINTS_A_DECADE = 12


class Change(NamedTuple):
    """A connection is answered by another version than before: None before its first answer, and
    after it has gone. ``came`` is the time of its first answer.
    """

    at: int
    before: int | None
    after: int | None
    came: int


class Facts(msgspec.Struct, frozen=True):
    """What is put into buckets, in order of time (ns): made by ``gather``.

    ``due`` and ``latency`` belong together, an operation a row; ``done`` are the times of answers,
    ``versions`` the same apart by the version that an answer told; ``changes`` are those of
    connections, ``faults`` the times at which something went wrong, by what it was; ``closed``
    those at which the server closed a connection in order, put in by who knows them.
    """

    due: array[int]
    latency: array[int]
    done: array[int]
    versions: dict[int, array[int]]
    changes: list[Change]
    faults: dict[str, array[int]]
    closed: array[int] = msgspec.field(default_factory=lambda: array("q"))


class Buckets(msgspec.Struct, frozen=True):
    """A stretch of a run in columns, one value a bucket; bucket ``k`` begins ``k`` widths later.

    ``begin_s`` is in seconds of the run. Latencies are in microseconds, None where no operation was
    due. ``by_version`` has the answers of each version that was seen, ``connections`` how many were
    answered by it last, of those that are there when the bucket ends and those that came and went
    within it; ``kinds`` are the faults of each kind that there were; ``closed`` how many
    connections the server closed in order.
    """

    begin_s: float
    width_s: float
    answered: list[int]
    min_us: list[float | None]
    p50_us: list[float | None]
    p99_us: list[float | None]
    max_us: list[float | None]
    faults: list[int]
    by_version: dict[str, list[int]]
    connections: dict[str, list[int]]
    kinds: dict[str, list[int]] = {}
    closed: list[int] = []


def nice_width(span: int, operations: int | None = None, most: int = _MOST) -> int:
    """A width (ns) of 1, 2 or 5 times a power of ten, not under 1 ms.

    It makes at most ``most`` buckets of ``span`` ns; when their number is given, each has some
    operations on the average, where there are enough for that.
    """
    full = 0.0 if operations is None else span / max(_LEAST, operations / _FULL)
    least = max(span / most, full, 1_000_000)
    power = 10 ** math.floor(math.log10(least))
    return next(int(step * power) for step in (*_STEPS, 10) if step * power >= least)


def gather(
    intended: Sequence[int],
    done: Sequence[int],
    versions: Sequence[int] = (),
    faults: Iterable[tuple[int, str]] = (),
    connections: Sequence[int] = (),
    left: Sequence[int] = (),
) -> Facts:
    """Rows of answered operations, put in order once; versions and connections may be untold.

    ``faults`` are times and what went wrong; ``left`` are pairs of a connection and when it left.
    """
    rows = sorted(zip(intended, done, strict=True))
    apart: dict[int, list[int]] = {}
    for version, at in zip(versions, done, strict=True) if versions else ():
        apart.setdefault(version, []).append(at)
    return Facts(
        due=array("q", (due for due, _ in rows)),
        latency=array("q", (at - due for due, at in rows)),
        done=array("q", sorted(done)),
        versions={version: array("q", sorted(apart[version])) for version in sorted(apart)},
        changes=sorted(_changes(done, versions, connections, left), key=_when),
        faults=_apart(faults),
    )


def _apart(faults: Iterable[tuple[int, str]]) -> dict[str, array[int]]:
    apart: dict[str, array[int]] = {}
    for at, what in sorted(faults):
        apart.setdefault(what, array("q")).append(at)
    return dict(sorted(apart.items()))


def fill(facts: Facts, start: int, begin: int, end: int, width: int) -> Buckets:
    """All of ``facts`` from ``begin`` to ``end`` (ns; ``start`` is when the run began)."""
    edges = [*range(begin, max(end, begin + 1), width), end]
    due = _cut(facts.due, edges)
    ordered = [sorted(facts.latency[a:b]) for a, b in pairwise(due)]
    kinds = {what: _counts(at, edges) for what, at in facts.faults.items()}
    return Buckets(
        begin_s=(begin - start) / _SECOND,
        width_s=width / _SECOND,
        answered=_counts(facts.done, edges),
        min_us=[_rank(bucket, 0.0) for bucket in ordered],
        p50_us=[_rank(bucket, 0.5) for bucket in ordered],
        p99_us=[_rank(bucket, 0.99) for bucket in ordered],
        max_us=[_rank(bucket, 1.0) for bucket in ordered],
        faults=[sum(each) for each in zip(*kinds.values(), strict=True)] or [0] * len(ordered),
        by_version={str(number): _counts(at, edges) for number, at in facts.versions.items()},
        connections=_holding(facts, edges),
        kinds={what: counts for what, counts in kinds.items() if any(counts)},
        closed=_counts(facts.closed, edges),
    )


def whole_run(seen: Observation, tally: Tally) -> tuple[Facts, Buckets]:
    """The facts of a run, and its line from the start to the end, or to the last late answer.

    The tally has the times of all faults, those that were found afterwards, too.
    """
    samples, start = seen.samples, seen.start or 0
    told = samples.version if set(samples.version) - {UNVERSIONED} else ()
    facts = gather(
        samples.intended, samples.done, told, tally.timed(), samples.connection, seen.left
    )
    facts = msgspec.structs.replace(facts, closed=array("q", sorted(tally.closed_times)))
    width = nice_width(seen.plan.duration_ns, len(facts.due))
    last = max([start + seen.plan.duration_ns, *(at + 1 for at in facts.done[-1:])])
    end = start + -(-(last - start) // width) * width  # whole buckets, the grace's too
    return facts, fill(facts, start, start, end, width)


def curve(durations_ns: Iterable[int]) -> list[tuple[float, float]]:
    """Shares and the microseconds that they were within, denser towards the end: 0 to 1 - 1/n.

    Each is a measured time, by nearest rank; the last is that of the slowest.
    """
    ordered = sorted(durations_ns)
    if not ordered:
        return []
    decades = math.log10(len(ordered))
    steps = range(math.floor(decades * _POINTS_A_DECADE) + 1)
    shares = [1 - 10 ** (-step / _POINTS_A_DECADE) for step in steps] + [1 - 1 / len(ordered)]
    points = [(share, _rank(ordered, share) or 0.0) for share in shares[:-1]]
    return [*points, (shares[-1], round(ordered[-1] / 1000, 1))]


def _rank(ordered: Sequence[int], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[max(0, math.ceil(len(ordered) * share) - 1)] / 1000, 1)


def _changes(
    done: Sequence[int],
    versions: Sequence[int],
    connections: Sequence[int],
    left: Sequence[int],
) -> Iterator[Change]:
    """Rows of one connection stand in the order in which they were answered; then it leaves."""
    last: dict[int, int] = {}
    came: dict[int, int] = {}
    if not versions or not connections:
        return
    for at, version, connection in zip(done, versions, connections, strict=True):
        before = last.get(connection)
        if version != before:
            last[connection] = version
            yield Change(at, before, version, came.setdefault(connection, at))
    for connection, at in zip(left[::2], left[1::2], strict=True):
        if connection in last:
            yield Change(at, last.pop(connection), None, came[connection])


def _when(change: Change) -> int:
    return change.at


def _holding(facts: Facts, edges: Sequence[int]) -> dict[str, list[int]]:
    """How many connections each version has in each bucket."""
    held = dict.fromkeys(facts.versions, 0)
    columns: dict[str, list[int]] = {str(version): [] for version in held}
    number = 0
    for begin, end in pairwise(edges) if facts.changes else ():
        visits = dict.fromkeys(held, 0)
        while number < len(facts.changes) and facts.changes[number].at < end:
            _count_change(facts.changes[number], held, visits, begin)
            number += 1
        for version, count in held.items():
            columns[str(version)].append(count + visits[version])
    return columns if facts.changes else {}


def _count_change(change: Change, held: dict[int, int], visits: dict[int, int], begin: int) -> None:
    """Who leaves in the bucket (from ``begin``) in which he came was a visit."""
    if change.after is not None:
        held[change.after] += 1
    if change.before is not None:
        held[change.before] -= 1
        if change.after is None and change.came >= begin:
            visits[change.before] += 1


def _cut(times: array[int], edges: Sequence[int]) -> list[int]:
    return [bisect_left(times, edge) for edge in edges]


def _counts(times: array[int], edges: Sequence[int]) -> list[int]:
    return [b - a for a, b in pairwise(_cut(times, edges))]
