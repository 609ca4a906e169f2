"""A server in one thread: supervisor, workers, journal, channels, and every crash they can have.

What decides is the real thing: the agreement, the transaction's driver, the participant, the
journal and what a restart reads from it. Made by hand are processes, time and the network:

* a worker is a participant, and what it would do: work that begins and ends when the test says;
* a channel is two queues, which end with the worker: what is on its way then is lost;
* killing the supervisor kills its workers (``netswap.worker.kinship``); it can be killed before,
  in the middle of and after a record, and between any two messages that it sends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from netswap.channel import messages
from netswap.events import Refusal, WorkerReceipt
from netswap.modules import Journal
from netswap.options import Options
from netswap.outcome import Outcome
from netswap.supervisor.agreement import (
    Agreement,
    Deadline,
    Event,
    Lost,
    Phase,
    Probation,
    Untouched,
)
from netswap.supervisor.transaction import Plan, Transaction
from netswap.supervisor.versions import Change, Record, Versions
from netswap.worker.participant import Act, Ask, Participant, Result, State

__all__ = ["Crash", "Supervisor", "Worker", "World"]

KIND = "k"
NO = Refusal("swap", "no")
PATIENCE = 2000
"""Steps within which everything must have settled."""


class Crash(BaseException):
    """The supervisor is killed here."""


class Worker:
    """The process in a slot. ``serves`` are the bundles of its live objects, of one kind.

    ``active`` is what it takes for committed; ``mixed`` the bundles that it was reported to serve
    besides.
    """

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.participant = Participant(slot)
        self.down: deque[messages.Message] = deque()
        self.up: deque[messages.Message] = deque([messages.Hello(slot, 0)])
        self.alive = True
        self.active = ""
        self.serves: frozenset[str] = frozenset()
        self.before: frozenset[str] | None = None
        self.mixed: set[str] = set()
        self.stuck = False
        self.stopped = False
        self.work: deque[Act] = deque()
        self.begun = False
        self.has_begun = self.expired = 0

    @property
    def booted(self) -> bool:
        """Whether it serves at all."""
        return self.alive and bool(self.active)

    @property
    def split(self) -> bool:
        """Whether two versions serve side by side on purpose, or because a flip is under way."""
        kept = self.participant.ask is not None and self.before is not None
        return kept and self.participant.state not in (State.SWAPPED, State.FAILED)

    def hear(self) -> None:
        """Take the next message of the supervisor."""
        message = self.down.popleft()
        if isinstance(message, messages.Boot):
            self.active = message.active[KIND]
            self.serves = frozenset([self.active])
            self.up.append(messages.Ready(self.slot))
        else:
            assert isinstance(message, Ask), message
            self.take_part(message)

    def take_part(self, event: Ask | Result) -> None:
        """As ``process`` does it."""
        for todo in self.participant.feed(event):
            if not isinstance(todo, Act):
                self.up.append(todo)
            elif todo is Act.STOP:
                self.stopped = True
            else:
                self.work.append(todo)

    def _begin_swap(self) -> None:
        """One whose time is over is not begun."""
        if self._tx <= self.expired:
            self.stopped = True
        else:
            self.has_begun = self._tx

    def begin(self) -> None:
        """The work in front is under way: from its first slice on both versions may serve."""
        assert self.participant.ask is not None
        self.begun = True
        if self.work[0] is Act.SWAP:
            self._begin_swap()
        if self.work[0] is Act.SWAP and not self.stopped:
            self.before = self.serves if self.before is None else self.before
            self.serves |= {self.participant.ask.target[KIND]}

    def end(self, well: bool, stuck: bool) -> None:
        """The work in front ends: well or not, and what can't go back is ``stuck``."""
        if not self.begun:
            self.begin()
        act, self.begun = self.work.popleft(), False
        result = _WORK[act](self, well and not self.stopped, stuck)
        self.stopped = self.stopped and not isinstance(result, Result)
        if result is not None:
            self.take_part(result)

    def _prepare(self, well: bool, _stuck: bool) -> Result:
        self.before, self.stuck = None, False
        if not well and not self.stopped:
            return messages.Refused(self._tx, self.slot, NO)
        return messages.Prepared(self._tx, self.slot, [], {KIND: 1}, 1)

    def _swap(self, well: bool, stuck: bool) -> Result:
        swap = self.participant.swap
        assert swap is not None
        assert self.participant.ask is not None
        target = frozenset(self.participant.ask.target.values())
        if well:
            assert self.before is not None
            self.serves = self.before | target if swap.canary else target
            receipt = WorkerReceipt(self.slot, {KIND: 1})
            return messages.Swapped(self._tx, self.slot, receipt, swap.canary)
        self._go_back(stuck)
        return messages.SwapFailed(self._tx, self.slot, NO, swap.canary)

    def _go_back(self, stuck: bool) -> None:
        assert self.participant.ask is not None
        if self.before is not None and not self.stuck:
            self.stuck = stuck
            target = self.participant.ask.target[KIND]
            self.serves = self.before | {target} if stuck else self.before

    def _close(self, well: bool, _stuck: bool) -> Result:
        if well:
            return messages.Held(self._tx, self.slot)
        return messages.SwapFailed(self._tx, self.slot, NO)

    def _watch(self, well: bool, _stuck: bool) -> Result:
        watch = self.participant.watch
        assert watch is not None
        if well or self.stopped:
            return messages.Watched(self._tx, self.slot, [], watch.canary)
        return messages.WatchFailed(self._tx, self.slot, NO, [], watch.canary)

    def _finish(self, _well: bool, _stuck: bool) -> Result:
        assert self.participant.ask is not None
        self.active, self.before = self.participant.ask.target[KIND], None
        return messages.Finished(self._tx, self.slot)

    def _revert(self, _well: bool, stuck: bool) -> Result:
        self._go_back(stuck)
        return messages.Reverted(self._tx, self.slot, NO if self.stuck else None)

    def _forget(self, _well: bool, _stuck: bool) -> None:
        if self.before is not None and not self.stuck:
            self.serves = self.before

    @property
    def _tx(self) -> int:
        assert self.participant.ask is not None
        return self.participant.ask.tx


