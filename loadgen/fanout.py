"""What members of a room must have heard of each other; judged when all are together. No I/O.

A hearer alone sees a gap in a sender's numbers when a later message comes. That the last ones are
missing, or all, only the sender's own ears tell: what it has heard of itself the room was told.
A message was due at a hearer

- when it lies between two that the hearer has heard of this sender, or
- when its sender heard it before the hearer began to leave (``until``): rooms keep their order, so
  what ends the hearer's connection comes after it. Of a sender that was never heard only the last
  message is judged, and only when it was sent after the hearer was surely in the room (``since``).

What its sender did not hear either is lost once, there. A line that came with a wrong checksum
tells no number for certain, so each stands for one message that is missing, which is not lost, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

__all__ = ["Heard", "Member", "is_waiting", "unheard"]


class Heard(msgspec.Struct):
    """The numbers of one sender: the next one, and which were passed over."""

    next: int
    missing: set[int] = msgspec.field(default_factory=set)


class Member(msgspec.Struct):
    """One connection of a room; times are ns on CLOCK_MONOTONIC.

    ``since`` is when it heard itself first, ``until`` when it began to leave; 0: never. ``sent``
    and ``done`` are those of the last message that it heard of itself. ``heard`` has itself, too.
    """

    connection: int
    room: int
    since: int = 0
    until: int = 0
    sent: int = 0
    done: int = 0
    spoiled: int = 0
    heard: dict[int, Heard] = {}


def is_waiting(hearer: Member, room: Iterable[Member]) -> bool:
    """Whether something that these have heard of themselves has not come to this hearer yet."""
    return next(_unheard(hearer, room), None) is not None


def unheard(members: Iterable[Member]) -> Iterator[tuple[int, int, str]]:
    """What is lost, each once: the hearer, the number of the message, and a sentence."""
    rooms: dict[int, list[Member]] = {}
    for member in members:
        rooms.setdefault(member.room, []).append(member)
    for room in rooms.values():
        for hearer in room:
            yield from _unheard(hearer, room)


def _unheard(hearer: Member, room: Iterable[Member]) -> Iterator[tuple[int, int, str]]:
    lost = (
        (hearer.connection, sequence, f"connection {sender.connection} said it, unheard")
        for sender in room
        if sender is not hearer and sender.connection in sender.heard
        for sequence in sorted(_lost(hearer, sender))
    )
    yield from islice(lost, hearer.spoiled, None)


def _lost(hearer: Member, sender: Member) -> set[int]:
    """The numbers of one sender that one hearer should have heard."""
    own, heard = sender.heard[sender.connection], hearer.heard.get(sender.connection)
    lost: set[int] = set() if heard is None else {*heard.missing}
    if sender.done <= hearer.until:
        if heard is not None:
            lost.update(range(heard.next, own.next))
        elif 0 < hearer.since < sender.sent:
            lost.add(own.next - 1)
    return lost - own.missing
