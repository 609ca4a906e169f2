"""A change is waited for as long as a worker may be silent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from netswap.admin import PushRequest
from netswap.commands import change as commands
from netswap.commands.options import Link
from netswap.outcome import EXIT_CODES, Outcome

RESULT = {
    "outcome": "done", "what": "done", "verdicts": [], "changes": [], "receipt": None,
    "only": None, "undo": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("shadow", "silent"),
    [(None, 60.0), (3.0, 60.0 + 3.0 + 60.0)],
)
def test_a_shadow_run_takes_its_recording_and_a_second_time_out(
    shadow: float | None, silent: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rehearsal has the time-out, and so has the play in the child behind it."""
    waits = []

    class Client:
        def __init__(self, _path: Path, timeout: float) -> None:
            waits.append(timeout)

        def post(self, _resource: str, _request: Any) -> list[dict[str, Any]]:
            return [RESULT]

    monkeypatch.setattr(commands, "AdminClient", Client)
    link = Link(tmp_path / "s", 60.0, as_json=True)
    commands.change(link, "push", PushRequest(bundles=[], shadow=shadow))
    assert waits == [silent + commands.PATIENCE]


def test_who_stops_waiting_is_told_that_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C ends the wait and not the transaction: unknown, and where to look."""

    class Client:
        def __init__(self, _path: Path, _timeout: float) -> None:
            """There is a server."""

        def post(self, _resource: str, _request: Any) -> Iterator[dict[str, Any]]:
            yield {"phase": "prepare", "text": "preparing in 2 workers"}
            raise KeyboardInterrupt

    monkeypatch.setattr(commands, "AdminClient", Client)
    with pytest.raises(click.exceptions.Exit) as ended:
        commands.change(Link(tmp_path / "s", 60.0, as_json=True), "push", PushRequest(bundles=[]))
    assert ended.value.exit_code == EXIT_CODES[Outcome.UNKNOWN]
    page = json.loads(capsys.readouterr().out)
    assert page["outcome"] == "unknown"
    assert "nobody waits for it now, and it goes on" in page["what"]
    assert "`netswap status` whether it still runs" in page["advice"]


TELLING = """
import pathlib, sys
from netswap.commands import change
from netswap.commands.options import Link

class Client:
    def __init__(self, _path, _timeout): pass
    def post(self, _resource, _request):
        yield {"text": "preparing"}
        yield %r

change.AdminClient = Client
try:
    change.change(Link(pathlib.Path("s"), 1.0, %r), "promote", change.PromoteRequest())
except change.click.exceptions.Exit as end:
    sys.exit(end.exit_code)
"""


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("outcome", [Outcome.DONE, Outcome.REFUSED])
@pytest.mark.parametrize("listener", ["a full disk", "nobody"])
def test_an_outcome_stands_when_it_can_not_be_told(
    listener: str, outcome: Outcome, as_json: bool
) -> None:
    """A script that goes by the exit code learns what became of the push all the same."""
    code = TELLING % ({**RESULT, "outcome": outcome.value}, as_json)
    if listener == "nobody":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open("/dev/full", os.O_WRONLY)
    errors = writer if listener == "nobody" else subprocess.PIPE
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=writer, stderr=errors, text=True, check=False
    )
    os.close(writer)
    assert done.returncode == EXIT_CODES[outcome], done.stderr
    told = outcome is Outcome.DONE or as_json  # what is on stdout
    if errors == subprocess.PIPE and told:
        assert done.stderr.endswith("the result can't be written: No space left on device\n")
