"""Commands that pass on: their words and exit codes are those of the programs behind them."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from netswap.cli import root


@pytest.mark.parametrize(
    ("command", "program"), [("load", "loadgen.cli.main"), ("demo", "netswap.demo.main")]
)
@pytest.mark.parametrize("code", [0, 11])
def test_every_word_goes_on_and_the_code_comes_back(
    monkeypatch: pytest.MonkeyPatch, command: str, program: str, code: int
) -> None:
    """Also ``--help`` and options that netswap has itself."""
    given: list[list[str]] = []
    named: list[dict[str, str]] = []

    def main(words: list[str], **name: str) -> int:
        given.append(words)
        named.append(name)
        return code

    monkeypatch.setattr(program, main)
    words = ["run", "--json", "--help", "-x", "3s=PATH"]
    done = CliRunner().invoke(root, [command, *words])
    assert done.exit_code == code
    assert given == [words]
    assert named == [{"prog_name": "netswap load"} if command == "load" else {}]
