"""The tables of an agreement: its phases, what moves it from one to the next, what is done there.

``agreement`` says what they mean, and looks everything up here.
"""

from __future__ import annotations

from enum import StrEnum, auto

from netswap.channel import messages
from netswap.outcome import Outcome

__all__ = [
    "ASKS",
    "FAILS_AS",
    "FINAL",
    "FLIPS",
    "NO",
    "OF_CANARY",
    "ON_ENTRY",
    "OPTIONAL",
    "TRANSITIONS",
    "YES",
    "Act",
    "Phase",
    "Step",
]


class Phase(StrEnum):
    """Where a transaction stands."""

    OPENING = auto()
    PREPARING = auto()
    CANARY = "swapping the canary"
    PROBATION = "watching the canary"
    HOLDING = auto()
    SWAPPING = auto()
    WATCHING = auto()
    RETURNING = "holding for the way back"
    COMMITTING = auto()
    FINISHING = auto()
    REVERTING = auto()
    COMMITTED = auto()
    ABORTED = auto()
    MIXED = auto()


class Step(StrEnum):
    """What an event means for the phase: the inputs of the table."""

    ALL = auto()  # the last awaited worker has answered as wished
    NO = auto()  # a worker refused or failed
    LOST = auto()  # a worker died
    LATE = auto()  # the deadline of the phase passed
    WRITTEN = auto()  # the journal has the record
    UNWRITTEN = auto()  # the journal did not take the record
    PROMOTED = auto()  # an operator has seen enough
    TAKEN_BACK = auto()  # an operator wants the old code back
    UNDECIDED = auto()  # nobody promoted a canary that waits for it
    STOPPED = auto()  # an operator does not want to wait any longer


class Act(StrEnum):
    """What the driver has to do, in the order given."""

    JOURNAL_BEGIN = auto()
    SEND_PREPARE = auto()
    SEND_CANARY = auto()
    SEND_WATCH_CANARY = auto()
    SEND_HOLD = auto()
    SEND_SWAP = auto()
    SEND_WATCH = auto()
    JOURNAL_COMMIT = auto()
    SEND_FINISH = auto()
    SEND_REVERT = auto()
    JOURNAL_ABORT = auto()
    DONE = auto()


_HOWEVER = (Step.ALL, Step.NO, Step.LOST, Step.LATE, Step.STOPPED)
TRANSITIONS: dict[tuple[Phase, Step], Phase] = {
    (Phase.OPENING, Step.WRITTEN): Phase.PREPARING,
    (Phase.OPENING, Step.UNWRITTEN): Phase.ABORTED,
    (Phase.PREPARING, Step.ALL): Phase.CANARY,
    (Phase.PREPARING, Step.NO): Phase.REVERTING,
    (Phase.PREPARING, Step.LOST): Phase.REVERTING,
    (Phase.PREPARING, Step.LATE): Phase.REVERTING,
    (Phase.PREPARING, Step.STOPPED): Phase.REVERTING,
    (Phase.CANARY, Step.ALL): Phase.PROBATION,
    (Phase.CANARY, Step.NO): Phase.REVERTING,
    (Phase.CANARY, Step.LOST): Phase.REVERTING,
    (Phase.CANARY, Step.LATE): Phase.REVERTING,
    (Phase.CANARY, Step.STOPPED): Phase.REVERTING,
    (Phase.PROBATION, Step.ALL): Phase.SWAPPING,
    (Phase.PROBATION, Step.PROMOTED): Phase.SWAPPING,
    (Phase.PROBATION, Step.NO): Phase.REVERTING,
    (Phase.PROBATION, Step.LOST): Phase.REVERTING,
    (Phase.PROBATION, Step.LATE): Phase.REVERTING,
    (Phase.PROBATION, Step.TAKEN_BACK): Phase.REVERTING,
    (Phase.PROBATION, Step.UNDECIDED): Phase.REVERTING,
    (Phase.PROBATION, Step.STOPPED): Phase.REVERTING,
    (Phase.HOLDING, Step.ALL): Phase.SWAPPING,
    (Phase.HOLDING, Step.NO): Phase.REVERTING,
    (Phase.HOLDING, Step.LOST): Phase.REVERTING,
    (Phase.HOLDING, Step.LATE): Phase.REVERTING,
    (Phase.HOLDING, Step.STOPPED): Phase.REVERTING,
    (Phase.SWAPPING, Step.ALL): Phase.WATCHING,
    (Phase.SWAPPING, Step.NO): Phase.REVERTING,
    (Phase.SWAPPING, Step.LOST): Phase.REVERTING,
    (Phase.SWAPPING, Step.LATE): Phase.REVERTING,
    (Phase.SWAPPING, Step.STOPPED): Phase.REVERTING,
    (Phase.WATCHING, Step.ALL): Phase.COMMITTING,
    (Phase.WATCHING, Step.PROMOTED): Phase.COMMITTING,
    (Phase.WATCHING, Step.NO): Phase.RETURNING,
    (Phase.WATCHING, Step.LOST): Phase.RETURNING,
    (Phase.WATCHING, Step.LATE): Phase.RETURNING,
    (Phase.WATCHING, Step.TAKEN_BACK): Phase.RETURNING,
    (Phase.WATCHING, Step.STOPPED): Phase.RETURNING,
    (Phase.COMMITTING, Step.WRITTEN): Phase.FINISHING,
    (Phase.COMMITTING, Step.UNWRITTEN): Phase.RETURNING,
    (Phase.FINISHING, Step.ALL): Phase.COMMITTED,
    (Phase.FINISHING, Step.LATE): Phase.COMMITTED,
    **{(Phase.RETURNING, step): Phase.REVERTING for step in _HOWEVER},
    (Phase.REVERTING, Step.ALL): Phase.ABORTED,
    (Phase.REVERTING, Step.LATE): Phase.MIXED,
}
"""Every change of phase. A step that has no row in a phase changes nothing there."""

