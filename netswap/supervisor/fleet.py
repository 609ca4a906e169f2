"""The fleet: all worker slots, what they tell, and who may boot when.

A worker boots into the committed set, so none may boot while a transaction is deciding what that
set is: its Hello waits until the transaction has ended. And a transaction waits for those that
were booted and have not said yet that they serve.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from netswap.channel import messages
from netswap.events import Stuck
from netswap.logs import get_logger
from netswap.supervisor.agreement import Lost, Vote
from netswap.supervisor.enquiry import Enquiry
from netswap.supervisor.lifecycle import WorkerState
from netswap.supervisor.slots import Slot, SlotSettings
from netswap.supervisor.transaction import Lookout, Transaction

__all__ = ["Fleet"]

log = get_logger("netswap.supervisor")

HEARTBEAT_CHECK = 1.0
KILL_AFTER_DRAIN = 2.0


class Fleet(Lookout):
    """The slots, in the order of their numbers; ``boot(slot)`` makes the first message to one."""

    def __init__(
        self, settings: Sequence[SlotSettings], boot: Callable[[int], messages.Boot]
    ) -> None:
        self.slots = [Slot(number, one, self) for number, one in enumerate(settings)]
        self.enquiry = Enquiry()
        self._boot = boot
        self._transaction: Transaction | None = None
        self._waiting_for_boot: list[Slot] = []
        self._changed = asyncio.Event()
        self._heartbeats: asyncio.Task[None] | None = None

    # -- what slots tell --

    def on_hello(self, slot: Slot) -> None:
        """A worker waits for its Boot."""
        if self._transaction is not None:
            self._waiting_for_boot.append(slot)
        else:
            slot.boot(self._boot(slot.number))

    def on_ready(self, slot: Slot) -> None:
        """The worker accepts."""
        log.info("worker serves", worker=slot.number, pid=slot.pid)
        self.wake()

    def on_message(self, slot: Slot, message: messages.Message) -> None:
        """Votes go to the transaction, answers to the enquiry."""
        if isinstance(message, messages.Answer):
            self.enquiry.on_answer(message)
        elif isinstance(message, Vote | messages.Begun) and self._transaction is not None:
            self._transaction.offer(message)

    def on_dead(self, slot: Slot) -> None:
        """The worker ended."""
        if self._transaction is not None:
            self._transaction.offer(Lost(slot.number))
        if slot in self._waiting_for_boot:
            self._waiting_for_boot.remove(slot)
        self.enquiry.on_dead(slot.number)
        self.wake()

    # -- what the supervisor does with them --

    def start(self) -> None:
        """Keep a worker in every slot from now on."""
        for slot in self.slots:
            slot.start()
        self._heartbeats = asyncio.create_task(self._watch_heartbeats(), name="heartbeats")

    async def _watch_heartbeats(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_CHECK)
            await asyncio.gather(*(slot.check_heartbeat() for slot in self.slots))

    def send(self, slot: int, message: messages.Message) -> None:
        """Queue ``message`` for the worker of ``slot``; one that can't be reached will be lost."""
        self.slots[slot].send(message)

    def silence(self, slot: int) -> float:
        """Seconds since the worker of ``slot`` was heard."""
        return self.slots[slot].silence

    async def stuck(self, slots: Iterable[int]) -> list[Stuck]:
        """What those workers do that answer nobody; that takes a moment."""
        return await asyncio.gather(*(self.slots[slot].stuck() for slot in sorted(slots)))

    def serving(self) -> list[Slot]:
        """The slots whose worker accepts."""
        return [slot for slot in self.slots if slot.state is WorkerState.SERVING]

    def booting(self) -> list[int]:
        """The slots whose worker was told the present set and does not serve it yet."""
        return [slot.number for slot in self.slots if slot.booting]

    def wake(self) -> None:
        """Something changed that ``wait_changed`` waits for."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_changed(self) -> None:
        """Return when a worker has become ready or has died, or a transaction has ended."""
        await self._changed.wait()

    async def wait_booted(self, timeout: float) -> bool:
        """Wait until nobody is booting; False when that takes longer than ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while self.booting():
                    await self.wait_changed()
        except TimeoutError:
            return False
        return True

    async def carry_out(self, transaction: Transaction) -> None:
        """Run ``transaction``; nobody boots meanwhile."""
        self._transaction = transaction
        try:
            await transaction.run()
        finally:
            self._transaction = None
            waiting, self._waiting_for_boot = self._waiting_for_boot, []
            for slot in waiting:
                slot.boot(self._boot(slot.number))

    async def drain(self, limit: float) -> None:
        """Return when every worker has ended; those that take longer than ``limit`` are killed."""
        for slot in self.slots:
            slot.drain(limit)
        ended = asyncio.gather(*(slot.wait_ended() for slot in self.slots))
        try:
            await asyncio.wait_for(asyncio.shield(ended), limit + KILL_AFTER_DRAIN)
        except TimeoutError:
            late = [slot.number for slot in self.slots if slot.state is not WorkerState.DEAD]
            log.warning("drain limit passed, workers are killed", workers=late)
            self.kill()
            await ended
        await self._end_heartbeats()

    async def abandon(self) -> None:
        """End every worker at once and return when they have ended."""
        for slot in self.slots:
            slot.drain(0)
            slot.kill()
        await asyncio.gather(*(slot.wait_ended() for slot in self.slots))
        await self._end_heartbeats()

    def kill(self) -> None:
        """End every worker at once."""
        for slot in self.slots:
            slot.kill()

    async def _end_heartbeats(self) -> None:
        task, self._heartbeats = self._heartbeats, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
