"""What clients do, step by step, and the places at which it can be cut.

A *cut* is a place between two steps, or between two bytes of one: there a swap may come. Over TLS
it may also come between two bytes of the wire: of the records in which a step is sealed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Final, NamedTuple

__all__ = [
    "Cut",
    "Do",
    "Step",
    "Transcript",
    "Wait",
    "halves",
    "sealed_size",
    "shorten",
    "thin",
]

RECORD: Final = 16_384
"""Bytes that a record of TLS holds at most."""
SEAL: Final = 22
"""Bytes that it has beside them, in TLS 1.3: its head, its type and its tag."""

CLIENT = "client"
"""Who does what is not said to be anyone else's."""


class Do(Enum):
    """What a client does beside sending bytes."""

    CONNECT = "connects"
    """A client whose first step is another one is there from the beginning."""
    END = "sends its end"
    CLOSE = "closes"
    STOP_READING = "stops reading"
    """From here on what is written to it stays in the transport, which has pauses at the first
    byte: the kernel's buffer is full and the limits of the transport's are zero."""
    READ_AGAIN = "reads again"


class Wait(NamedTuple):
    """So many seconds pass for everybody."""

    seconds: float


What = bytes | Do | Wait


class Step(NamedTuple):
    """One thing that one client does."""

    client: str
    what: What

    @property
    def size(self) -> int:
        """In how many pieces it can be cut: the number of bytes, or one."""
        return max(len(self.what), 1) if isinstance(self.what, bytes) else 1

    def __str__(self) -> str:
        if isinstance(self.what, Wait):
            return f"{self.what.seconds:g} s pass"
        did = self.what.value if isinstance(self.what, Do) else f"sends {shorten(self.what)}"
        return f"{self.client} {did}"


class Cut(NamedTuple):
    """Before byte ``byte`` of step ``step``, both counted from 0; byte 0 is a step's boundary.

    With ``wire`` it is a byte of the step's records.
    """

    step: int
    byte: int = 0
    wire: bool = False


@dataclass(frozen=True, init=False)
class Transcript:
    """What clients do: ``Transcript([b"hello\\n", Wait(5), Do.END])``.

    A step is bytes that are sent at once, a ``Wait`` or a ``Do``; ``("ann", b"...")`` is one of a
    client of that name. ``name`` is for people.
    """

    steps: tuple[Step, ...]
    name: str

    def __init__(self, steps: Iterable[What | tuple[str, What]], name: str = "") -> None:
        made = tuple(map(_step, steps))
        object.__setattr__(self, "steps", made)
        object.__setattr__(self, "name", name)

    @property
    def clients(self) -> list[str]:
        """Everybody who does something, in order of appearance."""
        names = (step.client for step in self.steps if not isinstance(step.what, Wait))
        return list(dict.fromkeys(names))

    @property
    def present(self) -> list[str]:
        """The clients that are connected before the first step."""
        first: dict[str, What] = {}
        for step in self.steps:
            if not isinstance(step.what, Wait):
                first.setdefault(step.client, step.what)
        return [name for name, what in first.items() if what is not Do.CONNECT]

    @property
    def boundaries(self) -> list[Cut]:
        """Before each step, and behind the last."""
        return [Cut(index) for index in range(len(self.steps) + 1)]

    @property
    def cuts(self) -> list[Cut]:
        """The boundaries, and behind every byte."""
        inside = [
            Cut(index, byte)
            for index, step in enumerate(self.steps)
            for byte in range(1, step.size)
        ]
        return sorted([*self.boundaries, *inside])

    @property
    def wire_cuts(self) -> list[Cut]:
        """Behind every byte of the records in which the steps are sealed."""
        return [
            Cut(index, byte, wire=True)
            for index, step in enumerate(self.steps)
            if isinstance(step.what, bytes)
            for byte in range(1, sealed_size(len(step.what)))
        ]

    def pause(self, at: Cut, seconds: float) -> tuple[Transcript, Cut]:
        """The same with a ``Wait`` at a cut, and the boundary before that."""
        wait = Step("", Wait(seconds))
        if not at.byte:
            return self.insert(at, wait), at
        client, what = self.steps[at.step]
        assert isinstance(what, bytes)
        parts = [Step(client, what[: at.byte]), wait, Step(client, what[at.byte :])]
        whole = [*self.steps[: at.step], *parts, *self.steps[at.step + 1 :]]
        return Transcript(whole, self.name), Cut(at.step + 1)

    def insert(self, at: Cut, *steps: Step | tuple[str, What]) -> Transcript:
        """The same with more steps before a boundary."""
        whole = [*self.steps[: at.step], *map(_step, steps), *self.steps[at.step :]]
        return Transcript(whole, self.name)

    def describe(self, cut: Cut) -> str:
        """The place of a cut, for people, who count from 1."""
        count = len(self.steps)
        if cut.step == count:
            return f"behind the last of {count} steps"
        step = self.steps[cut.step]
        place = f"step {cut.step + 1} of {count}"
        if not cut.byte:
            return f"before {place} ({step})"
        assert isinstance(step.what, bytes)
        if cut.wire:
            size = sealed_size(len(step.what))
            return f"behind byte {cut.byte} of the {size} on the wire of {place} ({step})"
        before, after = shorten(step.what[: cut.byte], -12), shorten(step.what[cut.byte :], 12)
        return f"behind byte {cut.byte} of {place} ({before} | {after})"


def _step(given: What | tuple[str, What]) -> Step:
    if isinstance(given, Step):
        return given
    if isinstance(given, (bytes, Do, Wait)):
        return Step(CLIENT, given)
    if isinstance(given, tuple) and len(given) == 2:  # type: ignore[redundant-expr]  # callers
        return Step(str(given[0]), given[1])
    raise TypeError(f"a step is bytes, Wait, Do or (client, one of them), not {given!r}")


def halves(data: bytes) -> list[bytes]:
    """The two records in which a step goes over a wire that is cut."""
    middle = len(data) // 2
    return [half for half in (data[:middle], data[middle:]) if half]


def sealed_size(size: int) -> int:
    """How many bytes a step of so many has on the wire, in ``halves``."""
    parts = [size // 2, size - size // 2]
    return size + SEAL * sum(-(-part // RECORD) for part in parts)


def thin(cuts: list[Cut], most: int) -> list[Cut]:
    """At most ``most`` of them, evenly spread, but every boundary that fits."""
    if len(cuts) <= most:
        return cuts
    boundaries = [cut for cut in cuts if not cut.byte]
    inside = [cut for cut in cuts if cut.byte]
    room = max(most - len(boundaries), 0)
    return sorted([*_spread(boundaries, most - room), *_spread(inside, room)])


def _spread(cuts: list[Cut], count: int) -> list[Cut]:
    return [cuts[index * len(cuts) // count] for index in range(min(count, len(cuts)))]


def shorten(data: bytes, most: int = 60) -> str:
    """Bytes as text of bounded length; a negative bound keeps the end."""
    keep = abs(most)
    if len(data) <= keep:
        return repr(data)
    shown = data[-keep:] if most < 0 else bytes(islice(data, keep))
    return f"...{shown!r}" if most < 0 else f"{shown!r}... ({len(data)} bytes)"
