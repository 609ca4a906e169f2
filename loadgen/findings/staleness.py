"""Whether old code still answers after a push has said that it is done. Pure arithmetic.

Events cut the run into *gaps* in which none of them is under way. An answer belongs to a gap when
it was asked after the gap's beginning and was there before its end: then the version that it names
is one that the server had in this gap. A push is *settled* by the gap after it:

- versions that were not there in the gap before are what it brought;
- answers of versions from before it are *stale*: they were asked after its command had ended well.

So a push back to an older version is judged as one forward, and numbers of versions are not
compared. Nothing can be said of stale answers, which is None,

- of what is no push, or has failed: ``kill -HUP`` has ended before anything has happened;
- of a push beside which something else was under way that is none or has failed;
- when no version came that was not there before: it was the same again, or a part that answers do
  not show, or the server has done nothing at all;
- when no answer of the gap before it names a version.

What this does not know: a push that is meant for a part of the objects, or for one of several
servers behind one address, leaves old code where it is, and its answers count as stale all the
same. Therefore stale answers are told, and are a fault for who says so: ``--fail-on 'stale>0'``.

Of *any* event, a push or not, can be said for how long two versions answered *side by side*: from
the first answer of a version that it brought until the last question that an old version answered
was asked, within the time until the next event begins. Old versions are those that answered before
the event. When versions were still side by side at the next event, old for that one are those that
were asked after the last question to an old version of this one. New connections that get old code
count as old ones do. A command that returns at once does not tell when its work is done, so the
user says how long is too long: ``--fail-on 'overlap>3s'``. If we stood still when the first new
answer came, the time is too short by that pause; it is never too long.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import NamedTuple

from loadgen.samples import UNVERSIONED, Samples

__all__ = ["Settled", "settle"]


class Settled(NamedTuple):
    """Which versions answered between the last event and this one, which after it, how many answers
    of it were stale, and for how long both answered side by side (ns).
    """

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    stale: int | None = None
    overlap: int | None = None


class _Seen(NamedTuple):
    """When a version answered first, and when it was asked last (ns)."""

    first: int
    last: int


def settle(events: Sequence[tuple[int, int, bool]], samples: Samples, held: int) -> list[Settled]:
    """One for each event; each is its start and end (ns) and whether it promises new code from its
    end on, ordered by start. ``held``: how long before it was ``sent`` a question may have begun.
    """
    groups = _together(events)
    spans = [(group[0][0], max(closes for _, closes, _ in group)) for group in groups]
    gaps = _gaps(spans, samples, held)
    first, *seen = _seen([opens for opens, _ in spans], samples, held)
    overlaps = _overlaps({*first}, seen)
    settled: list[Settled] = []
    for group, before, after, overlap in zip(groups, gaps, gaps[1:], overlaps, strict=False):
        stale = _stale(before, after) if all(promised for _, _, promised in group) else None
        told = Settled(tuple(sorted(before)), tuple(sorted(after)), stale, overlap)
        # what is so after several at once is so after the last of them
        others = told._replace(stale=stale and 0, overlap=overlap and 0)
        settled += [others] * (len(group) - 1) + [told]
    return settled


def _together(events: Sequence[tuple[int, int, bool]]) -> list[list[tuple[int, int, bool]]]:
    """Those that are under way at one time, together."""
    groups: list[list[tuple[int, int, bool]]] = []
    until = -1
    for event in events:
        if groups and event[0] <= until:
            groups[-1].append(event)
        else:
            groups.append([event])
        until = max(until, event[1])
    return groups


def _gaps(spans: Sequence[tuple[int, int]], samples: Samples, held: int) -> list[Counter[int]]:
    """The answers of each version in each gap, one more than there are spans of events."""
    found = [Counter[int]() for _ in range(len(spans) + 1)]
    if not {*samples.version} - {UNVERSIONED}:
        return found
    opens, closes = [first for first, _ in spans], [last for _, last in spans]
    for version, sent, done in zip(samples.version, samples.sent, samples.done, strict=True):
        number = bisect_left(closes, sent - held)
        if version != UNVERSIONED and (number == len(opens) or done <= opens[number]):
            found[number][version] += 1
    return found


def _seen(opens: Sequence[int], samples: Samples, held: int) -> list[dict[int, _Seen]]:
    """Of each version when it answered first, and was asked last: until the first of these opens,
    then until the next one does. Nothing when there are not two versions.
    """
    found: list[dict[int, _Seen]] = [{} for _ in range(len(opens) + 1)]
    if len({*samples.version} - {UNVERSIONED}) < 2:
        return found
    for version, sent, done in zip(samples.version, samples.sent, samples.done, strict=True):
        if version != UNVERSIONED:
            seen = found[bisect_left(opens, done)]
            first, last = seen.get(version, (done, sent - held))
            seen[version] = _Seen(min(first, done), max(last, sent - held))
    return found


def _overlaps(before: Set[int], times: Iterable[dict[int, _Seen]]) -> Iterator[int | None]:
    """For how long what was there before each event was there beside what it brought."""
    for seen in times:
        brought = [seen[version].first for version in seen.keys() - before]
        last = max((seen[version].last for version in before & seen.keys()), default=0)
        known = bool(before and brought)
        yield max(0, last - min(brought)) if known else None
        settled = {version for version in seen if seen[version].last > last} if known else None
        before = settled or {*seen} or before


def _stale(before: Counter[int], after: Counter[int]) -> int | None:
    if not before or (after and after.keys() <= before.keys()):
        return None
    return sum(after[version] for version in before)
