"""Percentiles of durations, by nearest rank: each is a time that was really measured."""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = ["PERCENTILES", "Spread", "spread"]

PERCENTILES = (("p50", 0.50), ("p90", 0.90), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0))

Spread = dict[str, float | None]
"""Percentile name to microseconds; None when there was nothing to measure."""


def spread(durations_ns: Iterable[int]) -> Spread:
    """The percentiles of these durations, in microseconds with one decimal."""
    ordered = sorted(durations_ns)
    if not ordered:
        return {name: None for name, _ in PERCENTILES}
    last = len(ordered)
    return {
        name: round(ordered[max(0, math.ceil(last * share) - 1)] / 1000, 1)
        for name, share in PERCENTILES
    }
