"""What may not be of two versions at once, told before anything is touched.

A rolling swap changes objects slice by slice, and worker by worker. For that time old code calls
new code, and the other way round, where one of the changed kinds uses another, and where parts of
a clustered service ask each other. Their answers would be made by two versions together.

Where nothing suspends, and all objects of one worker take no longer than ``STROKE_US``, they are
changed in one *stroke*, within one callback of the loop, and nobody sees them in between. That
costs less than a gate: clients wait for the conversion alone. More objects than that would hold
the loop, with all that it serves beside them, for too long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from netswap.hotswap import Change
from netswap.stack import FACTORY, Implementation
from netswap.worker.likeness import Known, alike

__all__ = ["NOTHING", "STROKE_US", "Together", "callers", "fits_a_stroke", "together"]

STROKE_US = 25_000.0
"""The longest conversion of a worker's objects, as predicted, that may hold its loop: it is about
4,000 connections, and a gate holds a tenth of these for as long."""

Classes = Mapping[str, Iterable[type[Implementation[Any]]]]


class Together(NamedTuple):
    """The kinds whose parts in other workers ask each other, and which changed kinds do so in one
    worker, as sentences."""

    clustered: list[str]
    asking: list[str]


NOTHING = Together([], [])


def together(changes: Iterable[Change], classes: Classes) -> Together:
    """What of ``changes`` asks what; ``classes`` are those of all kinds, old and new.

    A class that is written as before asks as before, whatever else is in its file.
    """
    known: Known = {}
    rows = [r for r in changes if r.before is not None and not alike(r.before, r.new, known)]
    clustered = [row.kind for row in rows if _is_clustered(row)]
    changed = {row.kind for row in rows}
    return Together(
        clustered, [line for kind in sorted(changed) for line in _asks(kind, changed, classes)]
    )


def fits_a_stroke(changes: Iterable[Change], classes: Classes, predicted_us: float) -> bool:
    """Whether all objects can be changed within one callback of the loop."""
    kinds = (cls for row in changes for cls in (row.new, *classes.get(row.kind, ())))
    return predicted_us <= STROKE_US and not any(cls.may_suspend for cls in kinds)


def callers(changes: Iterable[Change], classes: Classes) -> frozenset[str] | None:
    """The kinds from whose objects a changed one may be called: what ``uses`` joins to it.

    Both ways, since a service may call back whoever has called it; a part belongs to one connection
    and joins no two. None for all: timers and the factory are called from everywhere.
    """
    changed = {row.kind for row in changes}
    if changed & {FACTORY, "timer.service"}:
        return None
    near: dict[str, set[str]] = {}
    for kind, of_kind in classes.items():
        for used in {used for cls in of_kind for used in cls.uses.values()}:
            if used in changed or all(cls.scope == "worker" for cls in classes.get(used, ())):
                near.setdefault(kind, set()).add(used)
                near.setdefault(used, set()).add(kind)
    found = list(changed)
    for at in found:
        found += near.get(at, set()).difference(found)
    return frozenset(found)


def _is_clustered(change: Change) -> bool:
    return any(getattr(cls, "clustered", False) for cls in (change.before, change.new))


def _asks(kind: str, changed: Iterable[str], classes: Classes) -> Iterable[str]:
    """Which other changed kinds one leads to."""
    ways = _reached(kind, classes)
    return [ways[other] for other in sorted(changed) if other != kind and other in ways]


def _reached(kind: str, classes: Classes) -> dict[str, str]:
    """Where a kind leads to, itself included, each with the way that was found first."""
    ways = {kind: ""}
    following = [kind]
    for at in following:
        uses = {used for cls in classes.get(at, ()) for used in cls.uses.values()}
        for used in sorted(uses - ways.keys()):
            ways[used] = f"{ways[at]}, which uses {used}" if ways[at] else f"{kind} uses {used}"
            following.append(used)
    return ways
