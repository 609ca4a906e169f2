"""The admin socket: who may make it, replace it, and speak through it.

Whoever connects is asked for by the kernel (SO_PEERCRED), whatever the file's mode says.
"""

from __future__ import annotations

import os
from pathlib import Path

from netswap.errors import CallerError
from netswap.unixsocket import Bound, PathTaken, Peer, bind_path

__all__ = ["AdminSocketError", "bind_admin_socket", "may_speak"]

_BACKLOG = 64
_ADVICE = {
    True: "stop that server, or give this one another --socket",
    False: "move it away",
}


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


def bind_admin_socket(path: Path) -> Bound:
    """A listening socket at ``path`` with mode 0600; one that a dead server left is replaced.

    :raises AdminSocketError: a server answers there, something else is there, or it can't be
        written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return bind_path(path, 0o600, _BACKLOG)
    except PathTaken as error:
        raise AdminSocketError(path, error.reason, _ADVICE[error.running]) from error
    except OSError as error:
        reason = error.strerror or str(error)
        advice = "give a place that can be written: --socket"
        raise AdminSocketError(path, reason, advice, unwritable=True) from error


def may_speak(peer: Peer) -> bool:
    """Whether ``peer`` is this server's user, or root."""
    return peer.uid in (0, os.geteuid())
