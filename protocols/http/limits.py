"""http.limits, version 1: how much and how long a client of ``http.connection`` may.

A copy of this file with other numbers, pushed, is in force for all connections at once.
"""

from __future__ import annotations

from netswap import Service, State
from netswap.http import Limits


class Nothing(State, kind="http.limits", version=1):
    """Numbers are code here: a state would be carried along and keep the old ones."""


class HttpLimits(Service[Nothing]):
    """The usual ones."""

    def present(self) -> Limits:
        """What is in force."""
        return Limits()
