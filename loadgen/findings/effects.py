"""Until when an event is seen in what the server does to its connections. Pure arithmetic.

A command that tells a server to take new code may return long before the server has done so:
``kill -HUP`` ends at once, and connections are dropped seconds later. So the end of an event is not
the end of its command but of the last *trace* that it leaves. A trace is

- a connection that was dropped or refused, at its time; one that the server closed in order, too,
  unless it had closed some before the first event already, as after every thousand answers;
- a question that old code answered, at the time when it was sent, where the next one of the same
  connection was answered by another version. Who comes and goes has only one version; so the first
  questions of all connections, in their order, count as one more connection.

Traces are looked for from an event's start until the next event's start, and not longer than
``LOOKED_FOR`` after its end: a server may drop a connection now and then without any event.

What this does not know: effects on the latency alone that come later. For those ``--settle`` makes
all windows longer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise

from loadgen.findings.versions import changes
from loadgen.samples import UNVERSIONED, Samples

__all__ = ["LOOKED_FOR", "last_traces"]

LOOKED_FOR = 10_000_000_000


def last_traces(
    deeds: Sequence[tuple[int, int]], samples: Samples, gone: Iterable[int]
) -> list[int]:
    """When each event was over: its last trace, its own end where that is later (ns).

    ``deeds`` are starts and ends, ordered by start; ``gone`` are the times at which connections
    were dropped, refused or closed.
    """
    last = [closes for _, closes in deeds]
    starts = [opens for opens, _ in deeds]
    for at in chain(gone, _old_answers(samples)):
        number = bisect_right(starts, at) - 1
        if number >= 0 and at <= deeds[number][1] + LOOKED_FOR:
            last[number] = max(last[number], at)
    return last


def _old_answers(samples: Samples) -> Iterator[int]:
    """When the last question before each change of version was sent."""
    if len({*samples.version} - {UNVERSIONED}) < 2:
        return
    yield from (change.after for change in changes(samples))
    first: dict[int, tuple[int, int]] = {}
    for connection, version, sent in zip(
        samples.connection, samples.version, samples.sent, strict=True
    ):
        if version != UNVERSIONED:
            first.setdefault(connection, (sent, version))
    for (sent, version), (_, following) in pairwise(sorted(first.values())):
        if version != following:
            yield sent
