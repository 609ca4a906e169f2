"""The two-phase agreement over all workers, without any I/O: votes go in, actions come out.

Theory. The supervisor coordinates; each worker is a participant. A transaction is *begun* in the
journal before any worker hears of it, and *committed* in the journal after every live worker has
flipped and before any old object is let go. Hence:

* a crash of the supervisor before the commit record means that the successor boots workers into
  the old set (a begin without a commit counts as aborted);
* a crash after it means that they boot into the new set;
* the death of one worker before the commit aborts; after it, the successor of that worker boots
  into the committed set, so nobody has to be asked.

``TRANSITIONS`` below is the whole of it: opening, preparing, swapping, committing, finishing,
committed; and from each phase before the commit record, reverting and then aborted, or mixed when
a worker that had begun to swap did not say that the old code serves again.

A vote is counted once, and only in the phase that asked for it: duplicates, answers that come too
late and answers from workers that do not take part change nothing. A deadline is an event like
any other and names the phase that it belongs to.

What this does not know: time, sockets, the journal's file, what is swapped. ``transaction`` drives
it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum, auto

from netswap.channel import messages
from netswap.events import Refusal, Stage, VerdictLine, WorkerReceipt
from netswap.outcome import Outcome

__all__ = [
    "TRANSITIONS",
    "Act",
    "Agreement",
    "Deadline",
    "Event",
    "Lost",
    "Phase",
    "Step",
    "Vote",
    "Written",
]


class Phase(StrEnum):
    """Where a transaction stands."""

    OPENING = auto()
    PREPARING = auto()
    SWAPPING = auto()
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


class Act(StrEnum):
    """What the driver has to do, in the order given."""

    JOURNAL_BEGIN = auto()
    SEND_PREPARE = auto()
    SEND_SWAP = auto()
    JOURNAL_COMMIT = auto()
    SEND_FINISH = auto()
    SEND_REVERT = auto()
    JOURNAL_ABORT = auto()
    DONE = auto()


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker died."""

    slot: int


