"""What a call costs: direct, through a handle, through a used object's property."""

from __future__ import annotations

import timeit

from netswap.ott import Entry

__all__ = ["measure"]


class Target:
    """Something to call."""

    def f(self) -> None:
        """Do nothing."""


def measure(rounds: int = 7, number: int = 500_000) -> dict[str, float]:
    """Nanoseconds a call, the best of ``rounds`` taken in turn."""
    target = Target()
    entry = Entry(1, "bench", target)
    ways = {"direct": "target.f()", "through a handle": "entry.target.f()"}
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, statement in ways.items():
            took = timeit.timeit(
                statement, globals={"target": target, "entry": entry}, number=number
            )
            best[name] = min(best[name], took / number * 1e9)
    return best
