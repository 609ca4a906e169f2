"""connection.factory, version 1: everybody is admitted, and counted."""

from __future__ import annotations

from netswap import Service, State, reference


class Door(State, kind="connection.factory", version=1):
    """One listener's counts; ``addresses`` has the live connections of each address."""

    accepted: int = 0
    refused: int = 0
    live: int = 0
    addresses: dict[str, int] = reference(dict)


class Plain(Service[Door]):
    """An open door."""

    def admit(self, peer: str) -> str | None:
        """Count a connection from ``peer`` (address:port); never a reason to refuse it."""
        state = self.state
        address = peer.rpartition(":")[0] or peer
        state.accepted += 1
        state.live += 1
        state.addresses[address] = state.addresses.get(address, 0) + 1
        return None

    def released(self, peer: str) -> None:
        """A connection that was admitted has ended."""
        state = self.state
        address = peer.rpartition(":")[0] or peer
        state.live -= 1
        left = state.addresses.pop(address, 1) - 1
        if left:
            state.addresses[address] = left
