"""Unix sockets at a path: how one comes to be there, who is at its other end, how it goes.

The file is created with its final mode, by umask: between a bind and a later chmod anybody could
connect. What a dead server has left is replaced; what a running one answers at, and what is no
socket, is not touched.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from netswap.errors import CallerError

__all__ = ["Bound", "PathTaken", "Peer", "bind_path", "peer_of"]

_UCRED = struct.Struct("iII")
_ANSWER_S = 2


class PathTaken(CallerError):
    """Something is at ``path`` that can't be replaced; ``running``: a server that answers."""

    def __init__(self, path: Path, reason: str, running: bool) -> None:
        super().__init__(path, reason, running)
        self.path = path
        self.reason = reason
        self.running = running

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Peer(NamedTuple):
    """The process at the other end, as the kernel knows it."""

    pid: int
    uid: int
    gid: int


class Bound(NamedTuple):
    """A listening socket and its file."""

    sock: socket.socket
    path: Path
    inode: int

    def remove(self) -> None:
        """Close the socket and remove its file, unless another server has replaced it."""
        self.sock.close()
        with suppress(FileNotFoundError):
            if self.path.lstat().st_ino == self.inode:
                self.path.unlink()


def bind_path(path: Path, mode: int, backlog: int) -> Bound:
    """A listening socket whose file has ``mode``.

    :raises PathTaken: a server answers there, or something else is there.
    :raises OSError: the place can't be written.
    """
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~mode)
    try:
        sock.bind(os.fspath(path))
        inode = path.lstat().st_ino
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
    sock.setblocking(False)
    return Bound(sock, path, inode)


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise PathTaken(path, "a file that is no socket is there", running=False)
    if _answers(path):
        raise PathTaken(path, "a running server answers there", running=True)
    path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_ANSWER_S)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except TimeoutError:
            return True
    return True


def peer_of(sock: socket.socket) -> Peer:
    """Who is at the other end."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return Peer(*_UCRED.unpack(raw))
