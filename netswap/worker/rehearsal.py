"""The rehearsal: load and convert in a forked child what is about to be swapped.

The child has the real objects, as they were at the moment of the fork. It imports the bundles,
takes the state of each object concerned to the new shape, through the canonical form and back,
and tells the parent what happened. A crash, an endless loop or an exit at import ends the child;
an allocation or an output without end meets a limit there.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from netswap.blame import describe, place_of_death
from netswap.confine import Confinement, confine, leave_room
from netswap.events import Refusal, Rehearsal, Stage, VerdictLine
from netswap.worker.forked import Told, in_fork
from netswap.worker.together import NOTHING, Together

__all__ = ["Rehearsed", "rehearse"]


class Rehearsed(msgspec.Struct, frozen=True):
    """What the child found: a refusal or none, and ``report``, what it did.

    ``verdicts`` are what was judged, as far as that came; ``compiled`` is the code of the new
    bundles, so that the worker's loop need not compile it; ``together`` is what would ask what of
    another version.
    """

    refusal: Refusal | None
    report: Rehearsal = Rehearsal()
    verdicts: list[VerdictLine] = []
    compiled: dict[str, dict[str, bytes]] = {}
    together: Together = NOTHING


async def rehearse(play: Callable[[], Rehearsed], timeout: float) -> Rehearsed:
    """Run ``play`` in a forked child, for at most ``timeout`` seconds; the fork itself blocks.

    Every end of the child is a result: a crash or a time-out is a refusal that says so.
    """
    started = time.perf_counter()
    told = await in_fork(lambda: _played(play), timeout)
    rehearsed = _outcome(told, timeout)
    times = {"seconds": time.perf_counter() - started, "fork_us": told.fork_s * 1e6}
    report = msgspec.structs.replace(rehearsed.report, **times)
    return msgspec.structs.replace(rehearsed, report=report)


def _outcome(told: Told, timeout: float) -> Rehearsed:
    if told.late:
        reason = f"the rehearsal did not end within {timeout:g} s and was stopped"
        file, line = place_of_death(told.answer.decode(errors="replace"))
        advice = "look for an endless loop, or push with a longer --timeout"
        return Rehearsed(Refusal(Stage.PREPARE, reason, file, line, advice=advice))
    try:
        return msgspec.msgpack.decode(told.answer, type=Rehearsed)
    except msgspec.DecodeError:
        return _died(told)


def _played(play: Callable[[], Rehearsed]) -> bytes:
    """In the child; authors' code runs here, which may call sys.exit()."""
    limits = confine(capture=True)
    try:
        rehearsed = play()
    except BaseException as error:
        leave_room()
        rehearsed = Rehearsed(Refusal(Stage.PREPARE, f"the rehearsal failed: {describe(error)}"))
    flood, said = limits.flooded(), limits.said()
    leave_room()
    report = msgspec.structs.replace(rehearsed.report, output=said)
    refusal = _limited(rehearsed.refusal, limits, flood)
    return msgspec.msgpack.encode(
        msgspec.structs.replace(rehearsed, refusal=refusal, report=report)
    )


def _limited(refusal: Refusal | None, limits: Confinement, flood: str) -> Refusal | None:
    """The refusal in the words of the limit that was met, if one was."""
    if flood:
        known = refusal or Refusal(Stage.PREPARE, "")
        advice = "take the output out: the worker would write it for each object"
        return msgspec.structs.replace(known, reason=flood, advice=advice)
    out_of_memory = MemoryError()
    if refusal is not None and describe(out_of_memory) in refusal.reason:
        reason = refusal.reason.replace(describe(out_of_memory), limits.explain(out_of_memory))
        advice = "look for an allocation without end at that line"
        return msgspec.structs.replace(refusal, reason=reason, advice=advice)
    return refusal


def _died(told: Told) -> Rehearsed:
    file, line = place_of_death(told.answer.decode(errors="replace"))
    reason = f"the rehearsal's process died ({told.how})"
    advice = "the module ends the process that runs it"
    return Rehearsed(Refusal(Stage.PREPARE, reason, file, line, advice=advice))
