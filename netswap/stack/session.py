"""Sessions: coroutine handlers, for those who think in ``await``.

``run()`` lives as long as the connection, so it can't be swapped between two calls. It declares
where it may be stopped instead: ``await self.swap_point(self.read_line())``. A swap stops it there
and starts the new version's ``run()`` around the state. Nothing is lost by that, because reads
take bytes out of the receive buffer only when the coroutine goes on, never while it waits.

A session that is elsewhere when a swap comes is *brought to rest*: at its next swap point it is
held, even if input is there. What stands in a ``finally`` of the old ``run()`` runs after the
flip with no state and no way to write; put clean-up in ``on_close``.

While a gate is there, a session that is at a swap point, comes to one or is about to begin stays
where it is until the gate is open: what it awaits may end, but nothing goes on by that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from netswap.events import Acted, Blocker
from netswap.mediator import present
from netswap.quiescence import suspended_at
from netswap.stack.connection import Connection
from netswap.stack.peer import hung_up
from netswap.stack.service import CANNOT_NUDGE
from netswap.transfer import State

if TYPE_CHECKING:
    from netswap.stack.implementation import Implementation

__all__ = ["Session"]

S = TypeVar("S", bound=State)
T = TypeVar("T")

HIGH_WATER = 256 * 1024


class _Retired:
    """The transport of a session that was replaced, whose ``finally`` may call ``close()``."""

    def is_closing(self) -> bool:
        """Nothing more goes through here."""
        return True

    def close(self) -> None:
        """The connection is the follower's."""

    abort = close


