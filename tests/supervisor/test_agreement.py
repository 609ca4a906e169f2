"""The two-phase agreement: the product of phases and events, and any interleaving of both."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from netswap.channel import messages
from netswap.events import Refusal, Stuck, VerdictLine, WatchRow, WorkerReceipt
from netswap.outcome import Outcome
from netswap.supervisor.agreement import (
    FINAL,
    TRANSITIONS,
    Act,
    Agreement,
    Deadline,
    Decision,
    Event,
    Lost,
    Phase,
    Probation,
    Step,
    Stopped,
    Untouched,
    Written,
)

NO = Refusal("prepare", "no", file="v2.py", line=3)
TX = 7


def prepared(slot: int, tx: int = TX) -> messages.Prepared:
    return messages.Prepared(tx, slot, [VerdictLine("k", "as is", "same", 1, 1)], {"k": 2})


def swapped(slot: int, tx: int = TX, canary: bool = False) -> messages.Swapped:
    return messages.Swapped(tx, slot, WorkerReceipt(slot, {"k": 2}), canary)


def watched(slot: int, canary: bool = False) -> messages.Watched:
    return messages.Watched(TX, slot, [row(slot)], canary)


def row(slot: int, errors: int = 0) -> WatchRow:
    return WatchRow(slot, "k", 2, True, 2, calls=10, errors=errors)


def at(phase: Phase) -> Agreement:
    """An agreement of two workers that stands at the beginning of ``phase``."""
    probation = ATOMIC if phase in (Phase.HOLDING, Phase.RETURNING) else ALL_OF_IT
    agreement = Agreement(TX, [0, 1], probation=probation)
    agreement.begin()
    for event in WAY[phase]:
        agreement.feed(event)
    assert agreement.phase is phase
    return agreement


ALL_OF_IT = Probation(canary=True, watch=True)
ATOMIC = Probation(watch=True, atomic=True)

_PREPARING: list[Event] = [Written()]
_CANARY: list[Event] = [*_PREPARING, prepared(0), prepared(1)]
_PROBATION: list[Event] = [*_CANARY, swapped(0, canary=True), swapped(1, canary=True)]
_SWAPPING: list[Event] = [*_PROBATION, watched(0, canary=True), watched(1, canary=True)]
_WATCHING: list[Event] = [*_SWAPPING, swapped(0), swapped(1)]
_COMMITTING: list[Event] = [*_WATCHING, watched(0), watched(1)]
_REVERTING: list[Event] = [*_SWAPPING, messages.SwapFailed(TX, 0, NO)]
WAY: dict[Phase, list[Event]] = {
    Phase.OPENING: [],
    Phase.PREPARING: _PREPARING,
    Phase.CANARY: _CANARY,
    Phase.PROBATION: _PROBATION,
    Phase.HOLDING: [*_PREPARING, prepared(0), prepared(1)],
    Phase.SWAPPING: _SWAPPING,
    Phase.WATCHING: _WATCHING,
    Phase.RETURNING: [
        *_PREPARING,
        prepared(0),
        prepared(1),
        messages.Held(TX, 0),
        messages.Held(TX, 1),
        swapped(0),
        swapped(1),
        Decision(False, "netswap rollback"),
    ],
    Phase.COMMITTING: _COMMITTING,
    Phase.FINISHING: [*_COMMITTING, Written()],
    Phase.REVERTING: _REVERTING,
    Phase.COMMITTED: [
        *_COMMITTING,
        Written(),
        messages.Finished(TX, 0),
        messages.Finished(TX, 1),
    ],
    Phase.ABORTED: [*_REVERTING, messages.Reverted(TX, 0), messages.Reverted(TX, 1)],
    Phase.MIXED: [*_REVERTING, messages.Reverted(TX, 0, NO), messages.Reverted(TX, 1)],
}
YES: dict[Phase, type] = {
    Phase.PREPARING: messages.Prepared,
    Phase.CANARY: messages.Swapped,
    Phase.PROBATION: messages.Watched,
    Phase.HOLDING: messages.Held,
    Phase.SWAPPING: messages.Swapped,
    Phase.WATCHING: messages.Watched,
    Phase.RETURNING: messages.Held,
    Phase.FINISHING: messages.Finished,
    Phase.REVERTING: messages.Reverted,
}
EVENTS: dict[str, Event] = {
    "prepared": prepared(0),
    "refused": messages.Refused(TX, 0, NO),
    "canary swapped": swapped(0, canary=True),
    "canary watched": watched(0, canary=True),
    "held": messages.Held(TX, 0),
    "swapped": swapped(0),
    "watching": messages.Watching(TX, 0, [row(0)]),
    "watched": watched(0),
    "watch failed": messages.WatchFailed(TX, 0, NO, [row(0, errors=1)]),
    "promoted": Decision(True),
    "taken back": Decision(False, "netswap rollback"),
    "stopped": Stopped("netswap blockers --abort"),
    "swap failed": messages.SwapFailed(TX, 0, NO),
    "finished": messages.Finished(TX, 0),
    "reverted": messages.Reverted(TX, 0),
    "lost": Lost(0),
    "untouched": Untouched(0),
    "written": Written(),
    "unwritten": Written(False, "disk full"),
}
# One event from one of two workers: where it leads, for the pairs in which it leads anywhere.
MOVES: dict[tuple[Phase, str], Phase] = {
    (Phase.OPENING, "written"): Phase.PREPARING,
    (Phase.OPENING, "unwritten"): Phase.ABORTED,
    (Phase.PREPARING, "refused"): Phase.REVERTING,
    (Phase.PREPARING, "lost"): Phase.REVERTING,
    (Phase.PREPARING, "stopped"): Phase.REVERTING,
    (Phase.CANARY, "stopped"): Phase.REVERTING,
    (Phase.PROBATION, "stopped"): Phase.REVERTING,
    (Phase.SWAPPING, "stopped"): Phase.REVERTING,
    (Phase.WATCHING, "stopped"): Phase.REVERTING,
    (Phase.CANARY, "swap failed"): Phase.REVERTING,
    (Phase.CANARY, "lost"): Phase.REVERTING,
    (Phase.PROBATION, "watch failed"): Phase.REVERTING,
    (Phase.PROBATION, "lost"): Phase.REVERTING,
    (Phase.PROBATION, "promoted"): Phase.SWAPPING,
    (Phase.PROBATION, "taken back"): Phase.REVERTING,
    (Phase.HOLDING, "swap failed"): Phase.REVERTING,
    (Phase.HOLDING, "lost"): Phase.REVERTING,
    (Phase.HOLDING, "stopped"): Phase.REVERTING,
    (Phase.SWAPPING, "swap failed"): Phase.REVERTING,
    (Phase.SWAPPING, "lost"): Phase.REVERTING,
    (Phase.WATCHING, "watch failed"): Phase.REVERTING,
    (Phase.WATCHING, "lost"): Phase.REVERTING,
    (Phase.WATCHING, "promoted"): Phase.COMMITTING,
    (Phase.WATCHING, "taken back"): Phase.REVERTING,
    (Phase.RETURNING, "swap failed"): Phase.REVERTING,
    (Phase.RETURNING, "lost"): Phase.REVERTING,
    (Phase.RETURNING, "stopped"): Phase.REVERTING,
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
    of_canary = phase in (Phase.CANARY, Phase.PROBATION)
    back = event == "untouched" and phase is Phase.REVERTING
    counts = (
        event == "lost"
        or back
        or (
            isinstance(EVENTS[event], YES.get(phase, ()))
            and getattr(EVENTS[event], "canary", False) is of_canary
        )
    )
    if (phase, event) not in MOVES:
        assert acts == []
        assert agreement.waiting == (waiting - {0} if counts else waiting)


def test_who_has_begun_no_swap_is_not_mixed() -> None:
    """It answers nobody, and serves what it served; the others have gone back."""
    agreement = at(Phase.REVERTING)
    agreement.feed(messages.Reverted(TX, 0))
    assert agreement.feed(Untouched(1)) == [Act.JOURNAL_ABORT, Act.DONE]
    assert (agreement.phase, agreement.outcome) == (Phase.ABORTED, Outcome.ROLLED_BACK)


def test_who_is_late_and_silent_is_told_with_what_it_does() -> None:
    """The refusal has file and line, and names the process that can be ended."""
    agreement = at(Phase.SWAPPING)
    stuck = Stuck(1, 4242, 7.0, "it is at v1.py:9 in on_data()", "v1.py", 9)
    agreement.feed(Deadline(Phase.SWAPPING, None, (stuck,)))
    first, second = agreement.refusals
    assert (first.worker, first.advice) == (0, "netswap blockers")
    assert second.where == "v1.py:9, worker 1"
    assert second.reason.endswith("it is silent for 7.0 s, it is at v1.py:9 in on_data()")
    assert "`kill -9 4242`" in second.advice


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("late", Phase)
def test_a_deadline_counts_in_its_own_phase_only(phase: Phase, late: Phase) -> None:
    """A timer that fires too late for its phase changes nothing in the next one."""
    agreement = at(phase)
    agreement.feed(Deadline(late))
    moves = phase is late and (phase, Step.LATE) in TRANSITIONS
    following = TRANSITIONS[phase, Step.LATE] if moves else phase
    passes_by = moves and phase is Phase.WATCHING  # that one is not atomic
    assert agreement.phase is (Phase.REVERTING if passes_by else following)


def run(agreement: Agreement, *events: Event) -> list[Act]:
    acts = agreement.begin()
    for event in events:
        acts += agreement.feed(event)
    return acts


def test_the_whole_way_to_a_commit() -> None:
    """Begin is journaled before anybody hears of it, commit after all swapped, then they finish."""
    agreement = Agreement(TX, [0, 1])
    acts = run(agreement, *PLAIN)
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


PLAIN: list[Event] = [
    *_CANARY,
    swapped(0),
    swapped(1),
    Written(),
    messages.Finished(TX, 0),
    messages.Finished(TX, 1),
]


def test_the_whole_way_with_a_canary_and_a_watch() -> None:
    """The canary is swapped and watched, then the rest, and nothing is journaled before the end."""
    agreement = Agreement(TX, [0, 1], probation=ALL_OF_IT)
    acts = run(agreement, *WAY[Phase.COMMITTED])
    assert acts == [
        Act.JOURNAL_BEGIN,
        Act.SEND_PREPARE,
        Act.SEND_CANARY,
        Act.SEND_WATCH_CANARY,
        Act.SEND_SWAP,
        Act.SEND_WATCH,
        Act.JOURNAL_COMMIT,
        Act.SEND_FINISH,
        Act.DONE,
    ]
    assert agreement.outcome is Outcome.DONE
    assert agreement.figures == {0: [row(0)], 1: [row(1)]}


def test_the_whole_way_of_an_atomic_one() -> None:
    """All hold before any swaps, and the time that they held is in the receipts."""
    agreement = Agreement(TX, [0, 1], probation=Probation(atomic=True))
    held = messages.Held(TX, 0), messages.Held(TX, 1)
    acts = run(agreement, *_CANARY, *held, swapped(0), swapped(1), Written())
    assert acts == [
        Act.JOURNAL_BEGIN,
        Act.SEND_PREPARE,
        Act.SEND_HOLD,
        Act.SEND_SWAP,
        Act.JOURNAL_COMMIT,
        Act.SEND_FINISH,
    ]
    agreement.feed(messages.Finished(TX, 0, 7000.0))
    assert agreement.feed(messages.Finished(TX, 1, 9000.0)) == [Act.DONE]
    assert [row.held_us for row in agreement.receipts.values()] == [7000.0, 9000.0]
    assert [row.blackout_us for row in agreement.receipts.values()] == [7000.0, 9000.0]


def test_nobody_swaps_before_the_last_one_holds() -> None:
    """One that serves on is enough to see two versions at once."""
    agreement = at(Phase.HOLDING)
    assert agreement.feed(messages.Held(TX, 0)) == []
    assert agreement.feed(messages.Held(TX, 0)) == []
    assert agreement.feed(messages.Held(TX, 1)) == [Act.SEND_SWAP]


@pytest.mark.parametrize(
    "event",
    [messages.SwapFailed(TX, 1, NO), Lost(1), Deadline(Phase.HOLDING)],
    ids=["fails", "dies", "is late"],
)
def test_a_worker_that_does_not_hold_reverts_all(event: Event) -> None:
    """Those that hold serve the old code again; nothing can be mixed, for nobody swapped."""
    agreement = at(Phase.HOLDING)
    agreement.feed(messages.Held(TX, 0))
    assert agreement.feed(event) == [Act.SEND_REVERT]
    agreement.feed(messages.Reverted(TX, 0))
    agreement.feed(Deadline(Phase.REVERTING))
    assert agreement.phase is Phase.ABORTED
    assert agreement.outcome is Outcome.ROLLED_BACK


@pytest.mark.parametrize(
    "event",
    [
        messages.WatchFailed(TX, 1, NO),
        Decision(False, "netswap rollback"),
        Deadline(Phase.WATCHING),
        Lost(1),
    ],
    ids=["a rule is violated", "is taken back", "is late", "a worker dies"],
)
def test_the_way_back_from_an_atomic_watch_holds_all_first(event: Event) -> None:
    """Nobody goes back before all that live hold once more; then they go back together."""
    agreement = at(Phase.HOLDING)
    for vote in (*(messages.Held(TX, n) for n in (0, 1)), swapped(0), swapped(1)):
        agreement.feed(vote)
    assert agreement.phase is Phase.WATCHING
    assert agreement.feed(event) == [Act.SEND_HOLD]
    acts = [*agreement.feed(messages.Held(TX, 0)), *agreement.feed(messages.Held(TX, 1))]
    assert acts == [Act.SEND_REVERT]
    assert agreement.returned
    assert agreement.outcome is Outcome.ROLLED_BACK


def test_a_change_of_a_clustered_kind_is_atomic_by_itself() -> None:
    """When a worker says so, unless a part of it was to go first or alone, or it was to roll."""
    told = messages.Prepared(TX, 0, [], {}, clustered=["kv.store"])
    for whole, acts in ((True, [Act.SEND_HOLD]), (False, [Act.SEND_SWAP])):
        agreement = Agreement(TX, [0, 1], probation=Probation(whole=whole))
        run(agreement, Written())
        assert agreement.feed(told) == []
        assert agreement.feed(prepared(1)) == acts
        assert agreement.clustered == {"kv.store"}
        assert agreement.atomic is whole


def test_kinds_that_ask_each_other_are_atomic_by_themselves() -> None:
    """As soon as one worker can't change them in one stroke."""
    told = messages.Prepared(TX, 0, [], {}, asking=["kv.connection uses kv.store"])
    for whole, acts in ((True, [Act.SEND_HOLD]), (False, [Act.SEND_SWAP])):
        agreement = Agreement(TX, [0, 1], probation=Probation(whole=whole))
        run(agreement, Written(), told)
        assert agreement.feed(prepared(1)) == acts
        assert agreement.asking == {"kv.connection uses kv.store"}
        assert agreement.atomic is whole