_WORK: dict[Act, Callable[[Worker, bool, bool], Result | None]] = {
    Act.PREPARE: Worker._prepare,
    Act.SWAP: Worker._swap,
    Act.CLOSE: Worker._close,
    Act.WATCH: Worker._watch,
    Act.FINISH: Worker._finish,
    Act.REVERT: Worker._revert,
    Act.FORGET: Worker._forget,
}


class Supervisor:
    """One life of the supervisor over ``world``'s disk and workers."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.journal = Journal(world.path)
        self.journal.recover()
        self.versions = Versions(self.journal.read())
        self.transaction: Transaction | None = None
        self.slots: tuple[int, ...] = ()
        self.sent: list[messages.Message] = []
        self.heard: list[Event] = []
        self.waiting: list[int] = []
        self.booting: set[int] = set()
        self.serving: set[int] = set()

    @property
    def agreement(self) -> Agreement | None:
        """The transaction that is under way."""
        return None if self.transaction is None else self.transaction.agreement

    def push(self, probation: Probation) -> None:
        """Begin a transaction over all that serve."""
        tx = self.versions.next_tx
        target = f"b{tx}"
        change = Change(KIND, self.versions.active.get(KIND), target, 1)
        agreement = Agreement(tx, sorted(self.serving), probation=probation)
        self.sent, self.heard, self.slots = [], [], tuple(sorted(self.serving))
        canary = self.world.canary if probation.canary else None
        watch, by_hand = float(probation.watch), float(probation.by_hand)
        options = Options(canary=canary, watch=watch, by_hand=by_hand)
        plan = Plan("push", [change], options=options)
        self.transaction = Transaction(agreement, plan, self.send, self.append, lambda _: None)
        self.transaction.begin()
        self._look()

    def take(self, event: Event) -> None:
        """One event of the transaction."""
        if self.transaction is not None:
            self.heard.append(event)
            self.transaction.take(event)
            self._look()

    def _look(self) -> None:
        transaction = self.transaction
        if transaction is None or not transaction.agreement.done:
            return
        self.world.judge(self, transaction.agreement)
        self.transaction = None
        waiting, self.waiting = self.waiting, []
        for slot in waiting:
            self.boot(slot)

    def send(self, slot: int, message: messages.Message) -> None:
        """Into the channel; a worker that has died does not read it."""
        self.world.burn()
        self.sent.append(message)
        worker = self.world.workers[slot]
        if worker.alive:
            worker.down.append(message)

    def append(self, record: Record) -> None:
        """A record: refused by a full disk, or cut by a crash, or there and not acknowledged."""
        world = self.world
        world.burn()
        world.refuses -= 1
        if world.refuses == 0:
            raise OSError(28, "No space left on device")
        whole = world.path.stat().st_size
        self.journal.append(msgspec.to_builtins(record))
        try:
            world.burn()
        except Crash:
            torn = world.path.read_bytes()
            world.path.write_bytes(torn[: (whole + len(torn)) // 2])
            raise
        world.burn()
        self.versions.apply(record)

    def hear(self, slot: int) -> None:
        """Take the next message of a worker."""
        message: Any = self.world.workers[slot].up.popleft()
        if isinstance(message, messages.Hello):
            if self.transaction is None or self.world.boots_at_any_time:
                self.boot(slot)
            else:
                self.waiting.append(slot)
        elif isinstance(message, messages.Ready):
            self.booting.discard(slot)
            self.serving.add(slot)
        else:
            self.take(message)

    def boot(self, slot: int) -> None:
        """A worker boots into the committed set."""
        self.booting.add(slot)
        active = dict(self.versions.active)
        self.world.workers[slot].down.append(messages.Boot([slot], [], active, "", {}))

    def lost(self, slot: int) -> None:
        """The end of a worker is seen; what it said last is lost, and it has a successor."""
        self.booting.discard(slot)
        self.serving.discard(slot)
        if slot in self.waiting:
            self.waiting.remove(slot)
        self.world.workers[slot] = Worker(slot)
        self.take(Lost(slot))


class World:
    """Everything, and what must be true of it."""

    boots_at_any_time = False

    def __init__(self, folder: Path, slots: int, canary: str | None) -> None:
        self.path = folder / "journal"
        self.canary = canary
        self.refuses = 0
        self.fuse: int | None = None
        self.outcomes: list[Outcome] = []
        with_journal = Journal(self.path)
        now = 0.0
        first = Record("begin", 1, now, "serve", [Change(KIND, None, "b1", 1)], boot=True)
        for record in (first, Record("commit", 1, now)):
            with_journal.append(msgspec.to_builtins(record))
        with_journal.close()
        self.workers: dict[int, Worker] = {slot: Worker(slot) for slot in range(slots)}
        self.supervisor: Supervisor | None = Supervisor(self)

    # faults

    def burn(self) -> None:
        """A point at which the supervisor may be killed."""
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                raise Crash

    def at_risk(self, act: Callable[[], None]) -> None:
        """Do ``act``; the supervisor is killed when its fuse burns down meanwhile."""
        try:
            act()
        except Crash:
            self.kill_supervisor()

    def kill_supervisor(self) -> None:
        """And its workers with it."""
        assert self.supervisor is not None
        self.supervisor.journal.close()
        self.supervisor, self.fuse = None, None
        for worker in self.workers.values():
            self.kill(worker)

    def kill(self, worker: Worker) -> None:
        """What it has not read is gone with it."""
        worker.alive = False
        worker.down.clear()
        worker.work.clear()

    def restart(self) -> None:
        """The next supervisor, with workers of its own."""
        self.workers = {slot: Worker(slot) for slot in self.workers}
        self.supervisor = Supervisor(self)

    def close(self) -> None:
        """Nothing is left open."""
        if self.supervisor is not None:
            self.supervisor.journal.close()

    # what must be true

    def committed(self) -> str:
        """What the disk says, to whoever reads it now."""
        return Versions(Journal(self.path).read()).active[KIND]

    def check(self) -> None:
        """At every moment: one committed set, and each worker serves it or what is being tried."""
        committed = self.committed()
        supervisor = self.supervisor
        trying = set()
        if supervisor is not None and supervisor.transaction is not None:
            trying = set(supervisor.transaction.plan.target.values())
        for worker in self.workers.values():
            if not worker.booted:
                continue
            allowed = {committed} | trying | worker.mixed
            where = f"worker {worker.slot} serves {set(worker.serves)}, allowed are {allowed}"
            assert worker.serves, f"worker {worker.slot} serves nothing"
            assert worker.serves <= allowed, where
            one = len(worker.serves) == 1
            assert one or worker.split or worker.stuck or worker.mixed, f"two versions: {where}"
            known = worker.active == committed or worker.serves - worker.mixed <= {committed}
            assert known, f"{where}; {worker.active} is committed there, {committed} on the disk"

    def judge(self, supervisor: Supervisor, agreement: Agreement) -> None:
        """What the operator is told at the end is what has happened."""
        records = [row for row in Journal(self.path).read() if row["tx"] == agreement.tx]
        committed = any(row["type"] == "commit" for row in records)
        outcome = agreement.outcome
        self.outcomes.append(outcome)
        assert committed is (outcome is Outcome.DONE), f"{outcome}, but the journal has {records}"
        told = any(isinstance(one, messages.Swap | messages.Hold) for one in supervisor.sent)
        if outcome in (Outcome.REFUSED, Outcome.ROLLED_BACK):
            assert told is (outcome is Outcome.ROLLED_BACK), f"{outcome}: swap sent: {told}"
        for record in records:
            if record["type"] == "abort":
                assert record["outcome"] == outcome.value
        if outcome is Outcome.MIXED:
            self._judge_mixed(supervisor, agreement)
        elif outcome is not Outcome.DONE:
            self._judge_aborted(supervisor, agreement)

    def _judge_aborted(self, supervisor: Supervisor, agreement: Agreement) -> None:
        """Whoever was told to prepare has been told to revert, and has done so if time was left."""
        prepared = any(isinstance(one, messages.Prepare) for one in supervisor.sent)
        late = Deadline(Phase.REVERTING) in supervisor.heard
        asked = {slot for slot in agreement.live if Untouched(slot) not in supervisor.heard}
        for slot in asked if prepared and not late else ():
            back = messages.Reverted(agreement.tx, slot)
            assert back in supervisor.heard, f"worker {slot} was not asked to revert"

    def _judge_mixed(self, supervisor: Supervisor, agreement: Agreement) -> None:
        assert supervisor.transaction is not None
        back = messages.Reverted
        for slot in agreement.stuck:
            clean = back(agreement.tx, slot) in supervisor.heard
            assert not clean, f"worker {slot} said that it serves the old code, and is called mixed"
            self.workers[slot].mixed |= set(supervisor.transaction.plan.target.values())
        assert agreement.stuck, "mixed, but nowhere"

    # what happens next

    def possible(self) -> list[Callable[[], None]]:
        """All that can happen next without a fault, each as something to do."""
        supervisor = self.supervisor
        if supervisor is None:
            return [self.restart]
        found: list[Callable[[], None]] = []
        for worker in self.workers.values():
            slot = worker.slot
            if not worker.alive:
                found.append(partial(self.at_risk, partial(supervisor.lost, slot)))
            if worker.down and worker.alive:
                found.append(worker.hear)
            if worker.work and not worker.begun:
                found.append(worker.begin)
            elif worker.work and worker.alive:
                found.append(partial(worker.end, True, False))
            if worker.up:
                found.append(partial(self.at_risk, partial(supervisor.hear, slot)))
        return found

    def deadline(self) -> None:
        """The time for the present phase is over; who has begun no swap by then never will."""
        assert self.supervisor is not None
        agreement = self.supervisor.agreement
        assert agreement is not None
        phase, waiting = agreement.phase, sorted(agreement.waiting)
        if phase in (Phase.CANARY, Phase.SWAPPING, Phase.REVERTING):
            for worker in self.workers.values():
                worker.expired = agreement.tx
        for slot in waiting if phase is Phase.REVERTING else ():
            if self.workers[slot].has_begun != agreement.tx:
                self.supervisor.take(Untouched(slot))
        if agreement.phase is phase:
            self.supervisor.take(Deadline(phase))

    def settle(self, deadlines: bool = False) -> None:
        """No more faults: whatever is under way goes on to its end, with the help of deadlines."""
        self.refuses, self.fuse = 0, None
        for _ in range(PATIENCE):
            if possible := self.possible():
                possible[0]()
            elif self.supervisor is None or self.supervisor.agreement is None:
                return
            else:
                waiting = self.supervisor.agreement
                assert deadlines, f"{waiting.phase} waits for {waiting.waiting} for ever"
                self.deadline()
        raise AssertionError(f"nothing settles: {[vars(w) for w in self.workers.values()]}")

    def check_settled(self) -> None:
        """When all is quiet every slot has a worker, and each serves the committed set alone."""
        self.check()
        committed = self.committed()
        for worker in self.workers.values():
            assert worker.booted, f"worker {worker.slot} serves nothing"
            assert worker.serves == {committed} or worker.mixed, (worker.slot, worker.serves)
