"""A run in which nothing stood still says nothing of a stall."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.witness.stall import stalling

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

BUSY = """
import signal, sys
signal.signal(signal.SIGCONT, lambda *_: sys.exit(7))
while True: pass
"""


def test_a_busy_server_is_stopped_and_goes_on() -> None:
    """While it is measured: this one ends when it goes on."""
    with subprocess.Popen([sys.executable, "-c", BUSY]) as server, stalling(server.pid):
        assert server.wait(timeout=30) == 7


def test_one_that_had_nothing_to_do_is_told() -> None:
    """It was not stopped, so no figure is given."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as server:
        with pytest.raises(SystemExit, match="--seconds"), stalling(server.pid):
            pass
        server.communicate()
