"""verify.connection, version 2: the load generator's witness, for bodies of up to a megabyte.

The wire format is that of version 1 (``v1.py``), with a higher limit. A request that comes in
many chunks is kept in pieces and joined once, when its end is there: version 1 joins at each
chunk, which is quadratic. The state has another shape: counters of their own names, the hash as
it stands on the wire.

It uses no buffer objects: two more rows of the table for each of ten thousand connections would
be most of what a swap of them costs.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final
from zlib import crc32

from netswap import Connection, State, migration

VERSION: Final = 2
LIMIT: Final = 1_048_576
LENGTH: Final = Struct("!I")
HEAD: Final = Struct("!I24sIQI")
OWN: Final = 16
"""Bytes that a reply's body has more than its request's."""


class Ledger(State, kind="verify.connection", version=VERSION):
    """What was answered, and the beginning of the next request."""

    answered: int = 0
    digest: bytes = b"\0\0\0\0"
    pieces: list[bytes] = []
    missing: int = 0
    """So many bytes more before it is worth joining the pieces."""


@migration("verify.connection", 1, 2)
def into_pieces(old: dict[str, Any]) -> dict[str, Any]:
    """The hash as bytes; the partial request is looked at when more comes."""
    return {
        "answered": old["operations"],
        "digest": LENGTH.pack(old["hash"]),
        "pieces": [old["partial"]] if old["partial"] else [],
    }


@migration("verify.connection", 2, 1)
def into_one(new: dict[str, Any]) -> dict[str, Any]:
    """The hash as a number, the pieces joined."""
    return {
        "operations": new["answered"],
        "hash": LENGTH.unpack(new["digest"])[0],
        "partial": b"".join(new["pieces"]),
    }


class Verify(Connection[Ledger]):
    """One client."""

    def on_data(self, data: bytes) -> None:
        """Answer every request that is complete, in one write."""
        state = self.state
        if state.pieces:
            state.pieces.append(data)
            state.missing -= len(data)
            if state.missing > 0:
                return
            data = b"".join(state.pieces)
        replies, end = self._answers(data)
        rest = data[end:]
        state.pieces = [rest] if rest else []
        if replies:
            self.write(b"".join(replies))
        if rest:
            self._await(rest)

    def on_pause_writing(self) -> None:
        """Take no more from a client that does not read."""
        self.pause_reading()

    def on_resume_writing(self) -> None:
        """Go on."""
        self.resume_reading()

    def _answers(self, data: bytes) -> tuple[list[bytes], int]:
        """The replies, in pieces, to what is complete and sound in ``data``; where that ends."""
        state = self.state
        answered, rolling = state.answered, LENGTH.unpack(state.digest)[0]
        replies: list[bytes] = []
        at, size = 0, len(data)
        while size - at >= 4:
            (length,) = LENGTH.unpack_from(data, at)
            start, end = at + 4, at + 4 + length
            if end > size or not 24 <= length <= LIMIT:
                break
            answered += 1
            rolling = crc32(data[start:end], rolling)
            head = data[start : start + 24]
            replies.append(HEAD.pack(length + OWN, head, VERSION, answered, rolling))
            replies.append(data[start + 24 : end])
            at = end
        state.answered, state.digest = answered, LENGTH.pack(rolling)
        return replies, at

    def _await(self, rest: bytes) -> None:
        """Note how much of the request is missing, or refuse it."""
        state = self.state
        if len(rest) < 4:
            state.missing = 4 - len(rest)
            return
        (length,) = LENGTH.unpack_from(rest)
        state.missing = length + 4 - len(rest)
        if not 24 <= length <= LIMIT:
            self.host.log.info("frame_refused", peer=self.peer, length=length, limit=LIMIT)
            state.pieces = []
            self.close()