OPTIONAL: dict[Phase, Phase] = {
    Phase.CANARY: Phase.HOLDING,
    Phase.HOLDING: Phase.SWAPPING,
    Phase.WATCHING: Phase.COMMITTING,
    Phase.RETURNING: Phase.REVERTING,
}
"""Phases that not every transaction has, and where one without them goes instead."""

ON_ENTRY: dict[Phase, tuple[Act, ...]] = {
    Phase.OPENING: (Act.JOURNAL_BEGIN,),
    Phase.PREPARING: (Act.SEND_PREPARE,),
    Phase.CANARY: (Act.SEND_CANARY,),
    Phase.PROBATION: (Act.SEND_WATCH_CANARY,),
    Phase.HOLDING: (Act.SEND_HOLD,),
    Phase.SWAPPING: (Act.SEND_SWAP,),
    Phase.WATCHING: (Act.SEND_WATCH,),
    Phase.RETURNING: (Act.SEND_HOLD,),
    Phase.COMMITTING: (Act.JOURNAL_COMMIT,),
    Phase.FINISHING: (Act.SEND_FINISH,),
    Phase.REVERTING: (Act.SEND_REVERT,),
    Phase.COMMITTED: (Act.DONE,),
    Phase.ABORTED: (Act.JOURNAL_ABORT, Act.DONE),
    Phase.MIXED: (Act.JOURNAL_ABORT, Act.DONE),
}

FINAL = frozenset({Phase.COMMITTED, Phase.ABORTED, Phase.MIXED})

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
NO: dict[Phase, type] = {
    Phase.PREPARING: messages.Refused,
    Phase.CANARY: messages.SwapFailed,
    Phase.PROBATION: messages.WatchFailed,
    Phase.HOLDING: messages.SwapFailed,
    Phase.SWAPPING: messages.SwapFailed,
    Phase.WATCHING: messages.WatchFailed,
    Phase.RETURNING: messages.SwapFailed,
}
ASKS = YES.keys()
"""The phases in which every live worker has to answer."""

OF_CANARY = frozenset({Phase.CANARY, Phase.PROBATION})
FLIPS = frozenset({Phase.CANARY, Phase.SWAPPING})
FAILS_AS: dict[Phase, Outcome] = {
    Phase.OPENING: Outcome.REFUSED,
    Phase.PREPARING: Outcome.REFUSED,
    Phase.CANARY: Outcome.ROLLED_BACK,
    Phase.PROBATION: Outcome.ROLLED_BACK,
    Phase.HOLDING: Outcome.ROLLED_BACK,
    Phase.SWAPPING: Outcome.ROLLED_BACK,
    Phase.WATCHING: Outcome.ROLLED_BACK,
    Phase.RETURNING: Outcome.ROLLED_BACK,
    Phase.COMMITTING: Outcome.ROLLED_BACK,
}
