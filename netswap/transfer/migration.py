"""A migration: one pure step between neighbouring versions of a kind's state.

A step takes a plain dict of field values and returns one. It must not change what it was given
(the old object serves on if the swap fails) and must not look at anything else. A migration is
one half of a pair: up, and down again for the way back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

__all__ = ["Migration", "Step", "migration"]

Step = Callable[[dict[str, Any]], dict[str, Any]]
F = TypeVar("F", bound=Step)


class Migration(NamedTuple):
    """``step`` turns fields of version ``source`` of ``kind`` into those of ``target``.

    ``lossy`` names the fields whose content it gives up; such a step is refused unless asked for.
    ``derived`` names those that it gives up because they can be made again from the others: they
    need not come back as they were.
    """

    kind: str
    source: int
    target: int
    step: Step
    lossy: tuple[str, ...]
    line: int
    derived: tuple[str, ...] = ()


def migration(
    kind: str, source: int, target: int, lossy: Iterable[str] = (), derived: Iterable[str] = ()
) -> Callable[[F], F]:
    """Declare the step from version ``source`` to ``target`` of a kind's state.

    ``lossy`` and ``derived`` name fields of ``source`` whose values the way back does not restore:
    the first are lost, the second are a cache or a hint that is made again from the rest.
    The step is noted in its own module, so two steps may share a function name.
    Raises TypeError when the versions are not neighbours: longer ways are found, not written.
    """
    if abs(source - target) != 1:
        raise TypeError(
            f"a migration of {kind} goes one version up or down, not from {source} to {target}; "
            "write the single steps, the path is found"
        )

    def declare(step: F) -> F:
        line = step.__code__.co_firstlineno
        row = Migration(kind, source, target, step, tuple(lossy), line, tuple(derived))
        step.__globals__.setdefault("__netswap_migrations__", []).append(row)
        return step

    return declare
