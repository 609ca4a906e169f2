"""The host of a worker's objects: loop, clock, table, and what is present of each kind.

It belongs to the worker, is never swapped, and is the one way from an object to the outside.
Nothing here holds an implementation: ``present`` maps a kind to the class that makes new objects,
everything else goes through entries.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from netswap.blame import accuse, blame, describe
from netswap.clock import Clock, SystemClock
from netswap.errors import ProtocolError
from netswap.ott import Entry, ObjectTranslationTable

if TYPE_CHECKING:
    from netswap.stack.connection import Connection
    from netswap.stack.implementation import Implementation

__all__ = ["FACTORY", "Admission", "Gate", "Host", "Mesh", "Reply", "Started"]

FACTORY = "connection.factory"


class Mesh(Protocol):
    """What a clustered service asks of the links between workers."""

    def cast(self, slot: int, kind: str, method: str, args: tuple[Any, ...]) -> None:
        """Call ``method`` of the kind's part in another worker; no answer."""

    def request(self, slot: int, call: tuple[str, str, tuple[Any, ...]], reply: Reply) -> None:
        """Call (kind, method, args) in another worker; the answer goes to ``reply``."""


class Admission(Protocol):
    """Who decides which new connections get the code that is on probation."""

    def admit(self, connection: Connection[Any], transport: asyncio.BaseTransport) -> None:
        """Call the connection's ``begin_as_present``, perhaps with other ``Host.favoured``."""


class Gate(Protocol):
    """What stands between a worker's objects and the world while all workers convert theirs."""

    @property
    def closed(self) -> bool:
        """Whether calls that come now are held."""

    @property
    def settling(self) -> bool:
        """Whether what other workers ask, and what follows from it, is still done."""

    @property
    def bars(self) -> bool:
        """Whether no call into a service may begin."""

    def admit(self, call: Callable[..., object], *args: Any) -> None:
        """Make a call while it is settling."""

    def hold(self, call: Callable[..., object], *args: Any) -> None:
        """Make a call of the stack's own when the gate opens."""

    def hold_call(self, entry: Entry, method: str, args: tuple[Any, ...]) -> None:
        """Make the call ``Host.guarded(entry, method, *args)`` when the gate opens."""

    def hold_first(self, entry: Entry, method: str, *args: Any) -> None:
        """The same, before anything else that is held."""

    def keeps(self, entry: Entry) -> bool:
        """Whether a connection's transport is in the gate's hands."""

    def takes(self, connection: Connection[Any], transport: asyncio.BaseTransport) -> bool:
        """Whether a new connection begins later, when the gate opens."""

    async def wait_open(self) -> None:
        """Return when it is open."""

    def abandon(self) -> None:
        """The worker ends."""


class Started(Protocol):
    """What a service's ``on_prepare`` has started for one load of its code in this worker."""

    @property
    def open(self) -> int:
        """How many calls are still inside; it is not stopped before the last of them has ended."""

    async def stop(self) -> None:
        """Stop it, once; a failure is logged, and it counts as stopped all the same."""


class Reply:
    """Where an answer goes: an entry and a method name, so that it survives a swap."""

    __slots__ = ("entry", "method", "token")

    def __init__(self, entry: Entry, method: str, token: int) -> None:
        self.entry = entry
        self.method = method
        self.token = token


