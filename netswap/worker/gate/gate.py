"""The gate: stands between one worker's objects and the world while all workers convert theirs.

Without it a swap rolls: in the time between the first flip in one worker and the last in another,
two versions serve. With it every worker first closes its gate, and no worker flips before all have.
Between the first flip and the last nothing is served, by old code or by new.

::

    Resting ──▶ Emptying ──▶ Closed ──▶ Still ──▶ Opening ──▶ Open
       └────────────┴───────────┴ late, given up ────▲

*Resting*: sessions stop at their next swap point and stay there, and what is to be swapped at rest
lets its coroutines end and holds new ones; everything else is served, as a session or a coroutine
may need more input, or an answer, to come to that. *Emptying*: the transports are taken,
so clients wait; calls that are inside of services end, for which timers, other workers and replies
still come through. *Closed*: only what other workers ask is done, and what follows from it, so that
no question of one version is left for the other (``settling``). *Still*: that is held too, and
objects may be flipped. What did not come to rest in time is named, and the gate opens again.
*Opening*: what was held is played, and the objects get their transports.

What is held at the edges of the world:

* **callbacks of transports**, of connections of every kind, since one that is not changed may call
  one that is. The transport is pointed to a ``Held``, which keeps bytes, the end of the stream,
  flow control and the loss of the connection. The end is answered with "keep open", which TLS
  can't be; when it is
  played and the object does not want that, the transport is closed, as the loop would have done.
  A client that sends very much is not read any more; one that sends little is, or a timer would
  take it for silent.
* **new connections**: they begin when the gate opens, as what is present by then. One that was
  reset before that never begins.
* **calls by way of the host**: timers, ``call_soon``, casts, requests and replies, whole and in
  order. An object that has followed another one does not get what that one had asked of the loop
  under a name that it does not know: the other would have cancelled it, had it not come here.
* **coroutines**: sessions where they are, calls into ``async def`` methods before they begin. What
  a session awaits may end meanwhile; it goes on when the gate is open, or was flipped by then.

Everything goes in the order in which it came, but for what a session had read and not used, which
goes first of all. A connection whose last held callback was played leaves the gate; what comes for
one that has not is queued. All this is done in slices, between which the loop turns.

A gate never stays closed. Who closed it opens it; if nobody does within ``patience`` seconds, it
opens by itself, and says so.

Nobody waits for what is suspended inside of an object that can't call what changes, whatever it
does: a session that is between two swap points goes on to the next one, and stays there. What it
calls back goes by way of the host, and its client's bytes are held like all others.

What can't be held: tasks and timers that an author made on the loop by himself, which nothing
knows of. Output that was handed to a transport before goes on to leave.

Rejected: to stop reading and do nothing more. The loop would still call for the end of a stream,
for flow control and for timers, and a timer would close a client whose bytes nobody had fetched.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Container, Iterable
from enum import StrEnum, auto
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from netswap.events import Blocker, Refusal
from netswap.events import Stage as Refused
from netswap.lifecycle import LifeCycle
from netswap.mediator import mediator_of, present
from netswap.quiescence import suspended_at
from netswap.stack import Connection, Host
from netswap.worker.driver import SLICE_NS, blocked
from netswap.worker.gate.held import Held

if TYPE_CHECKING:
    from netswap.ott import Entry
    from netswap.worker.gate.settling import Settling

__all__ = ["TRANSITIONS", "Event", "Gate", "Stage"]

LOOK_S = 0.001
"""Seconds between two looks at what has to come to rest."""


class Stage(StrEnum):
    """The life of a gate."""

    RESTING = auto()
    EMPTYING = auto()
    CLOSED = auto()
    STILL = auto()
    OPENING = auto()
    OPEN = auto()


class Event(StrEnum):
    """What moves a gate on."""

    SESSIONS_REST = auto()
    ALL_REST = auto()
    SETTLED = auto()
    LET_GO = auto()
    EMPTIED = auto()
    WORKER_ENDS = auto()


TRANSITIONS = LifeCycle(
    "gate",
    {
        (Stage.RESTING, Event.SESSIONS_REST): Stage.EMPTYING,
        (Stage.RESTING, Event.LET_GO): Stage.OPENING,
        (Stage.EMPTYING, Event.ALL_REST): Stage.CLOSED,
        (Stage.EMPTYING, Event.LET_GO): Stage.OPENING,
        (Stage.CLOSED, Event.SETTLED): Stage.STILL,
        (Stage.CLOSED, Event.LET_GO): Stage.OPENING,
        (Stage.STILL, Event.LET_GO): Stage.OPENING,
        (Stage.OPENING, Event.EMPTIED): Stage.OPEN,
        (Stage.RESTING, Event.WORKER_ENDS): Stage.OPEN,
        (Stage.EMPTYING, Event.WORKER_ENDS): Stage.OPEN,
        (Stage.CLOSED, Event.WORKER_ENDS): Stage.OPEN,
        (Stage.STILL, Event.WORKER_ENDS): Stage.OPEN,
        (Stage.OPENING, Event.WORKER_ENDS): Stage.OPEN,
    },
)

_BARS = (Stage.STILL, Stage.OPENING)
_HOLDS = (Stage.CLOSED, *_BARS)
_TAKES = (Stage.EMPTYING, *_HOLDS)


class Played(NamedTuple):
    """A call that is held, and whose it is if it is a transport's."""

    of: Held | None
    call: Callable[..., object]
    args: tuple[Any, ...]