@pytest.mark.parametrize("found", [0, 1])
def test_a_canary_whose_selector_finds_nobody_is_refused(found: int) -> None:
    """It would be promoted after a watch of nothing; one connection in any worker will do."""
    agreement = Agreement(TX, [0, 1], probation=Probation(canary=True, chosen=True))
    run(agreement, Written(), prepared(0))
    last = messages.Prepared(TX, 1, [], {}, connections=found)
    assert agreement.feed(last) == [Act.SEND_CANARY if found else Act.SEND_REVERT]
    reasons = [refusal.reason for refusal in agreement.refusals]
    nobody = "the canary's selector finds no connection of the pushed kinds in any worker"
    assert reasons == ([] if found else [nobody])
    assert agreement.outcome is (Outcome.DONE if found else Outcome.REFUSED)


def test_a_dry_run_holds_nobody() -> None:
    """It ends before anything is to be felt."""
    agreement = Agreement(TX, [0], dry_run=True, probation=Probation(atomic=True))
    assert run(agreement, prepared(0)) == [Act.SEND_PREPARE, Act.SEND_REVERT]


def test_atomic_rules_out_a_canary() -> None:
    """A canary is there to serve beside the old code."""
    with pytest.raises(ValueError, match="beside the old code"):
        Probation(canary=True, atomic=True)


