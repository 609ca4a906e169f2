"""Logs of several processes on one descriptor: a line is one write, so lines don't mix."""

from __future__ import annotations

import pytest
import structlog

from netswap.logs import configure_logs


class Writes:
    """A stderr that keeps what each write was."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def write(self, text: str) -> int:
        """One system call, where Python is told not to buffer."""
        self.seen.append(text)
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""

    def isatty(self) -> bool:
        """A file."""
        return False


@pytest.mark.parametrize("format_", ["json", "console"])
def test_a_line_and_its_end_are_one_write(monkeypatch: pytest.MonkeyPatch, format_: str) -> None:
    """With PYTHONUNBUFFERED=1, as in most containers, two writes would let another line between."""
    stream = Writes()
    monkeypatch.setattr("sys.stderr", stream)
    configure_logs("info", format_)
    structlog.get_logger().info("said")
    structlog.reset_defaults()
    (line,) = stream.seen
    assert line.endswith("\n")
