"""A worker's part in the agreement: the product of states and inputs, and the four rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netswap.channel import messages
from netswap.events import Refusal, WorkerReceipt
from netswap.worker.participant import TRANSITIONS, Act, Ask, Input, Participant, Result, State

TX, SLOT = 7, 1
WHY = Refusal("swap", "no")
PREPARE, HOLD, SWAP, WATCH, FINISH, REVERT = (
    messages.Prepare(TX, {"k": "b"}),
    messages.Hold(TX),
    messages.Swap(TX),
    messages.Watch(TX, 10.0),
    messages.Finish(TX),
    messages.Revert(TX),
)
CANARY, PROVE = messages.Swap(TX, True, 9000), messages.Watch(TX, 5.0, 1.0, True)
NEXT = messages.Prepare(TX + 1, {"k": "c"})
PREPARED = messages.Prepared(TX, SLOT, [], {"k": 2})
REFUSED = messages.Refused(TX, SLOT, WHY)
HELD = messages.Held(TX, SLOT)
SWAPPED = messages.Swapped(TX, SLOT, WorkerReceipt(SLOT, {"k": 2}))
TRIED = messages.Swapped(TX, SLOT, WorkerReceipt(SLOT, {"k": 1}), True)
FAILED = messages.SwapFailed(TX, SLOT, WHY)
PROVED = messages.Watched(TX, SLOT, [], True)
NOT_PROVED = messages.WatchFailed(TX, SLOT, WHY, [], True)
WATCHED = messages.Watched(TX, SLOT, [])
VIOLATED = messages.WatchFailed(TX, SLOT, WHY)
FINISHED = messages.Finished(TX, SLOT)
REVERTED = messages.Reverted(TX, SLOT)

_SWAPPING: list[Ask | Result] = [PREPARE, PREPARED, SWAP]
_TRYING: list[Ask | Result] = [PREPARE, PREPARED, CANARY]
WAY: dict[State, list[Ask | Result]] = {
    State.IDLE: [],
    State.PREPARING: [PREPARE],
    State.PREPARED: [PREPARE, PREPARED],
    State.TRYING: _TRYING,
    State.TRIED: [*_TRYING, TRIED],
    State.PROVING: [*_TRYING, TRIED, PROVE],
    State.PROMOTING: [*_TRYING, TRIED, PROVE, SWAP],
    State.HOLDING: [PREPARE, PREPARED, HOLD],
    State.HELD: [PREPARE, PREPARED, HOLD, HELD],
    State.SWAPPING: _SWAPPING,
    State.STOPPING: [*_SWAPPING, REVERT],
    State.SWAPPED: [*_SWAPPING, SWAPPED],
    State.WATCHING: [*_SWAPPING, SWAPPED, WATCH],
    State.LEAVING: [*_SWAPPING, SWAPPED, WATCH, FINISH],
    State.TURNING: [*_SWAPPING, SWAPPED, WATCH, HOLD],
    State.RETURNING: [*_SWAPPING, SWAPPED, WATCH, HOLD, VIOLATED],
    State.FAILED: [*_SWAPPING, FAILED],
    State.FINISHING: [*_SWAPPING, SWAPPED, FINISH],
    State.REVERTING: [*_SWAPPING, SWAPPED, REVERT],
}
RESULTS: dict[State, dict[Input, Result]] = {
    State.PREPARING: {Input.YES: PREPARED, Input.NO: REFUSED},
    State.TRYING: {Input.YES: TRIED, Input.NO: FAILED},
    State.PROVING: {Input.YES: PROVED, Input.NO: NOT_PROVED},
    State.PROMOTING: {Input.YES: PROVED, Input.NO: NOT_PROVED},
    State.HOLDING: {Input.YES: HELD, Input.NO: FAILED},
    State.SWAPPING: {Input.YES: SWAPPED, Input.NO: FAILED},
    State.WATCHING: {Input.YES: WATCHED, Input.NO: VIOLATED},
    State.LEAVING: {Input.YES: WATCHED, Input.NO: VIOLATED},
    State.TURNING: {Input.YES: WATCHED, Input.NO: VIOLATED},
    State.RETURNING: {Input.YES: HELD, Input.NO: FAILED},
    State.STOPPING: {Input.YES: SWAPPED, Input.NO: FAILED},
    State.FINISHING: {Input.YES: FINISHED},
    State.REVERTING: {Input.YES: REVERTED},
}
"""What the driver owes in each state; in no other state does it report anything."""
ASKS: dict[Input, Ask] = {
    Input.NEXT: NEXT,
    Input.CANARY: CANARY,
    Input.PROVE: PROVE,
    Input.HOLD: HOLD,
    Input.SWAP: SWAP,
    Input.WATCH: WATCH,
    Input.FINISH: FINISH,
    Input.REVERT: REVERT,
}


def at(state: State) -> Participant:
    """A participant that stands in ``state``."""
    participant = Participant(SLOT)
    for event in WAY[state]:
        participant.feed(event)
    assert participant.state is state
    return participant


def test_every_state_and_every_row_can_be_reached() -> None:
    """The product below leaves nothing out: work under way has results, and nothing else has."""
    assert set(WAY) == set(State)
    assert {state for state in State if state.endswith("ing")} == set(RESULTS)
    for state, reading in TRANSITIONS:
        assert reading in ASKS or reading in RESULTS[state], (state, reading)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("reading", Input)
def test_the_product_of_states_and_inputs(state: State, reading: Input) -> None:
    """An input leads where the table says; one without a row changes nothing and does nothing."""
    event = ASKS.get(reading) or RESULTS.get(state, {}).get(reading)
    if event is None:
        assert (state, reading) not in TRANSITIONS
        return
    participant = at(state)
    todo = participant.feed(event)
    following, acts = TRANSITIONS.get((state, reading), (state, ()))
    assert participant.state is following
    left = [act for act in acts if act not in (Act.ANSWER, Act.DEFER, Act.REFUSE)]
    assert [one for one in todo if isinstance(one, Act)] == left
    answers = [one for one in todo if not isinstance(one, Act)]
    assert len(answers) == (Act.ANSWER in acts or Act.REFUSE in acts or _outside(state, reading))


def _outside(state: State, reading: Input) -> bool:
    """Whether the rules answer without the table: nothing is in hand, or it was said before."""
    known = {
        State.TRIED: {Input.CANARY},
        State.PROVING: {Input.CANARY},
        State.PROMOTING: {Input.CANARY},
        State.HELD: {Input.HOLD},
        State.SWAPPED: {Input.SWAP},
        State.WATCHING: {Input.SWAP},
        State.LEAVING: {Input.SWAP},
        State.TURNING: {Input.SWAP},
        State.RETURNING: {Input.WATCH},
        State.FAILED: {Input.SWAP, Input.HOLD},  # nothing is served here by either
        State.FINISHING: {Input.SWAP},
        State.REVERTING: {Input.SWAP},
    }
    nothing = state is State.IDLE and reading is not Input.NEXT
    return nothing or reading in known.get(state, ())


@pytest.mark.parametrize(
    ("before", "again", "answer"),
    [
        ([PREPARE, PREPARED], PREPARE, PREPARED),
        ([PREPARE, REFUSED], PREPARE, REFUSED),
        ([PREPARE, PREPARED, HOLD, HELD], HOLD, HELD),
        ([PREPARE, PREPARED, HOLD, FAILED], HOLD, FAILED),
        ([*_SWAPPING, SWAPPED], SWAP, SWAPPED),
        ([*_SWAPPING, FAILED], SWAP, FAILED),
        ([*_TRYING, TRIED], CANARY, TRIED),
        ([*_TRYING, TRIED, PROVE, PROVED], PROVE, PROVED),
        ([*_SWAPPING, SWAPPED, WATCH, VIOLATED], WATCH, VIOLATED),
        ([*_SWAPPING, SWAPPED, FINISH, FINISHED], FINISH, FINISHED),
        ([PREPARE, PREPARED, REVERT, messages.Reverted(TX, SLOT, WHY)], REVERT,
         messages.Reverted(TX, SLOT, WHY)),
    ],
    ids=["prepared", "refused", "held", "not held", "swapped", "failed", "canary", "proved",
         "violated", "finished", "reverted, but stuck"],
)  # fmt: skip
def test_what_was_answered_is_answered_again_in_the_same_words(
    before: list[Ask | Result], again: Ask, answer: Result
) -> None:
    """Above all a refusal: a second, friendlier answer would hide that two versions serve."""
    participant = Participant(SLOT)
    for event in before:
        participant.feed(event)
    state = participant.state
    assert participant.feed(again) == [answer]
    assert participant.state is state


@pytest.mark.parametrize("end", [[REFUSED], [PREPARED, REVERT, REVERTED],
                                 [PREPARED, SWAP, SWAPPED, FINISH, FINISHED]],
                         ids=["refused", "reverted", "finished"])  # fmt: skip
def test_what_is_over_does_not_come_back(end: list[Ask | Result]) -> None:
    """However late its messages come, it is not prepared and not swapped."""
    participant = Participant(SLOT)
    for event in [PREPARE, *end]:
        participant.feed(event)
    assert Act.PREPARE not in participant.feed(PREPARE)
    (answer,) = participant.feed(SWAP)
    assert isinstance(answer, messages.SwapFailed)
    assert participant.state is State.IDLE


def test_a_revert_that_overtakes_its_prepare_wins() -> None:
    """Then it is over before it has begun."""
    participant = Participant(SLOT)
    assert participant.feed(REVERT) == [REVERTED]
    assert participant.feed(PREPARE) == []


def test_what_was_never_prepared_is_answered() -> None:
    """A swap fails, the rest is as good as done, and the one in hand is not touched."""
    participant = at(State.SWAPPED)
    (failed,) = participant.feed(messages.Swap(3))
    assert isinstance(failed, messages.SwapFailed)
    assert failed.refusal.reason == "nothing is prepared here"
    assert participant.feed(messages.Finish(3)) == [messages.Finished(3, SLOT)]
    assert participant.feed(messages.Revert(3)) == [messages.Reverted(3, SLOT)]
    assert participant.state is State.SWAPPED


@pytest.mark.parametrize("over", [False, True], ids=["", "over"])
@pytest.mark.parametrize("state", sorted(RESULTS))
def test_a_later_transaction_waits_for_work_under_way(state: State, over: bool) -> None:
    """When the work has ended it is taken up, unless it is over by then."""
    participant = at(state)
    assert participant.feed(NEXT) == []
    if over:
        assert participant.feed(messages.Revert(NEXT.tx)) == [messages.Reverted(8, SLOT)]
    todo = participant.feed(RESULTS[state][Input.YES])
    more = {
        State.REVERTING: REVERTED,
        State.SWAPPING: SWAPPED,
        State.FINISHING: FINISHED,
        State.RETURNING: HELD,
    }
    if participant.state in more:
        todo = participant.feed(more[participant.state])
    if over:
        assert Act.PREPARE not in todo
        assert Act.FORGET not in todo
    elif participant.state is State.SWAPPED:
        assert isinstance(todo[-1], messages.Refused)
    else:
        assert todo[-1] is Act.PREPARE
        assert participant.ask == NEXT


def test_a_later_transaction_forgets_what_never_served() -> None:
    """What was prepared, or failed and restored, was aborted: else it would not be the next."""
    for state in (State.PREPARED, State.TRIED, State.HELD, State.FAILED):
        participant = at(state)
        assert participant.feed(NEXT) == [Act.FORGET, Act.PREPARE]
        assert participant.ask == NEXT


def test_a_later_transaction_is_refused_while_new_code_serves_undecided() -> None:
    """It was committed or aborted, and nobody said which; the refusal says what to do."""
    participant = at(State.SWAPPED)
    (refused,) = participant.feed(NEXT)
    assert isinstance(refused, messages.Refused)
    assert refused.tx == NEXT.tx
    assert "transaction 7" in refused.refusal.reason
    assert "end this worker" in refused.refusal.advice
    assert participant.ask == PREPARE


MESSAGES: list[Ask] = [
    shape(tx)
    for tx in (1, 2, 3)
    for shape in (
        lambda tx: messages.Prepare(tx, {"k": "b"}),
        lambda tx: messages.Swap(tx, True),
        lambda tx: messages.Watch(tx, 5.0, 1.0, True),
        messages.Hold,
        messages.Swap,
        lambda tx: messages.Watch(tx, 5.0),
        messages.Finish,
        messages.Revert,
    )
]


@given(st.lists(st.tuples(st.sampled_from(MESSAGES), st.booleans(), st.booleans()), max_size=40))
def test_any_messages_in_any_order(heard: list[tuple[Ask, bool, bool]]) -> None:
    """One piece of work at a time, for the transaction in hand, and none is served twice."""
    participant = Participant(SLOT)
    work: list[Act] = []
    prepared: list[int] = []
    tried: list[int] = []
    swapped: list[int] = []

    def do(todo: list[Act | Result]) -> None:
        for one in todo:
            if isinstance(one, Act) and one not in (Act.STOP, Act.FORGET):
                assert not work, "two pieces of work at once"
                assert participant.ask is not None
                work.append(one)
                canary = participant.swap is not None and participant.swap.canary
                swaps = tried if canary else swapped
                seen = {Act.PREPARE: prepared, Act.SWAP: swaps}.get(one)
                if seen is not None:
                    assert participant.ask.tx not in seen, f"{one} twice"
                    assert all(participant.ask.tx > tx for tx in seen), "an older one came back"
                    seen.append(participant.ask.tx)

    for message, ends, well in heard:
        do(participant.feed(message))
        if work and ends:
            assert participant.ask is not None
            do(participant.feed(_ended(participant, work.pop(), well)))
    assert bool(work) is participant.state.endswith("ing")
    assert set(swapped) | set(tried) <= set(prepared)


def _ended(participant: Participant, act: Act, well: bool) -> Result:
    assert participant.ask is not None
    tx = participant.ask.tx
    of_swap = participant.swap is not None and participant.swap.canary
    of_watch = participant.watch is not None and participant.watch.canary
    results: dict[Act, tuple[Result, Result]] = {
        Act.PREPARE: (messages.Prepared(tx, SLOT, [], {}), messages.Refused(tx, SLOT, WHY)),
        Act.CLOSE: (messages.Held(tx, SLOT), messages.SwapFailed(tx, SLOT, WHY)),
        Act.SWAP: (
            messages.Swapped(tx, SLOT, SWAPPED.receipt, of_swap),
            messages.SwapFailed(tx, SLOT, WHY, of_swap),
        ),
        Act.WATCH: (
            messages.Watched(tx, SLOT, [], of_watch),
            messages.WatchFailed(tx, SLOT, WHY, [], of_watch),
        ),
        Act.FINISH: (messages.Finished(tx, SLOT), messages.Finished(tx, SLOT)),
        Act.REVERT: (messages.Reverted(tx, SLOT), messages.Reverted(tx, SLOT, WHY)),
    }
    return results[act][0 if well else 1]


def test_a_promotion_ends_the_watch_first() -> None:
    """The rest is swapped when the canary's watch has ended, and the commit waits for the other."""
    proving = at(State.PROVING)
    assert proving.feed(SWAP) == [Act.STOP]
    assert proving.feed(PROVED) == [PROVED, Act.SWAP]
    assert proving.swap == SWAP
    watching = at(State.WATCHING)
    assert watching.feed(FINISH) == [Act.STOP]
    assert watching.feed(WATCHED) == [WATCHED, Act.FINISH]


def test_a_violated_rule_reverts_when_the_supervisor_says_so() -> None:
    """Until then the new code serves: other workers may have to go back first."""
    for state, result in ((State.PROVING, NOT_PROVED), (State.WATCHING, VIOLATED)):
        participant = at(state)
        assert participant.feed(result) == [result]
        assert participant.feed(REVERT) == [Act.REVERT]
