"""What an operator does about suspended calls, in the workers that have them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from netswap.channel import messages
from netswap.errors import UsageError
from netswap.events import Acted, Refusal, Stage, Stuck
from netswap.outcome import Outcome
from netswap.supervisor.fleet import Fleet
from netswap.supervisor.results import Result, failure

__all__ = ["Intervention"]

_ID = re.compile(r"(\d+)\.(\d+(?:#\d+)?)")
_LIST = "`netswap blockers` lists what is suspended"


class Intervention:
    """Nudges and cancels; waiting is what happens without."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def nudge(self, identity: str) -> Result:
        """Ask one suspended call or session, or ``all``, to go on to where it may be swapped.

        :raises UsageError: there is no such object.
        """
        return await self._act("nudge", identity)

    async def cancel(self, identity: str) -> Result:
        """End one suspended call or session.

        :raises UsageError: there is no such object, or it is ``all``.
        """
        if identity == "all":
            raise UsageError("all can be nudged, not cancelled", "", _LIST)
        return await self._act("cancel", identity)

    async def _act(self, what: str, identity: str) -> Result:
        parsed = _ID.fullmatch(identity)
        if parsed is None and identity != "all":
            raise UsageError(f"{identity!r} is not SLOT.NUMBER, or SLOT.NUMBER#CALL", "", _LIST)
        slots = self._fleet.serving()
        if parsed is not None:
            slots = [slot for slot in slots if slot.number == int(parsed[1])]
            if not slots:
                raise UsageError(f"worker {parsed[1]} does not serve", "", "netswap workers")
        argument = "" if parsed is None else parsed[2]
        asked = self._fleet.enquiry.ask(slots, what, lambda _slot: argument, messages.Intervene)
        found = await asked
        stuck = await self._fleet.stuck(one.number for one in slots if one.number not in found)
        return _result(what, identity, [row for rows in found.values() for row in rows], stuck)


def _result(what: str, identity: str, acted: list[Acted], stuck: list[Stuck]) -> Result:
    if stuck and not acted:
        reason, advice = "; ".join(map(str, stuck)), "`netswap workers` shows when it answers again"
        result = failure(Outcome.REFUSED, [Refusal(Stage.SWAP, reason, advice=advice)])
        result.state = "it was asked and may still do it"
        return result
    done = [row for row in acted if row.done]
    if done or (identity == "all" and not acted):
        said = f"{what}: {len(done)} of {len(acted)} suspended calls"
        return Result(Outcome.DONE, said, state="a swap waits for them as before", acted=acted)
    result = failure(Outcome.REFUSED, list(_refusals(what, identity, acted)))
    result.state, result.acted = "nothing was changed", acted
    return result


def _refusals(what: str, identity: str, acted: list[Acted]) -> Iterable[Refusal]:
    if not acted:
        reason = f"nothing is suspended in {identity}: it is not in the way of a swap"
        yield Refusal(Stage.SWAP, reason, advice=_LIST)
    for row in acted:
        advice = f"netswap blockers --cancel {row.id}, or --abort" if what == "nudge" else _LIST
        yield Refusal(Stage.SWAP, row.what, kind=row.kind, entry=row.id, advice=advice)
