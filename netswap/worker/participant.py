"""A worker's part in the agreement, without any I/O: messages go in, what to do comes out.

::

    Idle ─prepare▶ Preparing ─yes▶ Prepared ─swap▶ Swapping ─yes▶ Swapped ─finish▶ Finishing ─▶ Idle
                       │ └─no▶ Idle   │            │   └─no▶ Failed   │
                       └──revert──────┼────────────┴▶ Stopping   │    │
                                      └──revert───────────┴──────┴────┴▶ Reverting ──────────▶ Idle

    Prepared ─canary▶ Trying ─yes▶ Tried ─prove▶ Proving ─yes/no▶ Tried ─swap▶ Swapping
                                                    └─swap: promoted▶ Promoting ▲
    Prepared ─hold▶ Holding ─yes▶ Held ─swap▶ Swapping
                       └─no▶ Failed
    Swapped ─watch▶ Watching ─yes/no▶ Swapped ─finish▶ Finishing
                        └─finish: promoted▶ Leaving ▲
    Watching ─hold▶ Turning ─yes/no▶ Returning ─yes/no▶ Swapped ─revert▶ Reverting

Theory. The supervisor carries out one transaction at a time, and numbers them upwards; a worker
has one in hand, or none. Each of the states that end in -ing stands for work under way, whose
result is what the supervisor is told; the supervisor may lose patience meanwhile, so a revert
stops the work, and is carried out when the work has said how it ended.

``TRANSITIONS`` is the whole of it; an input without a row changes nothing. What is not about the
transaction in hand is answered by four rules, whatever the state:

* *again*: who asks once more what was answered last is given the same answer. To carry it out
  once more would convert what is converted, and forget the way back.
* *over*: what has been reverted, refused or finished here can't be prepared or swapped any more,
  however late its messages come. So a worker never serves what was given up.
* *unknown*: to swap what was never prepared fails; to finish or revert it is as good as done.
* *next*: a later transaction shows that the one in hand has ended. Had it not been swapped here,
  it was aborted, and is forgotten; so was one of which only the canary serves. Had it been, only
  the journal knows how it ended: the new one is refused, until this worker's successor boots into
  the committed set.

A watch is work like any other, but may be ended: a swap, finish or revert stops it, and is carried
out when it has ended. Its result does not change where the transaction stands, the supervisor does;
it is told for the sake of the figures.

The control channel neither loses, doubles nor reorders while both ends live, so the rules are
about a supervisor that gave up waiting, and about the next change to either end.
What this does not know: what is swapped, loops, tasks, sockets. ``process`` does what it says.
"""

from __future__ import annotations

from enum import StrEnum, auto

from netswap.channel import messages
from netswap.events import Refusal, Stage

__all__ = ["TRANSITIONS", "Act", "Ask", "Input", "Participant", "Result", "State"]


class State(StrEnum):
    """Where the transaction in hand stands here."""

    IDLE = auto()
    PREPARING = auto()
    PREPARED = auto()
    TRYING = auto()
    TRIED = auto()
    PROVING = auto()
    PROMOTING = auto()
    HOLDING = auto()
    HELD = auto()
    SWAPPING = auto()
    STOPPING = auto()
    SWAPPED = auto()
    WATCHING = auto()
    LEAVING = auto()
    TURNING = auto()
    RETURNING = auto()
    FAILED = auto()
    FINISHING = auto()
    REVERTING = auto()


class Input(StrEnum):
    """What a message or a result means for the transaction in hand."""

    NEXT = auto()  # a later transaction is to be prepared
    CANARY = auto()  # the canary alone is to be swapped
    PROVE = auto()  # the canary is to be watched
    HOLD = auto()  # nothing is to be served from now on
    SWAP = auto()
    WATCH = auto()
    FINISH = auto()
    REVERT = auto()
    YES = auto()  # the work under way is done
    NO = auto()  # it could not be done, and everything is as it was before


class Act(StrEnum):
    """What the driver has to do, one after the other; STOP at once, the others are work."""

    PREPARE = auto()
    CLOSE = auto()  # serve nothing; the next WATCH, FINISH, REVERT or FORGET ends that
    SWAP = auto()  # what ``swap`` says
    WATCH = auto()  # what ``watch`` says
    STOP = auto()  # give up the work under way
    FINISH = auto()
    REVERT = auto()
    FORGET = auto()  # let go of the transaction before; nobody waits for an answer
    ANSWER = auto()  # tell the supervisor how the work ended
    DEFER = auto()  # keep the message until the work has ended
    REFUSE = auto()  # how the transaction in hand ended is not known here


