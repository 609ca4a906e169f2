"""What is tried with a transcript: which swaps at which cuts, what goes wrong in them.

In the order of how simple they are, so that the first failure is the one to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from itertools import pairwise, product
from typing import Final, NamedTuple

from netswap.testing.faults import FAULTS, Fault
from netswap.testing.subject import NEW, OLD, other
from netswap.testing.transcript import Cut, Do, Transcript, thin

__all__ = ["FAMILIES", "Case", "Move", "Scope", "cases_of", "cuts_of"]

BYSTANDER: Final = "bystander"
MOST_FAULTS: Final = 200
"""Plays with a fault; each fault is tried at some cuts, and the next one at others."""
FEWEST_CUTS: Final = 2
"""Cuts at which each fault is tried, however many faults there are."""
SLICES: Final = (0, 1)
"""After so many slices of a swap something happens in its middle, or before the first."""
LATER: Final = 3
"""So many steps after a swap that failed comes the next one."""


class Move(NamedTuple):
    """A swap to ``to`` at a cut; after ``meanwhile`` slices, if not None, the step is done.

    ``fault`` goes wrong in it; with ``back`` it is taken back in the end.
    """

    at: Cut
    to: str
    meanwhile: int | None = None
    fault: Fault | None = None
    back: bool = False


class Case(NamedTuple):
    """A play: the transcript, the version at the beginning, and the swaps in order."""

    title: str
    transcript: Transcript
    begins: str
    moves: tuple[Move, ...] = ()

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """Where the transcript is cut."""
        return tuple(dict.fromkeys(move.at for move in self.moves))

    def __str__(self) -> str:
        first = self.moves[0] if self.moves else None
        if first is None:
            return f"{self.title}, no swap"
        where = self.transcript.describe(first.at)
        others = len(self.cuts) - 1
        more = f" and {others} more places" if others > 1 else ""
        return f"{self.title} {where}{more}"


class Scope(NamedTuple):
    """How much is tried: ``limit`` cuts, and as many of the ``wire``, of the ``families``.

    With ``due`` some swaps last so many seconds. A swap concerns about ``objects`` objects.
    """

    limit: int
    wire: bool = False
    due: float = 0.0
    families: Container[str] = ()
    objects: int = 1


def cuts_of(transcript: Transcript, scope: Scope) -> list[Cut]:
    """Every cut, or ``limit`` of them, and as many of the wire."""
    wire = transcript.wire_cuts if scope.wire else []
    return thin(transcript.cuts, scope.limit) + thin(wire, scope.limit)


def cases_of(transcript: Transcript, scope: Scope) -> Iterator[Case]:
    """All cases of a transcript."""
    for name, family in FAMILIES.items():
        if name in scope.families:
            yield from family(transcript, scope)


def _swaps(transcript: Transcript, scope: Scope) -> Iterator[Case]:
    cuts = thin(transcript.cuts, scope.limit)
    yield from _one_swap(transcript, cuts)
    yield from _two_swaps(transcript, cuts)
    yield from _many_swaps("every boundary", transcript, transcript.boundaries)
    yield from _many_swaps("every cut", transcript, cuts)


def _wire(transcript: Transcript, scope: Scope) -> Iterator[Case]:
    """A swap inside of a record."""
    cuts = thin(transcript.wire_cuts, scope.limit) if scope.wire else []
    yield from _one_swap(transcript, cuts)
    if cuts:
        yield from _many_swaps("every cut of the wire", transcript, cuts)


def _one_swap(transcript: Transcript, cuts: list[Cut]) -> Iterator[Case]:
    for begins in (OLD, NEW):
        to = other(begins)
        for cut in cuts:
            yield Case(f"a swap from {begins} to {to}", transcript, begins, (Move(cut, to),))


def _two_swaps(transcript: Transcript, cuts: list[Cut]) -> Iterator[Case]:
    for cut in cuts:
        moves = (Move(cut, NEW), Move(cut, OLD))
        yield Case("a swap to new and at once back to old", transcript, OLD, moves)
    for here, there in pairwise(cuts):
        moves = (Move(here, NEW), Move(there, OLD))
        yield Case("a swap to new, and back at the next cut,", transcript, OLD, moves)


def _many_swaps(title: str, transcript: Transcript, cuts: list[Cut]) -> Iterator[Case]:
    for begins in (OLD, NEW):
        versions = (begins, other(begins))
        moves = tuple(Move(cut, versions[n % 2 - 1]) for n, cut in enumerate(cuts))
        yield Case(f"a swap to and fro at {title}, the first", transcript, begins, moves)


def _meanwhile(transcript: Transcript, _: Scope) -> Iterator[Case]:
    for begins in (OLD, NEW):
        for cut in transcript.boundaries[:-1]:
            for slices in SLICES:
                yield _interrupted(transcript, begins, cut, slices)
                yield _interrupted(transcript, begins, cut, slices, back=True)


def _interrupted(
    transcript: Transcript, begins: str, cut: Cut, slices: int, back: bool = False
) -> Case:
    ending = ", which is taken back," if back else ""
    title = f"a step in the middle of a swap from {begins}{ending} (after slice {slices})"
    return Case(title, transcript, begins, (Move(cut, other(begins), slices, back=back),))


def _due(transcript: Transcript, scope: Scope) -> Iterator[Case]:
    """Time passes in the middle of a swap, and timers are due."""
    for cut in thin(transcript.cuts, scope.limit) if scope.due else ():
        longer, here = transcript.pause(cut, scope.due)
        for begins, slices in product((OLD, NEW), SLICES):
            yield _interrupted(longer, begins, here, slices)


def _with_bystander(transcript: Transcript, scope: Scope) -> Iterator[Case]:
    """Another client is there, or comes, or goes in the middle of a swap."""
    limit = scope.limit
    come, go = (BYSTANDER, Do.CONNECT), (BYSTANDER, Do.CLOSE)
    two = transcript.insert(Cut(0), come)
    yield from _one_swap(two, thin(two.boundaries[1:], limit))
    for cut in thin(transcript.boundaries, limit):
        longer = transcript.insert(cut, come, go)
        for slices in SLICES:
            yield _interrupted(longer, OLD, cut, slices)
            yield _interrupted(longer, OLD, Cut(cut.step + 1), slices)
            yield _interrupted(longer, OLD, cut, slices, back=True)


def _faults(transcript: Transcript, scope: Scope) -> Iterator[Case]:
    """A swap in which something goes wrong, and then one in which nothing does."""
    cuts, last = thin(transcript.cuts, scope.limit), Cut(len(transcript.steps))
    faults = [Fault(name, nth) for nth in range(1, scope.objects + 1) for name in FAULTS]
    each = max(MOST_FAULTS // (2 * len(faults)), FEWEST_CUTS)
    stride = -(-len(cuts) // each)
    for number, (fault, begins) in enumerate(product(faults, (OLD, NEW))):
        for cut in cuts[number % stride :: stride]:
            later = Cut(cut.step + LATER)
            again = (Move(later, other(begins)),) if later <= last else ()
            move = Move(cut, other(begins), fault=fault)
            yield Case(f"a swap in which {fault},", transcript, begins, (move, *again))


FAMILIES: Final[dict[str, Callable[[Transcript, Scope], Iterator[Case]]]] = {
    "swaps": _swaps,
    "wire": _wire,
    "meanwhile": _meanwhile,
    "due": _due,
    "bystander": _with_bystander,
    "faults": _faults,
}
"""What is tried, by its name."""
