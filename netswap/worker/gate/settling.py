"""Settling: when the workers that serve nothing have nothing more to say to each other either.

Behind a closed gate no client is heard and no timer fires, but a request that was made before may
still be on its way to another worker, and its answer on the way back. If it came to rest at the
other gate, it would be played to the version after: a question of the one, answered by the other.
So other workers are heard until none of them has anything more to say, and only then is the first
object flipped.

That is found in *turns*. In each, a worker that is at rest says ``Quiet`` to all others, and
whether it was *idle*: it has neither heard nor said anything since its last one. It takes its next
turn when it has heard all others. They have settled after a turn in which all were idle. For links
keep the order: what was sent before somebody's last turn had been heard before this one, and since
then nobody has sent anything; what might still be said could only be an answer to something, and
there is nothing. All workers see the same turns, so all of them end with the same one.

What this does not know: gates, what is swapped, deadlines. A worker that dies does not answer any
more; the supervisor says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

from netswap.channel.messages import Quiet

__all__ = ["RETURN_S", "Peers", "Settling", "Turns"]

RETURN_S = 2.0
"""Seconds that the way back waits for what workers ask each other."""


class Peers(Protocol):
    """What settling asks of the mesh."""

    @property
    def said(self) -> int:
        """How much was heard and said until now."""

    @property
    def answering(self) -> int:
        """How many questions of others are being answered."""

    @property
    def turns(self) -> Turns:
        """What the others have said of their turns."""

    def tell(self, slot: int, message: Quiet) -> None:
        """Send it."""


class Turns:
    """What was heard of turns, of the newest transaction: who was idle in which."""

    def __init__(self) -> None:
        self.mine = 0
        self.kick = asyncio.Event()
        self._tx = 0
        self._idle: dict[tuple[int, int], bool] = {}

    def of(self, tx: int) -> None:
        """Begin with a transaction, unless that is done."""
        if tx > self._tx:
            self._tx, self.mine, self._idle = tx, 0, {}

    def heard(self, slot: int, message: Quiet) -> None:
        """A worker has taken its turn."""
        self.of(message.tx)
        if message.tx == self._tx:
            self._idle[slot, message.turn] = message.idle
            self.kick.set()

    def idle(self, slot: int, turn: int) -> bool | None:
        """Whether it was idle in that turn, None when it has not said so yet."""
        return self._idle.get((slot, turn))


class Settling:
    """Of the workers in ``slots``, for the one in ``slot``; without peers it is the only one."""

    def __init__(self, peers: Peers | None, slot: int, slots: Iterable[int], tx: int) -> None:
        self.over = False
        self._peers = peers
        self._turns = Turns() if peers is None else peers.turns
        self._others = [other for other in slots if other != slot and peers is not None]
        self._tx = tx
        self._idle = False
        self._known: int | None = None
        self._turns.of(tx)

    def take_turn(self, done: int) -> None:
        """Say that this worker is at rest, having ``done`` so much by itself until now."""
        known = done + (0 if self._peers is None else self._peers.said)
        self._idle = known == self._known
        self._known = known
        self._turns.mine += 1
        for slot in self._others:
            assert self._peers is not None
            self._peers.tell(slot, Quiet(self._tx, self._turns.mine, self._idle))

    def heard_all(self) -> bool:
        """Whether all others have taken this turn too; ``over`` says whether it was the last."""
        if self.missing:
            return False
        self.over = self.ended
        return True

    @property
    def ended(self) -> bool:
        """Whether all were idle in this turn: what is heard now was said after the last.

        True from the message on that says so, before anybody waiting for it has woken: the next one
        of the same read may be of a worker that has flipped already.
        """
        turns = self._turns
        return self._idle and all(turns.idle(slot, turns.mine) for slot in self._others)

    @property
    def missing(self) -> list[int]:
        """Those that have not taken this turn."""
        turns = self._turns
        return [slot for slot in self._others if turns.idle(slot, turns.mine) is None]

    async def wait(self, seconds: float) -> None:
        """Until somebody has taken a turn, or for so long."""
        self._turns.kick.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._turns.kick.wait(), seconds)
