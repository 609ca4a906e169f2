"""What an agreement is told beside the workers' votes, and the terms that it has from the start."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Decision", "Lost", "Probation", "Stopped", "Untouched", "Written"]


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker died."""

    slot: int


@dataclass(frozen=True, slots=True)
class Untouched:
    """A worker that answers nobody has read no swap in time, so it serves what it served."""

    slot: int


@dataclass(frozen=True, slots=True)
class Decision:
    """An operator promotes what is on probation, or takes it back and says why."""

    promote: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Stopped:
    """An operator aborts it, whatever it waits for, and says why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Probation:
    """What a transaction has to stand: a ``canary`` first, a ``watch`` over all afterwards.

    An ``atomic`` one is held in all workers while they swap. ValueError with a canary. So is one
    that changes a clustered kind, or kinds that ask each other, if it is ``whole``: neither a part
    goes first or alone, nor was it to roll. A canary is ``chosen`` by a selector, or a share.
    """

    canary: bool = False
    watch: bool = False
    by_hand: bool = False
    atomic: bool = False
    whole: bool = False
    chosen: bool = False

    def __post_init__(self) -> None:
        if self.canary and self.atomic:
            raise ValueError("a canary serves beside the old code, which atomic rules out")


@dataclass(frozen=True, slots=True)
class Written:
    """The journal took the record that was asked for, or did not."""

    ok: bool = True
    reason: str = ""
