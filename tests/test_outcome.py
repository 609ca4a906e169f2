"""The one table of outcomes and exit codes, and what else relies on it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loadgen.judging import RULES
from netswap.outcome import EXIT_CODES, SERVER_STATE, Outcome

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("outcome", Outcome)
def test_each_outcome_has_one_code_and_says_what_is_true_of_the_server(outcome: Outcome) -> None:
    """Scripts decide by the number, people by the sentence; no two outcomes share either."""
    others = set(Outcome) - {outcome}
    assert EXIT_CODES[outcome] not in {EXIT_CODES[other] for other in others}
    assert SERVER_STATE[outcome] not in {SERVER_STATE[other] for other in others}


def test_only_done_is_zero_and_the_shells_own_codes_are_kept_clear() -> None:
    """1 is a crash, 2 a wrong word, from 126 on the shell speaks."""
    assert [outcome for outcome, code in EXIT_CODES.items() if code == 0] == [Outcome.DONE]
    rest = set(EXIT_CODES.values()) - {0, EXIT_CODES[Outcome.USAGE]}
    assert all(20 <= code < 126 for code in rest)


def test_an_outcome_crosses_the_admin_api_as_its_word() -> None:
    """Both ends know it by the same text."""
    assert [Outcome(outcome.value) for outcome in Outcome] == list(Outcome)
    assert EXIT_CODES[Outcome("rolled back")] == 21


def test_the_readme_has_the_table() -> None:
    """Every code that a command can end with is explained there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = re.search(r"Exit codes of push.*?Of\s+load:", text, re.DOTALL)
    assert listed is not None
    assert {int(code) for code in re.findall(r"\b\d+\b", listed[0])} == set(EXIT_CODES.values())


def test_a_code_means_the_same_whichever_command_ends_with_it() -> None:
    """The load generator's codes are its own, or mean the same."""
    shared = {rule.exit_code for rule in RULES} & set(EXIT_CODES.values())
    assert shared <= {0, 2}
