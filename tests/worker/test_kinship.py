"""A process that ends with its parent, seen from outside."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from netswap.worker.kinship import end_with_parent

PARENT = """
import os, signal, sys
from netswap.worker.kinship import end_with_parent
parent = os.getpid()
pid = os.fork()
if pid == 0:
    end_with_parent(parent)
    print("ready", os.getpid(), flush=True)
signal.pause()
"""


def test_a_child_that_does_nothing_is_ended_with_its_parent() -> None:
    """It is not asked: the kernel kills it when the parent is killed."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout as said:
        word, pid = said.readline().split()
        assert word == "ready"
        child = os.pidfd_open(int(pid))
        try:
            parent.send_signal(signal.SIGKILL)
            parent.wait()
            assert select.select([child], [], [], 20)[0], "the child lives on"
        finally:
            os.close(child)


def test_who_has_lost_its_parent_already_ends_at_once() -> None:
    """Between the fork and the request to the kernel the parent may have died."""
    pid = os.fork()
    if pid == 0:
        end_with_parent(os.getppid() + 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_a_system_without_such_a_request_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than to leave orphans."""
    monkeypatch.setattr("netswap.worker.kinship._C", object())
    with pytest.raises(OSError, match="prctl"):
        end_with_parent()
