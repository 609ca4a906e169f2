"""What a client may have seen of a play with swaps, given what each version would have shown it.

Each version alone has answered the same transcript: what it answered to step *i* is cut into
*replies* by the author's ``replies`` (all of it is one, if there is none). In a play with swaps
the versions take turns: before the first swap the one that was there at the beginning, then the
next. A step that is over before a swap is answered by the version before it, word for word; one
that begins after it by the version after it; and in a step in which a swap falls, reply *j* is
reply *j* of one of them, and never of an earlier one again once a later one has answered. So
nothing is lost, doubled, reordered or made by two versions together, and where both versions
answer alike nothing may differ at all.

A client that does not read gets at once, later, what was written before: its answers of that time
may be of any version since it stopped.

What only the author can know (that a history is shorter because it began at the swap) is for
``expect``, which is asked about each difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from netswap.testing.transcript import shorten

__all__ = ["Difference", "Replies", "Seen", "Turn", "explain", "whole"]

Replies = Callable[[bytes], Sequence[bytes]]


def whole(data: bytes) -> list[bytes]:
    """All that is answered to a step is one reply."""
    return [data] if data else []


class Seen:
    """What the clients of one play saw, step by step; the last row is for after the last step."""

    def __init__(self, steps: int) -> None:
        self.heard: dict[str, list[bytes]] = {}
        self.ended: dict[str, tuple[int, str]] = {}
        self.errors: list[str] = []
        self.problems: list[str] = []
        self.blurred: int | None = None
        """The row from which on answers came earlier: time passed while a swap waited."""
        self._steps = steps

    def note(self, client: str, step: int, data: bytes) -> None:
        """A client has got something."""
        row = self.heard.setdefault(client, [b""] * (self._steps + 1))
        row[step] += data

    def since(self, client: str, step: int) -> tuple[bytes, str]:
        """The same from a step on, all together."""
        found = [self.of(client, later) for later in range(step, self._steps + 1)]
        return b"".join(data for data, _ in found), "".join(end for _, end in found)

    def of(self, client: str, step: int) -> tuple[bytes, str]:
        """What a client got in a step, and how its connection ended there, if it did."""
        row = self.heard.get(client)
        when, how = self.ended.get(client, (-1, ""))
        return (row[step] if row is not None else b""), (how if when == step else "")


class Turn(NamedTuple):
    """Who may answer in a step: the stages from ``first`` to ``last`` of the play."""

    first: int
    last: int


class Difference(NamedTuple):
    """Where a client saw what it should not have; ``step`` counts from 0; -1 is the connecting.

    ``old`` and ``new`` are what the versions alone answer to that step.
    """

    client: str
    step: int
    sent: str
    got: bytes
    old: bytes
    new: bytes
    got_end: str = ""
    old_end: str = ""
    new_end: str = ""

    def __str__(self) -> str:
        rows = [("old alone", self.old, self.old_end), ("new alone", self.new, self.new_end)]
        if rows[0][1:] == rows[1][1:]:
            rows = [("expected", self.old, self.old_end)]
        rows.append(("got", self.got, self.got_end))
        when = f"in step {self.step + 1} ({self.sent})" if self.step >= 0 else self.sent
        lines = [f"{self.client}, {when}:"]
        lines += [f"  {name:<9} {_shown(data, end, self._near)}" for name, data, end in rows]
        return "\n".join(lines)

    @property
    def _near(self) -> int:
        """The first byte at which what was got is neither version's."""
        return max(_common(self.got, self.old), _common(self.got, self.new))


def _common(one: bytes, two: bytes) -> int:
    pairs = zip(one, two, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(two)))


def _shown(data: bytes, end: str, near: int) -> str:
    ending = f", then it was {end}" if end else ""
    if not data:
        return f"nothing{ending}"
    start = near - 20 if near > 40 else 0
    before = f"({start} bytes) ..." if start else ""
    return f"{before}{shorten(data[start:])}{ending}"


Row = Sequence[tuple[list[bytes], str]]
"""A client's replies and the end of its connection, for each step."""


def explain(
    got: Seen,
    alone: Mapping[str, Seen],
    stages: Sequence[str],
    turns: Mapping[str, Sequence[Turn]],
    replies: Replies,
) -> Iterator[tuple[str, int]]:
    """Each client and step that can't be explained; after one, anything may have been reached.

    ``stages`` are the versions in the order in which they served, ``turns`` who may have answered
    each client's steps.
    """
    for client, given in turns.items():
        bounds = _joined_turns(given, got.blurred)
        rows = [
            _row(alone[version], client, len(given), replies, got.blurred) for version in stages
        ]
        mine = _row(got, client, len(given), replies, got.blurred)
        at: set[int] = {0}
        for step, turn in enumerate(bounds):
            at = set(_follow(mine[step], [row[step] for row in rows], at, turn))
            if not at:
                yield client, step
                at = set(range(turn.first, turn.last + 1))


def _row(seen: Seen, client: str, steps: int, replies: Replies, blurred: int | None) -> Row:
    """The answers to each step, from ``blurred`` on as if they were all to one."""
    found = [seen.of(client, step) for step in range(steps)[:blurred]]
    if blurred is not None:
        found.append(seen.since(client, blurred))
    return [(list(replies(data)) if data else [], end) for data, end in found]


def _joined_turns(turns: Sequence[Turn], blurred: int | None) -> Sequence[Turn]:
    if blurred is None:
        return turns
    return [*turns[:blurred], Turn(turns[blurred].first, turns[-1].last)]


def _follow(
    mine: tuple[list[bytes], str],
    theirs: Sequence[tuple[list[bytes], str]],
    at: set[int],
    turn: Turn,
) -> Iterator[int]:
    """The stages that may have been reached at the end of a step."""
    heard, end = mine
    reached = {max(stage, turn.first) for stage in at}
    for index, reply in enumerate(heard):
        reached = {
            later
            for stage in reached
            for later in range(stage, turn.last + 1)
            if index < len(theirs[later][0]) and theirs[later][0][index] == reply
        }
    for stage in reached:
        for later in range(stage, turn.last + 1):
            if (len(heard), end) == (len(theirs[later][0]), theirs[later][1]):
                yield later
