"""echo.connection, version 2: sends back what it gets, the tail of a half-closed stream too.

The end of the client's stream closes the connection after the backlog was sent; version 1
aborted it. The state tells waiting from pausing and counts in whole nanoseconds.
"""

from __future__ import annotations

from typing import Any

from netswap import Connection, State, migration


class Flow(State, kind="echo.connection", version=2):
    """Pauses of the client: how many, for how many ns in all, and since when (0: it reads)."""

    pauses: int = 0
    waited: int = 0
    since: int = 0


@migration("echo.connection", 1, 2)
def into_nanoseconds(old: dict[str, Any]) -> dict[str, Any]:
    """Seconds become nanoseconds."""
    waited = round(old["waited"] * 1e9)
    return {"pauses": old["pauses"], "waited": waited, "since": old["paused_at"]}


@migration("echo.connection", 2, 1)
def into_seconds(new: dict[str, Any]) -> dict[str, Any]:
    """Nanoseconds become seconds."""
    return {"pauses": new["pauses"], "waited": new["waited"] / 1e9, "paused_at": new["since"]}


class Echo(Connection[Flow]):
    """One client."""

    def on_data(self, data: bytes) -> None:
        """Send it back."""
        self.write(data)

    def on_eof(self) -> bool | None:
        """The client sends no more: let what it is still owed be sent, then close."""
        return None

    def on_pause_writing(self) -> None:
        """Take no more from a client that does not read."""
        self.pause_reading()
        self.state.pauses += 1
        self.state.since = self.host.clock.monotonic_ns()

    def on_resume_writing(self) -> None:
        """Go on."""
        self.resume_reading()
        self.state.waited += self.host.clock.monotonic_ns() - self.state.since
        self.state.since = 0
