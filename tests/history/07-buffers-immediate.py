"""buffer.send, version 1: every write goes to the transport at once.

Nothing waits here, so nothing is delayed and there is nothing to lose. A handler that writes in
small pieces pays a system call for each on asyncio's loop; uvloop gathers them by itself.
"""

from __future__ import annotations

from netswap import Part, State


class Unsent(State, kind="buffer.send", version=1):
    """What another version still held when this one took over; empty after the first write."""

    unsent: bytes = b""


class Immediate(Part[Unsent]):
    """A way through."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hand ``data`` to the transport."""
        if self.state.unsent:
            self.flush()
        self.owner.transport.write(data)

    def flush(self) -> None:
        """Hand over what a predecessor has left; it had asked the loop for this call."""
        unsent, self.state.unsent = self.state.unsent, b""
        if unsent:
            self.owner.transport.write(unsent)

    def size(self) -> int:
        """Bytes not yet given to the transport."""
        return len(self.state.unsent)
