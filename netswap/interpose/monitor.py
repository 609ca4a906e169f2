"""Monitors count: calls, errors and the time in calls of one version, for all of its objects."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import msgspec

from netswap.errors import ProtocolError
from netswap.interpose.interposer import Interposer
from netswap.mediator import present

__all__ = ["Choice", "Figures", "Monitor"]

Choice = Callable[[Any], "Figures"]
"""The record of the object that a monitor stands in front of."""


class Figures(msgspec.Struct):
    """What was seen of some objects; times in nanoseconds of wall time.

    Only calls that do not suspend have their time taken: the others wait for other things.
    ``refusals`` counts ProtocolError, which is the peer's fault and no error of the code.
    """

    calls: int = 0
    errors: int = 0
    refusals: int = 0
    timed: int = 0
    total_ns: int = 0
    longest_ns: int = 0

    def took(self, nanoseconds: int) -> None:
        """A plain call has ended."""
        self.timed += 1
        self.total_ns += nanoseconds
        self.longest_ns = max(self.longest_ns, nanoseconds)

    def raised(self, error: BaseException) -> None:
        """A call has raised."""
        if isinstance(error, ProtocolError):
            self.refusals += 1
        else:
            self.errors += 1

    @property
    def mean_ns(self) -> float:
        """Of a plain call; 0.0 when there was none."""
        return self.total_ns / self.timed if self.timed else 0.0


class Monitor(Interposer):
    """Counts each call of its object in ``figures``, which other monitors may share.

    A call that comes from inside another one of the same object counts by itself, and its time
    counts twice: ``longest_ns`` is then still right. With ``choose`` the record is another one for
    each object that a swap puts behind it.
    """

    __slots__ = ("_choose", "figures")

    def __init__(self, figures: Figures, choose: Choice | None = None) -> None:
        self.figures = figures
        self._choose = choose

    def settle(self) -> None:
        """Count for the object that is there now."""
        if self._choose is not None and present(self.entry) is not None:
            self.figures = self._choose(self)

    def call(self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Count it and take its time."""
        figures = self.figures
        figures.calls += 1
        began = perf_counter_ns()
        try:
            return super().call(name, args, keywords)
        except BaseException as error:
            figures.raised(error)
            raise
        finally:
            figures.took(perf_counter_ns() - began)

    async def call_later(self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Count it."""
        self.figures.calls += 1
        try:
            return await super().call_later(name, args, keywords)
        except Exception as error:
            self.figures.raised(error)
            raise
