"""Effects: what an object does to the outside, held back until it is known to be wanted.

While ``Effects`` are in an object's hands, the transport, the host, the timers and the handles that
it sees are stand-ins. They pass everything on at once, except while an ``Attempt`` is under way:
then each effect goes to the end of the attempt's list instead, and what is asked of a service that
can't be rewound is written to the attempt's log with its answer. Kept attempts have their effects
carried out in the order in which they were wanted; a dropped one leaves none. The log is what the
next attempt is answered from, so that a service is not asked twice for what it has done already;
the effects that it had on others stand with its answer.

Known limits: an effect on something that an object reached by itself, around its handle and its
host, is not seen; nor is what it reads through a handle without a call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from netswap.firsterror import FirstError
from netswap.mediator import present
from netswap.stack import Connection
from netswap.stack.hands import TIMERS, handle_of, handle_slot, output_of, rewire

if TYPE_CHECKING:
    from netswap.ott import Entry

__all__ = ["Diverged", "Effects", "Outbox", "StandIn"]


class Asked(NamedTuple):
    """A call of a service."""

    entry: Entry
    method: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]


class Answered(NamedTuple):
    """A call that a service has answered, and the effects that it had on others."""

    asked: Asked
    value: Any
    effects: list[Callable[[], object]]


class Diverged(BaseException):
    """A second attempt asks a service for something else than the first, which it has answered.

    Not an Exception, so that an author's ``except Exception`` does not swallow it.
    """


class Outbox:
    """Where effects go while an attempt is under way; shared by all who take part in it.

    ``intercept(error)`` is asked before a session that has failed is closed; it returns whether
    that is all right now.
    """

    def __init__(self) -> None:
        self.holding = False
        self.intercept: Callable[[BaseException], bool] = _never
        self.held: list[Callable[[], object]] = []
        self.answered: list[Answered] = []
        self.known: deque[Answered] = deque()
        self.settled: Callable[[], None] = _nothing

    def hold(self) -> None:
        """From now on effects wait."""
        self.holding = True

    def keep(self) -> None:
        """Carry out what was held, in order; one that fails does not keep the others back."""
        first = FirstError()
        for effect in self._emptied():
            with first:
                effect()
        first.throw()

    def drop(self) -> None:
        """Forget what was held; what services have answered is known to the next attempt.

        Coroutines that were to be run are closed: nobody else knows of them.
        """
        answered = self.answered
        for effect in self._emptied():
            for word in getattr(effect, "args", ()):
                if iscoroutine(word):
                    word.close()
        self.known = deque([*answered, *self.known])

    def ask(self, asked: Asked) -> Any:
        """A service's answer, from the attempt before or from the service.

        Raises Diverged when something else was answered at this place before: it may have been done
        already, and nobody knows whether this would do it again.
        """
        if self.known:
            if self.known[0].asked != asked:
                raise Diverged(f"{asked.entry.kind}.{asked.method}")
            answered = self.known.popleft()
            self.held += answered.effects
            self.answered.append(answered)
            return answered.value
        before = len(self.held)
        value = getattr(asked.entry.target, asked.method)(*asked.arguments, **asked.keywords)
        if self.holding and not iscoroutine(value):
            self.answered.append(Answered(asked, value, self.held[before:]))
            self.settled()
        return value

    def put(self, effect: Callable[..., object], *arguments: Any) -> None:
        """Carry an effect out, now or when the attempt is kept."""
        if self.holding:
            self.held.append(partial(effect, *arguments))
        else:
            effect(*arguments)

    def forget(self) -> None:
        """What is known will not be asked again; what it did to others, it did."""
        for answered in self.known:
            for effect in answered.effects:
                self.put(effect)
        self.known.clear()

    def retire(self) -> None:
        """Nobody will be asked any more, and whoever was is let go."""
        self.intercept = _never

    def _emptied(self) -> list[Callable[[], object]]:
        held, self.held, self.answered = self.held, [], []
        self.holding = False
        self.settled = _nothing  # an attempt refers to its outbox
        return held


def _nothing() -> None:
    pass


def _never(_error: BaseException) -> bool:
    """Whether a failure that nobody undoes is all right: what ``Outbox.intercept`` begins with."""
    return False


class StandIn:
    """Has every attribute of ``real``; some are held back by the outbox."""

    __slots__ = ("_outbox", "_real")

    def __init__(self, real: Any, outbox: Any) -> None:
        object.__setattr__(self, "_real", real)
        object.__setattr__(self, "_outbox", outbox)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value)


class _Transport(StandIn):
    """Output and flow control are held back; ``flush`` empties the send buffer before a close."""

    __slots__ = ("_closed", "_flush")

    def __init__(self, real: Any, outbox: Outbox, flush: Callable[[], None]) -> None:
        super().__init__(real, outbox)
        object.__setattr__(self, "_closed", False)
        object.__setattr__(self, "_flush", flush)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._outbox.put(self._real.write, bytes(data) if self._outbox.holding else data)

    def writelines(self, rows: Any) -> None:
        self.write(b"".join(rows))

    def write_eof(self) -> None:
        self._outbox.put(self._real.write_eof)

    def close(self) -> None:
        self._outbox.put(self._flush)
        self._ends(self._real.close)

    def abort(self) -> None:
        self._ends(self._real.abort)

    def is_closing(self) -> bool:
        return bool((self._closed and self._outbox.holding) or self._real.is_closing())

    def pause_reading(self) -> None:
        self._outbox.put(self._steer, "pause_reading")

    def resume_reading(self) -> None:
        self._outbox.put(self._steer, "resume_reading")

    def _ends(self, way: Callable[[], None]) -> None:
        object.__setattr__(self, "_closed", True)
        self._outbox.put(way)

    def _steer(self, method: str) -> None:
        """A transport that was closed by an earlier effect can't be steered any more."""
        if not self._real.is_closing():
            getattr(self._real, method)()


