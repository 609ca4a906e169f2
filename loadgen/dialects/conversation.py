"""What every conversation offers to the traffic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from loadgen.continuity import Continuity, Operation, Tally

__all__ = ["Conversation", "Opening"]


class Opening(msgspec.Struct, frozen=True):
    """What a conversation is told: its number, the bytes of payload, where to count.

    ``nonce`` sets the names of this run apart from those of another one on the same server.
    """

    connection: int
    payload: int
    nonce: str
    tally: Tally


class Conversation(Protocol):
    """One connection's questions and answers, as bytes."""

    continuity: Continuity

    def request(self, intended: int, sent: int) -> bytes:
        """Open the next operation and return its bytes."""

    def receive(self, data: bytes) -> Sequence[Operation]:
        """Judge what came, cut anywhere; return the operations that it settled."""

    def farewell(self) -> bytes:
        """The last words once all is answered: leave nothing behind on the server."""
