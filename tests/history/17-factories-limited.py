"""connection.factory, version 2: a limit on all live connections, and on those of one address.

Both limits are for one listener of one worker. Connections that were admitted before this
version came count, and are left alone when they are too many already.
"""

from __future__ import annotations

from typing import ClassVar

from netswap import Service, State, reference


class Door(State, kind="connection.factory", version=2):
    """One listener's counts; ``crowded`` of the refused ones were too many of their address."""

    accepted: int = 0
    refused: int = 0
    crowded: int = 0
    live: int = 0
    addresses: dict[str, int] = reference(dict)


class Limited(Service[Door]):
    """A door with a doorman."""

    MOST: ClassVar[int] = 20_000
    MOST_OF_ADDRESS: ClassVar[int] = 10_000

    def admit(self, peer: str) -> str | None:
        """Count a connection from ``peer`` (address:port), or say why it is refused."""
        state = self.state
        address = peer.rpartition(":")[0] or peer
        there = state.addresses.get(address, 0)
        if state.live >= self.MOST:
            state.refused += 1
            return f"{state.live} connections live, of at most {self.MOST}"
        if there >= self.MOST_OF_ADDRESS:
            state.refused += 1
            state.crowded += 1
            return f"{address} has {there} connections, of at most {self.MOST_OF_ADDRESS}"
        state.accepted += 1
        state.live += 1
        state.addresses[address] = there + 1
        return None

    def released(self, peer: str) -> None:
        """A connection that was admitted has ended."""
        state = self.state
        address = peer.rpartition(":")[0] or peer
        state.live -= 1
        left = state.addresses.pop(address, 1) - 1
        if left:
            state.addresses[address] = left
