"""The rehearsal: load and convert in a forked child what is about to be swapped.

The child has the real objects, as they were at the moment of the fork. It imports the bundles,
takes state of the kinds concerned to the new shape, through the canonical form and back, and
tells the parent what happened. A crash, an endless loop or an exit at import ends the child.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from netswap.blame import describe, place_of_death
from netswap.events import Refusal, Stage
from netswap.worker.forked import Told, in_fork

__all__ = ["Rehearsed", "rehearse"]


class Rehearsed(msgspec.Struct, frozen=True):
    """What the child found: a refusal or none, objects converted, and the slowest in seconds.

    ``compiled`` is the code of the new bundles, so that the worker's loop need not compile it;
    ``fork_s`` is how long the fork held that loop.
    """

    refusal: Refusal | None
    objects: int = 0
    slowest_s: float = 0.0
    compiled: dict[str, dict[str, bytes]] = {}
    fork_s: float = 0.0


async def rehearse(play: Callable[[], Rehearsed], timeout: float) -> Rehearsed:
    """Run ``play`` in a forked child, for at most ``timeout`` seconds; the fork itself blocks.

    Every end of the child is a result: a crash or a time-out is a refusal that says so.
    """
    told = await in_fork(lambda: _played(play), timeout)
    if told.late:
        reason = f"the rehearsal did not end within {timeout:g} s and was stopped"
        file, line = place_of_death(told.answer.decode(errors="replace"))
        refusal = Refusal(Stage.PREPARE, reason, file, line, advice="look for an endless loop")
        return Rehearsed(refusal, fork_s=told.fork_s)
    try:
        rehearsed = msgspec.msgpack.decode(told.answer, type=Rehearsed)
    except msgspec.DecodeError:
        rehearsed = _died(told)
    return msgspec.structs.replace(rehearsed, fork_s=told.fork_s)


def _played(play: Callable[[], Rehearsed]) -> bytes:
    """In the child; authors' code runs here, which may call sys.exit()."""
    try:
        rehearsed = play()
    except BaseException as error:
        rehearsed = Rehearsed(Refusal(Stage.PREPARE, f"the rehearsal failed: {describe(error)}"))
    return msgspec.msgpack.encode(rehearsed)


def _died(told: Told) -> Rehearsed:
    file, line = place_of_death(told.answer.decode(errors="replace"))
    reason = f"the rehearsal's process died ({told.how})"
    advice = "the module ends the process that runs it"
    return Rehearsed(Refusal(Stage.PREPARE, reason, file, line, advice=advice))
