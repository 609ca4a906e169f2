"""What a peer is called, from what its transport or its proxy says, and what it has taken."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
from typing import Any, Final

__all__ = ["address_of", "end_at_once", "host_of", "hung_up", "outstanding"]

_INFO_SIZE: Final = 128
_ACKNOWLEDGED: Final = struct.Struct("@Q")
_RESET: Final = struct.pack("@ii", 1, 0)
"""To linger for no time at all: the end of the descriptor is a reset (socket(7))."""
_AT: Final = 120
"""Where ``tcpi_bytes_acked`` is in Linux' ``struct tcp_info`` (linux/tcp.h, since 4.1)."""


def outstanding(transport: Any) -> int | None:
    """How many bytes the peer has taken while others wait for it; None if none do.

    Also where it can't be told: a Unix socket, or a transport without a socket.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or not (transport.get_write_buffer_size() or _unsent(sock)):
        return None
    return _acknowledged(sock)


def end_at_once(transport: Any, reset: bool) -> None:
    """Abort; with ``reset`` a peer over TCP gets that instead of an orderly end."""
    sock = transport.get_extra_info("socket") if reset else None
    if sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


def hung_up(transport: Any) -> bool:
    """Whether the system knows that the peer is gone, and has not only ended its side.

    It learns it of TCP by a reset, which may come after what was written last.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return False
    look = select.poll()
    look.register(sock.fileno(), 0)
    return bool(look.poll(0))


def _acknowledged(sock: Any) -> int | None:
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
    except OSError:  # not TCP, or closed
        return None
    found: int = _ACKNOWLEDGED.unpack_from(info, _AT)[0] if len(info) >= _INFO_SIZE else 0
    return found or None


def _unsent(sock: Any) -> int:
    """Bytes that the system holds for the peer."""
    room = bytearray(4)
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, room)
    except OSError:  # closed
        return 0
    return int.from_bytes(room, "little")


def host_of(peername: Any) -> str:
    """A host without its port; of a Unix socket's peer the user without the process."""
    if isinstance(peername, tuple):
        return str(peername[0])
    name = str(peername or "local")
    return name.rpartition(":")[0] if name.startswith("unix:") else name


def address_of(peername: Any) -> str:
    """The whole of it: a host with its port, or as it was given."""
    if not isinstance(peername, tuple):
        return str(peername or "local")
    host = host_of(peername)
    return f"[{host}]:{peername[1]}" if ":" in host else f"{host}:{peername[1]}"
