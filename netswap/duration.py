"""Durations as people write them: ``10``, ``10s``, ``500ms``, ``2m``, ``1h``."""

from __future__ import annotations

import re

__all__ = ["read_seconds"]

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h)?")
_UNITS = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def read_seconds(value: object) -> float:
    """Seconds of a text or a number.

    :raises ValueError: it is no duration, with a sentence that quotes it.
    """
    found = _DURATION.fullmatch(str(value).strip())
    if found is None:
        raise ValueError(f"{value!r} is not a duration such as 10s, 500ms or 2m")
    return float(found[1]) * _UNITS[found[2]]