@dataclass(frozen=True, slots=True)
class Deadline:
    """The time for a phase is over."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class Written:
    """The journal took the record that was asked for, or did not."""

    ok: bool = True
    reason: str = ""


Vote = (
    messages.Prepared
    | messages.Refused
    | messages.Swapped
    | messages.SwapFailed
    | messages.Finished
    | messages.Reverted
)
Event = Vote | Lost | Deadline | Written

TRANSITIONS: dict[tuple[Phase, Step], Phase] = {
    (Phase.OPENING, Step.WRITTEN): Phase.PREPARING,
    (Phase.OPENING, Step.UNWRITTEN): Phase.ABORTED,
    (Phase.PREPARING, Step.ALL): Phase.SWAPPING,
    (Phase.PREPARING, Step.NO): Phase.REVERTING,
    (Phase.PREPARING, Step.LOST): Phase.REVERTING,
    (Phase.PREPARING, Step.LATE): Phase.REVERTING,
    (Phase.SWAPPING, Step.ALL): Phase.COMMITTING,
    (Phase.SWAPPING, Step.NO): Phase.REVERTING,
    (Phase.SWAPPING, Step.LOST): Phase.REVERTING,
    (Phase.SWAPPING, Step.LATE): Phase.REVERTING,
    (Phase.COMMITTING, Step.WRITTEN): Phase.FINISHING,
    (Phase.COMMITTING, Step.UNWRITTEN): Phase.REVERTING,
    (Phase.FINISHING, Step.ALL): Phase.COMMITTED,
    (Phase.FINISHING, Step.LATE): Phase.COMMITTED,
    (Phase.REVERTING, Step.ALL): Phase.ABORTED,
    (Phase.REVERTING, Step.LATE): Phase.MIXED,
}
"""Every change of phase. A step that has no row in a phase changes nothing there."""

_ON_ENTRY: dict[Phase, tuple[Act, ...]] = {
    Phase.OPENING: (Act.JOURNAL_BEGIN,),
    Phase.PREPARING: (Act.SEND_PREPARE,),
    Phase.SWAPPING: (Act.SEND_SWAP,),
    Phase.COMMITTING: (Act.JOURNAL_COMMIT,),
    Phase.FINISHING: (Act.SEND_FINISH,),
    Phase.REVERTING: (Act.SEND_REVERT,),
    Phase.COMMITTED: (Act.DONE,),
    Phase.ABORTED: (Act.JOURNAL_ABORT, Act.DONE),
    Phase.MIXED: (Act.JOURNAL_ABORT, Act.DONE),
}

_ASKS = frozenset({Phase.PREPARING, Phase.SWAPPING, Phase.FINISHING, Phase.REVERTING})
"""The phases in which every live worker has to answer."""

FINAL = frozenset({Phase.COMMITTED, Phase.ABORTED, Phase.MIXED})

_YES: dict[Phase, type] = {
    Phase.PREPARING: messages.Prepared,
    Phase.SWAPPING: messages.Swapped,
    Phase.FINISHING: messages.Finished,
    Phase.REVERTING: messages.Reverted,
}
_NO: dict[Phase, type] = {
    Phase.PREPARING: messages.Refused,
    Phase.SWAPPING: messages.SwapFailed,
}
_FAILS_AS: dict[Phase, Outcome] = {
    Phase.OPENING: Outcome.REFUSED,
    Phase.PREPARING: Outcome.REFUSED,
    Phase.SWAPPING: Outcome.ROLLED_BACK,
    Phase.COMMITTING: Outcome.ROLLED_BACK,
}


class Agreement:
    """One transaction ``tx`` over ``slots``. Feed events; do what is returned, in order.

    With ``dry_run`` the answers of the first phase are taken back at once: nothing is swapped and
    nothing is written to the journal. A ``selective`` one is refused when it would convert nothing.

    Public results: ``outcome``, ``refusals`` (why it failed, per worker), ``stuck`` (workers that
    may serve two versions), ``verdicts`` and ``receipts`` by slot.
    """

    def __init__(
        self, tx: int, slots: Iterable[int], dry_run: bool = False, selective: bool = False
    ) -> None:
        self.tx = tx
        self.selective = selective
        self.dry_run = dry_run
        self.phase = Phase.OPENING
        self.outcome = Outcome.DONE
        self._swap_was_sent = False
        self.live = set(slots)
        self.waiting: set[int] = set()
        self.stuck: set[int] = set()
        self.refusals: list[Refusal] = []
        self.verdicts: dict[int, list[VerdictLine]] = {}
        self.objects: dict[int, dict[str, int]] = {}
        self.receipts: dict[int, WorkerReceipt] = {}
        if not self.live:
            raise ValueError("an agreement needs at least one worker")

    @property
    def done(self) -> bool:
        """Whether nothing will happen any more."""
        return self.phase in FINAL

    def begin(self) -> list[Act]:
        """The first actions; a dry run has no record to write and goes straight on."""
        if self.dry_run:
            return self._take(Step.WRITTEN)
        return list(_ON_ENTRY[Phase.OPENING])

    def feed(self, event: Event) -> list[Act]:
        """The actions that ``event`` leads to; none when it is late, doubled or foreign."""
        step = self._read(event)
        return [] if step is None else self._take(step)

    def _read(self, event: Event) -> Step | None:
        match event:
            case Lost():
                return self._read_lost(event)
            case Deadline():
                return self._read_deadline(event)
            case Written():
                return self._read_written(event)
            case _:
                return self._read_vote(event)

    def _take(self, step: Step) -> list[Act]:
        actions: list[Act] = []
        following: Step | None = step
        while following is not None:
            target = TRANSITIONS.get((self.phase, following))
            if target is None:
                return actions
            if following is Step.LATE and self.phase is Phase.REVERTING:
                self.stuck |= self.waiting
            target = self._detour(target)
            self._judge(following, target)
            actions += self._enter(target)
            # With nobody left to ask, a phase that asks is over as soon as it begins.
            following = Step.ALL if self.phase in _ASKS and not self.waiting else None
        return actions

    def _detour(self, target: Phase) -> Phase:
        """Where the table leads for a dry run, and for a revert by what it left behind.

        Versions can only be mixed once a worker was told to swap.
        """
        if target is Phase.SWAPPING and self.dry_run:
            return Phase.REVERTING
        if target in (Phase.ABORTED, Phase.MIXED):
            return Phase.MIXED if self.stuck and self._swap_was_sent else Phase.ABORTED
        return target

    def _judge(self, step: Step, target: Phase) -> None:
        failed = step not in (Step.ALL, Step.WRITTEN)
        if target in (Phase.REVERTING, Phase.ABORTED) and failed:
            self.outcome = _FAILS_AS.get(self.phase, self.outcome)
        if target is Phase.MIXED:
            self.outcome = Outcome.MIXED

    def _enter(self, phase: Phase) -> list[Act]:
        self.phase = phase
        self._swap_was_sent |= phase is Phase.SWAPPING
        self.waiting = set(self.live) if phase in _ASKS else set()
        acts = _ON_ENTRY[phase]
        return [act for act in acts if not (self.dry_run and act is Act.JOURNAL_ABORT)]

    def _read_vote(self, vote: Vote) -> Step | None:
        if vote.tx != self.tx or vote.slot not in self.waiting:
            return None
        if isinstance(vote, _NO.get(self.phase, ())):
            assert isinstance(vote, messages.Refused | messages.SwapFailed)
            self.refusals.append(vote.refusal)
            return Step.NO
        if not isinstance(vote, _YES[self.phase]):
            return None
        self._note(vote)
        self.waiting.discard(vote.slot)
        if self.waiting:
            return None
        if self.phase is Phase.PREPARING and self.selective and not self._found():
            advice = "netswap objects --selector shows what a selector finds"
            reason = "the selector finds no object of the pushed kinds in any worker"
            self.refusals.append(Refusal(Stage.PREPARE, reason, advice=advice))
            return Step.NO
        return Step.ALL

    def _found(self) -> int:
        return sum(count for counts in self.objects.values() for count in counts.values())

    def _note(self, vote: Vote) -> None:
        if isinstance(vote, messages.Prepared):
            self.verdicts[vote.slot] = vote.verdicts
            self.objects[vote.slot] = vote.objects
        elif isinstance(vote, messages.Swapped):
            self.receipts[vote.slot] = vote.receipt
        elif isinstance(vote, messages.Reverted) and vote.refusal is not None:
            self.stuck.add(vote.slot)
            self.refusals.append(vote.refusal)

    def _read_lost(self, event: Lost) -> Step | None:
        if event.slot not in self.live:
            return None
        self.live.discard(event.slot)
        self.waiting.discard(event.slot)
        # Its objects died with it: what it left behind boots into one version.
        self.stuck.discard(event.slot)
        if (self.phase, Step.LOST) in TRANSITIONS:
            reason = f"worker {event.slot} died while {self.phase.value}"
            self._refuse(reason, event.slot, "netswap workers")
            return Step.LOST
        return Step.ALL if self.phase in _ASKS and not self.waiting else None

    def _read_deadline(self, event: Deadline) -> Step | None:
        if event.phase is not self.phase or self.done:
            return None
        for slot in sorted(self.waiting):
            reason = f"worker {slot} did not answer in time while {self.phase.value}"
            self._refuse(reason, slot, "netswap blockers")
        return Step.LATE

    def _read_written(self, event: Written) -> Step:
        if not event.ok:
            self._refuse(f"the journal can't be written: {event.reason}", None, "")
        return Step.WRITTEN if event.ok else Step.UNWRITTEN

    def _refuse(self, reason: str, worker: int | None, advice: str) -> None:
        if self.phase is not Phase.FINISHING:
            refusal = Refusal(Stage.AGREEMENT, reason, worker=worker, advice=advice)
            self.refusals.append(refusal)
