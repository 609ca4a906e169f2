"""Commands that pass on: their words and exit codes are those of the programs behind them."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from netswap.cli import root


@pytest.mark.parametrize("code", [0, 11])
def test_every_word_goes_on_and_the_code_comes_back(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Also ``--help`` and options that netswap has itself."""
    given: list[list[str]] = []
    named: list[dict[str, str]] = []

    def main(words: list[str], **name: str) -> int:
        given.append(words)
        named.append(name)
        return code

    monkeypatch.setattr("loadgen.cli.main", main)
    words = ["run", "--json", "--help", "-x", "3s=PATH"]
    done = CliRunner().invoke(root, ["load", *words])
    assert done.exit_code == code
    assert given == [words]
    assert named == [{"prog_name": "netswap load"}]


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_the_demonstration_has_its_option_and_its_code(
    monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """And says what it takes, as every command does."""
    given: list[list[str]] = []
    monkeypatch.setattr("netswap.demo.main", lambda words: given.append(words) or 11)
    assert CliRunner().invoke(root, ["demo", *words]).exit_code == 11
    assert given == [words]
    told = CliRunner().invoke(root, ["demo", "--help"])
    assert (told.exit_code, "--json" in told.stdout) == (0, True)
    assert CliRunner().invoke(root, ["demo", "--socket", "x"]).exit_code == 2
    assert given == [words]
