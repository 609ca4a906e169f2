"""What runs: the one command under way, who listens to it, and how its probation is decided."""

from __future__ import annotations

import asyncio

from netswap.supervisor.agreement import Decision, Phase, Stopped
from netswap.supervisor.results import Progress, Result, Tell
from netswap.supervisor.transaction import Transaction

__all__ = ["Running"]

_SAID = {
    Phase.PROBATION: "the canary is on probation",
    Phase.WATCHING: "it is on probation",
}


class Running:
    """``command`` from its begin to its ``result``; a decision may come before its transaction."""

    def __init__(self, command: str, tell: Tell) -> None:
        self.command = command
        self.result: Result | None = None
        self._listeners = [tell]
        self._over = asyncio.Event()
        self._transaction: Transaction | None = None
        self._decision: Decision | None = None
        self._stopped: Stopped | None = None

    def __str__(self) -> str:
        phase = None if self._transaction is None else self._transaction.agreement.phase
        return f"{self.command}: {_SAID[phase]}" if phase in _SAID else self.command

    @property
    def on_probation(self) -> bool:
        """Whether an operator has something to decide, now or as soon as it is swapped."""
        transaction = self._transaction
        return transaction is not None and transaction.plan.on_probation

    def tell(self, progress: Progress) -> None:
        """A line for everybody who listens."""
        for listener in self._listeners:
            listener(progress)

    def begin(self, transaction: Transaction) -> None:
        """From now on there is something to decide."""
        self._transaction = transaction
        if self._decision is not None:
            transaction.decide(self._decision)
        if self._stopped is not None:
            transaction.offer(self._stopped)

    def decide(self, decision: Decision) -> None:
        """Promote it or take it back, as soon as that can be."""
        self._decision = decision
        if self._transaction is not None:
            self._transaction.decide(decision)

    def stop(self, reason: str) -> None:
        """Abort it, at once or as soon as it has begun; too late is no error."""
        self._stopped = Stopped(reason)
        if self._transaction is not None:
            self._transaction.offer(self._stopped)

    def end(self) -> None:
        """It has ended, with its result or without."""
        self._over.set()

    async def wait_result(self, tell: Tell) -> Result | None:
        """Listen until it has ended; None when the supervisor failed inside."""
        self._listeners.append(tell)
        await self._over.wait()
        return self.result
