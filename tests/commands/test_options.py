"""Options that every command takes."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from netswap.commands import options
from netswap.commands.options import SECONDS, Link, for_all
from netswap.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10", 10),
        ("500ms", 0.5),
        ("1h", 3600),
    ],
)
def test_a_duration_has_a_unit_or_is_in_seconds(text: str, seconds: float) -> None:
    """As people write them."""
    assert SECONDS.convert(text, None, None) == seconds
    assert SECONDS.convert(seconds * 1.0, None, None) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1s", "0", "0ms", "2h"])
def test_what_is_no_duration_is_a_wrong_word(text: str) -> None:
    """It is quoted, with what to write."""
    with pytest.raises(click.BadParameter, match="is not"):
        SECONDS.convert(text, None, None)


def test_a_command_gets_its_link() -> None:
    """Socket, time-out and form of the answer, beside its own options."""
    seen: list[tuple[Link, str]] = []

    @click.command()
    @click.argument("word")
    @for_all("3s", "How long.")
    def command(word: str, link: Link) -> None:
        """Says something."""
        seen.append((link, word))

    words = ["x", "--socket", "/tmp/here.sock", "--timeout", "500ms", "--json"]
    assert CliRunner().invoke(command, words).exit_code == 0
    ((link, word),) = seen
    assert (link.socket, link.timeout, link.as_json) == (Path("/tmp/here.sock"), 0.5, True)
    assert (word, command.help) == ("x", "Says something.")
    CliRunner().invoke(command, ["x", "--socket", "s"])
    assert (seen[1][0].timeout, seen[1][0].as_json) == (3, False)


def test_a_server_that_can_not_be_found_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong environment is a wrong word, and no traceback."""

    def lost() -> Path:
        raise UsageError("no server to be found", "", "give --socket")

    monkeypatch.setattr(options, "find_socket", lost)

    @click.command()
    @for_all("3s", "How long.")
    def command(link: Link) -> None: ...

    done = CliRunner().invoke(command, [])
    assert done.exit_code == 2
    assert "no server to be found; give --socket" in done.stderr
