"""The two-phase agreement: the product of phases and events, and any interleaving of both."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from netswap.channel import messages
from netswap.events import Refusal, VerdictLine, WorkerReceipt
from netswap.outcome import Outcome
from netswap.supervisor.agreement import (
    FINAL,
    TRANSITIONS,
    Act,
    Agreement,
    Deadline,
    Event,
    Lost,
    Phase,
    Step,
    Written,
)

NO = Refusal("prepare", "no", file="v2.py", line=3)
TX = 7


def prepared(slot: int, tx: int = TX) -> messages.Prepared:
    return messages.Prepared(tx, slot, [VerdictLine("k", "as is", "same", 1, 1)], {"k": 2})


def swapped(slot: int, tx: int = TX) -> messages.Swapped:
    return messages.Swapped(tx, slot, WorkerReceipt(slot, {"k": 2}))


def at(phase: Phase) -> Agreement:
    """An agreement of two workers that stands at the beginning of ``phase``."""
    agreement = Agreement(TX, [0, 1])
    agreement.begin()
    for event in WAY[phase]:
        agreement.feed(event)
    assert agreement.phase is phase
    return agreement


_PREPARING: list[Event] = [Written()]
_SWAPPING: list[Event] = [*_PREPARING, prepared(0), prepared(1)]
_REVERTING: list[Event] = [*_SWAPPING, messages.SwapFailed(TX, 0, NO)]
WAY: dict[Phase, list[Event]] = {
    Phase.OPENING: [],
    Phase.PREPARING: _PREPARING,
    Phase.SWAPPING: _SWAPPING,
    Phase.FINISHING: [*_SWAPPING, swapped(0), swapped(1), Written()],
    Phase.COMMITTING: [*_SWAPPING, swapped(0), swapped(1)],
    Phase.REVERTING: _REVERTING,
    Phase.COMMITTED: [
        *_SWAPPING,
        swapped(0),
        swapped(1),
        Written(),
        messages.Finished(TX, 0),
        messages.Finished(TX, 1),
    ],
    Phase.ABORTED: [*_REVERTING, messages.Reverted(TX, 0), messages.Reverted(TX, 1)],
    Phase.MIXED: [*_REVERTING, messages.Reverted(TX, 0, NO), messages.Reverted(TX, 1)],
}
YES: dict[Phase, type] = {
    Phase.PREPARING: messages.Prepared,
    Phase.SWAPPING: messages.Swapped,
    Phase.FINISHING: messages.Finished,
    Phase.REVERTING: messages.Reverted,
}
EVENTS: dict[str, Event] = {
    "prepared": prepared(0),
    "refused": messages.Refused(TX, 0, NO),
    "swapped": swapped(0),
    "swap failed": messages.SwapFailed(TX, 0, NO),
    "finished": messages.Finished(TX, 0),
    "reverted": messages.Reverted(TX, 0),
    "lost": Lost(0),
    "written": Written(),
    "unwritten": Written(False, "disk full"),
}
# One event from one of two workers: where it leads, for the pairs in which it leads anywhere.
MOVES: dict[tuple[Phase, str], Phase] = {
    (Phase.OPENING, "written"): Phase.PREPARING,
    (Phase.OPENING, "unwritten"): Phase.ABORTED,
    (Phase.PREPARING, "refused"): Phase.REVERTING,
    (Phase.PREPARING, "lost"): Phase.REVERTING,
    (Phase.SWAPPING, "swap failed"): Phase.REVERTING,
    (Phase.SWAPPING, "lost"): Phase.REVERTING,
    (Phase.COMMITTING, "written"): Phase.FINISHING,
    (Phase.COMMITTING, "unwritten"): Phase.REVERTING,
}


def test_the_product_of_phases_and_events_is_complete() -> None:
    """Every phase and every event that exists is walked below."""
    assert set(WAY) == set(Phase)
    assert {phase for phase, _ in TRANSITIONS} == set(Phase) - FINAL


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("event", EVENTS)
def test_every_event_in_every_phase(phase: Phase, event: str) -> None:
    """An event goes where the table says; one that does not belong changes nothing."""
    agreement = at(phase)
    waiting = set(agreement.waiting)
    acts = agreement.feed(EVENTS[event])
    assert agreement.phase is MOVES.get((phase, event), phase)
    counts = isinstance(EVENTS[event], YES.get(phase, ())) or event == "lost"
    if (phase, event) not in MOVES:
        assert acts == []
        assert agreement.waiting == (waiting - {0} if counts else waiting)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("late", Phase)
def test_a_deadline_counts_in_its_own_phase_only(phase: Phase, late: Phase) -> None:
    """A timer that fires too late for its phase changes nothing in the next one."""
    agreement = at(phase)
    agreement.feed(Deadline(late))
    moves = phase is late and (phase, Step.LATE) in TRANSITIONS
    assert agreement.phase is (TRANSITIONS[phase, Step.LATE] if moves else phase)


def run(agreement: Agreement, *events: Event) -> list[Act]:
    acts = agreement.begin()
    for event in events:
        acts += agreement.feed(event)
    return acts


def test_the_whole_way_to_a_commit() -> None:
    """Begin is journaled before anybody hears of it, commit after all swapped, then they finish."""
    agreement = Agreement(TX, [0, 1])
    acts = run(agreement, *WAY[Phase.COMMITTED])
    assert acts == [
        Act.JOURNAL_BEGIN,
        Act.SEND_PREPARE,
        Act.SEND_SWAP,
        Act.JOURNAL_COMMIT,
        Act.SEND_FINISH,
        Act.DONE,
    ]
    assert agreement.outcome is Outcome.DONE
    assert set(agreement.receipts) == {0, 1}


def test_a_refusal_touches_nothing() -> None:
    """One refusal in the first phase takes back all, and nobody was told to swap."""
    agreement = Agreement(TX, [0, 1])
    refused = messages.Refused(TX, 1, NO)
    reverted = messages.Reverted(TX, 0), messages.Reverted(TX, 1)
    acts = run(agreement, Written(), prepared(0), refused, *reverted)
    assert acts == [
        Act.JOURNAL_BEGIN,
        Act.SEND_PREPARE,
        Act.SEND_REVERT,
        Act.JOURNAL_ABORT,
        Act.DONE,
    ]
    assert agreement.outcome is Outcome.REFUSED
    assert agreement.refusals == [NO]


def test_a_failure_in_the_second_phase_rolls_back() -> None:
    """One failed swap takes back all of them."""
    agreement = Agreement(TX, [0, 1])
    run(agreement, *WAY[Phase.ABORTED])
    assert agreement.outcome is Outcome.ROLLED_BACK


def test_a_worker_that_cannot_revert_is_named() -> None:
    """Mixed versions are their own outcome, with the worker in which they are mixed."""
    agreement = Agreement(TX, [0, 1])
    run(agreement, *WAY[Phase.MIXED])
    assert agreement.outcome is Outcome.MIXED
    assert agreement.stuck == {0}


def test_silence_while_reverting_is_mixed_only_if_a_swap_was_asked_for() -> None:
    """A worker that hangs while it prepares has touched nothing."""
    preparing = Agreement(TX, [0, 1])
    run(preparing, Written(), Deadline(Phase.PREPARING), Deadline(Phase.REVERTING))
    assert preparing.outcome is Outcome.REFUSED
    swapping = Agreement(TX, [0, 1])
    run(swapping, *_REVERTING, messages.Reverted(TX, 0), Deadline(Phase.REVERTING))
    assert swapping.outcome is Outcome.MIXED
    assert swapping.stuck == {1}


def test_a_worker_that_dies_while_reverting_is_not_mixed() -> None:
    """Its successor boots into the committed set."""
    agreement = Agreement(TX, [0, 1])
    run(agreement, *_REVERTING, messages.Reverted(TX, 0, NO), Lost(0), messages.Reverted(TX, 1))
    assert agreement.outcome is Outcome.ROLLED_BACK


def test_a_dry_run_swaps_nothing_and_writes_nothing() -> None:
    """The first phase is taken back at once."""
    agreement = Agreement(TX, [0, 1], dry_run=True)
    reverted = messages.Reverted(TX, 0), messages.Reverted(TX, 1)
    acts = run(agreement, prepared(0), prepared(1), *reverted)
    assert acts == [Act.SEND_PREPARE, Act.SEND_REVERT, Act.DONE]
    assert agreement.outcome is Outcome.DONE


def test_a_journal_that_cannot_be_written_stops_before_anything_is_sent() -> None:
    """No record, no transaction."""
    agreement = Agreement(TX, [0])
    acts = run(agreement, Written(False, "No space left on device"))
    assert Act.SEND_PREPARE not in acts
    assert agreement.outcome is Outcome.REFUSED
    assert "No space left" in str(agreement.refusals[0])


def test_an_agreement_without_workers_is_no_agreement() -> None:
    """Nobody's consent is not everybody's."""
    with pytest.raises(ValueError, match="at least one worker"):
        Agreement(TX, [])


SLOTS = 3
slots = st.integers(min_value=0, max_value=SLOTS - 1)


class AgreementMachine(RuleBasedStateMachine):
    """Workers that answer, fail, hang, repeat themselves and die, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.agreement = Agreement(TX, range(SLOTS))
        self.acts: list[Act] = []
        self.journal_due = True
        self.said_swapped: set[int] = set()
        self.reverted: set[int] = set()
        self.dead: set[int] = set()
        self.live_at_commit: set[int] | None = None
        self._note(self.agreement.begin())

    def _note(self, acts: list[Act]) -> None:
        for act in acts:
            self.acts.append(act)
            if act in (Act.JOURNAL_BEGIN, Act.JOURNAL_COMMIT):
                self.journal_due = True
            if act is Act.JOURNAL_COMMIT:
                self.live_at_commit = set(range(SLOTS)) - self.dead

    def feed(self, event: Event) -> None:
        self._note(self.agreement.feed(event))

    @precondition(lambda self: self.journal_due)
    @rule(ok=st.integers(min_value=0, max_value=9))
    def journal(self, ok: int) -> None:
        self.journal_due = False
        self.feed(Written(ok > 0, "disk full"))

    @rule(slot=slots, tx=st.sampled_from([TX, TX, TX, TX - 1]))
    def prepared(self, slot: int, tx: int) -> None:
        if slot not in self.dead:
            self.feed(prepared(slot, tx))

    @rule(slot=slots)
    def swapped(self, slot: int) -> None:
        if slot not in self.dead and Act.SEND_SWAP in self.acts:
            self.said_swapped.add(slot)
            self.feed(swapped(slot))

    @rule(slot=slots, lucky=st.integers(min_value=0, max_value=3))
    def refuse(self, slot: int, lucky: int) -> None:
        if slot not in self.dead and not lucky:
            self.feed(messages.Refused(TX, slot, NO))

    @rule(slot=slots, lucky=st.integers(min_value=0, max_value=3))
    def fail(self, slot: int, lucky: int) -> None:
        if slot not in self.dead | self.said_swapped and not lucky and Act.SEND_SWAP in self.acts:
            self.feed(messages.SwapFailed(TX, slot, NO))

    @rule(slot=slots)
    def finished(self, slot: int) -> None:
        if slot not in self.dead and Act.SEND_FINISH in self.acts:
            self.feed(messages.Finished(TX, slot))

    @rule(slot=slots, well=st.booleans())
    def revert(self, slot: int, well: bool) -> None:
        if slot not in self.dead | self.reverted and Act.SEND_REVERT in self.acts:
            self.reverted.add(slot)
            self.feed(messages.Reverted(TX, slot, None if well else NO))

    @rule(slot=slots, lucky=st.integers(min_value=0, max_value=5))
    def die(self, slot: int, lucky: int) -> None:
        if not lucky:
            self.dead.add(slot)
            self.feed(Lost(slot))

    @rule(phase=st.sampled_from(list(Phase)), lucky=st.integers(min_value=0, max_value=5))
    def deadline(self, phase: Phase, lucky: int) -> None:
        if not lucky:
            self.feed(Deadline(phase))

    @invariant()
    def commits_only_what_every_live_worker_swapped(self) -> None:
        if self.live_at_commit is not None:
            assert self.live_at_commit <= self.said_swapped

    @invariant()
    def never_finishes_and_reverts(self) -> None:
        assert not {Act.SEND_FINISH, Act.SEND_REVERT} <= set(self.acts)

    @invariant()
    def an_end_is_clean_or_says_that_it_is_not(self) -> None:
        if self.agreement.phase is Phase.ABORTED and Act.SEND_SWAP in self.acts:
            assert set(range(SLOTS)) - self.dead <= self.reverted
            assert self.agreement.outcome is not Outcome.DONE
        if self.agreement.outcome is Outcome.MIXED:
            assert self.agreement.stuck
        if self.agreement.phase is Phase.COMMITTED:
            assert self.agreement.outcome is Outcome.DONE

    @invariant()
    def each_action_happens_once_and_done_is_the_last(self) -> None:
        assert len(self.acts) == len(set(self.acts))
        assert (Act.DONE in self.acts) is self.agreement.done
        assert Act.DONE not in self.acts[:-1]

    def teardown(self) -> None:
        """Deadlines alone end every transaction."""
        for _ in range(len(Phase)):
            if self.journal_due:
                self.journal_due = False
                self.feed(Written())
            self.feed(Deadline(self.agreement.phase))
        assert self.agreement.done


AgreementMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestAgreementMachine = AgreementMachine.TestCase


def test_selector_that_finds_nothing_is_refused():
    """A push for chosen objects that nobody has is refused with nothing touched, not done."""
    agreement = Agreement(TX, [0, 1], selective=True)
    agreement.begin()
    agreement.feed(Written())
    agreement.feed(messages.Prepared(TX, 0, [], {"echo.connection": 0}))
    agreement.feed(messages.Prepared(TX, 1, [], {}))
    assert agreement.phase is Phase.REVERTING
    assert "finds no object" in agreement.refusals[0].reason


def test_selector_that_finds_one_object_in_one_worker_goes_on():
    """One object anywhere is enough for a push for chosen objects."""
    agreement = Agreement(TX, [0, 1], selective=True)
    agreement.begin()
    agreement.feed(Written())
    agreement.feed(messages.Prepared(TX, 0, [], {"echo.connection": 0}))
    agreement.feed(messages.Prepared(TX, 1, [], {"echo.connection": 1}))
    assert agreement.phase is Phase.SWAPPING