class _Timers(StandIn):
    """Arming and forgetting are held back."""

    __slots__ = ()

    def arm(self, name: str, seconds: float) -> None:
        self._outbox.put(self._real.arm, name, seconds)

    def cancel(self, name: str) -> None:
        self._outbox.put(self._real.cancel, name)

    def cancel_all(self) -> None:
        self._outbox.put(self._real.cancel_all)


class _Later:
    """A call that will be scheduled, or not; ``cancel`` as a loop's handle has it."""

    def __init__(self) -> None:
        self.scheduled: Any = None
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
        if self.scheduled is not None:
            self.scheduled.cancel()

    def schedule(self, call_soon: Callable[..., Any], *arguments: Any) -> None:
        if not self.cancelled:
            self.scheduled = call_soon(*arguments)


class _Mesh(StandIn):
    """What goes to other workers is held back."""

    __slots__ = ()

    def cast(self, *words: Any) -> None:
        self._outbox.put(self._real.cast, *words)

    def request(self, *words: Any) -> None:
        self._outbox.put(self._real.request, *words)


class _Host(StandIn):
    """Calls for later, and those to other workers, are held back."""

    __slots__ = ()

    @property
    def mesh(self) -> Any:
        mesh = self._real.mesh
        return None if mesh is None else _Mesh(mesh, self._outbox)

    def call_soon(self, entry: Entry, method: str, *arguments: Any) -> _Later:
        later = _Later()
        self._outbox.put(later.schedule, self._real.call_soon, entry, method, *arguments)
        return later

    def act(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._outbox.put(call, *arguments)

    def later(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._outbox.put(self._real.later, call, *arguments)

    def failed(self, target: Any, error: BaseException, doing: str) -> None:
        if not self._outbox.intercept(error):
            self._real.failed(target, error, doing)


class _Handle(StandIn):
    """The handle of a service: what it is asked is written down, unless it can be rewound."""

    __slots__ = ()

    @property
    def target(self) -> Any:
        entry = self._real
        return entry.target if _rewinds(entry) else _Service(entry, self._outbox)


class _Service(StandIn):
    """A service that answers, and remembers what it has answered."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real.target, name)
        return partial(self._ask, name) if callable(found) else found

    def _ask(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        return self._outbox.ask(Asked(self._real, name, arguments, keywords))


def _rewinds(entry: Entry) -> bool:
    return bool(getattr(entry.target, "rewinds", False))


def _flush(output: Any) -> None:
    if output is not None:
        output.target.flush()


class Effects:
    """The stand-ins in the hands of one implementation, until ``remove()``.

    With ``writes_later`` a connection's output is held back before it comes to its send buffer.
    """

    def __init__(self, target: Any, outbox: Outbox, writes_later: bool = True) -> None:
        self._target = target
        self._was: dict[str, Any] = {}
        self._give("host", _Host(target.host, outbox))
        for name, kind in type(target).uses.items():
            if not target.host.is_part(kind):
                self._give(handle_slot(name), _Handle(handle_of(target, name), outbox))
        if "timer.service" in target.host.services and hasattr(type(target), "timers"):
            self._give(TIMERS, _Timers(target.timers, outbox))
        self._output = output_of(target)
        if isinstance(target, Connection):
            # not our own method: one that closes on watch would be in a circle with us
            flush = partial(_flush, self._output)
            self._give("transport", _Transport(target.transport, outbox, flush))
            rewire(target)
            if writes_later:
                write = target.write
                target.write = lambda data: outbox.put(write, bytes(data))

    def flush(self) -> None:
        """Empty the send buffer that the connection uses, if it does."""
        _flush(self._output)

    def remove(self) -> None:
        """Give the real things back, once."""
        was, self._was = self._was, {}
        for name, value in was.items():
            setattr(self._target, name, value)
        if not was or not isinstance(self._target, Connection):
            return
        if present(self._target.entry) is None:  # closed, and its send buffer with it
            self._target.write = self._target.transport.write
        else:
            rewire(self._target)

    def _give(self, name: str, stand_in: Any) -> None:
        self._was[name] = getattr(self._target, name)
        setattr(self._target, name, stand_in)
