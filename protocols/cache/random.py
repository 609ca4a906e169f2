"""cache.policy, version 4: any key goes, each as likely as another.

No order of requests is its worst case. The order that the policy before has kept is passed on to
the one after; keys that have come since stand at its end.
"""

from __future__ import annotations

from random import randrange
from typing import Any

from netswap import Service, State, reference


def _nothing(_derived: Any) -> None:
    """The stand-in of what is derived from the order."""


class Order(State, kind="cache.policy", version=4):
    """The keys that are in the cache; ``keys`` has them in no order, ``places`` says where."""

    order: dict[str, None] = reference(dict)
    keys: list[str] = reference(list, _nothing, lambda _: [])
    places: dict[str, int] = reference(dict, _nothing, lambda _: {})


class AtRandom(Service[Order]):
    """Throws dice."""

    def on_start(self) -> None:
        """Number the keys."""
        state = self.state
        state.keys = list(state.order)
        state.places = {key: place for place, key in enumerate(state.keys)}

    def on_stop(self) -> None:
        """The numbers are not passed on."""
        self.state.keys, self.state.places = [], {}

    def entered(self, key: str) -> None:
        """A new key is in the cache."""
        state = self.state
        if key not in state.order:
            state.order[key] = None
            state.places[key] = len(state.keys)
            state.keys.append(key)

    def used(self, key: str) -> None:
        """A key that is in the cache was asked for."""

    def left(self, key: str) -> None:
        """A key is in the cache no more: the last one has its place."""
        state = self.state
        if key in state.order:
            del state.order[key]
            place, last = state.places.pop(key), state.keys.pop()
            if last != key:
                state.keys[place] = last
                state.places[last] = place

    def victim(self) -> str | None:
        """Which key is to go; None when there is none."""
        keys = self.state.keys
        return keys[randrange(len(keys))] if keys else None  # noqa: S311 - no secret