@pytest.mark.parametrize("phase", [Phase.PROBATION, Phase.WATCHING])
def test_a_violated_rule_rolls_back_with_its_figures(phase: Phase) -> None:
    """The old code comes back everywhere, and why is said with the figures of that moment."""
    agreement = at(phase)
    acts = agreement.feed(messages.WatchFailed(TX, 1, NO, [row(1, errors=3)]))
    assert acts == [Act.SEND_REVERT]
    assert (agreement.outcome, agreement.refusals) == (Outcome.ROLLED_BACK, [NO])
    assert agreement.figures[1][0].errors == 3


def test_an_answer_for_the_canary_does_not_count_for_all() -> None:
    """What a worker said of the canary, repeated or late, is not taken for the second answer."""
    agreement = at(Phase.SWAPPING)
    for slot in (0, 1):
        agreement.feed(swapped(slot, canary=True))
    assert agreement.waiting == {0, 1}
    agreement = at(Phase.WATCHING)
    for slot in (0, 1):
        agreement.feed(watched(slot, canary=True))
    assert agreement.waiting == {0, 1}


def test_by_hand_only_an_operator_promotes() -> None:
    """When the time is over and nobody did, the canary is taken back, and that is what is said."""
    by_hand = Probation(canary=True, by_hand=True)
    agreement = Agreement(TX, [0, 1], probation=by_hand)
    assert run(agreement, *_SWAPPING)[-1] is Act.SEND_REVERT
    assert agreement.outcome is Outcome.ROLLED_BACK
    assert "nobody promoted" in agreement.refusals[0].reason
    agreement = Agreement(TX, [0, 1], probation=by_hand)
    assert run(agreement, *_PROBATION, Decision(True))[-1] is Act.SEND_SWAP