Ask = (
    messages.Prepare
    | messages.Hold
    | messages.Swap
    | messages.Watch
    | messages.Finish
    | messages.Revert
)
Result = (
    messages.Prepared
    | messages.Refused
    | messages.Held
    | messages.Swapped
    | messages.SwapFailed
    | messages.Watched
    | messages.WatchFailed
    | messages.Finished
    | messages.Reverted
)

TRANSITIONS: dict[tuple[State, Input], tuple[State, tuple[Act, ...]]] = {
    (State.IDLE, Input.NEXT): (State.PREPARING, (Act.PREPARE,)),
    (State.PREPARING, Input.YES): (State.PREPARED, (Act.ANSWER,)),
    (State.PREPARING, Input.NO): (State.IDLE, (Act.ANSWER,)),
    (State.PREPARING, Input.REVERT): (State.STOPPING, (Act.STOP,)),
    (State.PREPARING, Input.NEXT): (State.PREPARING, (Act.DEFER,)),
    (State.PREPARED, Input.CANARY): (State.TRYING, (Act.SWAP,)),
    (State.PREPARED, Input.HOLD): (State.HOLDING, (Act.CLOSE,)),
    (State.PREPARED, Input.SWAP): (State.SWAPPING, (Act.SWAP,)),
    (State.PREPARED, Input.REVERT): (State.REVERTING, (Act.REVERT,)),
    (State.PREPARED, Input.NEXT): (State.PREPARING, (Act.FORGET, Act.PREPARE)),
    (State.TRYING, Input.YES): (State.TRIED, (Act.ANSWER,)),
    (State.TRYING, Input.NO): (State.FAILED, (Act.ANSWER,)),
    (State.TRYING, Input.REVERT): (State.STOPPING, (Act.STOP,)),
    (State.TRYING, Input.NEXT): (State.TRYING, (Act.DEFER,)),
    (State.TRIED, Input.PROVE): (State.PROVING, (Act.WATCH,)),
    (State.TRIED, Input.SWAP): (State.SWAPPING, (Act.SWAP,)),
    (State.TRIED, Input.REVERT): (State.REVERTING, (Act.REVERT,)),
    (State.TRIED, Input.NEXT): (State.PREPARING, (Act.FORGET, Act.PREPARE)),
    (State.PROVING, Input.YES): (State.TRIED, (Act.ANSWER,)),
    (State.PROVING, Input.NO): (State.TRIED, (Act.ANSWER,)),
    (State.PROVING, Input.SWAP): (State.PROMOTING, (Act.STOP,)),
    (State.PROVING, Input.REVERT): (State.STOPPING, (Act.STOP,)),
    (State.PROVING, Input.NEXT): (State.PROVING, (Act.DEFER,)),
    (State.PROMOTING, Input.YES): (State.SWAPPING, (Act.ANSWER, Act.SWAP)),
    (State.PROMOTING, Input.NO): (State.SWAPPING, (Act.ANSWER, Act.SWAP)),
    (State.PROMOTING, Input.REVERT): (State.STOPPING, ()),
    (State.PROMOTING, Input.NEXT): (State.PROMOTING, (Act.DEFER,)),
    (State.HOLDING, Input.YES): (State.HELD, (Act.ANSWER,)),
    (State.HOLDING, Input.NO): (State.FAILED, (Act.ANSWER,)),
    (State.HOLDING, Input.REVERT): (State.STOPPING, (Act.STOP,)),
    (State.HOLDING, Input.NEXT): (State.HOLDING, (Act.DEFER,)),
    (State.HELD, Input.SWAP): (State.SWAPPING, (Act.SWAP,)),
    (State.HELD, Input.REVERT): (State.REVERTING, (Act.REVERT,)),
    (State.HELD, Input.NEXT): (State.PREPARING, (Act.FORGET, Act.PREPARE)),
    (State.SWAPPING, Input.YES): (State.SWAPPED, (Act.ANSWER,)),
    (State.SWAPPING, Input.NO): (State.FAILED, (Act.ANSWER,)),
    (State.SWAPPING, Input.REVERT): (State.STOPPING, (Act.STOP,)),
    (State.SWAPPING, Input.NEXT): (State.SWAPPING, (Act.DEFER,)),
    (State.STOPPING, Input.YES): (State.REVERTING, (Act.ANSWER, Act.REVERT)),
    (State.STOPPING, Input.NO): (State.REVERTING, (Act.ANSWER, Act.REVERT)),
    (State.STOPPING, Input.NEXT): (State.STOPPING, (Act.DEFER,)),
    (State.SWAPPED, Input.WATCH): (State.WATCHING, (Act.WATCH,)),
    (State.SWAPPED, Input.FINISH): (State.FINISHING, (Act.FINISH,)),
    (State.SWAPPED, Input.REVERT): (State.REVERTING, (Act.REVERT,)),
    (State.SWAPPED, Input.NEXT): (State.SWAPPED, (Act.REFUSE,)),
    (State.WATCHING, Input.YES): (State.SWAPPED, (Act.ANSWER,)),
    (State.WATCHING, Input.NO): (State.SWAPPED, (Act.ANSWER,)),
    (State.WATCHING, Input.FINISH): (State.LEAVING, (Act.STOP,)),
    (State.WATCHING, Input.REVERT): (State.STOPPING, (Act.STOP,)),
    (State.WATCHING, Input.NEXT): (State.WATCHING, (Act.DEFER,)),
    (State.LEAVING, Input.YES): (State.FINISHING, (Act.ANSWER, Act.FINISH)),
    (State.LEAVING, Input.NO): (State.FINISHING, (Act.ANSWER, Act.FINISH)),
    (State.LEAVING, Input.NEXT): (State.LEAVING, (Act.DEFER,)),
    (State.SWAPPED, Input.HOLD): (State.RETURNING, (Act.CLOSE,)),
    (State.WATCHING, Input.HOLD): (State.TURNING, (Act.STOP,)),
    (State.TURNING, Input.YES): (State.RETURNING, (Act.ANSWER, Act.CLOSE)),
    (State.TURNING, Input.NO): (State.RETURNING, (Act.ANSWER, Act.CLOSE)),
    (State.TURNING, Input.REVERT): (State.STOPPING, ()),
    (State.TURNING, Input.NEXT): (State.TURNING, (Act.DEFER,)),
    (State.RETURNING, Input.YES): (State.SWAPPED, (Act.ANSWER,)),
    (State.RETURNING, Input.NO): (State.SWAPPED, (Act.ANSWER,)),
    (State.RETURNING, Input.REVERT): (State.STOPPING, (Act.STOP,)),
    (State.RETURNING, Input.NEXT): (State.RETURNING, (Act.DEFER,)),
    (State.FAILED, Input.REVERT): (State.REVERTING, (Act.REVERT,)),
    (State.FAILED, Input.NEXT): (State.PREPARING, (Act.FORGET, Act.PREPARE)),
    (State.FINISHING, Input.YES): (State.IDLE, (Act.ANSWER,)),
    (State.FINISHING, Input.NEXT): (State.FINISHING, (Act.DEFER,)),
    (State.REVERTING, Input.YES): (State.IDLE, (Act.ANSWER,)),
    (State.REVERTING, Input.NEXT): (State.REVERTING, (Act.DEFER,)),
}
"""Every change of state. An input that has no row in a state changes nothing there."""

