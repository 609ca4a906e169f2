"""A client of the kit: one end of a pair of sockets, whose other end is served.

A client that stops reading has its kernel buffer filled up with bytes that it drops later, so
that the next byte that is written to it stays in the transport and pauses the writing.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import Any, Final

from netswap.mediator import present
from netswap.ott import Entry
from netswap.stack import Connection
from netswap.testing.transcript import Do

__all__ = ["CHUNK", "Client"]

CHUNK: Final = 1 << 20


class Client:
    """One end of a pair; ``heard`` is what it has read, ``ended`` how its connection ended."""

    most_unsent = 0
    """Bytes that may stay in the transport of a client that does not read, without a pause."""

    def __init__(self, name: str, slot: int) -> None:
        self.name = name
        self.slot = slot
        self.heard = bytearray()
        self.ended: str | None = None
        self.stopped = False
        self.said = False
        """Whether it has sent anything of its own."""
        self._sock, self.theirs = socket.socketpair()
        self._sock.setblocking(False)
        self.theirs.setblocking(False)
        self._unsent = bytearray()
        self._finishes = False
        self._filler = 0
        self.transport: Any = None

    @property
    def connection(self) -> Connection[Any] | None:
        """What serves this client now; None before it was admitted and after the end."""
        protocol = self.transport.get_protocol() if self.transport is not None else None
        entry: Entry | None = getattr(protocol, "entry", None)
        return present(entry) if entry is not None else None

    def send(self, data: bytes) -> None:
        """As much as the kernel takes now, the rest when it takes more."""
        self.said = True
        self._unsent += data
        self.move()

    def move(self) -> bool:
        """Send and read what can be; says whether anything was."""
        sent = self._push() if self._unsent else False
        if self._finishes and not self._unsent:
            self._finishes = False
            self._finish()
            return True
        return self._pull() or sent

    def _push(self) -> bool:
        sent = self._try(lambda: self._sock.send(self._unsent))
        if isinstance(sent, OSError):
            self._unsent.clear()  # nobody reads it any more, which the client learns by reading
            return False
        del self._unsent[: sent or 0]
        return bool(sent)

    def _pull(self) -> bool:
        came = False
        while not (self.stopped or self.ended):
            data = self._try(lambda: self._sock.recv(CHUNK))
            if data is None:
                break
            came = True
            if not data or isinstance(data, OSError):
                self.ended = self._cut_off(data)
            else:
                dropped = min(self._filler, len(data))
                self._filler -= dropped
                self._take(data[dropped:])
        return came

    def _take(self, data: bytes) -> None:
        self.heard += data

    def _cut_off(self, data: Any) -> str:
        """How the connection has ended, by the error or by nothing."""
        return "reset" if data else "closed"

    def _finish(self) -> None:
        self._try(lambda: self._sock.shutdown(socket.SHUT_WR))

    def _try(self, call: Any) -> Any:
        """What a call on the socket gives: None when it would block, the error of a dead one."""
        try:
            return call()
        except BlockingIOError:
            return None
        except OSError as error:
            return error

    def do(self, what: Do) -> None:
        """END, CLOSE, STOP_READING or READ_AGAIN."""
        {
            Do.END: self._end,
            Do.CLOSE: self.close,
            Do.STOP_READING: self._stop,
            Do.READ_AGAIN: self._read_again,
        }[what]()

    def _end(self) -> None:
        self._finishes = True
        self.move()

    def _stop(self) -> None:
        """The kernel takes no more for this client, and the transport says so at once."""
        self._pull()  # what lies in the kernel is in front of what fills it
        self.stopped = True
        if self.transport is None or self.transport.is_closing():
            return
        self.transport.set_write_buffer_limits(self.most_unsent)
        self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        size = 4096
        while size:
            sent = self._try(lambda: self.theirs.send(bytes(size)))  # noqa: B023 - called here
            if isinstance(sent, int):
                self._filler += sent
            else:
                size //= 2

    def _read_again(self) -> None:
        self.stopped = False

    def close(self) -> None:
        """Go away, with whatever was not read."""
        self.ended = self.ended or "left"
        self._sock.close()

    @property
    def unread(self) -> bool:
        """Whether bytes lie before a connection that reads."""
        transport = self.transport
        if transport is None or transport.is_closing() or not transport.is_reading():
            return False
        return bool(_waiting(self.theirs))


def _waiting(sock: socket.socket) -> int:
    if sock.fileno() < 0:
        return 0
    packed = fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0\0\0\0")
    waiting: int = struct.unpack("i", packed)[0]
    return waiting
