"""The guard of a session: what it does from one swap point to the next is an attempt.

A coroutine can't be rewound, but it may be started again around its state, and a swap point is
where. So the state is copied there; what the session does when it goes on is held back until it
comes to the next swap point, or ends; and if it raises before that, the version before begins at
the last swap point, with the state of then, and is called again for what came in meanwhile.

While it waits at a swap point nothing is held back: what others let it write goes out at once.
Nor is anything for longer than ``LONGEST_S``: a session that goes on without a swap point for so
long is not protected until it comes to the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import CORO_CREATED, getcoroutinestate
from typing import TYPE_CHECKING, Any, cast

from netswap.errors import ProtocolError
from netswap.interpose.effects import Effects, Outbox
from netswap.interpose.snapshot import Snapshot, snapshots_of
from netswap.mediator import present
from netswap.stack.hands import conversation_of, tell_at_swap_point, teller_of

if TYPE_CHECKING:
    from netswap.events import Refusal
    from netswap.ott import Entry
    from netswap.stack import Session
    from netswap.transfer import State

__all__ = ["Segments"]

LONGEST_S = 0.25


class _Box(Outbox):
    """Holds while its session runs, and not while it waits at a swap point."""

    def __init__(self, session: Session[Any], too_long: Callable[[], None]) -> None:
        self.active = False
        self._session = session
        self._too_long = too_long
        self._alarm: Any = None
        super().__init__()

    @property
    def holding(self) -> bool:
        return self.active and not self._session.at_rest()

    @holding.setter
    def holding(self, _value: bool) -> None:
        """It follows from where the session is."""

    def retire(self) -> None:
        super().retire()
        self._too_long = _nothing

    def put(self, effect: Callable[..., object], *arguments: Any) -> None:
        super().put(effect, *arguments)
        if self.held and self._alarm is None:
            self._alarm = self._session.host.loop.call_later(LONGEST_S, self._too_long)

    def _emptied(self) -> list[Callable[[], object]]:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        return super()._emptied()


def _nothing() -> None:
    pass


class Segments:
    """Guards the session behind ``entry`` until ``end()``; ``tell(error, answered, version)``."""

    def __init__(
        self,
        entry: Entry,
        take_back: Callable[[Mapping[Entry, State]], Refusal | None],
        tell: Callable[[BaseException, bool, int], None],
    ) -> None:
        self._entry = entry
        self._take_back = take_back
        self._tell: Callable[[BaseException, bool, int], None] | None = tell
        self._session: Any = present(entry)
        self._task: Any = None
        self._before: dict[Entry, Snapshot] = {}
        self._since: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self._box = _Box(self._session, self._leave)
        self._box.intercept = self._failed
        self._effects = Effects(self._session, self._box)
        if self._session.at_rest() or self._has_not_begun():
            self._begin()
        tell_at_swap_point(self._session, self._comes_to_swap_point)

    def called(self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """Something outside calls the session: that will be said again should it fail."""
        if not self._box.active:
            return
        self._see_its_end()
        self._since.append((name, args, keywords))
        if self._session.at_rest():
            self._session.host.loop.call_soon(self._was_called_at_rest)

    def end(self) -> None:
        """The session goes on by itself, or has ended; what refers to us in a circle lets go."""
        self._leave()
        self._box.retire()
        self._tell = None
        self._effects.remove()
        if teller_of(self._session) == self._comes_to_swap_point:
            tell_at_swap_point(self._session, None)

    def _comes_to_swap_point(self) -> None:
        self._box.keep()
        self._begin()
        self._session.carry_on()
        tell_at_swap_point(self._session, self._comes_to_swap_point)

    def _was_called_at_rest(self) -> None:
        """What it was called for is over; if it still waits, that is where it would begin."""
        if self._box.active and self._session.at_rest() and present(self._entry) is not None:
            self._begin()

    def _begin(self) -> None:
        self._before = snapshots_of(self._entry)
        self._since.clear()
        self._box.active = True
        self._see_its_end()

    def _has_not_begun(self) -> bool:
        """Whether ``run`` is about to make its first step."""
        task = conversation_of(self._session)
        return task is not None and getcoroutinestate(cast("Any", task.get_coro())) == CORO_CREATED

    def _see_its_end(self) -> None:
        """The task is made after the session has entered the table."""
        if self._task is None:
            self._task = conversation_of(self._session)
            if self._task is not None:
                self._task.add_done_callback(lambda _: self.end())

    def _leave(self) -> None:
        """Nothing is held back any more, and there is nothing to go back to."""
        self._before = {}
        self._box.active = False
        self._box.keep()

    def _failed(self, error: BaseException) -> bool:
        """The session has raised; whether the version before goes on in its place."""
        if isinstance(error, ProtocolError):
            self._leave()
            return False
        version, tell = self._session.version, self._tell
        able = bool(self._before) and not self._session.transport.is_closing()
        answered = able and self._goes_back()
        self._leave()
        if tell is not None:
            tell(error, answered, version)
        return answered

    def _goes_back(self) -> bool:
        self._box.drop()
        self._box.active = False
        since = list(self._since)
        self._effects.remove()
        states = {row: copy.restore(present(row)) for row, copy in self._before.items()}
        if self._take_back(states) is not None:
            return False
        for name, args, keywords in since:
            getattr(present(self._entry), name)(*args, **keywords)
        return True
