"""How one transaction holds what its worker serves: closes the gate, settles, and opens it."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import cast

from netswap.channel import messages
from netswap.events import Refusal, Stage
from netswap.hotswap import Change
from netswap.mediator import present
from netswap.ott import Entry
from netswap.stack import Host
from netswap.worker.deadline import left
from netswap.worker.gate.gate import Gate
from netswap.worker.gate.settling import RETURN_S, Peers, Settling
from netswap.worker.unable import placed

__all__ = ["Holding"]

UNHEARD_S = 20.0
"""Seconds, beyond those for its own work, after which a worker that holds its clients serves."""


class Holding:
    """Of transaction ``tx``; ``timeout`` in seconds."""

    def __init__(self, host: Host, tx: int, timeout: float, changes: Sequence[Change] = ()) -> None:
        """``changes`` are looked at when the gate is closed."""
        self._host = host
        self._changes = changes
        self._tx = tx
        self._timeout = timeout
        self._gate: Gate | None = None

    @property
    def held_ns(self) -> int:
        """For how long nothing was served, or is not until now."""
        return 0 if self._gate is None else self._gate.closed_ns

    async def hold(
        self, stopped: Refusal | None, callers: Container[str] | None, until: float = 0.0
    ) -> messages.Held | messages.SwapFailed:
        """Serve nothing until all workers have swapped; or serve on, and say what is in the way.

        Only objects of the kinds in ``callers`` have to come to rest, or all; ``until`` as in Hold.
        """
        slot = self._host.slot
        if self._gate is not None and self._gate.shut:
            return messages.Held(self._tx, slot)
        patience = 2 * self._timeout + UNHEARD_S
        self._gate = Gate(self._host, patience, callers, self._must_rest())
        if stopped is not None:
            self._gate.give_up(stopped)
        refusal = await self._gate.close(left(until, self._timeout))
        if refusal is None:
            return messages.Held(self._tx, slot)
        return messages.SwapFailed(self._tx, slot, placed(refusal, slot))

    def _must_rest(self) -> list[Entry]:
        """Services without mediators whose coroutines have to end before they are swapped.

        That is how it is with an application. On the way back new code is what is present.
        """
        found = []
        for change in self._changes:
            entry = self._host.services.get(change.kind)
            target = None if entry is None else present(entry)
            if entry is None or target is None or target.may_suspend:
                continue
            following = change.before if type(target) is change.new else change.new
            if following is not None and target.must_rest(following):
                found.append(entry)
        return found

    async def serve(self) -> float:
        """Open the gate, if it was closed; for how many microseconds that had been."""
        if self._gate is None:
            return 0.0
        await self._gate.open()
        return self._gate.closed_ns / 1e3

    def give_up(self, refusal: Refusal) -> None:
        """Stop closing."""
        if self._gate is not None:
            self._gate.give_up(refusal)

    def too_early(self) -> Refusal | None:
        """Why this worker would serve new code while another one may still serve the old."""
        if self._gate is None or self._gate.shut:
            return None
        reason = "its clients had waited so long for the other workers that it serves them again"
        advice = "netswap workers shows them; push again, or with --rolling"
        return Refusal(Stage.SWAP, reason, advice=advice)

    async def settled(self, slots: Sequence[int], until: float = 0.0) -> Refusal | None:
        """Why some of those in ``slots``, that serve nothing, may still ask what old code asks."""
        return await self._settle(slots, left(until, self._timeout))

    async def returns(self, slots: Sequence[int]) -> None:
        """The same before the way back, which can't wait: what is still asked is asked."""
        late = await self._settle(slots, RETURN_S) if slots else None
        if late is not None:
            self._host.log.warning("returns_unsettled", reason=late.reason)

    async def _settle(self, slots: Sequence[int], timeout: float) -> Refusal | None:
        if self._gate is None or not self._gate.settling:
            return None
        links = cast("Peers | None", self._host.mesh)  # which is one, where there is one
        return await self._gate.settle(Settling(links, self._host.slot, slots, self._tx), timeout)
