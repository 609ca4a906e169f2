"""Coroutines stepped by hand, a clock that the test owns, and objects that need no loop."""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any

from netswap.mediator import Ticket
from netswap.ott import ObjectTranslationTable


class Clock:
    """Stands still until it is told to go on; ``step`` nanoseconds pass at each look."""

    def __init__(self, step: int = 0) -> None:
        self.now = 0
        self.step = step

    def monotonic_ns(self) -> int:
        """The test's time."""
        self.now += self.step
        return self.now

    time_ns = monotonic_ns


class Host:
    """What objects of the stack ask of a host while no socket is involved."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.table = ObjectTranslationTable()
        self.clock = clock or Clock()
        self.slot = 0
        self.gate = None
        self.services: dict[str, Any] = {}
        self.present: dict[str, Any] = {}
        self.started: dict[type, Any] = {}

    def service(self, kind: str) -> Any:
        """The handle of the one object of a kind."""
        if kind not in self.services:
            self.services[kind] = self.table.create(kind)
        return self.services[kind]

    def entered(self, entry: Any) -> None:
        """Nobody interposes."""

    def maker(self, kind: str) -> Any:
        """No canary is under way."""
        return self.present.get(kind)

    def is_part(self, kind: str) -> bool:
        """Whether the kind's present class belongs to a connection."""
        return kind in self.present and self.present[kind].scope == "connection"


class Cancelled(BaseException):
    """What a cancelled errand is thrown."""


class Errand:
    """A coroutine in a context of its own; ``outcome`` is what it returned or raised."""

    def __init__(self, work: Coroutine[Any, Any, Any], context: contextvars.Context) -> None:
        self.work = work
        self.context = context
        self.done = False
        self.outcome: Any = None


class Scheduler:
    """Steps errands, one at a time, in the order in which they were woken."""

    def __init__(self) -> None:
        self.ready: deque[Errand] = deque()
        self.errands: list[Errand] = []
        self.running: Errand | None = None

    def spawn(self, work: Coroutine[Any, Any, Any]) -> Errand:
        """A new errand; made inside another one, it inherits that one's context."""
        errand = Errand(work, contextvars.copy_context())
        self.errands.append(errand)
        self.ready.append(errand)
        return errand

    def wake(self, errand: Errand) -> None:
        """Let a suspended errand go on when its turn comes."""
        if not errand.done and errand not in self.ready:
            self.ready.append(errand)

    def step(self) -> None:
        """Run the next ready errand up to where it suspends."""
        errand = self.ready.popleft()
        self._run(errand, lambda: errand.work.send(None))

    def cancel(self, errand: Errand) -> None:
        """Throw Cancelled into an errand where it is suspended."""
        if errand in self.ready:
            self.ready.remove(errand)
        self._run(errand, lambda: errand.work.throw(Cancelled()))

    def run_ready(self) -> None:
        """Until everything is suspended or at its end."""
        while self.ready:
            self.step()

    @property
    def unfinished(self) -> list[Errand]:
        """The errands that have not ended."""
        return [errand for errand in self.errands if not errand.done]

    async def wait(self, ticket: Ticket) -> None:
        """What a mediator is handed in: suspend the running errand until the ticket wakes it."""
        errand = self.running
        assert errand is not None
        ticket.wake = lambda: self.wake(errand)
        await suspend()

    def _run(self, errand: Errand, go_on: Callable[[], Any]) -> None:
        self.running, before = errand, self.running
        try:
            errand.context.run(go_on)
        except StopIteration as end:
            errand.done, errand.outcome = True, end.value
        except (Exception, Cancelled) as error:
            errand.done, errand.outcome = True, error
        finally:
            self.running = before


@coroutine
def suspend() -> Generator[None, None, None]:
    """Suspend the running errand."""
    yield
