"""The guard: while a version is on watch, each call into it is an attempt.

An attempt is one call from outside with all the calls into guarded objects that it makes. Its
effects are held back, and every object that takes part has its state copied before its first call.
When the call returns and no invariant is violated, the effects are carried out. When it raises,
runs longer than it may, or leaves a state that is violated, then

1. the effects are dropped and every object that took part gets its state of before the call;
2. those that are on watch are taken back to the version before, with that state;
3. the call is made again there, and again if something else on watch fails in it. What services
   that can't be undone have answered already they are not asked again: the answers are known. If
   the version before asks them for something else instead, nobody knows whether that is done
   already; then the call is not made again, and its caller sees the failure.

So the client gets what the old version answers and never sees the new one fail. A ProtocolError is
the peer's fault and no failure. Guards belong in front of every object that those on watch may
call, changed or not: what stands outside is acted on at once and can't be undone.

As soon as the watch has failed, nobody need try any more: each object on watch goes back before
its next call, with the state that it has, so that only the first failure costs its time.

A session is guarded from one swap point to the next: see ``segments``.

What can't be rewound, and is only watched: an ``async def`` call (others come in between), and an
object whose state has more than ``LARGE`` items, since it is copied at each call. A failure there
is reported, and the caller sees it.

Rejected, for large states: containers that log what is done to them (C code such as heapq writes
past them, what is read out of them may be changed without them, and ``type(x) is dict`` is false);
a declaration of what a call changes (the code that is on watch would make it, and that is the code
that nobody trusts yet); a shallow copy (still 50 ns an item, and it shares what is inside).
Buffers take part with the connection that they belong to. Timers and factories are not guarded:
what they do is not for one client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from netswap.blame import Place, blame, describe
from netswap.errors import ProtocolError
from netswap.events import Refusal
from netswap.interpose.effects import Diverged, Effects, Outbox
from netswap.interpose.monitor import Choice, Figures, Monitor
from netswap.interpose.segments import Segments
from netswap.interpose.snapshot import Snapshot, snapshots_of
from netswap.mediator import present
from netswap.stack import Session
from netswap.stack.hands import output_of
from netswap.transfer import State, violated

if TYPE_CHECKING:
    from netswap.ott import Entry

__all__ = ["Firing", "Guard", "Protection"]

LARGE = 256
"""A container of more items is not copied at each call,"""
LARGE_BYTES = 16_384
"""nor a state whose canonical form is longer, after the call that found it so."""

FAILURES = (BaseException,)
"""Of a call that is no coroutine: who raises CancelledError there has not been cancelled."""
UNGUARDED = frozenset({"connection_made", "connection_lost"})
"""They end in the author's ``on_connect`` and ``on_close``, which are guarded by themselves."""


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

    ``limit()`` bounds the time of a call and raises DeadlinePassed in it; ``on_watch(entry)`` says
    whether an object is of a version on watch; ``take_back(states)`` brings such objects to the
    version before, all or none; ``fired`` is told of each failure. ``has_failed`` is set by whoever
    judges the watch.
    """

    def __init__(
        self,
        limit: Callable[[], AbstractContextManager[None]],
        on_watch: Callable[[Entry], bool],
        take_back: Callable[[Mapping[Entry, State]], Refusal | None],
        fired: Callable[[Firing], None],
    ) -> None:
        self.limit = limit
        self.on_watch = on_watch
        self.take_back = take_back
        self.fired = fired
        self.has_failed = False
        self.outbox = Outbox()
        self.attempt: Attempt | None = None


class Attempt:
    """A call from outside and everything guarded that it calls."""

    def __init__(self, outbox: Outbox) -> None:
        self.failure: Failure | None = None
        self._outbox = outbox
        self._members: dict[Entry, Guard] = {}
        self._before: dict[Entry, Snapshot] = {}
        self._inside: list[Guard] = []
        outbox.settled = self._settle
        outbox.hold()

    @contextmanager
    def joined(self, member: Guard) -> Iterator[None]:
        """An object is called: how it was before its first call is remembered."""
        if member.entry not in self._members and member.can_rewind():
            self._members[member.entry] = member
            self._remember(member)
        self._inside.append(member)
        try:
            yield
        finally:
            self._inside.pop()

    def _remember(self, member: Guard) -> None:
        if present(member.entry) is None:
            return
        copies = snapshots_of(member.entry)
        self._before.update(copies)
        member.copied(sum(copy.size for copy in copies.values()))

    def _settle(self) -> None:
        """A service that can't be rewound has answered: what it made others do stands."""
        for member in self._members.values():
            if member not in self._inside:
                self._remember(member)

    def failed(self, error: BaseException) -> None:
        """Something raised in it; the first is what counts."""
        if self.failure is None:
            self.failure = Failure(error, describe(error), blame(error))

    def take_failure(self) -> Failure | None:
        """What went wrong, once: the frames of its traceback refer to the attempt."""
        failure, self.failure = self.failure, None
        return failure

    def look_for_violations(self) -> None:
        """The call has ended: every state that it may have changed has to be in order."""
        for entry in self._before:
            target = present(entry)
            broken = None if target is None else violated(target.state)
            if broken is not None and self.failure is None:
                place = broken.file, broken.line
                self.failure = Failure(Violated(str(broken)), str(broken), place)

    def is_on_watch(self, protection: Protection) -> bool:
        """Whether anything that took part can be taken back."""
        return any(map(protection.on_watch, self._before))

    def keep(self) -> None:
        """Carry out what was held back."""
        self._outbox.keep()

    def drop(self) -> None:
        """Forget what was held back."""
        self._outbox.drop()

    def undo(self, take_back: Callable[[Mapping[Entry, State]], Refusal | None]) -> Refusal | None:
        """Drop the effects, give every object its state of before, and take back what is on watch.

        The refusal of ``take_back`` if it has one: then only that has not been done.
        """
        self.drop()
        for member in self._members.values():
            member.lift()
        states = {
            entry: copy.restore(present(entry))
            for entry, copy in self._before.items()
            if present(entry) is not None
        }
        refusal = take_back(states)
        for member in self._members.values():
            member.settle()
        return refusal


