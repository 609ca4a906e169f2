"""Connections: objects with callbacks, one for each accepted socket.

The transport is a client of the connection like any other and holds the implementation itself
(its bound ``data_received`` is the author's ``on_data``), so the data path has no forwarder; a
swap points the transport to the successor with ``set_protocol()``. What the transport told the
old object and will not tell the new one moves along: that writing is paused, that the peer has
sent its end; and so does what was asked of it, that reading is paused.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast

from netswap.errors import ProtocolError
from netswap.mediator import present
from netswap.stack.answering import answering, may_refuse
from netswap.stack.handover import hand_over
from netswap.stack.implementation import Implementation
from netswap.stack.part import Part
from netswap.stack.peer import address_of, end_at_once, host_of, outstanding
from netswap.stack.timer import Timers
from netswap.transfer import State

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from netswap.ott import Entry
    from netswap.stack.host import Host

__all__ = ["Connection"]

S = TypeVar("S", bound=State)


class Connection(Implementation[S], Generic[S]):
    """Base of callback handlers: ``class Chat(Connection[Talk])`` with ``on_data(data)``.

    Callbacks, all plain functions: on_connect, on_data, on_eof, on_close, on_pause_writing,
    on_resume_writing, on_drain. An exception out of one closes this connection and no other.
    """

    __slots__ = (
        "_timers",
        "half_closed",
        "listener",
        "peername",
        "reading_paused",
        "transport",
        "write",
        "writing_paused",
    )

    scope: ClassVar[str] = "connection"

    half_closed: bool
    """Whether the peer has sent its end."""
    listener: str
    peername: Any
    reading_paused: bool
    transport: asyncio.Transport
    write: Callable[[bytes | bytearray | memoryview], None]
    writing_paused: bool
    _timers: Timers | None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.uses or may_refuse(cls.on_data):  # a mixin's too
            cls.answer_refusals()
        else:
            cls.data_received = cls.on_data  # no forwarder

    # what an author overrides

    def on_connect(self) -> None:
        """The connection is open and can be written to."""

    def on_data(self, data: bytes) -> None:
        """Some bytes of the stream, cut anywhere."""
        raise ProtocolError(f"{type(self).__name__} has no on_data")

    def on_eof(self) -> bool | None:
        """The peer sends no more. True keeps our side open; else it closes after the flush.

        TLS has no half-closed connections here: what is written by the end of this is sent.
        """
        return None

    def on_close(self, error: Exception | None) -> None:
        """The connection is gone, by ``error`` or in order."""

    def on_pause_writing(self) -> None:
        """The peer does not read: what is written now is buffered without limit."""

    def on_resume_writing(self) -> None:
        """The peer reads again."""

    def on_handover(self) -> bytes:
        """Another object takes over: what has come and belongs to it."""
        return b""

    def on_drain(self) -> None:
        """The server is about to stop; ``close()`` flushes what was written."""
        self.close()

    # what an author uses

    @property
    def peer(self) -> str:
        """The peer's address: ``127.0.0.1:5000``, ``[::1]:5000``, or ``unix:UID:PID``."""
        return address_of(self.peername)

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS session: version, cipher, ALPN, the client's certificate.

        None for plain, and when it is closing: asyncio's transport may have let go of it.
        """
        if self.transport.is_closing():
            return None
        found: ssl.SSLObject | None = self.transport.get_extra_info("ssl_object")
        return found

    @property
    def timers(self) -> Timers:
        """This connection's timers: ``self.timers.arm("idle", 60)`` calls ``self.idle()``."""
        timers = self._timers
        if timers is None:
            timers = self._timers = Timers(self.entry, self.host.service("timer.service"))
        return timers

    def close(self) -> None:
        """Close in order, after what was written has been sent."""
        output = self._output()
        if output is not None:
            output.target.flush()
        if self.host.resuming is self.entry:
            self.host.call_soon(self.entry, "close")
        elif not self.transport.is_closing():  # asyncio's of TLS is broken by a second one
            self.transport.close()

    def abort(self, reset: bool = False) -> None:
        """Close at once; unsent output is lost. ``reset``: that nobody takes it for the end."""
        if self.host.resuming is self.entry:
            self.host.call_soon(self.entry, "abort", reset)
        else:
            end_at_once(self.transport, reset)

    def outstanding(self) -> int | None:
        """Bytes that the peer has taken, while others wait for it; None if none do."""
        return outstanding(self.transport)

    def become(self, kind: str, **fields: Any) -> None:
        """Soon, make this connection that of a new object of ``kind``, with a state of ``fields``.

        This object ends then, after ``on_handover``; the client notices nothing.
        """
        self.host.later(hand_over, self.host, self.entry, kind, fields)

    def pause_reading(self) -> None:
        """Take no more bytes from the peer until ``resume_reading()``."""
        self.reading_paused = True
        if not self.half_closed and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Take bytes from the peer again."""
        self.reading_paused = False
        if not self.half_closed and not self.transport.is_closing():
            self.transport.resume_reading()

    # what the transport calls

    data_received = on_data

    @classmethod
    def answer_refusals(cls) -> None:
        """A ProtocolError out of ``on_data`` is answered while the socket is still there."""
        cls.data_received = answering(cls.on_data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is accepted: from here on the connection is a live object.

        Both loops call this a turn after ``accepted``; a swap may have come in between.
        """
        gate = self.host.gate
        if gate is not None and gate.takes(self, transport):
            return
        if self.host.canary is None:
            self.begin_as_present(transport)
        else:
            self.host.canary.admit(self, transport)

    def begin_as_present(self, transport: asyncio.BaseTransport) -> None:
        """Begin, as an object of whatever is present by now."""
        present: Any = self.host.maker(self.kind) or type(self)
        if present is type(self):
            self.begin_on(cast("asyncio.Transport", transport))
        else:
            follower = present.accepted(self.host, self.listener, self.peername)
            cast("asyncio.Transport", transport).set_protocol(follower)
            follower.begin_on(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is closed: the last call of the transport."""
        if isinstance(error, OSError):
            self.host.lost(self, error)
        self.host.guarded(self.entry, "on_close", error)
        present(self.entry).bury()

    def eof_received(self) -> bool | None:
        """The peer has sent its end."""
        self.half_closed = True
        try:
            stays = self.on_eof()
        except ProtocolError as error:
            self.host.failed(self, error, "on_eof")
            return None
        output = self._output()
        stays = stays and not self.transport.is_closing() and self.tls is None
        if not stays and output is not None:  # the transport closes as soon as this returns
            output.target.flush()
        return stays

    def pause_writing(self) -> None:
        """The transport's write buffer is over its high-water mark."""
        self.writing_paused = True
        self.host.guarded(self.entry, "on_pause_writing")

    def resume_writing(self) -> None:
        """The transport's write buffer is below its low-water mark.

        asyncio's own transport ends twice when it is closed in here, so closing waits a turn.
        """
        self.writing_paused = False
        self.host.resuming = self.entry
        self.host.guarded(self.entry, "on_resume_writing")
        self.host.resuming = None

    # what the stack and a swap call

    @classmethod
    def accepted(cls, host: Host, listener: str, peername: Any = None) -> Connection[Any]:
        """What a listener's transport is given; ``connection_made`` brings it to life.

        ``peername`` is who it is, where the transport does not know that.
        """
        new = cls.__new__(cls)
        new.host = host
        new.listener = listener
        new.peername = peername
        return new

    def begin_on(self, transport: asyncio.Transport) -> bool:
        """Enter the table and serve ``transport``, if the factory admits it; says whether."""
        self._open(transport)
        refused = self.host.guarded(self.host.factories[self.listener], "admit", self.peer)
        if refused is not None:
            self.host.log.info("connection_not_admitted", peer=self.peer, reason=refused)
            transport.set_protocol(asyncio.Protocol())
            transport.abort()
            return False
        self._enter()
        self.host.guarded(self.entry, "on_connect")
        if self.reading_paused:  # uvloop starts reading after connection_made, whatever it said
            self.host.call_soon(self.entry, "pause_again")
        return True

    @classmethod
    def unconnected(cls, host: Host, transport: Any) -> Connection[Any]:
        """A live object that no client has made, for a trial; nothing of it is called."""
        new = cls.accepted(host, "")
        new._open(transport)
        new._enter()
        return new

    def pause_again(self) -> None:
        """Reading was paused before it began."""
        if self.reading_paused:
            self.pause_reading()

    def take_up(self, data: bytes) -> None:
        """The predecessor, a session or of another kind, had ``data`` and has not used it.

        It dealt with flow control and the end of the stream in its own way: tell of them again.
        """
        self.resume_reading()
        if data:
            self.data_received(data)
        if self.writing_paused:
            self.on_pause_writing()
        if self.half_closed and not self.transport.is_closing() and not self.eof_received():
            self.close()

    def retire(self, follower: Connection[Any]) -> None:
        """Another object has taken over: stop what still runs."""

    def bury(self) -> None:
        """The end of the object and of its connection."""
        self.host.guarded(self.host.factories[self.listener], "released", self.peer)
        self.leave_table()

    def leave_table(self) -> None:
        """The end of the object: its timers, its parts and its row."""
        if self._timers is not None:
            self._timers.cancel_all()
        table = self.host.table
        for entry in self._part_entries().values():
            table.remove(entry)
        table.remove(self.entry)

    @classmethod
    def following(cls, old: Any, state: State) -> Self:
        """A new object, of another kind than ``old``, for the same transport."""
        table = old.host.table
        entry = table.create(cls.kind)
        try:
            return cls.successor(old, state, entry)
        except BaseException:
            table.remove(entry)
            raise

    def begin_after(self, kept: bytes) -> None:
        """Enter the table and have the transport; ``kept`` is what the object before was left."""
        self.entry.target = self
        self.point_here()
        for entry in (*self._part_entries().values(), self.entry):
            self.host.entered(entry)
        self.host.guarded(self.entry, "on_connect")
        self.host.guarded(self.entry, "take_up", kept)

    @classmethod
    def successor(cls, old: Any, state: State, entry: Entry | None = None) -> Self:
        """The object that is to follow ``old``; what the transport told the old one moves along.

        With an ``entry`` of its own it begins with timers and parts of its own, too.
        """
        new: Any = cls.__new__(cls)
        new.host = old.host
        new.state = state
        new.listener = old.listener
        new.peername = old.peername
        new.transport = old.transport
        new.half_closed = old.half_closed
        new.reading_paused = old.reading_paused
        new.writing_paused = old.writing_paused
        if entry is not None:
            new.entry = entry
            new._bind()
            new._wire()
            return new  # type: ignore[no-any-return]  # typed Any so that this path has no casts
        new.entry = old.entry
        new._timers = old._timers
        if cls.uses:
            new._bind_after(old)
        else:
            new.write = old.transport.write
        return new  # type: ignore[no-any-return]  # the same

    def take_over(self, old: Any) -> None:
        """Point the transport and the output here; parts that are not used any more go."""
        self.point_here()
        if old.may_suspend:
            old.retire(self)
        if not self.uses and not old.uses:
            return
        self._wire()
        kept, had = self._part_entries(), old._part_entries()
        for name, entry in had.items():
            if kept.get(name) is not entry:
                self.host.table.remove(entry)
        for name, entry in kept.items():
            if had.get(name) is not entry:
                self.host.entered(entry)

    def point_here(self) -> None:
        """The transport is a client that holds the object, or what stands in front of it.

        While a gate has the transport in its hands, it does this when it opens.
        """
        gate = self.host.gate
        if gate is None or not gate.keeps(self.entry):
            self.point_to(self.entry.target)

    def point_to(self, protocol: asyncio.BaseProtocol) -> None:
        """Let the transport call ``protocol``. Can't fail.

        asyncio's of TLS has let go of its session when it was closed twice. All that it will call
        is ``connection_lost`` of the object that it had, which goes by way of the entry.
        """
        try:
            self.transport.set_protocol(protocol)
        except AttributeError:
            if not self.transport.is_closing():
                raise

    def undo_building(self) -> None:
        """Remove the parts that were made for this successor and its predecessor had not."""
        had = present(self.entry)._part_entries()
        for name, entry in self._part_entries().items():
            if had.get(name) is not entry:
                self.host.table.remove(entry)

    def close_after(self, error: BaseException) -> None:
        """A callback raised: send what the protocol says about it, then close."""
        if self.transport.is_closing():
            return
        if isinstance(error, ProtocolError):
            if error.reply:
                self.write(error.reply)
            self.close()
        else:
            self.abort()

    def attributes(self) -> dict[str, str | int]:
        """peer (the host alone), address (with the port), listener; tls (the version) if it is."""
        found: dict[str, str | int] = {
            "peer": host_of(self.peername),
            "address": self.peer,
            "listener": self.listener,
        }
        tls = self.tls
        return found if tls is None else found | {"tls": tls.version() or ""}

    def _open(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        if self.peername is None:
            self.peername = transport.get_extra_info("peername")
        self.half_closed = self.reading_paused = self.writing_paused = False

    def _enter(self) -> None:
        self.entry = self.host.table.create(self.kind)
        self.state = cast("Any", self.state_type())
        self._bind()
        self._wire()
        self.entry.target = self
        for entry in (*self._part_entries().values(), self.entry):
            self.host.entered(entry)

    def _bind(self) -> None:
        self._timers = None
        for name, kind in self.uses.items():
            setattr(self, f"_use_{name}", self._used(name, kind, None))

    def _bind_after(self, old: Implementation[Any]) -> None:
        had = cast("Connection[Any]", old)._part_entries()
        try:
            for name, kind in self.uses.items():
                setattr(self, f"_use_{name}", self._used(name, kind, had.get(name)))
            self._wire()
        except BaseException:
            self.undo_building()
            raise

    def _used(self, name: str, kind: str, had: Entry | None) -> Entry:
        """The handle of a used object: the part that it had, a new part, or the service."""
        if had is not None and had.kind == kind:
            return had
        if not self.host.is_part(kind):
            return self.host.service(kind)
        entry = self.host.table.create(kind)
        part = cast("type[Part[Any]]", self.host.maker(kind))
        try:
            entry.target = part.born_for(self.host, entry, self.entry)
        except BaseException:
            self.host.table.remove(entry)
            raise
        return entry

    def _part_entries(self) -> dict[str, Entry]:
        rows = ((name, getattr(self, f"_use_{name}", None)) for name in self.uses)
        return {name: row for name, row in rows if row is not None and _is_part(row)}

    def _output(self) -> Entry | None:
        return getattr(self, "_use_output", None)

    def _wire(self) -> None:
        """``write`` is the transport's, or that of the send buffer that the class uses."""
        output = self._output()
        self.write = self.transport.write if output is None else output.target.write


def _is_part(entry: Entry) -> bool:
    return isinstance(present(entry), Part)
