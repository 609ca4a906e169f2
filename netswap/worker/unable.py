"""Refusals of a worker: what it could not load in time or find room for, and where that was."""

from __future__ import annotations

import msgspec

from netswap.blame import blame, describe
from netswap.events import Refusal, Stage

__all__ = ["hangs", "placed", "unable"]


_SHORT = (OSError, MemoryError)
"""What a machine that is short of something raises; RuntimeError is for a thread, too."""


def unable(error: Exception) -> Refusal:
    """What the worker itself could not do; no module's fault."""
    what = error.strerror or str(error) if isinstance(error, OSError) else describe(error)
    if isinstance(error, _SHORT) or "can't start new thread" in str(error):
        reason = f"the worker could not prepare it: {what}"
        advice = "see to its memory, descriptors, processes and disk, then push again; "
        advice += "`prepare_failed` in its log says where"
    else:
        reason = f"netswap failed while it prepared it, and not the module: {what}"
        advice = "report `prepare_failed` of its log; the module may go in with --no-rehearsal"
    return Refusal(Stage.PREPARE, reason, advice=advice)


def hangs(error: BaseException) -> Refusal:
    """An import that does not end, by its line."""
    file, line = blame(error)
    return Refusal(Stage.LOAD, f"its import hangs: {describe(error)}", file, line)


def placed(refusal: Refusal, slot: int) -> Refusal:
    """With the worker, and the object's name as other commands show it."""
    entry = refusal.entry
    if entry is not None and "." not in entry:
        entry = f"{slot}.{entry}"
    return msgspec.structs.replace(refusal, worker=slot, entry=entry)
