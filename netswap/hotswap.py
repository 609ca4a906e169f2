"""The algorithm: replace the implementation of live objects, carrying their state.

A ``Swap`` knows what is to change and which objects it concerns; it does the work in *slices*.
A slice is one uninterruptible piece: it converts and builds as many objects as fit its budget and
flips them all at its end. Inside a slice everything may fail and nothing has happened yet; the
flip itself can't fail. When a later slice fails, the flipped objects are *taken back* through the
way down, in slices too.

::

    Working ──slice──▶ Working ──none left──▶ Done ──▶ (finish) Settled
       ▲                                       │
       └──────────────widen────────────────────┘
       │                  │                     │
       └──failure/abort───┴──▶ TakingBack ◀─────┘ (revert)
                                   └──none left──▶ Restored, or Mixed if an object can't go back

An object that is not quiescent (a suspended call is inside it) is set aside; the driver brings it
to rest and hands it in again with ``quiescent()``. So is each of several services whose calls
suspend, since a call that is inside one may go on into another and must find its own version.

What the room does not know: loops, tasks, sockets. The driver (``worker``) calls ``slice()``
between two callbacks of its loop and does what ``Progress`` says.

Rejected: converting all and flipping all at once for every swap: ten thousand connections would
stall the loop for tens of milliseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, NamedTuple

from netswap.blame import blame, describe, to_mend
from netswap.clock import Clock
from netswap.errors import TransitionError
from netswap.events import Refusal, Stage, Verdict
from netswap.lifecycle import LifeCycle
from netswap.mediator import InFront, interposed, mediator_of, present, row_of
from netswap.ott import Entry, ObjectTranslationTable
from netswap.transfer import Migration, State, plan_transfer

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
    WIDEN = "widen"


TRANSITIONS = LifeCycle(
    "swap",
    {
        (Phase.WORKING, Event.ALL_FLIPPED): Phase.DONE,
        (Phase.WORKING, Event.WIDEN): Phase.WORKING,
        (Phase.DONE, Event.WIDEN): Phase.WORKING,
        (Phase.WORKING, Event.GIVE_UP): Phase.TAKING_BACK,
        (Phase.DONE, Event.GIVE_UP): Phase.TAKING_BACK,
        (Phase.DONE, Event.FINISH): Phase.SETTLED,
        (Phase.TAKING_BACK, Event.ALL_BACK): Phase.RESTORED,
        (Phase.TAKING_BACK, Event.SOME_STUCK): Phase.MIXED,
    },
)


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


_Flip = tuple[Entry, Any, Any]
"""An entry, its old object and the one that is to follow."""

_Route = tuple[Callable[[State], State], Callable[[Any, State], Any]]
"""How state crosses between two implementations, and how the second builds its object."""


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
        self.gone = self.left = 0
        self.stuck: list[Refusal] = []
        self.returned: set[Entry] = set()
        self._table = table
        self._newest = table.newest
        self._clock = clock
        self._guard = guard
        self._pending = deque(entries)
        self._busy: set[Entry] = set()
        self._previous: dict[int, Any] = {}
        self._routes: dict[tuple[Any, Any], _Route] = {}
        self._together = _together(self.changes.values())

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
        refusal = self._build(ready, busy, self._clock.monotonic_ns() + budget_ns)
        if refusal is not None:
            for entry, _, new in ready:
                self._discard(entry, new)
            self.give_up(refusal)
            return Progress(self.phase, 0, ())
        for entry, old, new in ready:
            self._flip(entry, old, new)
            self._previous[entry.identity] = type(old)
            self.counts[entry.kind] += 1
        if not self._pending and not self._busy:
            self._move(Event.ALL_FLIPPED)
        return Progress(self.phase, len(ready), tuple(busy))

    def widen(self, entries: Iterable[Entry]) -> None:
        """More objects are concerned, after a canary the rest; one way back leads over all.

        Raises TransitionError when it is too late.
        """
        self._move(Event.WIDEN)
        self._pending.extend(entries)

    def quiescent(self, entry: Entry) -> None:
        """A busy object has come to rest: it is taken first in the next slice."""
        if entry in self._busy:
            self._busy.remove(entry)
            self._pending.appendleft(entry)

    def waits_for(self, entry: Entry) -> bool:
        """Whether an object is busy."""
        return entry in self._busy

    @property
    def has_work(self) -> bool:
        """Whether a slice would do something."""
        return bool(self._pending) or not self._busy

    def forget_gone(self) -> None:
        """Busy objects that closed meanwhile are waited for no more."""
        gone = [entry for entry in self._busy if entry.target is None]
        self._busy.difference_update(gone)
        self.gone += len(gone)

    def leave(self, entry: Entry) -> None:
        """A busy object ends by itself and takes in nothing more: it may do so in old code."""
        self._busy.remove(entry)
        self.left += 1

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
            for kind in self.changes
            for entry in self._table.of_kind(kind)
            if self._goes_back_to(entry, present(entry)) is not None
        )

    def take_back_now(self, states: Mapping[Entry, State]) -> Refusal | None:
        """Put some objects of a finished slice back at once, with ``states`` as they were before.

        All of them or, with the reason why, none. Objects that this swap has not changed stay.
        ``returned`` has those that went.
        """
        flips: list[_Flip] = []
        refusal = self._build_back(states, flips)
        for entry, new, old in flips:
            if refusal is None:
                self._flip(entry, new, old)
                self.returned.add(entry)
            else:
                self._discard(entry, old)
        for entry in states:
            _settle(entry)
        return refusal

    def _build_back(self, states: Mapping[Entry, State], flips: list[_Flip]) -> Refusal | None:
        """Everything that can fail of ``take_back_now``."""
        entry = None
        try:
            with self._guard():
                for entry, state in states.items():
                    new = _lifted(entry)
                    previous = self._goes_back_to(entry, new)
                    if previous is not None:
                        if new.scope == "worker" and new.must_rest(previous) and not new.at_rest():
                            raise TransitionError("swap", self.phase.value, "take back at once")
                        convert, follow = self._route(type(new), previous)
                        flips.append((entry, new, follow(new, convert(state))))
        except BaseException as error:  # authors' code, which may call sys.exit()
            return self._failure(error, entry)
        return None

    def _goes_back_to(self, entry: Entry, new: Any) -> Any:
        """The class that an object would be taken back to; None for one that stays."""
        change = self.changes.get(entry.kind)
        if change is None or type(new) is not change.new:
            return None
        previous = self._came_from(entry)
        return None if previous is change.new else previous

    def finish(self) -> None:
        """The swap stands; the way back is forgotten."""
        self._move(Event.FINISH)
        self._previous.clear()
        self._routes.clear()

    def _came_from(self, entry: Entry) -> Any:
        """The class to go back to; None for an object that was new code before this swap."""
        born_since = entry.identity > self._newest
        before = self.changes[entry.kind].before if born_since else None
        return self._previous.get(entry.identity, before)

    def _move(self, event: Event) -> None:
        self.phase = TRANSITIONS[self.phase, event]

    def _build(self, ready: list[_Flip], busy: list[Entry], until: int) -> Refusal | None:
        """Everything that can fail, for as many objects as time allows, at least one."""
        pending, changes, routes = self._pending, self.changes, self._routes
        now = self._clock.monotonic_ns
        entry = None
        try:
            with self._guard():
                while pending:
                    entry = pending.popleft()
                    old = entry.target
                    is_behind = isinstance(old, InFront)
                    if is_behind:
                        old = _lifted(entry)
                    if old is None:
                        self.gone += 1
                        continue
                    new = changes[entry.kind].new
                    if type(old) is new or (old.must_rest(new) and not self._rests(entry, busy)):
                        if is_behind:
                            _settle(entry)
                        continue
                    convert, follow = routes.get((type(old), new)) or self._route(type(old), new)
                    ready.append((entry, old, follow(old, convert(old.state))))
                    if now() >= until:
                        break
        except BaseException as error:  # authors' code, which may call sys.exit()
            if entry is not None:
                _settle(entry)
            return self._failure(error, entry)
        return None

    def _rests(self, entry: Entry, busy: list[Entry]) -> bool:
        """Whether no suspended call is inside; an object that is busy is set aside."""
        mediator = mediator_of(entry)
        if mediator is not None:
            rests: bool = mediator.at_rest
        else:
            rests = entry.kind not in self._together and present(entry).at_rest()
        if not rests:
            self._busy.add(entry)
            busy.append(entry)
        return rests

    def _route(self, old: Any, new: Any) -> _Route:
        route = self._routes.get((old, new))
        if route is None:
            steps = self.changes[new.kind].migrations
            way = plan_transfer(old.state_type, new.state_type, steps)
            if way.verdict is Verdict.INCOMPATIBLE:
                raise TypeError(way.reason)
            route = self._routes[old, new] = (way.convert, new.successor)
        return route

    def _flip(self, entry: Entry, old: Any, new: Any) -> None:
        """The point of no return for one object: pointers only."""
        if entry.target is old:
            entry.target = new
            new.take_over(old)
        else:
            self._flip_behind(entry, old, new)

    def _flip_behind(self, entry: Entry, old: Any, new: Any) -> None:
        """The same when something stands in front of the object."""
        row = row_of(entry)
        if row.target is old:
            row.target = new
        else:
            mediator = mediator_of(entry)
            assert mediator is not None
            mediator.flip(new)
        new.take_over(old)
        _settle(entry)

    def _discard(self, entry: Entry, new: Any) -> None:
        """Undo what building ``new`` did; an object that fails there may not be whole any more."""
        try:
            with self._guard():
                new.undo_building()
        except BaseException as error:  # authors' code, which may call sys.exit()
            self.stuck.append(refusal_of(error, entry, new, present(entry)))
        _settle(entry)

    def _failure(self, error: BaseException, entry: Entry | None) -> Refusal:
        old = None if entry is None else present(entry)
        if entry is None or old is None:
            return Refusal(Stage.SWAP, describe(error))
        return refusal_of(error, entry, old, self.changes[entry.kind].new)

    def _slice_back(self, budget_ns: int) -> Progress:
        until = self._clock.monotonic_ns() + budget_ns
        back = 0
        busy: list[Entry] = []
        while self._pending and (back == 0 or self._clock.monotonic_ns() < until):
            entry = self._pending.popleft()
            old = present(entry)
            if old is not None and self._may_go_back(entry, old, busy):
                self._take_back(entry, _lifted(entry))
                back += 1
        self._end_of_way_back()
        return Progress(self.phase, back, tuple(busy))

    def _may_go_back(self, entry: Entry, old: Any, busy: list[Entry]) -> bool:
        return not old.must_rest(self._came_from(entry)) or self._rests(entry, busy)

    def _take_back(self, entry: Entry, old: Any) -> None:
        previous = self._came_from(entry)
        new = None
        try:
            with self._guard():
                convert, follow = self._route(type(old), previous)
                new = follow(old, convert(old.state))
        except BaseException as error:  # authors' code, which may call sys.exit()
            if new is not None:
                self._discard(entry, new)
            self.stuck.append(refusal_of(error, entry, old, previous))
        else:
            self._flip(entry, old, new)

    def _end_of_way_back(self) -> None:
        if not self._pending and not self._busy:
            self._move(Event.SOME_STUCK if self.stuck else Event.ALL_BACK)

    def strand(self, entry: Entry, reason: str) -> None:
        """A busy object did not come to rest in time on the way back: it stays on new code."""
        self._busy.discard(entry)
        self.stuck.append(Refusal(Stage.SWAP, reason, kind=entry.kind, entry=str(entry.identity)))
        self._end_of_way_back()


def _together(changes: Iterable[Change]) -> frozenset[str]:
    """The kinds of services whose calls suspend, if there are several.

    One calls another, so all of them are brought behind mediators before the first is flipped.
    """
    kinds = [
        change.kind
        for change in changes
        for cls in (change.new, change.before)
        if cls is not None and cls.may_suspend and cls.scope == "worker"
    ]
    return frozenset(kinds) if len(set(kinds)) > 1 else frozenset()


def _lifted(entry: Entry) -> Any:
    """The object as it is with nothing in front of it, to be looked at by a swap."""
    for row in interposed(entry):
        row.lift()
    return present(entry)


def _settle(entry: Entry) -> None:
    """The swap has looked, or has flipped."""
    for row in interposed(entry):
        row.settle()


def refusal_of(error: BaseException, entry: Entry, source: Any, target: Any) -> Refusal:
    """What failed for one object between two implementations, at which line of their files."""
    file, line = blame(error, max(source, target, key=_version).state_type)
    versions = f"from version {source.version} to {target.version}"
    return Refusal(
        Stage.SWAP,
        f"converting {entry.kind} {versions} failed: {describe(error)}",
        file=file,
        line=line,
        kind=entry.kind,
        entry=str(entry.identity),
        advice=f"{to_mend(error)}; netswap check runs it offline",
    )


def _version(implementation: Any) -> int:
    version: int = implementation.version
    return version
