"""Refusals for what a worker could not do while it prepared: load in time, or find room."""

from __future__ import annotations

from netswap.blame import blame, describe
from netswap.events import Refusal, Stage

__all__ = ["hangs", "short_of"]


def short_of(error: Exception) -> Refusal:
    """What the worker itself could not do; no module's fault as far as is known."""
    what = error.strerror or str(error) if isinstance(error, OSError) else describe(error)
    reason = f"the worker could not prepare it: {what}"
    advice = "its log has `prepare_failed`; see to descriptors, processes and disk, then push again"
    return Refusal(Stage.PREPARE, reason, advice=advice)


def hangs(error: BaseException) -> Refusal:
    """An import that does not end, by its line."""
    file, line = blame(error)
    return Refusal(Stage.LOAD, f"its import hangs: {describe(error)}", file, line)
