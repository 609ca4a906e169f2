"""A server that the system does not let start says what, of what, and what may help."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--workers", "75"), "allow more open files (ulimit -n"),
        (("--state-dir", "/proc/netswap"), "/proc/netswap"),
    ],
)
def test_what_the_system_refuses_at_a_start_is_told(
    tmp_path: Path, flags: tuple[str, str], said: str
) -> None:
    """Enough descriptors to listen with, not to start workers; a directory that nobody can make."""
    command = [sys.executable, "-m", "netswap", "serve", "--listen", "echo=127.0.0.1:0", *flags]
    paths = {"--socket": "s", "--state-dir": "d"}
    for flag in paths.keys() - set(flags):
        command += [flag, str(tmp_path / paths[flag])]
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)),
    )
    assert ended.returncode in (1, 2)
    assert said in ended.stderr
    assert "  server: " in ended.stderr
    assert "  next: " in ended.stderr
