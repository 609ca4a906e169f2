"""The guard: while a version is on watch, each call into it is an attempt.

An attempt is one call from outside with all the calls into guarded objects that it makes. Its
effects are held back, and every object that takes part has its state copied before its first call.
When the call returns and no invariant is violated, the effects are carried out. When it raises,
runs longer than it may, or leaves a state that is violated, then

1. the effects are dropped and every object that took part gets its state of before the call;
2. those that are on watch are taken back to the version before, with that state;
3. the call is made again there. What services outside of the attempt have answered already they
   are not asked again: the answers are known.

So the client gets what the old version answers and never sees the new one fail. A ProtocolError is
the peer's fault and no failure.

What can't be rewound, and is only watched: a session (its ``run`` has variables of its own), an
``async def`` call (others come in between), and an object whose state has more than ``LARGE``
items, since it is copied at each call. A failure there is reported, and the caller sees it.
Buffers take part with the connection that they belong to. Timers and factories are not guarded:
what they do is not for one client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from netswap.blame import Place, blame, describe
from netswap.errors import DeadlinePassed, ProtocolError
from netswap.events import Refusal
from netswap.interpose.effects import Effects, Outbox
from netswap.interpose.interposer import take_out
from netswap.interpose.monitor import Figures, Monitor
from netswap.mediator import present
from netswap.stack import Connection, Service
from netswap.transfer import State, decode, encode, violated

if TYPE_CHECKING:
    from netswap.ott import Entry
    from netswap.stack import Implementation

__all__ = ["Firing", "Guard", "Protection"]

LARGE = 1_000
"""A container of more items is not copied at each call,"""
LARGE_BYTES = 65_536
"""nor a state whose canonical form is longer, after the call that found it so."""

FAILURES = (Exception, SystemExit, DeadlinePassed)
UNGUARDED = frozenset({"connection_made", "connection_lost"})
"""They end in the author's ``on_connect`` and ``on_close``, which are guarded by themselves."""
FLAGS = ("half_closed", "reading_paused", "writing_paused")


class Firing(msgspec.Struct, frozen=True):
    """A guard has acted: the call ``method`` of one object failed in ``version``.

    ``answered``: the old version has answered in its place, and the client has seen nothing.
    """

    kind: str
    entry: str
    version: int
    method: str
    reason: str
    file: str | None = None
    line: int | None = None
    answered: bool = False

    def __str__(self) -> str:
        place = f" ({self.file}:{self.line})" if self.file else ""
        so = "the old version answered" if self.answered else "its caller saw that"
        name = f"{self.kind} {self.entry} version {self.version}"
        return f"{name} failed in {self.method}: {self.reason}{place}; {so}"


class Failure(NamedTuple):
    """What went wrong in an attempt; ``error`` is what the caller sees if nothing can be done."""

    error: BaseException
    reason: str
    place: Place


class Violated(Exception):
    """A call has left a state that its invariants refuse."""


class Protection:
    """What the guards of one watch share.

    ``limit()`` bounds the time of a call and raises DeadlinePassed in it; ``take_back(states)``
    brings objects to the version before, all or none; ``fired`` is told of each failure.
    """

    def __init__(
        self,
        limit: Callable[[], AbstractContextManager[None]],
        take_back: Callable[[Mapping[Entry, State]], Refusal | None],
        fired: Callable[[Firing], None],
    ) -> None:
        self.limit = limit
        self.take_back = take_back
        self.fired = fired
        self.outbox = Outbox()
        self.attempt: Attempt | None = None


class Snapshot:
    """The state and the flags of one object before a call."""

    __slots__ = ("_encoded", "_flags", "_type")

    def __init__(self, target: Implementation[Any]) -> None:
        self._type: type[State] = type(target.state)
        self._encoded = encode(target.state)
        self._flags = {name: getattr(target, name) for name in FLAGS if hasattr(target, name)}

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self._encoded.payload)

    def restore(self, target: Any) -> State:
        """Give ``target`` its state and flags of then; the state."""
        state: State = decode(self._encoded, self._type)
        is_service = isinstance(target, Service)
        if is_service:
            target.on_stop()
        target.state = state
        for name, value in self._flags.items():
            setattr(target, name, value)
        if is_service:
            target.on_start()
        return state


