"""What one connection's transport calls instead of its object, while a gate is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol, cast

from netswap.mediator import present
from netswap.stack import Connection
from netswap.stack.hands import rewire

if TYPE_CHECKING:
    from netswap.ott import Entry

__all__ = ["Held"]

HIGH_WATER = 64 * 1024
"""So many bytes of one client are kept; then it is not read any more."""
_NOT_AFTER_CLOSE = frozenset({"data_received", "eof_received"})
"""What a transport does not call any more once the object has closed it."""


class Keeper(Protocol):
    """Who keeps the calls until they are played."""

    def keep(self, held: Held, call: Callable[..., object], *args: Any) -> None:
        """Make a transport's call when the gate opens."""


class Dead:
    """A transport that was lost while the gate was closed: what is written goes nowhere.

    asyncio's own is like that; uvloop's raises, as nothing is called after the loss.
    """

    def __init__(self, real: asyncio.Transport) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """There is nobody."""

    def writelines(self, rows: Iterable[bytes]) -> None:
        """There is nobody."""

    def write_eof(self) -> None:
        """There is nobody."""


class Held(asyncio.Protocol):
    """What one connection's transport calls instead of its object; None before it has begun."""

    def __init__(
        self, gate: Keeper, transport: asyncio.Transport, entry: Entry | None, tls: bool
    ) -> None:
        self.entry = entry
        self.transport = transport
        self.pending = 0
        self._gate = gate
        self._kept = 0
        self._paused = False
        self._tls = tls
        self._ended = False
        self._lost = False

    # what the transport calls

    def data_received(self, data: bytes) -> None:
        """Keep it; more than ``HIGH_WATER`` waits in the kernel."""
        self._keep("data_received", data)
        self._kept += len(data)
        if self._kept > HIGH_WATER and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """Keep it, and the connection open. asyncio tells it again when reading is resumed.

        TLS ends in both directions, whatever is said: what came before is played to the object,
        as to one whose transport is lost.
        """
        if not self._ended:
            self._ended = True
            self._keep("eof_received")
        return not self._tls

    def pause_writing(self) -> None:
        """Keep it."""
        self._keep("pause_writing")

    def resume_writing(self) -> None:
        """Keep it."""
        self._keep("resume_writing")

    def connection_lost(self, error: Exception | None) -> None:
        """Keep it: the object lives until then, and gets what came before."""
        self._lost = True
        self._keep("connection_lost", error)

    def _keep(self, name: str, *args: Any) -> None:
        self._gate.keep(self, self._play, name, *args)

    # when the gate opens

    def begin(self, connection: Connection[Any]) -> None:
        """Bring a new connection to life, unless it is lost by now."""
        if self._lost:
            return
        self.transport.set_protocol(cast("asyncio.BaseProtocol", connection))
        connection.connection_made(self.transport)
        # what it has become, an object that followed or nothing at all, is what is there now
        self.entry = getattr(self.transport.get_protocol(), "entry", None)
        if self.pending:
            self.transport.set_protocol(self)

    def _play(self, name: str, *args: Any) -> None:
        entry = self.entry
        if (
            entry is None
            or entry.target is None
            or (name in _NOT_AFTER_CLOSE and self.transport.is_closing() and not self._gone)
        ):
            return
        target = present(entry)
        if self._gone and not isinstance(target.transport, Dead):
            target.transport = Dead(self.transport)
            rewire(target)
        try:
            answer = getattr(entry.target, name)(*args)
        except (Exception, SystemExit) as error:
            target.host.failed(target, error, "callback of the transport")
        else:
            if name == "eof_received" and not answer and not self.transport.is_closing():
                self.transport.close()

    @property
    def _gone(self) -> bool:
        """Whether what is written goes nowhere."""
        return self._lost or (self._tls and self._ended)

    def leave(self) -> None:
        """Point the transport to the object again and read as that wants it."""
        target = None if self.entry is None else present(self.entry)
        if target is None:
            return
        target.point_here()
        if self.transport.is_closing():
            return
        if self._ended:
            self.transport.pause_reading()  # whoever resumed it would be told of the end again
        elif self._paused and not target.reading_paused:
            self.transport.resume_reading()
