"""What of a transaction's first phase takes longer than a loop may be held.

Other code is imported in milliseconds, on the loop. An application brings a framework along, and
has something to start: the one happens in a thread, the other as a task. How long the loop was
held all the same is measured, and told with the push's result.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from netswap.channel import messages
from netswap.errors import AuthorError, DeadlinePassed
from netswap.events import Refusal, Stage
from netswap.hotswap import Change
from netswap.modules import Loaded
from netswap.stack import Host
from netswap.stack.service import prepares
from netswap.worker.apart import apart
from netswap.worker.gauges import Pulse
from netswap.worker.library import Library
from netswap.worker.startup import Startups
from netswap.worker.unable import hangs

__all__ = ["Slowly", "no_shadow"]

BEAT_S = 0.001
"""Seconds between two looks; what holds the loop for less is not seen."""


class Slowly:
    """For one transaction; times are of the loop's clock, ``stall_ns`` of the longest stall."""

    def __init__(
        self, host: Host, library: Library, startups: Startups, ask: messages.Prepare
    ) -> None:
        self.stall_ns = 0
        self._host = host
        self._library = library
        self._startups = startups
        self._ask = ask

    def left(self, until: float) -> float:
        """Seconds until then, to a tenth; at least one of these."""
        return max(0.1, round(until - self._host.loop.time(), 1))

    async def import_outside(self, until: float) -> Refusal | None:
        """What new applications import from elsewhere: it stays, whatever becomes of the push."""
        return await self._beside(self._library.import_outside, until)

    async def load(self, until: float) -> Refusal | None:
        """The applications' own code, which the rehearsal has tried."""
        return await self._beside(self._library.loading, until)

    async def start(self, changes: Iterable[Change], until: float) -> Refusal | None:
        """What the new code has to start, before anything is flipped; why it could not."""
        news = [change.new for change in changes]
        with Pulse(self._host.loop, BEAT_S) as pulse:
            refusal = await self._startups.start(news, until - self._host.loop.time())
        self.stall_ns = max(self.stall_ns, pulse.longest_ns)
        return refusal

    async def _beside(self, work: Callable[[str], Loaded | None], until: float) -> Refusal | None:
        loop = self._host.loop
        with Pulse(loop, BEAT_S) as pulse:
            try:
                for sha256 in self._library.new_applications(self._ask.target.values()):
                    loaded = await apart(functools.partial(work, sha256), until - loop.time())
                    if loaded is not None:
                        self._library.adopt(loaded)
            except AuthorError as error:
                return error.refusal
            except DeadlinePassed as error:
                return hangs(error)
        self.stall_ns = max(self.stall_ns, pulse.longest_ns)
        return None


def no_shadow(changes: Iterable[Change]) -> Refusal | None:
    """What has to be started can't be asked in a child, where nothing is."""
    kinds = [change.kind for change in changes if prepares(change.new)]
    if not kinds:
        return None
    reason = f"{kinds[0]} has something to start, which a shadow run has no loop for"
    advice = "push it without --shadow; --watch 10s tries it on real requests"
    return Refusal(Stage.PREPARE, reason, kind=kinds[0], advice=advice)
