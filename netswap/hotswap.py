"""The algorithm: replace the implementation of live objects, carrying their state.

A ``Swap`` knows what is to change and which objects it concerns; it does the work in *slices*.
A slice is one uninterruptible piece: it converts and builds as many objects as fit its budget and
flips them all at its end. Inside a slice everything may fail and nothing has happened yet; the
flip itself can't fail. When a later slice fails, the flipped objects are *taken back* through the
way down, in slices too.

::

    Working ──slice──▶ Working ──none left──▶ Done ──▶ (finish) Settled
       │                  │                     │
       └──failure/abort───┴──▶ TakingBack ◀─────┘ (revert)
                                   └──none left──▶ Restored, or Mixed if an object can't go back

An object that is not quiescent (a suspended call is inside it) is set aside; the driver brings it
to rest and hands it in again with ``quiescent()``. What the room does not know: loops, tasks,
sockets. The driver (``worker``) calls ``slice()`` between two callbacks of its loop and does what
``Progress`` says.

Rejected: converting all and flipping all at once for every swap: ten thousand connections would
stall the loop for tens of milliseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, NamedTuple

from netswap.blame import blame, describe
from netswap.clock import Clock
from netswap.errors import DeadlinePassed, TransitionError
from netswap.events import Refusal, Stage, Verdict
from netswap.mediator import Mediator, present
from netswap.ott import Entry, ObjectTranslationTable
from netswap.transfer import Migration, State, Transfer, plan_transfer

__all__ = ["Change", "Phase", "Progress", "Swap"]


class Phase(Enum):
    """The life of a swap in one worker."""

    WORKING = "working"
    DONE = "done"
    TAKING_BACK = "taking back"
    RESTORED = "restored"
    MIXED = "mixed"
    SETTLED = "settled"


class Event(Enum):
    """What moves a swap on."""

    ALL_FLIPPED = "all flipped"
    GIVE_UP = "give up"
    ALL_BACK = "all back"
    SOME_STUCK = "some stuck"
    FINISH = "finish"


TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.WORKING, Event.ALL_FLIPPED): Phase.DONE,
    (Phase.WORKING, Event.GIVE_UP): Phase.TAKING_BACK,
    (Phase.DONE, Event.GIVE_UP): Phase.TAKING_BACK,
    (Phase.DONE, Event.FINISH): Phase.SETTLED,
    (Phase.TAKING_BACK, Event.ALL_BACK): Phase.RESTORED,
    (Phase.TAKING_BACK, Event.SOME_STUCK): Phase.MIXED,
}


class Change(NamedTuple):
    """A kind's ``new`` implementation, the one ``before``, and the steps between versions.

    Objects born during the swap are made by ``new``; taken back, they become ``before``.
    """

    kind: str
    new: Any
    before: Any
    migrations: tuple[Migration, ...]


class Progress(NamedTuple):
    """What a slice did; ``busy`` are objects that the driver has to bring to rest."""

    phase: Phase
    converted: int
    busy: tuple[Entry, ...]


class _Flip(NamedTuple):
    entry: Entry
    old: Any
    new: Any


class Swap:
    """The replacement of the implementations of some kinds, as one transaction in one worker.

    ``entries`` are the objects concerned, services before connections; authors' code runs under
    ``guard()``, which raises DeadlinePassed in an endless step.
    """

    def __init__(
        self,
        table: ObjectTranslationTable,
        changes: Iterable[Change],
        entries: Iterable[Entry],
        clock: Clock,
        guard: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.phase = Phase.WORKING
        self.changes = {change.kind: change for change in changes}
        self.refusal: Refusal | None = None
        self.counts: dict[str, int] = dict.fromkeys(self.changes, 0)
        self.gone = 0
        self.stuck: list[Refusal] = []
        self._table = table
        self._clock = clock
        self._guard = guard
        self._pending = deque(entries)
        self._busy: set[Entry] = set()
        self._previous: dict[int, Any] = {}
        self._ways: dict[tuple[type[State], type[State]], Transfer] = {}

    def slice(self, budget_ns: int) -> Progress:
        """Convert and flip as many objects as fit ``budget_ns``, at least one.

        A failure flips nothing of the slice, sets ``refusal`` and begins to take back.
        """
        if self.phase is Phase.TAKING_BACK:
            return self._slice_back(budget_ns)
        if self.phase is not Phase.WORKING:
            raise TransitionError("swap", self.phase.value, "slice")
        ready: list[_Flip] = []
        busy: list[Entry] = []
        refusal = self._build_some(ready, busy, budget_ns)
        if refusal is not None:
            for flip in ready:
                flip.new.discard()
            self.give_up(refusal)
            return Progress(self.phase, 0, ())
        for flip in ready:
            self._flip(flip)
            self._previous.setdefault(flip.entry.identity, type(flip.old))
            self.counts[flip.entry.kind] += 1
        if not self._pending and not self._busy:
            self._move(Event.ALL_FLIPPED)
        return Progress(self.phase, len(ready), tuple(busy))

    def quiescent(self, entry: Entry) -> None:
        """A busy object has come to rest: it is taken first in the next slice."""
        if entry in self._busy:
            self._busy.remove(entry)
            self._pending.appendleft(entry)

    @property
    def has_work(self) -> bool:
        """Whether a slice would do something."""
        return bool(self._pending) or not self._busy

    def forget_gone(self) -> None:
        """Busy objects that closed meanwhile are waited for no more."""
        gone = [entry for entry in self._busy if entry not in self._table]
        self._busy.difference_update(gone)
        self.gone += len(gone)

    @property
    def busy(self) -> list[Entry]:
        """The objects that the swap waits for."""
        return list(self._busy)

    def give_up(self, refusal: Refusal) -> None:
        """Abort or revert: every flipped object goes back, and so do those born meanwhile.

        ``refusal`` is kept unless an earlier one is known. TransitionError when it is too late.
        """
        self._move(Event.GIVE_UP)
        self.refusal = self.refusal or refusal
        self._busy.clear()
        self._pending = deque(
            entry
            for kind, change in self.changes.items()
            for entry in self._table.of_kind(kind)
            if type(present(entry)) is change.new
            and self._came_from(entry) not in (None, change.new)
        )

    def finish(self) -> None:
        """The swap stands; the way back is forgotten."""
        self._move(Event.FINISH)
        self._previous.clear()
        self._ways.clear()

    def _came_from(self, entry: Entry) -> Any:
        return self._previous.get(entry.identity) or self.changes[entry.kind].before

    def _move(self, event: Event) -> None:
        following = TRANSITIONS.get((self.phase, event))
        if following is None:
            raise TransitionError("swap", self.phase.value, event.value)
        self.phase = following

    def _build_some(self, ready: list[_Flip], busy: list[Entry], budget_ns: int) -> Refusal | None:
        until = self._clock.monotonic_ns() + budget_ns
        entry: Entry | None = None
        try:
            with self._guard():
                while self._pending:
                    entry = self._pending.popleft()
                    refusal = self._build_one(entry, ready, busy)
                    if refusal is not None or self._clock.monotonic_ns() >= until:
                        return refusal
        except DeadlinePassed as error:
            return self._overrun(error, entry)
        return None

    def _build_one(self, entry: Entry, ready: list[_Flip], busy: list[Entry]) -> Refusal | None:
        if entry not in self._table:
            self.gone += 1
        elif not _at_rest(entry):
            self._busy.add(entry)
            busy.append(entry)
        else:
            built = self._build(entry, self.changes[entry.kind].new)
            if isinstance(built, Refusal):
                return built
            ready.append(built)
        return None

    def _overrun(self, error: DeadlinePassed, entry: Entry | None) -> Refusal:
        if entry is None or entry not in self._table:
            return Refusal(Stage.SWAP, describe(error))
        change = self.changes[entry.kind]
        return refusal_of(error, entry, type(present(entry).state), change.new.state_type)

    def _build(self, entry: Entry, new: Any) -> _Flip | Refusal:
        """Everything that can fail for one object."""
        old = present(entry)
        try:
            way = self._way(type(old.state), new.state_type, entry.kind)
            return _Flip(entry, old, new.successor(old, way.convert(old.state)))
        except Exception as error:
            return refusal_of(error, entry, type(old.state), new.state_type)

    def _way(self, old: type[State], new: type[State], kind: str) -> Transfer:
        way = self._ways.get((old, new))
        if way is None:
            way = plan_transfer(old, new, self.changes[kind].migrations)
            if way.verdict is Verdict.INCOMPATIBLE:
                raise TypeError(way.reason)
            self._ways[old, new] = way
        return way

    def _flip(self, flip: _Flip) -> None:
        """The point of no return for one object: pointers only."""
        target = flip.entry.target
        if target is flip.old:
            flip.entry.target = flip.new
        else:
            target.flip(flip.new)
        flip.new.take_over(flip.old)

    def _slice_back(self, budget_ns: int) -> Progress:
        until = self._clock.monotonic_ns() + budget_ns
        back = 0
        busy: list[Entry] = []
        while self._pending and (back == 0 or self._clock.monotonic_ns() < until):
            entry = self._pending.popleft()
            if entry not in self._table:
                continue
            if not _at_rest(entry):
                self._busy.add(entry)
                busy.append(entry)
                continue
            self._take_back(entry)
            back += 1
        if not self._pending and not self._busy:
            self._move(Event.SOME_STUCK if self.stuck else Event.ALL_BACK)
        return Progress(self.phase, back, tuple(busy))

    def _take_back(self, entry: Entry) -> None:
        built: _Flip | Refusal
        try:
            with self._guard():
                built = self._build(entry, self._came_from(entry))
        except DeadlinePassed as error:
            built = self._overrun(error, entry)
        if isinstance(built, Refusal):
            self.stuck.append(built)
        else:
            self._flip(built)

    def strand(self, entry: Entry, reason: str) -> None:
        """A busy object did not come to rest in time on the way back: it stays on new code."""
        self._busy.discard(entry)
        self.stuck.append(Refusal(Stage.SWAP, reason, kind=entry.kind, entry=str(entry.identity)))
        if not self._pending and not self._busy:
            self._move(Event.SOME_STUCK)


def _at_rest(entry: Entry) -> bool:
    target = entry.target
    rest: bool = target.at_rest if isinstance(target, Mediator) else target.at_rest()
    return rest


def refusal_of(error: BaseException, entry: Entry, old: type[State], new: type[State]) -> Refusal:
    """What failed for one object, at which line of the author's file."""
    file, line = blame(error)
    return Refusal(
        Stage.SWAP,
        f"converting {entry.kind} from version {old.__version__} to {new.__version__} failed: "
        f"{describe(error)}",
        file=file,
        line=line,
        kind=entry.kind,
        entry=str(entry.identity),
        advice="mend the step and push again; netswap check runs it offline",
    )
