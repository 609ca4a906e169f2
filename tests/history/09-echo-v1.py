"""echo.connection, version 1: sends back what it gets.

The kernel gets a small send buffer, so that ten thousand clients that do not read can't fill its
memory; a backlog is kept here, and at ``HIGH_WATER`` nothing more is taken from the client.

Known bug, mended in version 2: a client that half-closes after sending a lot loses the tail,
because the end of its stream aborts the connection with the backlog in it.
"""

from __future__ import annotations

import socket
from typing import Final

from netswap import Connection, State

HIGH_WATER: Final = 1024 * 1024
KERNEL_BUFFER: Final = 64 * 1024


class Talk(State, kind="echo.connection", version=1):
    """How often the client did not read, and for how many seconds in all."""

    pauses: int = 0
    waited: float = 0.0
    paused_at: int = 0
    """Nanoseconds of the monotonic clock; 0 while the client reads."""


class Echo(Connection[Talk]):
    """One client."""

    def on_connect(self) -> None:
        """Keep the backlog here and not in the kernel."""
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)

    def on_data(self, data: bytes) -> None:
        """Send it back."""
        self.write(data)

    def on_eof(self) -> bool | None:
        """The client sends no more: done with it."""
        self.abort()
        return None

    def on_pause_writing(self) -> None:
        """Take no more from a client that does not read."""
        self.pause_reading()
        self.state.pauses += 1
        self.state.paused_at = self.host.clock.monotonic_ns()

    def on_resume_writing(self) -> None:
        """Go on."""
        self.resume_reading()
        self.state.waited += (self.host.clock.monotonic_ns() - self.state.paused_at) / 1e9
        self.state.paused_at = 0