class Host:
    """Everything that the objects of one worker share; ``slots`` are all workers' numbers.

    ``settings`` is what the operator has said to services, by the name of the setting.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Any, slot: int = 0) -> None:
        self.loop = loop
        self.log = log
        self.slot = slot
        self.slots: tuple[int, ...] = (slot,)
        self.clock: Clock = SystemClock()
        self.table = ObjectTranslationTable()
        self.present: dict[str, type[Implementation[Any]]] = {}
        self.services: dict[str, Entry] = {}
        self.factories: dict[str, Entry] = {}
        self.mesh: Mesh | None = None
        self.canary: Admission | None = None
        self.gate: Gate | None = None
        self.favoured: Mapping[str, type[Implementation[Any]]] = {}
        self.births: list[Callable[[Entry], None]] = []
        self.failures: list[Callable[[Any, BaseException], None]] = []
        self.second_chance: Callable[[Any, BaseException], bool] | None = None
        """Of a watch with guards: a coroutine of a service has failed by such an error and has said
        nothing. Whether the version before is present from here on, and can be asked."""
        self.started: dict[type, Started] = {}
        self.settings: Mapping[str, Any] = {}
        self.access: Any = None
        """The log of what was asked for, if there is one."""
        self.faults = 0
        self.hides_tasks = False
        self.resuming: Entry | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.longest_hold_ns = 0

    def entered(self, entry: Entry) -> None:
        """An object has entered the table: tell those who interpose on all of its kind."""
        for tell in self.births:
            tell(entry)

    def service(self, kind: str) -> Entry:
        """The handle of the worker's one object of a kind; the object itself may come later."""
        entry = self.services.get(kind)
        if entry is None:
            entry = self.services[kind] = self.table.create(kind)
        return entry

    def is_part(self, kind: str) -> bool:
        """Whether objects of this kind belong to one connection each."""
        present = self.present.get(kind)
        return present is not None and present.scope == "connection"

    def maker(self, kind: str) -> type[Implementation[Any]] | None:
        """What makes a new object of a connection: what is present, or what goes first."""
        return self.favoured.get(kind) or self.present.get(kind)

    def install(self, cls: type[Implementation[Any]]) -> None:
        """Make ``cls`` what new objects of its kind are; a service's object is made now."""
        if cls.kind == FACTORY:
            for listener in self.factories:
                self._fill(self.factories[listener], cls)
        elif cls.scope == "worker":
            self._fill(self.service(cls.kind), cls)
        self.present[cls.kind] = cls

    def uninstall(self, kind: str) -> None:
        """Undo ``install`` of a kind that was new; its service's handle stays, with no target."""
        cls = self.present.pop(kind)
        if cls.scope == "worker" and kind in self.services:
            entry = self.services[kind]
            self._call(entry, "on_stop")
            entry.target = None

    def add_listener(self, listener: str) -> None:
        """A listener gets its factory's entry; what it makes is looked up at each connection."""
        entry = self.factories[listener] = self.table.create(FACTORY)
        cls = self.present.get(FACTORY)
        if cls is not None:
            self._fill(entry, cls)

    def _fill(self, entry: Entry, cls: type[Implementation[Any]]) -> None:
        if entry.target is None:
            new = cls.born(self, entry)
            new.on_start()  # type: ignore[attr-defined]  # a factory is a service
            entry.target = new
            self.entered(entry)

    def answer(self, kind: str, method: str, args: Iterable[Any]) -> tuple[Any, str | None]:
        """Call a service's method for another worker: its value, or what went wrong."""
        entry = self.services.get(kind)
        if entry is None or entry.target is None or method.startswith("_"):
            return None, f"worker {self.slot} has no {kind} with a method {method}"
        try:
            return getattr(entry.target, method)(*args), None
        except Exception as error:
            self.failed(entry.target, error, method)
            return None, describe(error)

    def call_soon(self, entry: Entry, method: str, *args: Any) -> asyncio.Handle:
        """Call ``method`` of whatever ``entry`` points to in the next turn of the loop.

        Cancel the handle when a successor may not know the method.
        """
        return self.loop.call_soon(self._soon, entry, method, *args)

    def act(self, call: Callable[..., Any], *args: Any) -> None:
        """Do something outside the object: at once, or when a guarded call is known to be good."""
        call(*args)

    def later(self, call: Callable[..., Any], *args: Any) -> None:
        """Call a function of the stack's own in the next turn of the loop."""
        self.loop.call_soon(self._pass, call, *args)

    def _soon(self, entry: Entry, method: str, *args: Any) -> None:
        if self.gate is not None and self.gate.settling:
            self.gate.admit(self._call, entry, method, *args)
        else:
            self.guarded(entry, method, *args)

    def _pass(self, call: Callable[..., Any], *args: Any) -> None:
        if self.gate is not None and self.gate.settling:
            self.gate.admit(call, *args)
        elif self.gate is not None and self.gate.closed:
            self.gate.hold(call, *args)
        else:
            call(*args)

    def guarded(self, entry: Entry, method: str, *args: Any) -> Any:
        """Call a method of a live object from the loop; a failure is that object's, not ours."""
        if self.gate is not None and self.gate.closed:
            self.gate.hold_call(entry, method, args)
            return None
        return self._call(entry, method, *args)

    def _call(self, entry: Entry, method: str, *args: Any) -> Any:
        target = entry.target
        if target is None or entry not in self.table:
            return None
        call = getattr(target, method, None)
        if call is None:
            self._unknown(target, method)
            return None
        try:
            value = call(*args)
        except (Exception, SystemExit) as error:
            self.failed(target, error, method)
            return None
        if not asyncio.iscoroutine(value):
            return value
        self.spawn(self._awaited(target, method, value))
        return None

    def _unknown(self, target: Any, method: str) -> None:
        """The version that armed a timer or asked knew a method that the present one has not."""
        self.faults += 1
        self.log.error(
            "callback_missing",
            kind=target.kind,
            version=target.version,
            entry=f"{self.slot}.{target.entry.identity}",
            doing=method,
            advice="keep the methods that timers and requests of the version before name",
        )

    @property
    def tasks(self) -> frozenset[asyncio.Task[None]]:
        """Coroutines that were called from the loop and have not ended."""
        return frozenset(self._tasks)

    def own_task(self, work: Coroutine[Any, Any, None], **how: Any) -> asyncio.Task[None]:
        """A task of netswap's own, which ``asyncio.all_tasks()`` does not find in a worker.

        An application's clean-up may cancel all that this finds: it ended the worker by that.
        """
        task = self.loop.create_task(work, **how)
        if self.hides_tasks:
            asyncio.tasks._unregister_task(task)
        return task

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine as a task of the host; it answers for its own failures."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _awaited(self, target: Any, method: str, call: Coroutine[Any, Any, Any]) -> None:
        try:
            await call
        except Exception as error:
            self.failed(target, error, method)

    def failed(self, target: Any, error: BaseException, doing: str) -> None:
        """An author's callback raised: say where, and close the connection that it served.

        ProtocolError is the peer's fault: its reply is written and the connection flushed.
        """
        expected = isinstance(error, ProtocolError)
        if blame(error) == (None, None):
            accuse(error, type(target))
        file, line = blame(error)
        say = self.log.info if expected else self.log.error
        say(
            "connection_refused" if expected else "callback_failed",
            kind=target.kind,
            version=target.version,
            entry=f"{self.slot}.{target.entry.identity}",
            doing=doing,
            error=describe(error),
            at=f"{file}:{line}" if file else None,
        )
        if not expected:
            self.faults += 1
            for tell in self.failures:
                tell(target, error)
        close: Callable[[BaseException], None] | None = getattr(target, "close_after", None)
        if close is not None:
            close(error)

    def lost(self, target: Any, error: OSError) -> None:
        """A transport ended by an OSError: its socket's, or one that a callback has raised.

        Loops say nothing of either: for them it is always the socket's.
        """
        if _called(self, error) is not None:
            self.failed(target, error, "callback of the transport")

    def on_loop_exception(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The loop's exception handler: transports report a handler's failure here."""
        error = context.get("exception")
        called = _called(context.get("protocol"), error)
        if isinstance(error, BaseException) and called is not None:
            self.failed(called, error, "callback of the transport")
            return
        self.faults += 1
        self.log.error(
            "loop_exception",
            message=context.get("message"),
            error=describe(error) if error is not None else None,
        )


def _called(protocol: Any, error: BaseException | None) -> Any:
    """Whom a transport called when ``error`` was raised.

    One of TLS names its own protocol: the object is the first that a frame of ``error`` is of.
    """
    if protocol is None or error is None or getattr(protocol, "entry", None) is not None:
        return protocol
    for frame, _ in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        first = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        if getattr(first, "entry", None) is not None and hasattr(first, "close_after"):
            return first
    return None
