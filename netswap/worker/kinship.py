"""A process that ends with its parent, however busy it is: the kernel sees to it.

A worker also notices the end of its control channel, but only when its loop turns: one that is
stuck in an author's endless loop would keep its listeners, serve a set that may never have been
committed, and keep the next server from its addresses. Source: prctl(2), PR_SET_PDEATHSIG.
"""

from __future__ import annotations

import ctypes
import os
import signal

__all__ = ["end_with_parent"]

_SET_PARENT_DEATH_SIGNAL = 1
_C = ctypes.CDLL(None, use_errno=True)


def end_with_parent(parent: int | None = None) -> None:
    """From now on this process is killed when its parent ends, and now if that was not ``parent``.

    The parent's thread that started this process counts; it has to be the main one.

    :raises OSError: the kernel does not know of it (it is not Linux).
    """
    prctl = getattr(_C, "prctl", None)
    if prctl is None or prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, f"prctl: {os.strerror(code)}")
    if parent is not None and os.getppid() != parent:
        os._exit(1)