def test_what_is_taken_back_by_hand_says_so() -> None:
    """An operator's word is a reason like any other."""
    agreement = at(Phase.PROBATION)
    agreement.feed(Decision(False, "taken back by `netswap rollback`"))
    assert agreement.outcome is Outcome.ROLLED_BACK
    assert "netswap rollback" in agreement.refusals[0].reason


def test_figures_on_the_way_are_kept_for_the_end() -> None:
    """A worker that did not fail the watch has its last report in the result."""
    agreement = at(Phase.WATCHING)
    assert agreement.feed(messages.Watching(TX, 0, [row(0, errors=2)])) == []
    assert agreement.figures[0][0].errors == 2


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

    probation = Probation()

    def __init__(self) -> None:
        super().__init__()
        self.agreement = Agreement(TX, range(SLOTS), probation=self.probation)
        self.acts: list[Act] = []
        self.journal_due = True
        self.said_held: set[int] = set()
        self.said_swapped: set[int] = set()
        self.said_watched: set[int] = set()
        self.promoted = False
        self.reverted: set[int] = set()
        self.dead: set[int] = set()
        self.live_at_commit: set[int] | None = None
        self._note(self.agreement.begin())

    def _note(self, acts: list[Act]) -> None:
        for act in acts:
            self.acts.append(act)
            if act in (Act.JOURNAL_BEGIN, Act.JOURNAL_COMMIT):
                self.journal_due = True
            if act is Act.SEND_SWAP and self.probation.atomic:
                assert set(range(SLOTS)) - self.dead <= self.said_held
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

    @rule(slot=slots)
    def held(self, slot: int) -> None:
        if slot not in self.dead and Act.SEND_HOLD in self.acts:
            self.said_held.add(slot)
            self.feed(messages.Held(TX, slot))

    @rule(slot=slots)
    def canary_swapped(self, slot: int) -> None:
        if slot not in self.dead and Act.SEND_CANARY in self.acts:
            self.feed(swapped(slot, canary=True))

    @rule(slot=slots)
    def canary_watched(self, slot: int) -> None:
        if slot not in self.dead and Act.SEND_WATCH_CANARY in self.acts:
            self.feed(watched(slot, canary=True))

    @rule(slot=slots)
    def watched(self, slot: int) -> None:
        if slot not in self.dead and Act.SEND_WATCH in self.acts:
            self.said_watched.add(slot)
            self.feed(watched(slot))

    @rule(slot=slots, lucky=st.integers(min_value=0, max_value=3), canary=st.booleans())
    def violate(self, slot: int, lucky: int, canary: bool) -> None:
        asked = Act.SEND_WATCH_CANARY if canary else Act.SEND_WATCH
        if slot not in self.dead and not lucky and asked in self.acts:
            self.feed(messages.WatchFailed(TX, slot, NO, [], canary))

    @rule(promote=st.booleans(), lucky=st.integers(min_value=0, max_value=5))
    def decide(self, promote: bool, lucky: int) -> None:
        if not lucky:
            self.promoted |= promote and self.agreement.phase is Phase.WATCHING
            self.feed(Decision(promote, "by hand"))

    @rule(slot=slots, lucky=st.integers(min_value=0, max_value=3))
    def refuse(self, slot: int, lucky: int) -> None:
        if slot not in self.dead and not lucky:
            self.feed(messages.Refused(TX, slot, NO))

    @rule(slot=slots, lucky=st.integers(min_value=0, max_value=3))
    def fail(self, slot: int, lucky: int) -> None:
        asked = {Act.SEND_SWAP, Act.SEND_HOLD} & set(self.acts)
        if slot not in self.dead | self.said_swapped and not lucky and asked:
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
            if self.probation.watch:
                assert self.promoted or self.live_at_commit <= self.said_watched

    @invariant()
    def never_finishes_and_reverts(self) -> None:
        assert not {Act.SEND_FINISH, Act.SEND_REVERT} <= set(self.acts)

    @invariant()
    def an_end_is_clean_or_says_that_it_is_not(self) -> None:
        flipped = {Act.SEND_SWAP, Act.SEND_CANARY} & set(self.acts)
        if self.agreement.phase is Phase.ABORTED and flipped:
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


class ProbationMachine(AgreementMachine):
    """The same with a canary and a watch, and an operator who decides at any moment."""

    probation = ALL_OF_IT


class AtomicMachine(AgreementMachine):
    """The same with all workers held before the first of them swaps."""

    probation = ATOMIC


AgreementMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestAgreementMachine = AgreementMachine.TestCase
ProbationMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=60)
TestProbationMachine = ProbationMachine.TestCase
AtomicMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=60)
TestAtomicMachine = AtomicMachine.TestCase


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