_INPUTS: dict[type, Input] = {
    messages.Hold: Input.HOLD,
    messages.Swap: Input.SWAP,
    messages.Watch: Input.WATCH,
    messages.Finish: Input.FINISH,
    messages.Revert: Input.REVERT,
    messages.Prepared: Input.YES,
    messages.Refused: Input.NO,
    messages.Held: Input.YES,
    messages.Swapped: Input.YES,
    messages.SwapFailed: Input.NO,
    messages.Watched: Input.YES,
    messages.WatchFailed: Input.NO,
    messages.Finished: Input.YES,
    messages.Reverted: Input.YES,
}
_OF_CANARY: dict[Input, Input] = {Input.SWAP: Input.CANARY, Input.WATCH: Input.PROVE}
_ANSWERS: dict[type, tuple[type[Result], ...]] = {
    messages.Prepare: (messages.Prepared, messages.Refused),
    messages.Hold: (messages.Held, messages.SwapFailed),
    messages.Swap: (messages.Swapped, messages.SwapFailed),
    messages.Watch: (messages.Watched, messages.WatchFailed),
    messages.Finish: (messages.Finished,),
    messages.Revert: (messages.Reverted,),
}


class Participant:
    """The part of the worker in ``slot``. Feed messages and results; do what is returned, in order.

    What is returned are acts, and messages to send. ``ask`` is the transaction in hand, None when
    there is none; ``hold``, ``swap``, ``watch`` and ``revert`` are what was asked last. While a
    state that ends in -ing lasts, the driver owes one result.
    """

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.state = State.IDLE
        self.ask: messages.Prepare | None = None
        self.hold: messages.Hold | None = None
        self.swap: messages.Swap | None = None
        self.watch: messages.Watch | None = None
        self.revert: messages.Revert | None = None
        self._newest = 0
        self._answer: Result | None = None
        self._deferred: messages.Prepare | None = None

    def feed(self, event: Ask | Result) -> list[Act | Result]:
        """What ``event`` leads to; nothing when it has no place here."""
        if isinstance(event, Result):
            return self._take(_INPUTS[type(event)], event)
        if self._answer is not None and _answers(self._answer, event):
            return [self._answer]
        if isinstance(event, messages.Prepare):
            return self._take(Input.NEXT, event) if event.tx > self._newest else []
        if self.ask is not None and self.ask.tx == event.tx:
            reading = _INPUTS[type(event)]
            of_canary = getattr(event, "canary", False)
            return self._take(_OF_CANARY[reading] if of_canary else reading, event)
        return [self._unknown(event)]

    def _take(self, reading: Input, event: Ask | Result) -> list[Act | Result]:
        row = TRANSITIONS.get((self.state, reading))
        if row is None:
            return []
        self.state, acts = row
        self._remember(event)
        todo = [one for act in acts for one in self._own(act, event)]
        if self.state is State.IDLE:
            self.ask = None
        if self._deferred is not None and not self.state.endswith("ing"):
            deferred, self._deferred = self._deferred, None
            todo += self.feed(deferred)
        return todo

    def _remember(self, event: Ask | Result) -> None:
        if isinstance(event, messages.Hold):
            self.hold = event
        elif isinstance(event, messages.Swap):
            self.swap = event
        elif isinstance(event, messages.Watch):
            self.watch = event
        elif isinstance(event, messages.Revert):
            self.revert = event

    def _own(self, act: Act, event: Ask | Result) -> list[Act | Result]:
        """Our own part of ``act``, and what is left of it for the driver."""
        if isinstance(event, Result):
            self._answer = event if act is Act.ANSWER else self._answer
            return [event if act is Act.ANSWER else act]
        if isinstance(event, messages.Prepare) and act is not Act.FORGET:
            return self._next(act, event)
        return [act]

    def _next(self, act: Act, ask: messages.Prepare) -> list[Act | Result]:
        if act is Act.DEFER:
            self._deferred = ask
            return []
        self._newest = ask.tx
        if act is Act.REFUSE:
            return [self._undecided(ask)]
        self.ask = ask
        return [act]

    def _undecided(self, ask: messages.Prepare) -> messages.Refused:
        before = 0 if self.ask is None else self.ask.tx
        reason = f"how transaction {before} ended was never told here"
        advice = "end this worker (`netswap workers`): its successor has what the journal has"
        refusal = Refusal(Stage.PREPARE, reason, worker=self.slot, advice=advice)
        return messages.Refused(ask.tx, self.slot, refusal)

    def _unknown(
        self,
        ask: messages.Hold | messages.Swap | messages.Watch | messages.Finish | messages.Revert,
    ) -> Result:
        """The answer about a transaction that is not in hand."""
        if isinstance(ask, messages.Hold | messages.Swap):
            refusal = Refusal(Stage.SWAP, "nothing is prepared here", worker=self.slot)
            of_canary = getattr(ask, "canary", False)
            return messages.SwapFailed(ask.tx, self.slot, refusal, of_canary)
        if isinstance(ask, messages.Watch):
            refusal = Refusal(Stage.WATCH, "nothing is swapped here", worker=self.slot)
            return messages.WatchFailed(ask.tx, self.slot, refusal, [], ask.canary)
        self._newest = max(self._newest, ask.tx)
        if isinstance(ask, messages.Finish):
            return messages.Finished(ask.tx, self.slot)
        return messages.Reverted(ask.tx, self.slot)


def _answers(answer: Result, ask: Ask) -> bool:
    """Whether that is what was answered when this was asked before."""
    same = getattr(answer, "canary", False) is getattr(ask, "canary", False)
    # A Prepare has a canary of another sort, which its answer has not.
    same |= isinstance(ask, messages.Prepare)
    return isinstance(answer, _ANSWERS[type(ask)]) and answer.tx == ask.tx and same
