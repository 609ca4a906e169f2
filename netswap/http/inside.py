"""What is inside of an application: coroutines that have begun, and whose state they write to.

A coroutine ends in the object in which it began, also when that is not present any more. What it
writes to ``self.state`` must not be lost, so all objects of one entry share one ``Inside``:

* Where the state has the same shape, each object that came before is pointed to the present state.
* Where it has another, the swap waits until no coroutine is inside. Those that would begin are held
  meanwhile, and begin afterwards, in the order in which they came, in the code that is present
  then. An object that came before has no state any more; whoever uses it nonetheless (a WebSocket
  that stays in its old code) gets StateMovedError.

Rejected: a mediator in front. It would hold ``answer``, which a plain route must get through.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, NoReturn

from netswap.errors import StateMovedError
from netswap.mediator import present
from netswap.quiescence import suspended_at

if TYPE_CHECKING:
    from netswap.http.exchange import Exchange

__all__ = ["Inside", "held", "where"]


class _Moved:
    """In the place of a state that has become another's, of another shape."""

    __slots__ = ("_said",)

    def __init__(self, kind: str, version: int, present: int) -> None:
        object.__setattr__(self, "_said", (kind, version, present))

    def __getattr__(self, name: str) -> NoReturn:
        raise StateMovedError(*self._said)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise StateMovedError(*self._said)


class Inside:
    """Of one entry: the exchanges whose coroutines are inside, with when each began (ns)."""

    __slots__ = ("_before", "_exchanges", "_held", "_loop", "_tell", "holding")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.holding = False
        """Whether coroutines that would begin are held."""
        self._loop = loop
        self._exchanges: dict[Exchange, int] = {}
        self._held: list[asyncio.Future[None]] = []
        self._before: list[weakref.ref[Any]] = []
        self._tell: Callable[[], None] | None = None

    def enter(self, exchange: Exchange, now_ns: int) -> None:
        """Its coroutine begins, or is about to."""
        self._exchanges[exchange] = now_ns
        if self.holding:
            self._look_after(exchange)

    def leave(self, exchange: Exchange) -> None:
        """It has ended, or has become the session of a WebSocket."""
        self._exchanges.pop(exchange, None)
        if self._tell is not None:
            self._look()

    def open(self) -> list[tuple[Exchange, int]]:
        """Those that are inside and when they began, the oldest first."""
        return list(self._exchanges.items())

    def rest(self, tell: Callable[[], None]) -> None:
        """Hold what would begin; ``tell`` is called once, soon after the last has ended."""
        self.holding = True
        self._tell = tell
        for exchange in self._exchanges:
            self._look_after(exchange)
        self._look()

    def release(self) -> None:
        """What is held begins, in the order in which it came."""
        self.holding, self._tell = False, None
        held, self._held = self._held, []
        for turn in held:
            if not turn.done():
                turn.set_result(None)

    async def turn(self) -> None:
        """Wait while coroutines are held."""
        while self.holding:
            turn = self._loop.create_future()
            self._held.append(turn)
            await turn

    def follow(self, present: Any, old: Any, same: Callable[[Any], bool]) -> None:
        """``present`` has followed ``old``; ``same`` says whose state has the shape of its."""
        self._before.append(weakref.ref(old))
        self.share(present, same)

    def share(self, present: Any, same: Callable[[Any], bool]) -> None:
        """Every object that came before has the state of ``present``, or none."""
        self._before = [row for row in self._before if row() is not None]
        for before in filter(None, (row() for row in self._before)):
            if same(type(before)):
                before.state = present.state
            else:
                before.state = _Moved(present.kind, before.version, present.version)

    def _look_after(self, exchange: Exchange) -> None:
        """A task that is cancelled before its first step leaves in no other way."""
        if exchange.task is not None:
            exchange.task.add_done_callback(lambda _task: self.leave(exchange))

    def _look(self) -> None:
        if not self._exchanges and self._tell is not None:
            tell, self._tell = self._tell, None
            self._loop.call_soon(tell)


async def held(app: Any, exchange: Exchange, answer: Coroutine[Any, Any, Any]) -> Any:
    """What gives the answer when coroutines are held no more; new code is asked anew."""
    try:
        await app.inside.turn()
        gate = app.host.gate
        if gate is not None and gate.bars:
            await gate.wait_open()
    except BaseException:
        answer.close()
        raise
    answered: Any = answer
    now = present(app.entry)
    if now is not app:
        answer.close()
        exchange.app = now
        answered = app.entry.target.answer(exchange.request)
    if isinstance(answered, Coroutine):
        answered = now.coroutine_comes(exchange, answered)
    return await answered if isinstance(answered, Awaitable) else answered


def where(exchange: Exchange) -> str:
    """``file:line`` where its coroutine is suspended."""
    coroutine = None if exchange.task is None else exchange.task.get_coro()
    return suspended_at(coroutine) or "its end"
