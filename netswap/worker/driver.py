"""Drives a swap on the worker's loop: a slice, then a turn of the loop, then the next slice.

Objects with suspended calls are brought to rest. Those with a mediator, services, are handed in
when all of them rest: a call inside one that is still draining may pass into another, and it has
to find there the version that it was begun with.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from netswap.events import Blocker, Refusal, Stage
from netswap.hotswap import Phase, Swap
from netswap.mediator import mediator_of, present
from netswap.ott import Entry
from netswap.stack import Host

__all__ = ["SLICE_NS", "Driver", "blocked"]

SLICE_NS = 400_000
ENDING_NS = 500_000_000
"""How long an object is waited for that is busy with the last that it will ever be asked."""
_UNDER_WAY = (Phase.WORKING, Phase.TAKING_BACK)


class Driver:
    """Runs one swap to its end; nanoseconds: ``longest_ns`` of wall time, ``cpu_ns`` in all."""

    def __init__(
        self,
        host: Host,
        swap: Swap,
        turned_back: Callable[[], None] = lambda: None,
        stroke: bool = False,
    ) -> None:
        """``turned_back`` is called when the way back begins: what is born then is old code.

        In one ``stroke`` all slices follow each other within one callback of the loop, those of
        the way back too.
        """
        self._host = host
        self._swap = swap
        self._turned_back = turned_back
        self._stroke = stroke
        self._asked: dict[int, Entry] = {}
        self._mediated: list[Entry] = []
        self._kick = asyncio.Event()
        self._since = 0
        self.slices = 0
        self.longest_ns = 0
        self.cpu_ns = 0

    async def run(self, timeout: float) -> None:
        """Slice until done, restored or mixed. Late objects fail the swap, or are stranded."""
        with _no_collection():
            await self._run(timeout)
        self._release()

    async def _run(self, timeout: float) -> None:
        self._since = self._host.clock.monotonic_ns()
        deadline = self._since + int(timeout * 1e9)
        while self._swap.phase in _UNDER_WAY:
            self._hand_in()
            if self._swap.has_work:
                self._slices()
                await asyncio.sleep(0)
            elif not await self._rest_before(deadline) and not self._swap.has_work:
                self._too_late()
                deadline = self._host.clock.monotonic_ns() + int(timeout * 1e9)

    def give_up(self, refusal: Refusal) -> None:
        """Stop the swap and take back what was flipped; ``run`` goes on until that is done."""
        self._release()
        self._swap.give_up(refusal)
        self._turned_back()
        self._kick.set()

    def _slices(self) -> None:
        """One, or in a stroke all that there are."""
        started = self._host.clock.monotonic_ns()
        self._slice()
        while self._stroke and self._swap.phase in _UNDER_WAY and self._swap.has_work:
            self._slice()
        self.longest_ns = max(self.longest_ns, self._host.clock.monotonic_ns() - started)

    def _slice(self) -> None:
        before = self._swap.phase
        cpu = time.thread_time_ns()
        progress = self._swap.slice(SLICE_NS)
        self.slices += 1
        self.cpu_ns += time.thread_time_ns() - cpu
        if before is Phase.WORKING and progress.phase is Phase.TAKING_BACK:
            self._turned_back()
            self._release()
        for entry in progress.busy:
            self._ask(entry)

    def _ask(self, entry: Entry) -> None:
        self._asked[entry.identity] = entry
        present(entry).bring_to_rest(partial(self._rested, entry))

        if mediator_of(entry) is not None and entry not in self._mediated:
            self._mediated.append(entry)
            for mediator in map(mediator_of, self._mediated):
                if mediator is not None:
                    mediator.reconsider()

    def _rested(self, entry: Entry) -> None:
        if self._asked.get(entry.identity) is entry:
            if mediator_of(entry) is None:
                self._swap.quiescent(entry)
            self._kick.set()

    def _hand_in(self) -> None:
        """The services, when all of them rest; those into which calls have passed are told again.

        Backwards, since the one that is handed in last is taken first.
        """
        waiting = [entry for entry in reversed(self._mediated) if self._swap.waits_for(entry)]
        resting = []
        for entry in waiting:
            mediator = mediator_of(entry)
            if mediator is not None and not mediator.at_rest:
                mediator.settle()
            else:
                resting.append(entry)
        if len(resting) == len(waiting):
            for entry in resting:
                self._swap.quiescent(entry)

    async def _rest_before(self, deadline: int) -> bool:
        """Wait for a busy object to come to rest or to close; False when time is over."""
        self._kick.clear()
        left = (deadline - self._host.clock.monotonic_ns()) / 1e9
        with suppress(TimeoutError):
            await asyncio.wait_for(self._kick.wait(), min(max(left, 0), 0.05))
        self._swap.forget_gone()
        self._leave_ending()
        return self._host.clock.monotonic_ns() < deadline

    def _leave_ending(self) -> None:
        """Sessions whose clients have sent their end, and perhaps are gone.

        Nobody can tell those that wait for an answer from those that are gone, so it is written in
        the code that was asked. Not where no two versions may serve, and not on the way back.
        """
        may_stay = self._swap.phase is Phase.WORKING and self._host.gate is None
        now = self._host.clock.monotonic_ns()
        may_stay = may_stay and now - self._since > ENDING_NS
        for entry in self._swap.busy:
            present(entry).end_if_gone()
            if may_stay and mediator_of(entry) is None and present(entry).only_ends():
                self._swap.leave(entry)

    def _too_late(self) -> None:
        blockers = [b for entry in self._swap.busy for b in present(entry).blockers()]
        refusal = blocked(blockers)
        if self._swap.phase is Phase.WORKING:
            self.give_up(refusal)
        else:
            for entry in self._swap.busy:
                self._swap.strand(entry, refusal.reason)

    def _release(self) -> None:
        """Held calls and sessions go on, to whichever object is present now."""
        for entry in self._asked.values():
            if entry in self._host.table:
                present(entry).carry_on()
        self._asked.clear()
        self._mediated.clear()


@contextmanager
def _no_collection() -> Iterator[None]:
    """A swap frees as much as it makes; a full collection in a slice would be its longest stall."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def blocked(blockers: list[Blocker]) -> Refusal:
    """The refusal that names what did not come to rest in time."""
    reason = "not quiescent in time: " + "; ".join(map(str, blockers[:3]))
    file, _, line = blockers[0].where.rpartition(":") if blockers else ("", "", "")
    return Refusal(
        Stage.SWAP,
        reason,
        file=file or None,
        line=int(line) if line.isdigit() else None,
        kind=blockers[0].kind if blockers else None,
        entry=blockers[0].entry if blockers else None,
        advice="netswap blockers shows what is suspended; push again with a longer --timeout",
    )
