"""cache.policy, version 3: what came first goes first, used or not.

After a policy that keeps the order of use, that order is taken for the order of arrival.
"""

from __future__ import annotations

from netswap import Service, State, reference


class Order(State, kind="cache.policy", version=3):
    """The keys that are in the cache, the last that came last."""

    order: dict[str, None] = reference(dict)


class FirstInFirstOut(Service[Order]):
    """A hit costs nothing."""

    def entered(self, key: str) -> None:
        """A new key is in the cache."""
        self.state.order[key] = None

    def used(self, key: str) -> None:
        """A key that is in the cache was asked for."""

    def left(self, key: str) -> None:
        """A key is in the cache no more."""
        self.state.order.pop(key, None)

    def victim(self) -> str | None:
        """Which key is to go; None when there is none."""
        return next(iter(self.state.order), None)