class Attempt:
    """A call from outside and everything guarded that it calls."""

    def __init__(self, outbox: Outbox) -> None:
        self.failure: Failure | None = None
        self.members: list[Guard] = []
        self._outbox = outbox
        self._before: dict[Entry, Snapshot] = {}
        outbox.hold()

    def join(self, member: Guard) -> None:
        """An object is about to be called: remember how it was before its first call."""
        if member.entry in self._before or not member.can_rewind():
            return
        self.members.append(member)
        target = present(member.entry)
        parts = target._part_entries().values() if isinstance(target, Connection) else ()
        for entry in (member.entry, *parts):
            self._before[entry] = Snapshot(present(entry))
        member.copied(sum(self._before[entry].size for entry in (member.entry, *parts)))

    def failed(self, error: BaseException) -> None:
        """Something raised in it; the first is what counts."""
        if self.failure is None:
            self.failure = Failure(error, describe(error), blame(error))

    def look_for_violations(self) -> None:
        """The call has ended: every state that it may have changed has to be in order."""
        for entry in self._before:
            target = present(entry)
            broken = None if target is None else violated(target.state)
            if broken is not None and self.failure is None:
                place = broken.file, broken.line
                self.failure = Failure(Violated(str(broken)), str(broken), place)

    def keep(self) -> None:
        """Carry out what was held back."""
        self._outbox.keep()

    def rewind(self) -> dict[Entry, State]:
        """Undo everything: the states of before by the object, also of those not on watch."""
        self._outbox.drop()
        for member in self.members:
            take_out(member)
        live = {entry: present(entry) for entry in self._before}
        return {
            entry: self._before[entry].restore(target)
            for entry, target in live.items()
            if target is not None
        }

    @contextmanager
    def second_try(self) -> Iterator[None]:
        """What was answered in the first one is known."""
        members = [present(member.entry) for member in self.members]
        hands = [Effects(target, self._outbox) for target in members if target is not None]
        try:
            yield
        finally:
            self._outbox.known.clear()
            for effects in hands:
                effects.remove()


class Guard(Monitor):
    """Guards one object; ``figures`` are shared by those of its version."""

    __slots__ = ("_effects", "_has_grown", "_protection")

    def __init__(self, figures: Figures, protection: Protection) -> None:
        super().__init__(figures)
        self._protection = protection
        self._effects: Effects | None = None
        self._has_grown = False

    @property
    def rewinds(self) -> bool:
        """Whether a call into the object can be undone."""
        return self._effects is not None

    def placed(self) -> None:
        """The object gets stand-ins for all that it acts on."""
        target = present(self.entry)
        if not target.may_suspend and is_small(target.state):
            self._effects = Effects(target, self._protection.outbox)

    def removed(self) -> None:
        """The object gets the real things back."""
        effects, self._effects = self._effects, None
        if effects is not None:
            effects.remove()

    def can_rewind(self) -> bool:
        """As ``rewinds``, after a look at what the state has become."""
        if self.rewinds and (self._has_grown or not is_small(present(self.entry).state)):
            self.removed()
        return self.rewinds

    def copied(self, size: int) -> None:
        """It took so many bytes to copy the object."""
        self._has_grown = size > LARGE_BYTES

    def call(self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """An attempt, or a part of the one that is under way."""
        if name in UNGUARDED:
            return getattr(self.target, name)(*args, **keywords)
        attempt = self._protection.attempt
        if attempt is None:
            return self._first(name, args, keywords)
        attempt.join(self)
        try:
            return super().call(name, args, keywords)
        except ProtocolError:
            raise
        except FAILURES as error:
            attempt.failed(error)
            raise

    async def call_later(self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Watched, and not undone."""
        try:
            return await super().call_later(name, args, keywords)
        except ProtocolError:
            raise
        except Exception as error:
            self._tell(name, Failure(error, describe(error), blame(error)), answered=False)
            raise

    def _first(self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        shared = self._protection
        attempt = shared.attempt = Attempt(shared.outbox)
        attempt.join(self)
        value = None
        try:
            with shared.limit():
                value = super().call(name, args, keywords)
            attempt.look_for_violations()
        except ProtocolError:
            shared.attempt = None
            attempt.keep()
            raise
        except FAILURES as error:
            attempt.failed(error)
        finally:
            shared.attempt = None
        if attempt.failure is None:
            attempt.keep()
            return value
        return self._second(attempt, attempt.failure, name, (args, keywords))

    def _second(
        self,
        attempt: Attempt,
        failure: Failure,
        name: str,
        given: tuple[tuple[Any, ...], dict[str, Any]],
    ) -> Any:
        """Undo the first attempt and call the version before; if that can't be, raise."""
        version = present(self.entry).version
        able = self in attempt.members
        states = attempt.rewind()
        refusal = self._protection.take_back(states) if able else None
        answered = able and refusal is None
        self._tell(name, failure, answered, version)
        if not answered:
            raise failure.error
        with attempt.second_try():
            return getattr(present(self.entry), name)(*given[0], **given[1])

    def _tell(self, name: str, failure: Failure, answered: bool, version: int = 0) -> None:
        target = present(self.entry)
        row = f"{target.host.slot}.{self.entry.identity}"
        version = version or target.version
        file, line = failure.place
        self._protection.fired(
            Firing(self.entry.kind, row, version, name, failure.reason, file, line, answered)
        )


def is_small(state: State) -> bool:
    """Whether a state can be copied at each call."""
    values = (getattr(state, name) for name in state.__struct_fields__)
    return not any(
        len(value) > LARGE for value in values if isinstance(value, dict | list | set | tuple)
    )
