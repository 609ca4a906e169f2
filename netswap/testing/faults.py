"""What goes wrong in a swap, on purpose: each row of the table breaks one thing, once.

A fault that finds nothing to break (a second service where there is one) lets the swap succeed,
and the play is judged as one without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Final, NamedTuple

from netswap.errors import DeadlinePassed
from netswap.events import Refusal, Stage
from netswap.hotswap import Phase
from netswap.stack import Part, Service
from netswap.testing.push import Push

__all__ = ["FAULTS", "Fault", "Injected"]


class Injected(RuntimeError):
    """What the test itself has raised."""


class Fault(NamedTuple):
    """The ``nth`` time, what ``name`` says."""

    name: str
    nth: int

    def __str__(self) -> str:
        return self.name.format(nth=self.nth)

    @property
    def sliced(self) -> bool:
        """Whether objects before the one concerned have flipped by then."""
        return FAULTS[self.name].sliced

    def around(self, push: Push) -> AbstractContextManager[None]:
        """Within this, it goes wrong."""
        return FAULTS[self.name].inject(push, self.nth)


class Row(NamedTuple):
    """How a fault is brought about, in a swap that is sliced or whole."""

    inject: Callable[[Push, int], AbstractContextManager[None]]
    sliced: bool


class _Countdown:
    """Raises ``error`` at the nth call of ``bite``."""

    def __init__(self, nth: int, error: BaseException) -> None:
        self.left = nth
        self.error = error

    def bite(self) -> None:
        self.left -= 1
        if not self.left:
            raise self.error


@contextmanager
def _patched(cls: type, name: str, value: Any) -> Iterator[None]:
    """A class with another attribute of its own for a while."""
    before = vars(cls).get(name)
    setattr(cls, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(cls, name)
        else:
            setattr(cls, name, before)


def _classes(push: Push, base: type) -> list[type]:
    """The new classes, of a base."""
    news = {change.new for part in push.parts for change in part.changes}
    return [cls for cls in news if issubclass(cls, base)]


def _each(patches: list[AbstractContextManager[None]]) -> AbstractContextManager[Any]:
    stack = ExitStack()
    for patch in patches:
        stack.enter_context(patch)
    return stack


def _before(cls: type, name: str, countdown: _Countdown) -> AbstractContextManager[None]:
    """A class method that fails before it does anything."""
    real = getattr(cls, name)

    def failing(_cls: type, *args: Any) -> Any:
        countdown.bite()
        return real(*args)

    return _patched(cls, name, classmethod(failing))


def _conversion(push: Push, nth: int) -> AbstractContextManager[Any]:
    countdown = _Countdown(nth, Injected("the conversion failed"))
    return _each([_before(cls, "successor", countdown) for cls in _classes(push, object)])


def _overtime(push: Push, nth: int) -> AbstractContextManager[Any]:
    countdown = _Countdown(nth, DeadlinePassed("it did not end in time"))
    return _each([_before(cls, "successor", countdown) for cls in _classes(push, object)])


def _part(push: Push, nth: int) -> AbstractContextManager[Any]:
    countdown = _Countdown(nth, Injected("the part could not be made"))
    present = {cls for host in push.world.hosts for cls in host.present.values()}
    parts = {*present, *_classes(push, Part)}
    return _each([_before(cls, "born_for", countdown) for cls in parts if issubclass(cls, Part)])


class _TickingBomb:
    """Clock and guard of a swap: inside the guard the clock is asked behind each object."""

    def __init__(self, part: Any, countdown: _Countdown) -> None:
        self._clock = part.clock
        self._countdown = countdown
        self._inside = False

    def __enter__(self) -> None:
        self._inside = True

    def __exit__(self, *_: object) -> None:
        self._inside = False

    def monotonic_ns(self) -> int:
        if self._inside:
            self._countdown.bite()
        now: int = self._clock.monotonic_ns()
        return now


@contextmanager
def _built(push: Push, nth: int) -> Iterator[None]:
    for part in push.parts:
        countdown = _Countdown(nth, Injected("given up when it was built"))
        part.clock = part.guard = _TickingBomb(part, countdown)
    yield


def _hook(cls: type, name: str, countdown: _Countdown, *, late: bool) -> Any:
    real = getattr(cls, name)

    def failing(self: Any) -> None:
        if not late:
            countdown.bite()
        real(self)
        if late:
            countdown.bite()

    return _patched(cls, name, failing)


def _start(push: Push, nth: int) -> AbstractContextManager[Any]:
    countdown = _Countdown(nth, Injected("on_start failed"))
    found = _classes(push, Service)
    return _each([_hook(cls, "on_start", countdown, late=False) for cls in found])


def _stop(push: Push, nth: int) -> AbstractContextManager[Any]:
    countdown = _Countdown(nth, Injected("on_stop failed"))
    present = {type(entry.target) for entry in push.entries}
    found = [cls for cls in present if issubclass(cls, Service)]
    return _each([_hook(cls, "on_stop", countdown, late=True) for cls in found])


def _restless(push: Push, nth: int) -> AbstractContextManager[Any]:
    """An object that may suspend does not come to rest."""
    found = [entry.target for entry in push.entries if entry.target.may_suspend][nth - 1 : nth]
    if not found:
        return nullcontext()
    cls, stubborn = type(found[0]), found[0]
    rests, rest = cls.at_rest, cls.bring_to_rest

    def at_rest(self: Any) -> bool:
        return self is not stubborn and bool(rests(self))

    def bring_to_rest(self: Any, tell: Callable[[], None]) -> None:
        rest(self, (lambda: None) if self is stubborn else tell)

    return _each([_patched(cls, "at_rest", at_rest), _patched(cls, "bring_to_rest", bring_to_rest)])


class _Bell:
    """A guard that gives a swap up as soon as its nth slice is over."""

    def __init__(self, push: Push, nth: int) -> None:
        self._loop = push.world.loop
        self._part = push.parts[-1]
        self._left = nth

    def __enter__(self) -> None:
        self._left -= 1
        if not self._left:
            self._loop.call_soon(self._give_up)

    def __exit__(self, *_: object) -> None:
        """Everything else is the swap's."""

    def _give_up(self) -> None:
        if self._part.swap.phase is Phase.WORKING:
            self._part.driver.give_up(Refusal(Stage.AGREEMENT, "given up by the test"))


@contextmanager
def _abort(push: Push, nth: int) -> Iterator[None]:
    """Given up between two slices, as the supervisor does it."""
    push.parts[-1].guard = _Bell(push, nth)
    yield


FAULTS: Final[dict[str, Row]] = {
    "the conversion of object {nth} raises": Row(_conversion, sliced=False),
    "the conversion of object {nth} raises after others have flipped": Row(
        _conversion, sliced=True
    ),
    "the conversion of object {nth} takes too long": Row(_overtime, sliced=True),
    "object {nth} is given up when it was built": Row(_built, sliced=False),
    "a part of object {nth} can't be made": Row(_part, sliced=False),
    "on_start of service {nth} raises": Row(_start, sliced=False),
    "on_stop of service {nth} raises": Row(_stop, sliced=False),
    "object {nth} does not come to rest": Row(_restless, sliced=False),
    "everything is given up after slice {nth}": Row(_abort, sliced=True),
}
"""Sentence to how it comes true."""
