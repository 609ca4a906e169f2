"""The shared counter: over all connections, the values are exactly 0 to N-1. No I/O.

Every connection asks one counter for its next value. No connection alone can tell whether a value
was given twice or never; all values of a run together can. A value that is nobody's may be that of
an operation whose outcome is unknown (its connection dropped, or its answer was lost): as many may
be missing, no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

__all__ = ["miscounted"]


def miscounted(values: Iterable[int], excused: int) -> Iterator[tuple[int, str]]:
    """What is wrong with the values, each once: the value and a sentence; a gap is one mistake,
    named by the first value of it that nothing excuses.
    """
    ordered = sorted(values)
    for before, value in pairwise([-1, *ordered]):
        if value < 0:
            yield value, "is below the first"
        elif value == before:
            yield value, "was given twice"
        absent = max(0, value - max(before, -1) - 1)
        if absent > excused:
            more = f" (and {absent - excused - 1:,} after it)" if absent - excused > 1 else ""
            yield value - absent + excused, f"was given to nobody{more}, and a later one was"
        excused = max(0, excused - absent)
