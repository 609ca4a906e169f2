"""Generations: when have all calls ended that began before now?

Calls that are plain functions end within one callback of the loop; nothing has to be counted for
them. A call that suspends enters the present generation of its object and leaves it at its end.
``advance()`` opens a new generation; the closed one has *drained* when its last call has left.
A generation counts calls (a request, a message), never connections.

Rejected: a count for all objects of a worker together, as K42 keeps it for a processor. There it
is cheaper than one per object; here a slow call of one object would hold up the swap of another.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from netswap.blame import author_file

__all__ = ["Call", "Generations", "call_chain", "is_awaited", "suspended_at"]


class Call:
    """One suspended call into an object; ``started`` in nanoseconds of the caller's clock.

    ``number`` tells it from others of the same object; ``cancel`` is what its driver put there.
    """

    __slots__ = ("cancel", "coroutine", "generation", "method", "number", "owner", "started")

    def __init__(self, owner: Generations, method: str, started: int, coroutine: Any) -> None:
        self.owner = owner
        self.method = method
        self.started = started
        self.coroutine = coroutine
        self.generation = -1
        self.number = 0
        self.cancel: Callable[[], None] | None = None

    @property
    def open(self) -> bool:
        """Whether the call has entered and not left."""
        return self.generation >= 0

    def where(self) -> str:
        """``file:line`` where the call is suspended, as ``suspended_at`` says it."""
        return suspended_at(self.coroutine) or f"{self.method}()"


def suspended_at(coroutine: Any) -> str | None:
    """``file:line`` of a coroutine's innermost suspended frame, or None at its end.

    The innermost of an author's file if there is one: a line of asyncio's says nothing to him.
    """
    innermost = authors = None
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            file = author_file(frame.f_code.co_filename)
            innermost = f"{file or frame.f_code.co_filename}:{frame.f_lineno}"
            authors = innermost if file else authors
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return authors or innermost


call_chain: ContextVar[tuple[Call, ...]] = ContextVar("netswap_call_chain", default=())
"""The suspended calls that led to the code now running, outermost first."""


def is_awaited() -> bool:
    """Whether the code now running was called from inside an object that is being drained."""
    return any(call.open and call.owner.draining for call in call_chain.get())


class Generations:
    """The generations of one object; ``draining`` while somebody waits for its calls to end."""

    __slots__ = ("_counts", "_entered", "_open", "_waiting", "current", "draining")

    def __init__(self) -> None:
        self.current = 0
        self.draining = False
        self._entered = 0
        self._counts: dict[int, int] = {}
        self._open: set[Call] = set()
        self._waiting: list[tuple[int, Callable[[], None]]] = []

    def enter(self, call: Call) -> None:
        """Count a call in the present generation."""
        call.generation = self.current
        self._entered = call.number = self._entered + 1
        self._counts[self.current] = self._counts.get(self.current, 0) + 1
        self._open.add(call)

    def leave(self, call: Call) -> None:
        """The call has ended; whoever waits for its generation is told when it was the last."""
        generation, call.generation = call.generation, -1
        # chains outlive their calls in the contexts of tasks and timers
        call.coroutine = call.cancel = None
        self._open.remove(call)
        self._counts[generation] -= 1
        if self._counts[generation] == 0:
            del self._counts[generation]
            self._tell()

    def advance(self) -> int:
        """Close the present generation, open the next; the number of the closed one."""
        closed = self.current
        self.current += 1
        return closed

    def drained(self, generation: int) -> bool:
        """Whether every call of this generation and of those before it has ended."""
        return not any(open_one <= generation for open_one in self._counts)

    def when_drained(self, generation: int, tell: Callable[[], None]) -> None:
        """Call ``tell`` once, as soon as the generation has drained; at once if it has."""
        if self.drained(generation):
            tell()
        else:
            self._waiting.append((generation, tell))

    def forget(self, tell: Callable[[], None]) -> None:
        """Nobody waits with ``tell`` any more."""
        self._waiting = [row for row in self._waiting if row[1] != tell]

    def open_calls(self) -> list[Call]:
        """The calls inside the object, oldest first."""
        return sorted(self._open, key=lambda call: call.started)

    def includes(self, chain: tuple[Call, ...]) -> bool:
        """Whether one of these calls is inside this object: the chain's next call re-enters it."""
        return any(call.owner is self and call.open for call in chain)

    def re_entered(self) -> bool:
        """Whether the code now running was called from inside this object."""
        return self.includes(call_chain.get())

    def _tell(self) -> None:
        ready = [row for row in self._waiting if self.drained(row[0])]
        self._waiting = [row for row in self._waiting if row not in ready]
        for _, tell in ready:
            tell()
