"""The mediator: stands in front of one object during one swap.

::

    Forward   calls go to the old object; those begun before the mediator came are draining
    Blocked   new calls are held; the forwarded ones are draining; a call that re-enters the
              object through itself passes, or it would wait for its own end; so does one from
              inside another object that is being drained, or the two would wait for each other
    Completed the new object is there; held calls go to it in the order in which they came,
              and calls that come before the last of them queue behind it
    Restored  the same with the old object: the swap was given up and left no trace

When the last held call has gone, the mediator leaves the table. Another swap that comes before
takes it over and begins again at Forward, with the calls that are still held at the head of the
queue: two mediators in a row could not keep the order.

Only calls that suspend are mediated. A plain call can't wait (its caller wants the value now)
and need not: it ends before anything else runs, so it goes to whichever object is present.

Interposers stand in front of the mediator: an ``Interposed`` is a row like the entry itself, with
a ``target`` of its own, and the last of them in a chain is where the pointer to the object is.

The room knows no loop: ``wait`` is handed in and makes a held call sleep until its ticket opens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from inspect import iscoroutinefunction
from typing import Any, Protocol

from netswap.lifecycle import LifeCycle

__all__ = [
    "Front",
    "InFront",
    "Interposed",
    "Mediator",
    "Phase",
    "Ticket",
    "interposed",
    "mediator_of",
    "present",
    "row_of",
]


class Phase(Enum):
    """The mediator's phases."""

    FORWARD = "Forward"
    BLOCKED = "Blocked"
    COMPLETED = "Completed"
    RESTORED = "Restored"


class Event(Enum):
    """What moves a mediator on."""

    OLD_CALLS_DRAINED = "old calls drained"
    FLIP = "flip"
    ABORT = "abort"
    ANOTHER_SWAP = "another swap"


TRANSITIONS = LifeCycle(
    "mediator",
    {
        (Phase.FORWARD, Event.OLD_CALLS_DRAINED): Phase.BLOCKED,
        (Phase.FORWARD, Event.ABORT): Phase.RESTORED,
        (Phase.BLOCKED, Event.FLIP): Phase.COMPLETED,
        (Phase.BLOCKED, Event.ABORT): Phase.RESTORED,
        (Phase.COMPLETED, Event.ANOTHER_SWAP): Phase.FORWARD,
        (Phase.RESTORED, Event.ANOTHER_SWAP): Phase.FORWARD,
    },
)
_OVER = (Phase.COMPLETED, Phase.RESTORED)


class Row(Protocol):
    """What a mediator needs of an entry."""

    target: Any


class Calls(Protocol):
    """What a mediator needs of an object's generations."""

    draining: bool

    def advance(self) -> int:
        """Close the present generation, open the next; the number of the closed one."""

    def when_drained(self, generation: int, tell: Callable[[], None]) -> None:
        """Call ``tell`` when every call up to this generation has ended."""

    def forget(self, tell: Callable[[], None]) -> None:
        """Nobody waits with ``tell`` any more."""

    def open_calls(self) -> Sequence[object]:
        """The calls inside the object."""

    def re_entered(self) -> bool:
        """Whether the code now running was called from inside the object."""


class Ticket:
    """A held call's place in the queue; ``open`` is set when it may go on."""

    __slots__ = ("open", "wake")

    def __init__(self) -> None:
        self.open = False
        self.wake: Callable[[], None] | None = None


class InFront:
    """What is in an entry in the place of its object."""

    __slots__ = ()


class Interposed(InFront):
    """A row in front of an object, as long as it is wanted there; ``target`` is what is behind.

    A swap calls ``lift`` before it looks at the object and ``settle`` when the next one, or the
    same, is there; in between nothing calls the object.
    """

    __slots__ = ("target",)

    target: Any

    def lift(self) -> None:
        """Give the object back as it would be with nothing in front. Can't fail."""

    def settle(self) -> None:
        """Take care of the object that is there now. Can't fail."""


class Front(InFront):
    """A mediator's place in the table: every name is the object's, also ``start`` or ``abort``.

    Special methods are looked up on a type and so are not mediated: ``len(handle.target)``.
    """

    __slots__ = ("_netswap_mediator",)

    def __init__(self, mediator: Mediator) -> None:
        self._netswap_mediator = mediator

    def __getattr__(self, name: str) -> Any:
        return self._netswap_mediator.lead(name)


