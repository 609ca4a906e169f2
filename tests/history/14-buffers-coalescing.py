"""buffer.send, version 2: what is written in one turn of the loop leaves in one transport write.

The first write of a turn asks the loop for a ``flush`` of this entry, so an implementation that
follows in between is the one that flushes. More than ``HIGH_WATER`` bytes do not wait for it.
"""

from __future__ import annotations

from typing import Any, Final

from netswap import Part, State, migration

HIGH_WATER: Final = 64 * 1024


class Unsent(State, kind="buffer.send", version=2):
    """The pieces of this turn, ``size`` bytes in all. With a piece there is a flush to come."""

    pieces: list[bytes] = []
    size: int = 0


@migration("buffer.send", 1, 2)
def into_pieces(old: dict[str, Any]) -> dict[str, Any]:
    """One piece, if anything was left; the flush that was asked for is still to come."""
    unsent = old["unsent"]
    return {"pieces": [unsent] if unsent else [], "size": len(unsent)}


@migration("buffer.send", 2, 1)
def into_one(new: dict[str, Any]) -> dict[str, Any]:
    """The pieces joined."""
    return {"unsent": b"".join(new["pieces"])}


class Coalescing(Part[Unsent]):
    """Gathers small writes."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Let ``data`` leave at the end of this turn of the loop, or now when it is much."""
        piece = bytes(data)
        state = self.state
        if not state.pieces:
            if not piece:
                return
            self.host.call_soon(self.entry, "flush")
        state.pieces.append(piece)
        state.size += len(piece)
        if state.size >= HIGH_WATER:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the transport now."""
        state = self.state
        pieces = state.pieces
        if pieces:
            self.owner.transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            state.pieces = []
            state.size = 0

    def size(self) -> int:
        """Bytes not yet given to the transport."""
        return self.state.size
