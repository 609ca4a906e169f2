"""The real command against a small server that is wrong on purpose."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.loadgen.carried import RUNS, is_disturbed

ROOT = Path(__file__).parents[2]
SERVER = Path(__file__).with_name("faulty_server.py")


class Loaded(NamedTuple):
    """How a run of the command ended."""

    exit_code: int
    report: dict[str, Any]
    stderr: str


@contextmanager
def serving(protocol: str, fault: str) -> Iterator[int]:
    """A faulty server's port; the server ends with its standard input."""
    command = [sys.executable, str(SERVER), protocol, fault]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdout is not None
        yield int(server.stdout.readline())
        server.communicate()


def command(*words: object) -> list[str]:
    """The command line of a run."""
    return [sys.executable, "-m", "loadgen", "run", *map(str, words)]


@pytest.fixture
def server() -> Iterator[Callable[[str, str], int]]:
    """Start servers: (protocol, fault) to port."""
    with ExitStack() as servers:
        yield lambda protocol, fault: servers.enter_context(serving(protocol, fault))


@pytest.fixture
def load() -> Callable[..., Loaded]:
    """Run the command with --json, again when disturbed; gives its exit code and its report."""

    def run(*words: object) -> Loaded:
        line = command(*words, "--json")
        for _ in range(RUNS):
            done = subprocess.run(
                line, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
            )
            report = json.loads(done.stdout) if done.stdout else {}
            if not is_disturbed(report.get("reasons", [])):
                break
        return Loaded(done.returncode, report, done.stderr)

    return run


@pytest.fixture
def command_line() -> Callable[..., list[str]]:
    """The command line of a run, for tests that start it themselves."""
    return command