class Mediator:
    """Takes the place of ``entry.target`` until the swap has ended, one way or the other.

    ``wait(ticket)`` suspends the caller until ``ticket.wake()``; ``quiescent`` is called once, when
    no call is inside the old object any more and new ones are held. ``awaited()`` says whether the
    code now running was called from inside an object that is being drained.
    """

    def __init__(
        self,
        entry: Row,
        generations: Calls,
        wait: Callable[[Ticket], Awaitable[None]],
        quiescent: Callable[[], None],
        awaited: Callable[[], bool] = lambda: False,
    ) -> None:
        self.entry = entry
        self.present: Any = entry.target
        self.phase = Phase.FORWARD
        self._generations = generations
        self._wait = wait
        self._quiescent = quiescent
        self._awaited = awaited
        self._will_tell = False
        self._held: deque[Ticket] = deque()
        self._front = entry.target = Front(self)

    def start(self) -> None:
        """Begin to wait for the calls that are inside the object now."""
        self._generations.draining = True
        self._generations.when_drained(self._generations.advance(), self._old_calls_drained)

    def again(self, quiescent: Callable[[], None]) -> None:
        """Another swap of the same object. TransitionError unless the one before is over."""
        self._move(Event.ANOTHER_SWAP)
        self._quiescent = quiescent
        self.start()

    def flip(self, new: Any) -> None:
        """The new object takes over and the held calls go to it. TransitionError unless Blocked."""
        self._move(Event.FLIP)
        self._generations.draining = False
        self.present = new
        self._release()

    def abort(self) -> None:
        """The old object stays and the held calls go to it. TransitionError once it is over."""
        self._move(Event.ABORT)
        self._generations.draining = self._will_tell = False
        self._generations.forget(self._old_calls_drained)
        self._generations.forget(self._tracked_calls_drained)
        self._release()

    def settle(self) -> None:
        """Calls have passed since it was at rest: ``quiescent`` is called again after them."""
        if self.phase is Phase.BLOCKED and not self._will_tell:
            self._tracked_calls_drain()

    @property
    def held(self) -> int:
        """How many calls wait."""
        return len(self._held)

    @property
    def over(self) -> bool:
        """Whether the swap has ended and only held calls are left to go."""
        return self.phase in _OVER

    @property
    def at_rest(self) -> bool:
        """Whether new calls are held and none is inside the old object."""
        return self.phase is Phase.BLOCKED and not self._generations.open_calls()

    @property
    def bars(self) -> bool:
        """Whether a call that would begin now has to wait."""
        return self.phase is Phase.BLOCKED and not self._passes()

    def _passes(self) -> bool:
        """Whether the code now running was called from inside what the swap waits for."""
        return self._generations.re_entered() or self._awaited()

    def _move(self, event: Event) -> None:
        self.phase = TRANSITIONS[self.phase, event]

    def _old_calls_drained(self) -> None:
        self._move(Event.OLD_CALLS_DRAINED)
        for ticket in self._held:
            ticket.open = False
        self.reconsider()
        self._tracked_calls_drain()

    def reconsider(self) -> None:
        """More is being drained: let the held calls see whether one of them is awaited there."""
        for ticket in self._held:
            if ticket.wake is not None:
                ticket.wake()

    def _tracked_calls_drain(self) -> None:
        self._will_tell = True
        closed = self._generations.advance()
        self._generations.when_drained(closed, self._tracked_calls_drained)

    def _tracked_calls_drained(self) -> None:
        if self._generations.open_calls():  # a re-entrant call that outlived the one it came from
            self._tracked_calls_drain()
        else:
            self._will_tell = False
            self._quiescent()

    def _release(self) -> None:
        """Open every ticket there is; the later ones are opened when the last of these has gone."""
        for ticket in self._held:
            ticket.open = True
            if ticket.wake is not None:
                ticket.wake()
        if not self._held and self.over and self.entry.target is self._front:
            self.entry.target = self.present

    def _must_wait(self) -> bool:
        """Whether calls are held, except from one that comes from inside the object."""
        if self.phase is Phase.BLOCKED:
            return not self._passes()
        return bool(self._held) and not self._generations.re_entered()

    def lead(self, name: str) -> Any:
        """The object's attribute; a call that may suspend goes through the mediator."""
        found = getattr(self.present, name)
        if not iscoroutinefunction(found):
            return found

        async def mediated(*args: Any, **keywords: Any) -> Any:
            if self._must_wait():
                await self._hold()
            return await getattr(self.present, name)(*args, **keywords)

        return mediated

    async def _hold(self) -> None:
        """Sleep until it is this call's turn. A cancelled caller gives up its place."""
        ticket = Ticket()
        self._held.append(ticket)
        try:
            # a woken caller may find that another swap has begun, or that it is not its turn
            while not self._may_go(ticket):
                ticket.open = False
                await self._wait(ticket)
        finally:
            self._held.remove(ticket)
            first = self._held[0] if self._held else None
            if self.phase is not Phase.BLOCKED and (first is None or not first.open):
                self._release()

    def _may_go(self, ticket: Ticket) -> bool:
        """Whether it is a held call's turn, or the swap waits for it by way of another object."""
        if ticket.open and self._held[0] is ticket:
            return True
        return self.phase is Phase.BLOCKED and self._passes()


def row_of(entry: Row) -> Row:
    """Where the pointer to an entry's object is: in the entry, or in its last interposer."""
    row = entry
    while isinstance(row.target, Interposed):
        row = row.target
    return row


def interposed(entry: Row) -> list[Interposed]:
    """The rows in front of an entry's object, the outermost first."""
    rows: list[Interposed] = []
    row = entry
    while isinstance(row.target, Interposed):
        row = row.target
        rows.append(row)
    return rows


def mediator_of(entry: Row) -> Mediator | None:
    """The mediator in front of an entry's object, if a swap has put one there."""
    target = row_of(entry).target
    return target._netswap_mediator if isinstance(target, Front) else None


def present(entry: Row) -> Any:
    """The implementation that an entry stands for, whatever is in front of it."""
    target = entry.target
    while isinstance(target, Interposed):
        target = target.target
    return target._netswap_mediator.present if isinstance(target, Front) else target
