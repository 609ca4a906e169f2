"""Timers: an entry, the name of a method and a deadline. Never code.

``Timers`` is what an object's ``self.timers`` is: a light pair of the object's entry and the
handle of the worker's ``timer.service``, whose implementation can be swapped while timers run.
A timer fires once, through the entry, so it calls whatever version is there by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netswap.ott import Entry

__all__ = ["Timers"]


class Timers:
    """The timers of one object; a name is armed at most once."""

    __slots__ = ("_entry", "_service")

    def __init__(self, entry: Entry, service: Entry) -> None:
        self._entry = entry
        self._service = service

    def arm(self, name: str, seconds: float) -> None:
        """Call the object's method ``name`` once, ``seconds`` from now; re-arms an armed one."""
        self._service.target.arm(self._entry, name, seconds)

    def cancel(self, name: str) -> None:
        """Forget a timer; one that is not armed is no error."""
        self._service.target.cancel(self._entry, name)

    def cancel_all(self) -> None:
        """Forget every timer of the object."""
        self._service.target.cancel_all(self._entry)

    def remaining(self, name: str) -> float | None:
        """Seconds until a timer fires, or None when it is not armed."""
        left: float | None = self._service.target.remaining(self._entry, name)
        return left