class Gate:
    """Of one worker, once. ``patience`` in seconds is for how long it stays closed at most.

    It waits for objects of the kinds in ``callers``, or for all: no others can call what changes.
    Services in ``ending`` have coroutines inside whose clients have to be heard until they end.
    """

    def __init__(
        self,
        host: Host,
        patience: float,
        callers: Container[str] | None = None,
        ending: Iterable[Entry] = (),
    ) -> None:
        self.stage = Stage.RESTING
        self._host = host
        self._patience = patience
        self._callers = callers
        self._ending = tuple(ending)
        self._alarm: asyncio.TimerHandle | None = None
        self._given_up: Refusal | None = None
        self._settling: Settling | None = None
        self._busy: list[Entry] = []
        self._queue: deque[Played] = deque()
        self._held: dict[Entry, Held] = {}
        self._playing = self._admitting = False
        self._admitted = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._began_ns = self._ended_ns = 0

    # what the worker does with it

    async def close(self, timeout: float) -> Refusal | None:
        """Close; or open again, and say what was in the way for ``timeout`` seconds."""
        host = self._host
        deadline = host.clock.monotonic_ns() + int(timeout * 1e9)
        self._alarm = host.loop.call_later(self._patience, self._open_alone)
        host.gate = self
        for entry in self._ending:
            present(entry).bring_to_rest(_nothing)
        await self._in_slices(list(host.table), self._look)
        if await self._until(self._sessions_rest, deadline):
            self._began_ns = host.clock.monotonic_ns()
            self._move(Event.SESSIONS_REST)
            await self._in_slices(list(host.table), self._take)
            await asyncio.sleep(0)  # what was called soon before that is done
            if await self._until(self._all_rest, deadline):
                self._move(Event.ALL_REST)
                return None
        refusal = self._given_up or self._late()
        await self.open()
        return refusal

    async def settle(self, settling: Settling, timeout: float) -> Refusal | None:
        """Be still, as soon as all the others that are closed have nothing more to ask.

        Returns what was in the way for ``timeout`` seconds; then it is as closed as before. A gate
        that has opened alone meanwhile is not ``shut`` afterwards.
        """
        self._settling = settling
        deadline = self._host.clock.monotonic_ns() + int(timeout * 1e9)
        while not settling.over:
            await asyncio.sleep(0)  # what was called soon before the last turn is done
            if not await self._until(self._all_rest, deadline):
                return self._given_up or self._late()
            settling.take_turn(self._admitted)
            if not await self._until(settling.heard_all, deadline, settling.wait):
                reason = f"workers {settling.missing} still have something to ask"
                return self._given_up or Refusal(Refused.SWAP, reason, worker=self._host.slot)
        if self.stage is Stage.CLOSED:
            self._move(Event.SETTLED)
        return None

    def give_up(self, refusal: Refusal) -> None:
        """Stop closing: ``close`` opens again and returns ``refusal``."""
        self._given_up = refusal

    async def open(self) -> None:
        """Play what is held and let everything go on. Returns when that is done."""
        if (self.stage, Event.LET_GO) not in TRANSITIONS:
            await self.wait_open()
            return
        self._move(Event.LET_GO)
        while not self._emptied():
            await asyncio.sleep(0)
        self._move(Event.EMPTIED)
        self._release()

    def abandon(self) -> None:
        """The worker ends: coroutines go on, so that they can end; what is held is not played."""
        if self.stage is not Stage.OPEN:
            self._move(Event.WORKER_ENDS)
            self._release()

    @property
    def shut(self) -> bool:
        """Whether nothing is served."""
        return self.stage in (Stage.CLOSED, Stage.STILL)

    @property
    def closed_ns(self) -> int:
        """For how long clients had to wait, or have until now."""
        if not self._began_ns:
            return 0
        return (self._ended_ns or self._host.clock.monotonic_ns()) - self._began_ns

    # what the host and its objects ask

    @property
    def closed(self) -> bool:
        """Whether calls that come now are held; a call of another worker may need a timer."""
        if self.stage is Stage.CLOSED:
            return not self._admitting and self._all_rest()
        return self.stage in _BARS and not self._playing

    @property
    def settling(self) -> bool:
        """Whether what other workers ask, and what follows from it, is still done."""
        ended = self._settling is not None and self._settling.ended
        return self.stage is Stage.CLOSED and not ended

    @property
    def bars(self) -> bool:
        """Whether no call into a service may begin."""
        return self.stage in _BARS and not self._playing

    def admit(self, call: Callable[..., object], *args: Any) -> None:
        """Make a call while it is settling."""
        before, self._admitting = self._admitting, True
        self._admitted += 1
        try:
            call(*args)
        finally:
            self._admitting = before

    def hold(self, call: Callable[..., object], *args: Any) -> None:
        """Make a call of the stack's own when the gate opens."""
        self._queue.append(Played(None, call, args))

    def hold_call(self, entry: Entry, method: str, args: tuple[Any, ...]) -> None:
        """Make a call by way of the host when the gate opens."""
        self.hold(self._call, entry, present(entry), method, args)

    def hold_first(self, entry: Entry, method: str, *args: Any) -> None:
        """The same, before anything else that is held."""
        self._queue.appendleft(Played(None, self._host.guarded, (entry, method, *args)))

    def keep(self, held: Held, call: Callable[..., object], *args: Any) -> None:
        """Make a transport's call when the gate opens."""
        held.pending += 1
        self._queue.append(Played(held, call, args))

    def keeps(self, entry: Entry) -> bool:
        """Whether a connection's transport is in the gate's hands."""
        return entry in self._held

    def takes(self, connection: Connection[Any], transport: asyncio.BaseTransport) -> bool:
        """Whether a new connection begins later; if so, what comes for it is kept."""
        if self.stage not in _TAKES or self._playing:
            return False
        tls = transport.get_extra_info("ssl_object") is not None
        held = Held(self, cast("asyncio.Transport", transport), None, tls)
        held.transport.set_protocol(held)
        self.keep(held, held.begin, connection)
        return True

    async def wait_open(self) -> None:
        """Return when it is open."""
        while self.stage is not Stage.OPEN:
            waiter = self._host.loop.create_future()
            self._waiters.append(waiter)
            await waiter

    # closing

    def _move(self, event: Event) -> None:
        self.stage = TRANSITIONS[self.stage, event]

    def _look(self, entry: Entry) -> None:
        if not self._rests(entry) and isinstance(present(entry), Connection):
            self._busy.append(entry)

    def _sessions_rest(self) -> bool:
        """None goes on while the gate is there, so those that rest need no second look."""
        self._busy = [entry for entry in self._busy if not self._rests(entry)]
        for entry in self._busy:
            present(entry).end_if_gone()
        return not self._busy and not self._inside()

    def _inside(self) -> list[Entry]:
        rows = [row for row in self._ending if row in self._host.table]
        return [row for row in rows if not present(row).at_rest()]

    def _all_rest(self) -> bool:
        """Whether no call is inside of any service, all of them looked at in this moment."""
        host = self._host
        rows = (*host.services.values(), *host.factories.values())
        self._busy = [entry for entry in rows if not self._rests(entry)]
        return not self._busy and not host.tasks and not getattr(host.mesh, "answering", 0)

    def _rests(self, entry: Entry) -> bool:
        """Whether nothing is inside of an object that could call what changes."""
        return (self._callers is not None and entry.kind not in self._callers) or _rests(entry)

    async def _until(
        self,
        rest: Callable[[], bool],
        deadline: int,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> bool:
        while not rest():
            if self._given_up is not None or self._host.clock.monotonic_ns() >= deadline:
                return False
            await pause(LOOK_S)
        return self._given_up is None

    def _take(self, entry: Entry) -> None:
        target = present(entry)
        if isinstance(target, Connection):
            held = Held(self, target.transport, entry, target.tls is not None)
            self._held[entry] = held
            target.point_to(held)

    def _blockers(self) -> list[Blocker]:
        """What is suspended, by file and line."""
        slot = self._host.slot
        rows = (*self._busy, *self._inside())
        found = [blocker for entry in rows for blocker in present(entry).blockers()]
        for task in self._host.tasks:
            where = suspended_at(task.get_coro()) or "its end"
            found.append(Blocker("a callback", f"of worker {slot}", where, self.closed_ns / 1e9))
        return found

    def _late(self) -> Refusal:
        """What did not come to rest in time, and how to do without that."""
        advice = "netswap blockers shows what is suspended; push again with a longer --timeout, or "
        advice += "with --rolling, which holds nothing and lets two versions serve for a moment"
        return msgspec.structs.replace(blocked(self._blockers()), advice=advice)

    async def _in_slices(self, entries: Iterable[Entry], do: Callable[[Entry], None]) -> None:
        now = self._host.clock.monotonic_ns
        until = now() + SLICE_NS
        for entry in entries:
            do(entry)
            if now() >= until:
                await asyncio.sleep(0)
                until = now() + SLICE_NS

    # opening

    def _emptied(self) -> bool:
        """Play a slice of what is held; whether nothing is left in this moment."""
        now = self._host.clock.monotonic_ns
        until = now() + SLICE_NS
        while self._queue or self._held:
            if self._queue:
                self._play(self._queue.popleft())
            else:
                self._held.popitem()[1].leave()
            if now() >= until:
                break
        return not self._queue and not self._held

    def _play(self, played: Played) -> None:
        self._playing = True
        try:
            played.call(*played.args)
        except Exception as error:
            loop, what = self._host.loop, "a held call failed"
            self._host.on_loop_exception(loop, {"message": what, "exception": error})
        finally:
            self._playing = False
        if played.of is not None:
            self._played(played.of)

    def _played(self, held: Held) -> None:
        held.pending -= 1
        if held.pending and held.entry is not None:
            self._held[held.entry] = held  # a new connection has its row only now
        elif not held.pending:
            self._forget(held)

    def _forget(self, held: Held) -> None:
        if held.entry is not None:
            self._held.pop(held.entry, None)
        held.leave()

    def _call(self, entry: Entry, before: Any, method: str, args: tuple[Any, ...]) -> None:
        target = present(entry)
        if target is before or hasattr(target, method):
            self._host.guarded(entry, method, *args)

    def _open_alone(self) -> None:
        advice = "netswap history tells how the transaction ended"
        self._host.log.error("gate_opened_alone", after_s=self._patience, advice=advice)
        self._host.spawn(self.open())

    def _release(self) -> None:
        """The gate is gone: whoever waits for it goes on, in the order in which they came."""
        self._ended_ns = self._host.clock.monotonic_ns()
        if self._alarm is not None:
            self._alarm.cancel()
        if self._host.gate is self:
            self._host.gate = None
        for entry in self._ending:
            if entry in self._host.table:
                present(entry).carry_on()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def _nothing() -> None:
    """The gate looks by itself."""


def _rests(entry: Entry) -> bool:
    """Whether nothing is suspended inside of an object, and nothing waits to get in."""
    target = present(entry)
    if target is None or not target.may_suspend:
        return True
    return bool(target.at_rest()) and mediator_of(entry) is None
