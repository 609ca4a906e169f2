"""What every conversation offers to the traffic."""

from __future__ import annotations

from abc import abstractmethod
from array import array
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from loadgen.continuity import Continuity, Operation, Tally
from loadgen.fanout import Member

__all__ = ["Conversation", "Opening"]


class Opening(msgspec.Struct, frozen=True):
    """What a conversation is told: its number, the bytes of payload, where to count.

    ``nonce`` sets the names of this run apart from those of another one on the same server.
    ``counted`` takes the values of a counter that all connections share, from 0; ``url`` is what
    http asks for. ``members`` takes what those of a room have heard of each other;
    ``rooms`` are the same by the number of the room; ``alone`` says that all
    connections of the run are of this process.
    """

    connection: int
    payload: int
    nonce: str
    tally: Tally
    counted: array[int] = msgspec.field(default_factory=lambda: array("q"))
    url: str = "/echo"
    members: list[Member] = msgspec.field(default_factory=list)
    rooms: dict[int, list[Member]] = msgspec.field(default_factory=dict)
    alone: bool = True


class Conversation(Protocol):
    """One connection's questions and answers, as bytes. Derive from it to write one's own."""

    __slots__ = ()

    continuity: Continuity

    def greeting(self) -> bytes:
        """The first words, when the connection is there; not an operation."""
        return b""

    def opened(self, say: Callable[[bytes], None]) -> None:
        """Take a way to answer at once what is no operation, a ping: ``say`` puts words between two
        requests, and none after the farewell.
        """
        return

    def ends(self, tell: Callable[[], None]) -> None:
        """Take a way to tell that the server has announced the end of the connection, and does
        nothing of what is open: that is asked again on another one.
        """
        return

    @abstractmethod
    def request(self, intended: int, sent: int) -> bytes:
        """Open the next operation and return its bytes."""

    @abstractmethod
    def receive(self, data: bytes) -> Sequence[Operation]:
        """Judge what came, cut anywhere; return the operations that it settled."""

    def expects(self) -> bool:
        """After the last words: whether something is still to come before the end."""
        return False

    def leftover(self) -> bytes:
        """What came last and is no whole answer: where nothing is owed, nobody asked for it."""
        return b""

    def farewell(self) -> bytes:
        """The last words once all is answered: leave nothing behind on the server."""
        return b""
