"""cache.policy, version 2: what was used last goes first.

Good for what is asked for in a loop that is larger than the cache, the worst case of version 1.
"""

from __future__ import annotations

from netswap import Service, State, reference


class Order(State, kind="cache.policy", version=2):
    """The keys that are in the cache, the last used one last."""

    order: dict[str, None] = reference(dict)


class MostRecentlyUsed(Service[Order]):
    """Keeps what has been there for long."""

    def entered(self, key: str) -> None:
        """A new key is in the cache."""
        self.state.order[key] = None

    def used(self, key: str) -> None:
        """A key that is in the cache was asked for."""
        order = self.state.order
        if key in order:
            del order[key]
            order[key] = None

    def left(self, key: str) -> None:
        """A key is in the cache no more."""
        self.state.order.pop(key, None)

    def victim(self) -> str | None:
        """Which key is to go; None when there is none."""
        return next(reversed(self.state.order), None)
