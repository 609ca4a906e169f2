"""buffer.receive, version 1: all that has come and was not taken, in one bytearray.

Good for small messages and for searching, since everything lies side by side. What comes is
copied once into the array and once more out of it, so large messages cost twice their size.
"""

from __future__ import annotations

from netswap import Part, ProtocolError, State, reference


class Held(State, kind="buffer.receive", version=1):
    """The bytes; the first ``searched`` of them hold no line end."""

    data: bytearray = reference(bytearray, bytes, bytearray)
    searched: int = 0


class Contiguous(Part[Held]):
    """One growing array; taking from its front is cheap, CPython only moves its start."""

    def feed(self, data: bytes) -> None:
        """Add what has come."""
        self.state.data += data

    def size(self) -> int:
        """Bytes held."""
        return len(self.state.data)

    def peek(self, n: int) -> bytes:
        """The first ``n`` bytes, or what there is; nothing is taken."""
        return bytes(self.state.data[:n])

    def take(self, n: int) -> bytes | None:
        """Exactly ``n`` bytes, or None while there are fewer."""
        state = self.state
        if len(state.data) < n:
            return None
        taken = bytes(state.data[:n])
        del state.data[:n]
        state.searched = max(state.searched - n, 0)
        return taken

    def take_all(self) -> bytes:
        """Everything, perhaps nothing."""
        state = self.state
        taken = bytes(state.data)
        state.data.clear()
        state.searched = 0
        return taken

    def take_line(self, limit: int) -> bytes | None:
        """A line without its LF or CRLF, or None while its end has not come.

        Raises ProtocolError, and takes nothing, when more than ``limit`` bytes stand before an LF.
        """
        state = self.state
        end = state.data.find(b"\n", state.searched)
        state.searched = len(state.data) if end < 0 else end
        if state.searched > limit:
            raise ProtocolError(f"a line is longer than {limit} bytes")
        if end < 0:
            return None
        line = bytes(state.data[:end])
        del state.data[: end + 1]
        state.searched = 0
        return line.removesuffix(b"\r")
