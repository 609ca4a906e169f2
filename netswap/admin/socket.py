"""The admin socket: who may make it, replace it, and speak through it.

The file is created with its final mode, by umask: between a bind and a later chmod anybody could
connect. Whoever connects is asked for by the kernel (SO_PEERCRED), whatever the file's mode says.
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

__all__ = ["AdminSocketError", "Peer", "bind_admin_socket", "may_speak", "peer_of", "remove_socket"]

_BACKLOG = 64
_UCRED = struct.Struct("iII")


class AdminSocketError(CallerError):
    """The admin socket can't be made at ``path``."""

    def __init__(self, path: Path, reason: str, advice: str, unwritable: bool = False) -> None:
        super().__init__(path, reason, advice)
        self.unwritable = unwritable
        self.path = path
        self.reason = reason
        self.advice = advice

    def __str__(self) -> str:
        return f"no admin socket at {self.path}: {self.reason}; {self.advice}"


class Peer(NamedTuple):
    """The process at the other end, as the kernel knows it."""

    pid: int
    uid: int
    gid: int


def bind_admin_socket(path: Path) -> socket.socket:
    """A listening socket at ``path`` with mode 0600; one that a dead server left is replaced.

    :raises AdminSocketError: a server answers there, something else is there, or it can't be
        written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_stale(path)
        return _bind(path)
    except OSError as error:
        reason = error.strerror or str(error)
        advice = "give a place that can be written: --socket"
        raise AdminSocketError(path, reason, advice, unwritable=True) from error


def _bind(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(os.fspath(path))
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
    sock.setblocking(False)
    return sock


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise AdminSocketError(path, "a file that is no socket is there", "move it away")
    if _answers(path):
        advice = "stop that server, or give this one another --socket"
        raise AdminSocketError(path, "a running server answers there", advice)
    path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except TimeoutError:
            return True
    return True


def remove_socket(path: Path, sock: socket.socket, inode: int) -> None:
    """Close ``sock`` and remove its file, unless another server has replaced it."""
    sock.close()
    with suppress(FileNotFoundError):
        if path.lstat().st_ino == inode:
            path.unlink()


def peer_of(sock: socket.socket) -> Peer:
    """Who is at the other end."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return Peer(*_UCRED.unpack(raw))


def may_speak(peer: Peer) -> bool:
    """Whether ``peer`` is this server's user, or root."""
    return peer.uid in (0, os.geteuid())
