"""What a check found, in words: how much was tried, and the simplest cases that failed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Failure", "NotSwappable", "Report"]


class Failure(NamedTuple):
    """A play that went wrong: on which loop, in which case, and how."""

    loop: str
    transcript: str
    case: str
    text: str

    def __str__(self) -> str:
        indented = "\n".join(f"  {line}" for line in self.text.splitlines())
        return f"{self.loop}, {self.transcript}: {self.case}\n{indented}"


@dataclass
class Report:
    """``plays`` by loop; ``cuts`` tried, of all those ``possible``; the simplest failure first."""

    subject: str
    plays: Counter[str] = field(default_factory=Counter)
    cuts: int = 0
    possible: int = 0
    explained: int = 0
    """Differences that the author's ``expect`` has explained."""
    unjudged: int = 0
    """Plays with several swaps within messages, of a version that takes packets for messages."""
    failures: list[Failure] = field(default_factory=list)

    def __str__(self) -> str:
        plays = ", ".join(f"{count} plays on {loop}" for loop, count in self.plays.items())
        some = "" if self.cuts == self.possible else f" of {self.possible} (raise limit= for more)"
        explained = f", {self.explained} differences explained" if self.explained else ""
        unjudged = f", {self.unjudged} plays not judged: packets matter" if self.unjudged else ""
        first = f"{self.subject}: {plays}; {self.cuts} cuts{some}{explained}{unjudged}"
        return "\n\n".join([first, *map(str, self.failures)])


class NotSwappable(AssertionError):
    """A client would notice the swap; ``report`` says where."""

    def __init__(self, report: Report) -> None:
        super().__init__(f"a client would notice a swap\n{report}")
        self.report = report
