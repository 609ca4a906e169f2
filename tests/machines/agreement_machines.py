"""State machines over ``agreement_world``: what can happen to a server, as rules.

``ReliableChannel`` is what a socket pair does: messages arrive once and in order, or are lost when
one end dies. ``HarshNetwork`` also loses, doubles and reorders them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from netswap.outcome import Outcome
from netswap.supervisor.agreement import Deadline, Decision, Phase, Probation, Stopped
from netswap.worker.participant import Ask, Result, State
from tests.machines.agreement_world import Supervisor, Worker, World

PICK = st.integers(0, 11)
"""Which of those that can: the same number whatever there is, so that examples shrink well."""
PICKS = st.lists(PICK, min_size=1, max_size=8)
PLAIN, BOTH = Probation(), Probation(canary=True, watch=True)
ON_THE_WAY: dict[Phase, list[Probation]] = {
    Phase.PREPARING: [PLAIN, BOTH],
    Phase.CANARY: [Probation(canary=True)],
    Phase.PROBATION: [BOTH, Probation(canary=True, by_hand=True)],
    Phase.HOLDING: [Probation(atomic=True)],
    Phase.SWAPPING: [PLAIN, Probation(canary=True)],
    Phase.WATCHING: [Probation(watch=True), Probation(watch=True, atomic=True)],
    Phase.FINISHING: [PLAIN, BOTH],
}
"""The phases in which a transaction can be found between two events, and those that have them."""
GOALS = st.sampled_from([(phase, one) for phase, some in ON_THE_WAY.items() for one in some])
STEPS = 80


class ReliableChannel(RuleBasedStateMachine):
    """One server, from its first boot to a last push that must go in."""

    deadlines_help = False
    """Whether deadlines are needed to come to an end once faults are over."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name), 1, None)
        self.kept: list[tuple[Any, Any]] = []

    @initialize(slots=st.integers(1, 4), booted=st.sampled_from([True, True, True, False]))
    def start(self, slots: int, booted: bool) -> None:
        """A server of one to four workers, mostly with all of them there already."""
        self.world.close()
        self.folder.cleanup()
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name), slots, "10%")
        if booted:
            self.world.settle()

    @property
    def up(self) -> Supervisor:
        """The supervisor, where a rule needs one."""
        assert self.world.supervisor is not None
        return self.world.supervisor

    def workers(self, **having: bool) -> list[Worker]:
        """Those of which all of this is true."""
        return [
            worker
            for worker in self.world.workers.values()
            if all(bool(getattr(worker, name)) is value for name, value in having.items())
        ]

    def can_push(self) -> bool:
        supervisor = self.world.supervisor
        return (
            supervisor is not None
            and supervisor.transaction is None
            and not supervisor.booting
            and bool(supervisor.serving)
        )

    def agreeing(self) -> bool:
        return self.world.supervisor is not None and self.up.transaction is not None

    # what happens without faults

    @rule(goal=GOALS, picks=PICKS, fault=st.integers(0, 44), pick=PICK)
    def come_to(
        self, goal: tuple[Phase, Probation], picks: list[int], fault: int, pick: int
    ) -> None:
        """A transaction, a new one if none is under way, comes to a phase; then there is a fault.

        A little more or nothing at all may happen in between.
        """
        self.reach(*goal, picks)
        for more in picks[: pick // 2]:
            self.step(more)
        self.faults[fault % len(self.faults)](self, pick)

    def reach(self, phase: Phase, probation: Probation, picks: list[int]) -> None:
        """Go on until the transaction stands in ``phase``, if it can still get there."""
        for number in range(STEPS):
            agreement = self.up.agreement if self.agreeing() else None
            if agreement is not None and agreement.phase is phase:
                return
            if self.can_push():
                self.world.at_risk(partial(self.up.push, probation))
            elif not self.step(picks[number % len(picks)]):
                if not self.deadlines_help or agreement is None:
                    return
                self.world.at_risk(self.world.deadline)

    @rule(picks=PICKS)
    def go_on(self, picks: list[int]) -> None:
        """Messages arrive, work begins and ends well, deaths are seen: in any order."""
        for pick in picks:
            self.step(pick)

    def step(self, pick: int) -> bool:
        """One of the things that can happen without a fault; False when there is none."""
        if possible := self.world.possible():
            possible[pick % len(possible)]()
            self.world.check()
        return bool(possible)

    # faults, each with a number that chooses where

    def nothing(self, pick: int) -> None:
        """No fault."""

    def decide(self, pick: int) -> None:
        """An operator ends a probation; to promote it comes about by itself, too."""
        if self.agreeing():
            self.world.at_risk(lambda: self.up.take(Decision(pick % 4 == 0, "seen enough")))

    def abort(self, pick: int) -> None:
        """An operator does not want to wait any longer."""
        if self.agreeing():
            self.world.at_risk(lambda: self.up.take(Stopped("waited long enough")))

    def fail(self, pick: int) -> None:
        """The next work does not end well; what was flipped goes back, or is stuck."""
        while not (ready := self.workers(alive=True, work=True)) and self.step(pick):
            pass
        if ready:
            ready[pick % len(ready)].end(False, pick % 3 == 0)

    def late(self, pick: int) -> None:
        """The time for the phase is over."""
        if self.agreeing():
            self.world.at_risk(self.world.deadline)

    def much_too_late(self, pick: int) -> None:
        """A deadline of another phase fires."""
        if self.agreeing():
            event = Deadline(list(Phase)[pick])
            self.world.at_risk(lambda: self.up.take(event))

    def kill_worker(self, pick: int) -> None:
        """kill -9; the supervisor does not know yet."""
        if ready := self.workers(alive=True):
            self.world.kill(ready[pick % len(ready)])

    def kill_supervisor(self, pick: int) -> None:
        """kill -9: now, or before or after one of its next records and messages."""
        if self.world.supervisor is not None and pick == 0:
            self.world.kill_supervisor()
        elif self.world.supervisor is not None:
            self.world.fuse = pick - 1

    def refuse_record(self, pick: int) -> None:
        """The disk is full when one of the next records is written."""
        self.world.refuses = 1 + pick % 3

    faults: ClassVar[list[Callable[[Any, int], None]]] = [
        nothing, decide, abort, fail, late, much_too_late, kill_worker, kill_supervisor,
        refuse_record,
    ]  # fmt: skip

    @rule(fault=st.integers(0, 44), pick=PICK)
    def another(self, fault: int, pick: int) -> None:
        """Faults do not come alone."""
        self.faults[fault % len(self.faults)](self, pick)

    # what always holds

    @invariant()
    def one_committed_set_is_served(self) -> None:
        """Never two committed sets, never a worker that serves neither."""
        self.world.check()

    def teardown(self) -> None:
        """Whatever happened, it comes to an end, and the next push goes in everywhere."""
        try:
            self.world.settle(self.deadlines_help)
            self.world.check_settled()
            self.all_idle()
            self.last_push()
        finally:
            self.world.close()
            self.folder.cleanup()

    def all_idle(self) -> None:
        """In a channel that loses nothing nobody is left in doubt."""
        states = {worker.participant.state for worker in self.world.workers.values()}
        assert states == {State.IDLE}, states

    def last_push(self) -> None:
        """The proof that nothing is in the way."""
        self.up.push(Probation())
        self.world.settle(self.deadlines_help)
        assert self.world.outcomes[-1] is Outcome.DONE
        for worker in self.world.workers.values():
            assert worker.serves == {self.world.committed()}


class HarshNetwork(ReliableChannel):
    """Messages of a transaction may be lost, doubled and overtaken too."""

    deadlines_help = True

    def on_the_way(self) -> list[tuple[Any, int]]:
        """Every message on its way that belongs to a transaction: its queue and its place there."""
        return [
            (queue, place)
            for worker in self.world.workers.values()
            for queue in (worker.down, worker.up)
            for place, message in enumerate(queue)
            if isinstance(message, Ask | Result)
        ]

    def lose(self, pick: int) -> None:
        """One never arrives."""
        if ready := self.on_the_way():
            queue, place = ready[pick % len(ready)]
            del queue[place]

    def double(self, pick: int) -> None:
        """One arrives now, and will arrive again."""
        if ready := self.on_the_way():
            queue, place = ready[pick % len(ready)]
            self.kept.append((queue, queue[place]))

    def arrive_again(self, pick: int) -> None:
        """And there it is."""
        if self.kept:
            queue, message = self.kept.pop(pick % len(self.kept))
            queue.append(message)

    def delay(self, pick: int) -> None:
        """One is overtaken by all that is on its way now."""
        if ready := self.on_the_way():
            queue, place = ready[pick % len(ready)]
            message = queue[place]
            del queue[place]
            queue.append(message)

    faults: ClassVar[list[Callable[[Any, int], None]]] = [
        *ReliableChannel.faults, lose, lose, double, double, delay, arrive_again
    ]  # fmt: skip

    def all_idle(self) -> None:
        """Who is in doubt knows it, and serves the committed set."""

    def last_push(self) -> None:
        """It goes in at once, or is refused by workers that are in doubt; those are ended."""
        self.up.push(Probation())
        self.world.settle(self.deadlines_help)
        if self.world.outcomes[-1] is not Outcome.DONE:
            doubting = self.workers(alive=True)
            doubting = [one for one in doubting if one.participant.state is not State.IDLE]
            assert doubting, "refused, and nobody is in doubt"
            for worker in doubting:
                self.world.kill(worker)
            self.world.settle()
            super().last_push()


@contextmanager
def no_fsync() -> Iterator[None]:
    """What is written is not synced to a real disk: only our own crashes count here."""
    with mock.patch("os.fsync"):
        yield


def search(machine: type[RuleBasedStateMachine], examples: int, **more: Any) -> None:
    """Run ``machine`` with so many examples."""
    chosen = settings(max_examples=examples, stateful_step_count=20, **more)
    with no_fsync():
        run_state_machine_as_test(machine, settings=chosen)  # type: ignore[no-untyped-call]
