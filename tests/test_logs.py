"""Logs: JSON for programs, lines for people, and the same in every process."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from netswap.logs import configure_from, configure_logs, format_for


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    yield
    structlog.reset_defaults()


def test_json_has_level_time_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """One object a line on stderr; what is below the level is not there."""
    configure_logs("info", "json")
    log = structlog.get_logger("netswap.test")
    log.debug("hidden")
    log.warning("worker died", worker=1)
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    found = json.loads(line)
    assert (found["event"], found["level"], found["worker"]) == ("worker died", "warning", 1)
    assert found["timestamp"].endswith("Z")


def test_console_is_a_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """The event and its fields can be read without a tool."""
    configure_logs("info", "console")
    structlog.get_logger().info("draining", limit_s=2)
    assert "draining" in capsys.readouterr().err


def test_what_a_library_says_is_a_line_like_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    """By Python's own ``logging``, with its traceback; what that would not show is not there."""
    configure_logs("info", "json")
    library = logging.Logger("some.library")  # has no handler, and none above it
    library.info("hidden")
    try:
        raise ValueError("no")
    except ValueError:
        library.exception("%d tasks failed", 2)
    (line,) = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    assert (found["event"], found["level"]) == ("2 tasks failed", "error")
    assert found["logger"] == "some.library"
    assert found["exception"][0]["exc_value"] == "no"
    assert found["timestamp"].endswith("Z")


def test_a_worker_logs_as_its_supervisor_says(capsys: pytest.CaptureFixture[str]) -> None:
    """By the two variables that it is started with."""
    configure_from({"NETSWAP_LOG_LEVEL": "error", "NETSWAP_LOG_FORMAT": "json"})
    structlog.get_logger().warning("hidden")
    structlog.get_logger().error("shown")
    assert "hidden" not in capsys.readouterr().err


def test_json_is_the_default_where_nobody_watches() -> None:
    """Unless the operator has chosen: a test's stderr is no terminal."""
    assert format_for("console", chosen=False) == "json"
    assert format_for("console", chosen=True) == "console"


def test_a_log_that_nobody_reads_is_lost_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of a pipe may die: what logs goes on."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as broken:
        monkeypatch.setattr("sys.stderr", broken)
        configure_logs("info", "json")
        for _ in range(3):
            structlog.get_logger().info("said")
        monkeypatch.undo()
        with pytest.raises(BrokenPipeError):
            broken.close()


def test_a_process_that_logs_starts_without_rich() -> None:
    """Whatever it imports first; what an author's module asks for is there afterwards."""
    code = (
        "import sys, netswap.worker.__main__, netswap.commands.serve\n"
        "print('structlog' in sys.modules, 'rich' in sys.modules)\n"
        "from rich.traceback import Traceback; print(Traceback.__module__)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["True", "False", "rich.traceback"]


def test_a_failure_is_logged_with_its_frames(capsys: pytest.CaptureFixture[str]) -> None:
    """File, line and name of each, as JSON and for people."""
    for form in ("json", "console"):
        configure_logs("info", form)
        try:
            raise LookupError("nowhere")
        except LookupError:
            structlog.get_logger().exception("worker_failed")
    first, *rest = capsys.readouterr().err.splitlines()
    (stack,) = json.loads(first)["exception"]
    assert (stack["exc_type"], stack["exc_value"]) == ("LookupError", "nowhere")
    assert stack["frames"][0]["name"] == "test_a_failure_is_logged_with_its_frames"
    assert rest[-1] == "LookupError: nowhere"
