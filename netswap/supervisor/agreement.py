"""The two-phase agreement over all workers, without any I/O: votes go in, actions come out.

Theory. The supervisor coordinates; each worker is a participant. A transaction is *begun* in the
journal before any worker hears of it, and *committed* in the journal after every live worker has
flipped and before any old object is let go. Hence:

* a crash of the supervisor before the commit record means that the successor boots workers into
  the old set (a begin without a commit counts as aborted);
* a crash after it means that they boot into the new set;
* the death of one worker before the commit aborts; after it, the successor of that worker boots
  into the committed set, so nobody has to be asked.

``phases.TRANSITIONS`` is the whole of it: opening, preparing, swapping, committing, finishing,
committed; and from each phase before the commit record, reverting and then aborted, or mixed when
a worker that had begun to swap did not say that the old code serves again.

A transaction may be on *probation*: a canary is swapped and watched first, all of it is watched
after the swap, or both. These phases lie before the commit record, while every worker keeps the
way back, so a watch that fails is a revert like any other. A transaction without them passes them
by (``phases.OPTIONAL``). An operator may end a probation by a ``Decision``; with ``by_hand`` only
that promotes the canary. A canary that is ``chosen`` by a selector has to find somebody.

An *atomic* one asks every worker to hold all that would be served before any is told to swap, so
that two versions never serve at the same moment; what lets them serve again is the next watch,
finish or revert. It has no canary, which serves beside the old code. Back from a watch it is
*returning*: all hold once more before any goes back. One becomes atomic by itself when the workers
have prepared a change of a kind with a part in each, or of kinds that ask each other, where some
worker can't change them in one stroke.

A vote is counted once, and only in the phase that asked for it: duplicates, answers that come too
late and answers from workers that do not take part change nothing. Two phases that ask the same
are told apart by the answer's ``canary``. A deadline is an event like any other and names the
phase that it belongs to.

What this does not know: time, sockets, the journal's file, what is swapped. ``transaction`` drives
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from netswap.channel import messages
from netswap.events import Refusal, Rehearsal, Stage, Stuck, VerdictLine, WatchRow, WorkerReceipt
from netswap.outcome import Outcome
from netswap.supervisor.inputs import Decision, Lost, Probation, Stopped, Untouched, Written
from netswap.supervisor.phases import (
    ASKS,
    FAILS_AS,
    FINAL,
    FLIPS,
    NO,
    OF_CANARY,
    ON_ENTRY,
    OPTIONAL,
    TRANSITIONS,
    YES,
    Act,
    Phase,
    Step,
)

__all__ = [
    "TRANSITIONS",
    "Act",
    "Agreement",
    "Deadline",
    "Decision",
    "Event",
    "Lost",
    "Phase",
    "Probation",
    "Step",
    "Stopped",
    "Untouched",
    "Vote",
    "Written",
]


@dataclass(frozen=True, slots=True)
class Deadline:
    """The time for a phase is over; of ``slot`` alone, where workers are asked one by one.

    ``stuck`` are those of the late ones that answer nobody.
    """

    phase: Phase
    slot: int | None = None
    stuck: tuple[Stuck, ...] = ()


Vote = (
    messages.Prepared
    | messages.Refused
    | messages.Held
    | messages.Swapped
    | messages.SwapFailed
    | messages.Watching
    | messages.Watched
    | messages.WatchFailed
    | messages.Finished
    | messages.Reverted
)
Event = Vote | Lost | Untouched | Deadline | Decision | Stopped | Written


_NOTHING = Probation()


class Agreement:
    """One transaction ``tx`` over ``slots``. Feed events; do what is returned, in order.

    With ``dry_run`` the answers of the first phase are taken back at once: nothing is swapped and
    nothing is written to the journal. A ``selective`` one is refused when it would convert nothing.

    Public results: ``outcome``, ``refusals`` (why it failed, per worker), ``stuck`` (workers that
    may serve two versions), ``verdicts``, ``rehearsals``, ``receipts`` and ``figures`` (the latest
    of a watch) by slot, ``clustered`` (kinds with parts that change), ``asking`` (which changed
    kinds ask each other), ``returned`` (all hold).
    """

    def __init__(
        self,
        tx: int,
        slots: Iterable[int],
        dry_run: bool = False,
        selective: bool = False,
        probation: Probation = _NOTHING,
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
        self.connections: dict[int, int] = {}
        self.receipts: dict[int, WorkerReceipt] = {}
        self.figures: dict[int, list[WatchRow]] = {}
        self.rehearsals: dict[int, Rehearsal] = {}
        self.clustered: set[str] = set()
        self.asking: set[str] = set()
        self.returned = False
        self._by_hand = probation.by_hand
        self._whole = probation.whole
        self._chosen = probation.chosen
        wanted = {
            Phase.CANARY: probation.canary,
            Phase.HOLDING: probation.atomic,
            Phase.WATCHING: probation.watch,
            Phase.RETURNING: probation.atomic,
        }
        self._passed_by = {phase for phase, is_wanted in wanted.items() if not is_wanted}
        if not self.live:
            raise ValueError("an agreement needs at least one worker")

    @property
    def atomic(self) -> bool:
        """Whether nothing is served while the workers swap."""
        return Phase.HOLDING not in self._passed_by

    @property
    def done(self) -> bool:
        """Whether nothing will happen any more."""
        return self.phase in FINAL

    def begin(self) -> list[Act]:
        """The first actions; a dry run has no record to write and goes straight on."""
        if self.dry_run:
            return self._take(Step.WRITTEN)
        return list(ON_ENTRY[Phase.OPENING])

    def feed(self, event: Event) -> list[Act]:
        """The actions that ``event`` leads to; none when it is late, doubled or foreign."""
        step = self._read(event)
        return [] if step is None else self._take(step)

    def _read(self, event: Event) -> Step | None:
        read = _READERS.get(type(event), Agreement._read_vote)
        return read(self, event)

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
            following = Step.ALL if self.phase in ASKS and not self.waiting else None
        return actions

    def _detour(self, target: Phase) -> Phase:
        """Where the table leads without the optional phases, and where for a dry run.

        A revert ends by what it left behind: none is mixed before a worker was told to swap.
        """
        if target in FLIPS and self.dry_run:
            return Phase.REVERTING
        while target in self._passed_by:
            target = OPTIONAL[target]
        if target in (Phase.ABORTED, Phase.MIXED):
            return Phase.MIXED if self.stuck and self._swap_was_sent else Phase.ABORTED
        return target

    def _judge(self, step: Step, target: Phase) -> None:
        failed = step not in (Step.ALL, Step.WRITTEN, Step.PROMOTED)
        if target in (Phase.RETURNING, Phase.REVERTING, Phase.ABORTED) and failed:
            self.outcome = FAILS_AS.get(self.phase, self.outcome)
        if target is Phase.MIXED:
            self.outcome = Outcome.MIXED

    def _enter(self, phase: Phase) -> list[Act]:
        self.phase = phase
        self._swap_was_sent |= phase in FLIPS
        self.waiting = set(self.live) if phase in ASKS else set()
        acts = ON_ENTRY[phase]
        return [act for act in acts if not (self.dry_run and act is Act.JOURNAL_ABORT)]

    def _read_vote(self, vote: Vote) -> Step | None:
        if vote.tx != self.tx or vote.slot not in self.waiting:
            return None
        self._note_figures(vote)
        self._note_tried(vote)
        if isinstance(vote, NO.get(self.phase, ())):
            assert isinstance(vote, messages.Refused | messages.SwapFailed | messages.WatchFailed)
            if self.phase is not Phase.RETURNING:  # then it is known why
                self.refusals.append(vote.refusal)
            return Step.NO
        if not isinstance(vote, YES[self.phase]) or self._is_of_another_phase(vote):
            return None
        self._note(vote)
        self.waiting.discard(vote.slot)
        return None if self.waiting else self._unanimous()

    def _is_of_another_phase(self, vote: Vote) -> bool:
        """Whether it answers what was asked of the canary, or of all, when that is not asked."""
        return getattr(vote, "canary", False) is not (self.phase in OF_CANARY)

    def _unanimous(self) -> Step:
        """What it means that all have agreed."""
        if self.phase is Phase.PROBATION and self._by_hand:
            advice = "push again, then `netswap promote` while it is watched"
            self._refuse("nobody promoted the canary in time", None, advice)
            return Step.UNDECIDED
        self.returned |= self.phase is Phase.RETURNING
        return self._prepared() if self.phase is Phase.PREPARING else Step.ALL

    def _prepared(self) -> Step:
        """Whether a selector has found anything; what changes together is held."""
        if self.selective and not self._found():
            return self._finds_nobody("the selector finds no object")
        if self._chosen and not sum(self.connections.values()):
            return self._finds_nobody("the canary's selector finds no connection")
        if (self.clustered or self.asking) and self._whole:
            self._passed_by -= {Phase.HOLDING, Phase.RETURNING}
        return Step.ALL

    def _found(self) -> int:
        return sum(count for counts in self.objects.values() for count in counts.values())

    def _finds_nobody(self, what: str) -> Step:
        reason = f"{what} of the pushed kinds in any worker"
        advice = "`netswap objects SELECTOR` shows what a selector finds"
        self.refusals.append(Refusal(Stage.PREPARE, reason, advice=advice))
        return Step.NO

    def _note(self, vote: Vote) -> None:
        if isinstance(vote, messages.Prepared):
            self.objects[vote.slot] = vote.objects
            self.connections[vote.slot] = vote.connections
            self.clustered.update(vote.clustered)
            self.asking.update(vote.asking)
        elif isinstance(vote, messages.Swapped):
            self.receipts[vote.slot] = vote.receipt
        elif isinstance(vote, messages.Finished) and vote.slot in self.receipts:
            self.receipts[vote.slot] = _with_hold(self.receipts[vote.slot], vote.held_us)
        elif isinstance(vote, messages.Reverted) and vote.refusal is not None:
            self.stuck.add(vote.slot)
            self.refusals.append(vote.refusal)

    def _note_tried(self, vote: Vote) -> None:
        if isinstance(vote, messages.Prepared | messages.Refused):
            self.verdicts[vote.slot] = vote.verdicts
            if vote.rehearsal is not None:
                self.rehearsals[vote.slot] = vote.rehearsal

    def _note_figures(self, vote: Vote) -> None:
        if isinstance(vote, messages.Watching | messages.Watched | messages.WatchFailed):
            self.figures[vote.slot] = vote.rows

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
        return Step.ALL if self.phase in ASKS and not self.waiting else None

    def _read_deadline(self, event: Deadline) -> Step | None:
        if event.phase is not self.phase or self.done:
            return None
        stuck = {one.worker: one for one in event.stuck}
        for slot in sorted(self.waiting if event.slot is None else {event.slot}):
            self._refuse_late(slot, stuck.get(slot))
        return Step.LATE

    def _refuse_late(self, slot: int, stuck: Stuck | None) -> None:
        reason = f"worker {slot} did not answer in time while {self.phase.value}"
        if stuck is None:
            self._refuse(reason, slot, "netswap blockers")
            return
        reason += f": it is silent for {stuck.silent_s:.1f} s"
        reason += f", {stuck.doing}" if stuck.doing else ""
        advice = (
            "`netswap workers` shows when it answers again, then push again; "
            f"`kill -9 {stuck.pid}` ends it and its connections, and another takes its place"
        )
        place = {"file": stuck.file, "line": stuck.line}
        self._refuse(reason, slot, advice, **place)

    def _read_untouched(self, event: Untouched) -> Step | None:
        """It reads the revert when it goes on, before anything else."""
        if self.phase is not Phase.REVERTING or event.slot not in self.waiting:
            return None
        self.waiting.discard(event.slot)
        return None if self.waiting else Step.ALL

    def _read_decision(self, event: Decision) -> Step | None:
        step = Step.PROMOTED if event.promote else Step.TAKEN_BACK
        if (self.phase, step) not in TRANSITIONS:
            return None
        if not event.promote:
            self._refuse(event.reason, None, "")
        return step

    def _read_stopped(self, event: Stopped) -> Step | None:
        if (self.phase, Step.STOPPED) not in TRANSITIONS:
            return None
        advice = "push it again; `netswap blockers` shows what is in the way"
        self._refuse(event.reason, None, advice)
        return Step.STOPPED

    def _read_written(self, event: Written) -> Step:
        if not event.ok:
            self._refuse(f"the journal can't be written: {event.reason}", None, "")
        return Step.WRITTEN if event.ok else Step.UNWRITTEN

    def _refuse(self, reason: str, worker: int | None, advice: str, **place: Any) -> None:
        if self.phase is not Phase.FINISHING:
            refusal = Refusal(Stage.AGREEMENT, reason, worker=worker, advice=advice, **place)
            self.refusals.append(refusal)


_READERS: dict[type, Callable[[Agreement, Any], Step | None]] = {
    Lost: Agreement._read_lost,
    Untouched: Agreement._read_untouched,
    Deadline: Agreement._read_deadline,
    Decision: Agreement._read_decision,
    Stopped: Agreement._read_stopped,
    Written: Agreement._read_written,
}
"""What an event that is no vote means for the phase."""


def _with_hold(receipt: WorkerReceipt, held_us: float) -> WorkerReceipt:
    """The receipt, now that all is served again: it was written while that was held."""
    blackout = max(receipt.blackout_us, held_us)
    return msgspec.structs.replace(receipt, blackout_us=blackout, held_us=held_us)