class Session(Connection[S], Generic[S], uses={"input": "buffer.receive"}):
    """Base of coroutine handlers: ``class Chat(Session[Talk])`` with ``async def run(self)``."""

    may_suspend: ClassVar[bool] = True

    __slots__ = (
        "_at_swap_point",
        "_ends",
        "_held",
        "_leaves",
        "_left_at",
        "_task",
        "_tell",
        "_waiters",
    )

    input: Any
    _at_swap_point: bool
    _ends: bool
    _leaves: bool
    _left_at: int
    _task: asyncio.Task[None] | None
    _tell: Callable[[], None] | None
    _held: asyncio.Future[None] | None
    _waiters: list[asyncio.Future[None]]

    async def run(self) -> None:
        """The conversation; when it returns, the connection closes after the flush."""
        raise TypeError(f"{type(self).__name__} has no run()")

    async def swap_point(self, awaitable: Awaitable[T]) -> T:
        """Await something; a swap may stop the session here and nowhere else.

        Await reads or sleeps here, nothing that would lose what it has when it is cancelled.
        """
        self._at_swap_point = True
        try:
            if self._tell is not None:
                await self._hold()
            try:
                if self.host.gate is not None:
                    await self._pass_gate()
                return await awaitable
            finally:
                if self.host.gate is not None and not self._ends:
                    await self._pass_gate()
        finally:
            self._at_swap_point = False
            self._left_at = self.host.clock.monotonic_ns()
            if asyncio.iscoroutine(awaitable):
                awaitable.close()

    def on_nudge(self) -> None:
        """A swap waits for this session: do what leads to its next swap point sooner.

        Called for an operator, when the session is suspended elsewhere.
        """

    async def read_line(self, limit: int = 65536) -> bytes:
        """The next line without its end; the rest, perhaps b"", at the end of the stream.

        Raises ProtocolError when ``limit`` bytes hold no line end.
        """
        while True:
            line: bytes | None = self.input.take_line(limit)
            if line is not None:
                return line
            if self.half_closed:
                rest: bytes = self.input.take_all()
                return rest
            await self._more()

    @property
    def at_end(self) -> bool:
        """Whether the peer has sent its end and everything before it was read.

        Tells a line that is empty from the end of the stream.
        """
        return self.half_closed and not self.input.size()

    async def read_exactly(self, size: int) -> bytes:
        """The next ``size`` bytes. Raises EOFError when the stream ends before."""
        while True:
            data: bytes | None = self.input.take(size)
            if data is not None:
                return data
            if self.half_closed:
                raise EOFError(f"the stream ended {size - self.input.size()} bytes too early")
            await self._more()

    async def read_some(self) -> bytes:
        """Whatever has come, at least one byte; b"" at the end of the stream."""
        while True:
            data: bytes = self.input.take_all()
            if data or self.half_closed:
                return data
            await self._more()

    async def drained(self) -> None:
        """Wait until the peer takes what was written."""
        while self.writing_paused:
            await self._woken()

    def on_data(self, data: bytes) -> None:
        """Input goes to the receive buffer; too much of it stops the reading."""
        self.input.feed(data)
        if not self.reading_paused and self.input.size() > HIGH_WATER:
            self.pause_reading()
        self._wake()

    def on_eof(self) -> bool | None:
        """The session learns it from its reads and may still answer."""
        self._wake()
        return True

    def on_resume_writing(self) -> None:
        """Whoever waits in ``drained()`` goes on."""
        self._wake()

    def on_drain(self) -> None:
        """The server is about to stop: what was asked is answered, then the connection closes.

        A session at a swap point closes now, another one where it would wait for more at one; so
        does one that goes on in a moment, because something has come.
        """
        self._leaves = True
        if self.at_rest() and not any(waiter.done() for waiter in self._waiters):
            self.close()

    # what the stack and a swap call

    def begin_on(self, transport: asyncio.Transport) -> bool:
        """The socket is accepted: the conversation begins."""
        admitted = super().begin_on(transport)
        if admitted:
            self._start()
        return admitted

    def begin_after(self, kept: bytes) -> None:
        """The connection of an object of another kind is this one's: the conversation begins."""
        self._nothing_runs()
        super().begin_after(kept)
        self._start()

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is closed: the conversation ends where it is."""
        self._ends = True
        self._cancel()
        super().connection_lost(error)

    def at_rest(self) -> bool:
        """Whether the conversation waits at a swap point, or has ended."""
        return self._at_swap_point or self._task is None or self._task.done()

    def only_ends(self) -> bool:
        """Whether the peer has sent its end, and everything before it is read."""
        return self.half_closed and not self.input.size()

    def end_if_gone(self) -> None:
        """End what nobody reads any more; a loop that does not read does not look for that."""
        deaf = self.half_closed or self.reading_paused
        if deaf and not self.transport.is_closing() and hung_up(self.transport):
            self.abort()

    def bring_to_rest(self, tell: Callable[[], None]) -> None:
        """Hold the session at its next swap point."""
        self._tell = tell
        if self.at_rest():
            tell()

    def carry_on(self) -> None:
        """Let a held session go on."""
        self._tell = None
        if self._held is not None and not self._held.done():
            self._held.set_result(None)

    def blockers(self) -> list[Blocker]:
        """Where the conversation is suspended, unless it is at rest."""
        if self.at_rest() or self._task is None:
            return []
        where = suspended_at(self._task.get_coro()) or "?:0"
        name = f"{self.host.slot}.{self.entry.identity}"
        age = (self.host.clock.monotonic_ns() - self._left_at) / 1e9
        return [Blocker(self.kind, name, where, age, name)]

    def nudge_suspended(self, number: int | None) -> list[Acted]:  # noqa: ARG002
        """Call ``on_nudge``, if the author has written one, and let every read look again."""
        blockers = self.blockers()
        if not blockers:
            return []
        if type(self).on_nudge is Session.on_nudge:
            what = CANNOT_NUDGE.format(f"{blockers[0].where}, outside of a swap point,")
            return [Acted(blockers[0].id, self.kind, False, what)]
        self.host.guarded(self.entry, "on_nudge")
        self._wake()
        what = "nudged: on_nudge() was called, it stops at its next swap point"
        return [Acted(blockers[0].id, self.kind, True, what)]

    def cancel_suspended(self, number: int | None) -> list[Acted]:  # noqa: ARG002
        """End the conversation where it is; its connection closes after what was written."""
        blockers = self.blockers()
        if not blockers or self._task is None:
            return []
        self._task.add_done_callback(self._end_of_cancelled)
        self._task.cancel()
        what = (
            f"cancelled at {blockers[0].where}: the client gets what was written, then the end of "
            "its connection"
        )
        return [Acted(blockers[0].id, self.kind, True, what)]

    def _end_of_cancelled(self, task: asyncio.Task[None]) -> None:
        """One that a swap has stopped meanwhile has a follower, to whom the connection belongs."""
        if task is self._task and present(self.entry) is self:
            self.close()

    def take_over(self, old: Any) -> None:
        """Stop the old conversation and start this one around the state."""
        super().take_over(old)
        self._start()

    def retire(self, follower: Connection[Any]) -> None:
        """Stop the conversation; a follower with callbacks is called for what was not used."""
        self._ends = True
        self._cancel()
        del self.state, self.write
        self.transport = cast("asyncio.Transport", _Retired())
        if not isinstance(follower, Session):
            follower.pause_reading()  # so that nothing overtakes it
            gate = self.host.gate
            soon = self.host.call_soon if gate is None else gate.hold_first
            soon(self.entry, "take_up", self.input.take_all())

    def _open(self, transport: asyncio.Transport) -> None:
        self._nothing_runs()
        super()._open(transport)

    def _bind_after(self, old: Implementation[Any]) -> None:
        self._nothing_runs()
        super()._bind_after(old)

    def _nothing_runs(self) -> None:
        self._at_swap_point = self._ends = self._leaves = False
        self._left_at = self.host.clock.monotonic_ns()
        self._task = self._tell = self._held = None
        self._waiters = []

    def _start(self) -> None:
        if not self.transport.is_closing():
            self._at_swap_point = self.host.gate is not None
            self._task = self.host.loop.create_task(self._converse())

    def _cancel(self) -> None:
        """End the conversation; a cancelled task keeps its traceback, whose frames refer to us."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def _converse(self) -> None:
        try:
            if self.host.gate is not None:
                self._at_swap_point = True
                await self._pass_gate()
            self._at_swap_point = False
            await self.run()
        except Exception as error:
            self.host.failed(self, error, "run")
        else:
            self.close()

    async def _pass_gate(self) -> None:
        while (gate := self.host.gate) is not None:
            await gate.wait_open()

    async def _hold(self) -> None:
        self._held = self.host.loop.create_future()
        tell, self._tell = self._tell, None
        if tell is not None:
            tell()
        await self._held

    async def _more(self) -> None:
        if self._leaves and self._at_swap_point:
            self.close()
        if self.reading_paused:
            self.resume_reading()
        await self._woken()

    async def _woken(self) -> None:
        waiter = self.host.loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        if self._at_swap_point and self.host.gate is not None:
            await self._pass_gate()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