class Guard(Monitor):
    """Guards one object; ``figures`` are shared by those of its version."""

    __slots__ = ("_calls_inside", "_effects", "_has_grown", "_protection", "_segments", "_stays")

    def __init__(
        self, figures: Figures, protection: Protection, choose: Choice | None = None
    ) -> None:
        super().__init__(figures, choose)
        self._protection = protection
        self._effects: Effects | None = None
        self._has_grown = False
        self._segments: Segments | None = None
        self._calls_inside = 0
        self._stays = False

    @property
    def rewinds(self) -> bool:
        """Whether a call into the object can be undone."""
        return self._effects is not None

    @property
    def protects(self) -> bool:
        """Whether it does more than watch; of a state that has grown it is known after a call."""
        return self.rewinds or self._segments is not None

    def settle(self) -> None:
        """The object gets stand-ins for all that it acts on."""
        super().settle()
        target = present(self.entry)
        if self._effects is not None or self._segments is not None:
            return
        if isinstance(target, Session) and self._protection.on_watch(self.entry):
            self._segments = Segments(self.entry, self._protection.take_back, self._session_failed)
        elif target is not None and not target.may_suspend and is_small(target.state):
            output = output_of(target)
            own = output is None or not self._protection.on_watch(output)
            self._effects = Effects(target, self._protection.outbox, writes_later=own)

    def lift(self) -> None:
        """The object gets the real things back."""
        effects, self._effects = self._effects, None
        if effects is not None:
            effects.remove()
        segments, self._segments = self._segments, None
        if segments is not None:
            segments.end()

    def can_rewind(self) -> bool:
        """As ``rewinds``, after a look at what the state has become."""
        if self.rewinds and (self._has_grown or not is_small(present(self.entry).state)):
            self.lift()
        return self.rewinds

    def copied(self, size: int) -> None:
        """It took so many bytes to copy the object."""
        self._has_grown = size > LARGE_BYTES

    def call(self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """An attempt, or a part of the one that is under way."""
        if name in UNGUARDED:
            return getattr(self.target, name)(*args, **keywords)
        if self._protection.has_failed:
            self._go_back()
        if self._segments is not None:
            self._segments.called(name, args, keywords)
        attempt = self._protection.attempt
        if attempt is not None:
            return self._within(attempt, name, args, keywords)
        if self.can_rewind():
            return self._attempts(name, args, keywords)
        return self._watched(name, args, keywords)

    def _go_back(self) -> None:
        """The watch has failed: the version before takes this call, and all that follow.

        Not while a call is inside the object; one that can't go back is not tried again.
        """
        target = present(self.entry)
        if self._stays or self._calls_inside or target is None or target.may_suspend:
            return
        if self._protection.on_watch(self.entry):
            self._stays = self._protection.take_back({self.entry: target.state}) is not None

    def _watched(self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """A call that can't be undone."""
        self._calls_inside += 1
        try:
            return super().call(name, args, keywords)
        except ProtocolError:
            raise
        except FAILURES as error:
            self._tell(name, Failure(error, describe(error), blame(error)), answered=False)
            raise
        finally:
            self._calls_inside -= 1

    def _within(
        self, attempt: Attempt, name: str, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        with attempt.joined(self):
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

    def _attempts(self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Try until a call is in order; each failure takes at least one object off the watch."""
        shared = self._protection
        failures: list[tuple[Failure, int]] = []
        failure: Failure | None = None
        answered = False
        try:
            while True:
                attempt = shared.attempt = Attempt(shared.outbox)
                version = present(self.entry).version
                value = self._attempt(attempt, name, args, keywords)
                failure = attempt.take_failure()
                if failure is None:
                    answered = True
                    if name == "eof_received" and self._effects is not None:
                        self._effects.flush()  # the transport closes as soon as this returns
                    return value
                if isinstance(failure.error, Diverged):
                    attempt.drop()
                    raise failures[0][0].error
                if not attempt.is_on_watch(shared):  # it would have failed as well without a guard
                    answered = True
                    attempt.keep()
                    raise failure.error
                failures.append((failure, version))
                if attempt.undo(shared.take_back) is not None:
                    raise failure.error
        finally:
            shared.attempt = None
            shared.outbox.forget()
            for failure, version in failures:
                self._tell(name, failure, answered, version)
            # What is raised has this frame in its traceback, and would keep the old code with it.
            failure = None
            failures.clear()

    def _attempt(
        self, attempt: Attempt, name: str, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        """Make the call; its effects are kept unless it is a failure, which the attempt knows."""
        value = None
        try:
            with self._protection.limit(), attempt.joined(self):
                value = super().call(name, args, keywords)
            attempt.look_for_violations()
        except ProtocolError:
            self._protection.attempt = None
            attempt.keep()
            raise
        except FAILURES as error:
            attempt.failed(error)
        self._protection.attempt = None
        if attempt.failure is None:
            attempt.keep()
        return value

    def _session_failed(self, error: BaseException, answered: bool, version: int) -> None:
        self._tell("run", Failure(error, describe(error), blame(error)), answered, version)

    def _tell(self, name: str, failure: Failure, answered: bool, version: int = 0) -> None:
        target = (
            self.target
        )  # not what is present: the object may be gone before its call has ended
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
