"""Services: one object a worker, and clustered ones with a part in every worker.

Plain methods are called straight through the handle. An ``async def`` method may suspend, so each
call into it enters a generation; a swap puts a mediator in front of such a service and waits.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from inspect import getattr_static, iscoroutinefunction
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast

from netswap.blame import describe
from netswap.errors import CallCancelledError
from netswap.events import Acted, Blocker
from netswap.mediator import Mediator, Ticket, mediator_of, present, row_of
from netswap.quiescence import Call, Generations, call_chain, is_awaited
from netswap.stack.host import Reply, Started
from netswap.stack.implementation import Implementation
from netswap.stack.timer import Timers
from netswap.transfer import State

if TYPE_CHECKING:
    from netswap.ott import Entry
    from netswap.stack.host import Host
    from netswap.steps import Around

__all__ = ["CANNOT_NUDGE", "Cluster", "Service", "prepares"]

S = TypeVar("S", bound=State)

CANNOT_NUDGE = "it waits at {} and has no on_nudge(): wait, cancel it, or abort the swap"


class Service(Implementation[S], Generic[S]):
    """Base of a worker's one object of a kind: ``class Rooms(Service[Hall], clustered=True)``.

    Hooks: on_start and on_stop (of this implementation, so also around a swap: they make and
    release what is derived from the state, each undoes the other; the old one's on_stop runs
    before the new one's on_start, and a failure of either refuses the swap), on_peer_joined and
    on_peer_lost (clustered: another worker's part is there, or gone), on_nudge (a swap waits for
    suspended calls: wake what they wait for), on_prepare (of the class: start what takes time,
    before anything is swapped).
    """

    __slots__ = ("_timers", "generations", "started")

    scope: ClassVar[str] = "worker"
    clustered: ClassVar[bool] = False
    waits_for_calls: ClassVar[bool] = True
    """Whether a swap waits for calls into ``async def`` methods; if not, they end in old code."""

    generations: Generations
    started: Started | None
    """What ``on_prepare`` of this class has started here."""
    _timers: Timers

    def __init_subclass__(cls, clustered: bool | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if clustered is not None:
            cls.clustered = clustered
        for name, member in _own_coroutines(cls) if cls.waits_for_calls else ():
            setattr(cls, name, _tracked(member))
            cls.may_suspend = True

    @classmethod
    async def on_prepare(cls, host: Host) -> Started | None:  # noqa: ARG003
        """Start what this code needs in this worker, and return it; objects have it as ``started``.

        Called once for each load of the code: in a push's first phase, while the old code serves,
        and before a starting worker serves. What is raised refuses the push, and what was begun by
        then has to be undone by whoever raises.
        """
        return None

    @classmethod
    def prepare_within(cls, host: Host, limit: Around) -> Coroutine[Any, Any, Started | None]:  # noqa: ARG003
        """``on_prepare``, for who bounds its steps; in tasks of its own it does so by ``limit``."""
        return cls.on_prepare(host)

    def on_start(self) -> None:
        """The object is about to take part: make what is derived from the state."""

    def on_stop(self) -> None:
        """The object takes part no more: release what ``on_start`` made."""

    def on_peer_joined(self, slot: int) -> None:
        """Another worker's part can be reached."""

    def on_peer_lost(self, slot: int) -> None:
        """Another worker's part, and all that it held, is gone."""

    def on_nudge(self) -> None:
        """An operator wants the suspended calls to end soon: wake what they wait for."""

    @property
    def timers(self) -> Timers:
        """This service's timers, as for a connection."""
        try:
            return self._timers
        except AttributeError:
            self._timers = Timers(self.entry, self.host.service("timer.service"))
            return self._timers

    @property
    def cluster(self) -> Cluster:
        """The parts of this service in the other workers."""
        return Cluster(self)

    @classmethod
    def successor(cls, old: Any, state: State) -> Self:
        """Build the follower: the old one stops and the new one starts, or both are as before.

        Nobody sees the time between, it lies within one callback of the loop.
        """
        new = super().successor(old, state)
        try:
            old.on_stop()
            new.on_start()
        except BaseException:
            old.on_start()
            raise
        return new

    def undo_building(self) -> None:
        """The follower will not take over: it stops and the old one starts again."""
        try:
            self.on_stop()
        finally:
            present(self.entry).on_start()

    def bring_to_rest(self, tell: Callable[[], None]) -> None:
        """Put a mediator in front; ``tell`` is called when no call is inside the object."""
        mediator = mediator_of(self.entry)
        if mediator is None:
            row = row_of(self.entry)
            Mediator(row, self.generations, self._wait, tell, is_awaited).start()
        elif mediator.over:  # of a swap whose held calls are leaving
            mediator.again(tell)
        else:  # of this swap: calls have passed since it was at rest
            mediator.settle()

    async def _wait(self, ticket: Ticket) -> None:
        """Hold a call, and remember the longest that any was held."""
        held = self.host.clock.monotonic_ns()
        await wait_for_ticket(ticket)
        now = self.host.clock.monotonic_ns()
        self.host.longest_hold_ns = max(self.host.longest_hold_ns, now - held)

    def carry_on(self) -> None:
        """The swap was given up before the flip: held calls go to this object."""
        mediator = mediator_of(self.entry)
        if mediator is not None and not mediator.over:
            mediator.abort()

    def at_rest(self) -> bool:
        """Whether no suspended call is inside the object."""
        return not self.generations.open_calls()

    def blockers(self) -> list[Blocker]:
        """The suspended calls inside the object, oldest first."""
        now = self.host.clock.monotonic_ns()
        name = f"{self.host.slot}.{self.entry.identity}"
        return [
            Blocker(
                self.kind, name, call.where(), (now - call.started) / 1e9, f"{name}#{call.number}"
            )
            for call in self.generations.open_calls()
        ]

    def pinned_sessions(self) -> int:
        """How many sessions that this service serves stay in code before this."""
        return 0

    def nudge_suspended(self, number: int | None) -> list[Acted]:
        """Call ``on_nudge``, if the author has written one; it is for all calls inside."""
        calls = self._suspended_calls(number)
        if not calls:
            return []
        if type(self).on_nudge is Service.on_nudge:
            return [
                self._acted_on(call, False, CANNOT_NUDGE.format(call.where())) for call in calls
            ]
        self.host.guarded(self.entry, "on_nudge")
        what = "nudged: on_nudge() was called, the call ends when the author's code lets it"
        return [self._acted_on(call, True, what) for call in calls]

    def cancel_suspended(self, number: int | None) -> list[Acted]:
        """End calls with CallCancelledError, which their callers see."""
        return [self._end_call(call) for call in self._suspended_calls(number)]

    def _end_call(self, call: Call) -> Acted:
        where = call.where()
        if call.cancel is None:
            return self._acted_on(
                call, False, f"it runs in no task, at {where}: it can't be cancelled"
            )
        call.cancel()
        return self._acted_on(
            call, True, f"cancelled at {where}: its caller gets CallCancelledError"
        )

    def _suspended_calls(self, number: int | None) -> list[Call]:
        calls = self.generations.open_calls()
        return [call for call in calls if number is None or call.number == number]

    def _acted_on(self, call: Call, done: bool, what: str) -> Acted:
        name = f"{self.host.slot}.{self.entry.identity}#{call.number}"
        return Acted(name, self.kind, done, what)

    def _bind(self) -> None:
        super()._bind()
        self.started = self.host.started.get(type(self))
        self.generations = Generations()

    def _bind_after(self, old: Implementation[Any]) -> None:
        super()._bind()
        self.started = self.host.started.get(type(self))
        self.generations = cast("Service[Any]", old).generations


class Cluster:
    """The way from one part of a clustered service to the others. Order is kept per pair.

    Arguments are plain data (None, bool, int, float, str, bytes, list, dict); tuples arrive as
    lists. The *home* part, in the lowest slot, is where a service keeps what must be one.
    """

    __slots__ = ("_entry", "_host", "_kind")

    def __init__(self, service: Service[Any]) -> None:
        self._entry = service.entry
        self._host = service.host
        self._kind = service.kind

    @property
    def home(self) -> int:
        """The slot of the home part."""
        return min(self._host.slots)

    @property
    def is_home(self) -> bool:
        """Whether this worker has the home part."""
        return self._host.slot == min(self._host.slots)

    def cast(self, slot: int, method: str, *args: Any) -> None:
        """Call ``method`` of the part in ``slot``, one way; its own slot is called soon."""
        if slot == self._host.slot:
            self._host.call_soon(self._entry, method, *args)
        elif self._host.mesh is not None:
            self._host.mesh.cast(slot, self._kind, method, args)

    def broadcast(self, method: str, *args: Any) -> None:
        """``cast`` to the parts of all other workers."""
        for slot in self._host.slots:
            if slot != self._host.slot:
                self.cast(slot, method, *args)

    def request(  # noqa: PLR0913, PLR0917 - the six words of one sentence
        self,
        slot: int,
        method: str,
        args: tuple[Any, ...],
        reply_to: Entry,
        reply_method: str,
        token: int,
    ) -> None:
        """Call ``method`` of the part in ``slot``; its value arrives at an entry's method.

        That is ``reply_to.target.reply_method(token, value, error)`` with ``error`` None or a
        sentence. When the asker is gone by then the reply is dropped.
        """
        reply = Reply(reply_to, reply_method, token)
        if slot == self._host.slot:
            self._host.later(self._answer_here, method, args, reply)
        elif self._host.mesh is None:
            self._host.call_soon(reply_to, reply_method, token, None, "there are no other workers")
        else:
            self._host.mesh.request(slot, (self._kind, method, args), reply)

    def _answer_here(self, method: str, args: tuple[Any, ...], reply: Reply) -> None:
        value, error = self._host.answer(self._kind, method, args)
        if asyncio.iscoroutine(value):
            self._host.spawn(self._answer_later(value, reply))
        else:
            self._host.guarded(reply.entry, reply.method, reply.token, value, error)

    async def _answer_later(self, call: Coroutine[Any, Any, Any], reply: Reply) -> None:
        value, error = None, None
        try:
            value = await call
        except Exception as problem:
            error = describe(problem)
        self._host.guarded(reply.entry, reply.method, reply.token, value, error)


def prepares(cls: type[Implementation[Any]]) -> bool:
    """Whether a class has something to start before its objects can be."""
    return issubclass(cls, Service) and (
        cls.on_prepare.__func__ is not Service.on_prepare.__func__  # type: ignore[attr-defined]  # a bound method
    )


def _own_coroutines(cls: type) -> list[tuple[str, Callable[..., Any]]]:
    """The ``async def`` methods of a class and of its bases that are no services, by name."""
    found: dict[str, Callable[..., Any]] = {}
    for base in cls.__mro__:
        if base is cls or not issubclass(base, Service):
            for name, member in vars(base).items():
                if iscoroutinefunction(member) and getattr_static(cls, name) is member:
                    found[name] = member
    return list(found.items())


def _comes_late(service: Service[Any]) -> bool:
    mediator = mediator_of(service.entry)
    if mediator is None:
        return row_of(service.entry).target not in (None, service)
    return mediator.present is not service or mediator.bars


def _tracked(method: Callable[..., Any]) -> Callable[..., Any]:
    """Count each call of an ``async def`` method in a generation of its object.

    A call begins with its coroutine's first step. One that was made before a swap and begins
    after it, or while it holds calls, goes the way of the new ones. None begins at a closed gate.
    """

    @functools.wraps(method)
    async def tracked(self: Service[Any], *args: Any, **keywords: Any) -> Any:
        gate = self.host.gate
        if gate is not None and gate.bars:
            await gate.wait_open()
        if self.entry.target is not self and _comes_late(self):
            return await getattr(self.entry.target, method.__name__)(*args, **keywords)
        coroutine = method(self, *args, **keywords)
        call = Call(self.generations, method.__name__, self.host.clock.monotonic_ns(), coroutine)
        token = call_chain.set((*call_chain.get(), call))
        call.owner.enter(call)
        ending = _Ending(call)
        try:
            return await coroutine
        except asyncio.CancelledError:
            if ending.is_ours():
                raise CallCancelledError(self.kind, call.method) from None
            raise
        finally:
            ending.close()
            call.owner.leave(call)
            call_chain.reset(token)

    return tracked


class _Ending:
    """Lets one call be cancelled and not the task that it is a part of, as asyncio.timeout does."""

    __slots__ = ("_before", "_task")

    def __init__(self, call: Call) -> None:
        self._before: int | None = None
        try:
            self._task = asyncio.current_task()
        except RuntimeError:  # no loop runs: somebody steps the call by hand
            self._task = None
        if self._task is not None:
            call.cancel = self._cancel

    def _cancel(self) -> None:
        if self._task is not None and self._before is None:
            self._before = self._task.cancelling()
            self._task.cancel()

    def is_ours(self) -> bool:
        """Whether nobody else has cancelled the task meanwhile."""
        before, task = self._before, self._task
        return task is not None and before is not None and task.cancelling() == before + 1

    def close(self) -> None:
        """Take the cancellation back, whether the call ended by it or not."""
        if self._task is not None and self._before is not None:
            self._task.uncancel()


async def wait_for_ticket(ticket: Ticket) -> None:
    """Suspend until a mediator's ticket is open."""
    if ticket.open:
        return
    future = asyncio.get_running_loop().create_future()
    ticket.wake = functools.partial(_wake, future)
    await future


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
