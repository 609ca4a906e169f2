"""How commands end: four parts in words, one object in JSON, and the code of the outcome."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from netswap.admin import BadRequest, Interrupted, Unreachable
from netswap.commands.ending import fail, failing, write_json
from netswap.commands.options import Link
from netswap.errors import BundleError, CallerError, UsageError
from netswap.events import Refusal, Stage
from netswap.outcome import EXIT_CODES, SERVER_STATE, Outcome

PATH = Path("/run/netswap/admin.sock")
REFUSAL = Refusal(Stage.LOAD, "it does not parse", "v2.py", 3, "kv.store", advice="mend it")
ENDINGS: list[tuple[Exception, Outcome, str]] = [
    (Unreachable(PATH, "no socket", "start one"), Outcome.UNREACHABLE, "no server: no socket"),
    (Interrupted(PATH, "it ended"), Outcome.UNKNOWN, "did not say how it ended: it ended"),
    (BadRequest(400, "no such kind", "look"), Outcome.USAGE, "no such kind"),
    (BundleError(REFUSAL), Outcome.REFUSED, "it does not parse"),
    (UsageError("'x' is no kind", "word 2", "write y"), Outcome.USAGE, "'x' is no kind"),
    (CallerError("nothing fits"), Outcome.USAGE, "nothing fits"),
]


def ended(error: Exception, as_json: bool = False) -> int:
    """The exit code of a command that met ``error``."""
    with pytest.raises(click.exceptions.Exit) as caught, failing(Link(PATH, 1.0, as_json)):
        raise error
    return caught.value.exit_code


def failed(**fields: Any) -> None:
    """The end of a change that was refused."""
    with pytest.raises(click.exceptions.Exit):
        fail({"outcome": "refused", "what": "no", **fields}, as_json=False)


@pytest.mark.parametrize(("error", "outcome", "what"), ENDINGS)
def test_every_error_ends_with_the_code_of_its_outcome(
    error: Exception, outcome: Outcome, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words on stderr, and nothing on stdout."""
    assert ended(error) == EXIT_CODES[outcome]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("netswap: ")
    assert what in err.splitlines()[0]


@pytest.mark.parametrize(("error", "outcome", "what"), ENDINGS)
def test_as_json_it_is_one_object_on_stdout(
    error: Exception, outcome: Outcome, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Programs find outcome and reason under the same names."""
    assert ended(error, as_json=True) == EXIT_CODES[outcome]
    out, err = capsys.readouterr()
    page = json.loads(out)
    assert (page["schema"], page["outcome"], err) == ("netswap/1", outcome.value, "")
    assert what in page["what"]


def test_an_error_that_nobody_expected_is_no_ending() -> None:
    """A bug is shown with its traceback."""
    with pytest.raises(ZeroDivisionError), failing(Link(PATH, 1.0, False)):
        _ = 1 // 0


def test_a_failure_says_what_where_in_what_state_and_what_next(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One part a line, in this order."""
    assert ended(BundleError(REFUSAL)) == 20
    assert capsys.readouterr().err.splitlines() == [
        "netswap: it does not parse",
        "  where:  v2.py:3, kv.store",
        f"  server: {SERVER_STATE[Outcome.REFUSED]}",
        "  next:   mend it",
    ]


def test_parts_that_are_not_known_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """No empty lines."""
    failed(where="", state=None)
    assert capsys.readouterr().err == "netswap: no\n"


def test_other_refusals_follow_with_worker_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    """The first is the headline already."""
    refusals = [
        {"reason": "no"},
        {"reason": "nor this", "file": "a.py", "line": 3, "worker": 1},
        {"reason": "nor that", "file": "b.py", "line": None, "worker": None},
        {"reason": "nor those"},
    ]
    failed(refusals=refusals)
    assert capsys.readouterr().err.splitlines()[1:] == [
        "  also:   worker 1: nor this (a.py:3)",
        "  also:   nor that (b.py)",
        "  also:   nor those",
    ]


def test_a_page_is_one_line_with_its_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """A stream of pages can be cut at the line ends."""
    write_json({"what": "a\nb", "n": 1})
    assert capsys.readouterr().out == '{"schema":"netswap/1","what":"a\\nb","n":1}\n'
