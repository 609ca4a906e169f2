"""The agreement once more as a Promela model, searched exhaustively by spin.

The model takes its rows from the server's own tables (``promela``), so it can't drift from them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from netswap.supervisor import agreement
from netswap.supervisor.agreement import Phase, Step
from netswap.worker import participant
from tests.machines.promela import rendered

MISSING = [tool for tool in ("spin", "gcc") if shutil.which(tool) is None]
needs_spin = pytest.mark.skipif(
    bool(MISSING),
    reason=f"THE MODEL OF THE AGREEMENT IS NOT CHECKED: {' and '.join(MISSING)} not installed; "
    "on Debian: apt-get install spin build-essential",
)
PATIENCE = 240
"""Seconds for one search, on a machine that does much else."""


def searched(folder: Path, **sizes: int) -> str:
    """What the search over a model of these sizes has said."""
    folder.mkdir(exist_ok=True)
    (folder / "model.pml").write_text(rendered(), encoding="utf-8")
    defined = [f"-D{name}={value}" for name, value in sizes.items()]
    for command in (
        ["spin", *defined, "-a", "model.pml"],
        ["gcc", "-O0", "-w", "-o", "pan", "pan.c"],
        ["./pan", "-a", "-n", "-m200000"],
    ):
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
    return done.stdout


def errors(said: str) -> int:
    """How many were found, in a search that was not cut short."""
    found = re.search(r"errors: (\d+)", said)
    assert found, said
    assert "max search depth too small" not in said
    stored = re.search(r"(\d+(?:\.\d+)?(?:e\+\d+)?) states, stored", said)
    assert int(found[1]) or (stored and float(stored[1]) > 10_000), said
    return int(found[1])


def test_every_row_of_the_tables_is_in_the_model() -> None:
    """And as many as there are, no more."""
    text = rendered()
    for (phase, step), target in agreement.TRANSITIONS.items():
        assert (
            f":: phase == P_{phase.name} && step == {step.name} -> next = P_{target.name}" in text
        )
    for (state, reading), (following, _) in participant.TRANSITIONS.items():
        start = f":: state[i] == {state.name} && input == I_{reading.name} -> "
        assert f"{start}state[i] = {following.name}" in text
    assert len(re.findall(r":: phase == P_\w+ && step ==", text)) == len(agreement.TRANSITIONS)
    assert len(re.findall(r":: state\[i\] == \w+ && input ==", text)) == len(
        participant.TRANSITIONS
    )


@needs_spin
@pytest.mark.timeout(3 * PATIENCE)
def test_no_state_has_two_committed_sets_and_every_transaction_ends(tmp_path: Path) -> None:
    """All states of two workers and one transaction, with any canary, watch, decision and stop.

    Each of the two and the supervisor may die, and each may stand still at any point: who has not
    begun a swap when the time for that is over is passed over, and goes on afterwards.
    """
    assert errors(searched(tmp_path, TRANSACTIONS=1)) == 0


@needs_spin
@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    "sizes",
    [
        {"TRANSACTIONS": 1, "WORKER_CRASHES": 2, "SUPERVISOR_CRASHES": 1},
        {"TRANSACTIONS": 1, "WORKER_CRASHES": 0, "SUPERVISOR_CRASHES": 0, "LOSSES": 1},
        {"TRANSACTIONS": 1, "WORKER_CRASHES": 0, "SUPERVISOR_CRASHES": 0, "DOUBLES": 1},
        {"TRANSACTIONS": 2, "WORKER_CRASHES": 0, "SUPERVISOR_CRASHES": 0, "PLAIN": 1},
    ],
    ids=["more crashes", "a lost message", "a doubled message", "one after the other"],
)
def test_no_state_of_a_larger_model_has_two_committed_sets(
    tmp_path: Path, sizes: dict[str, int]
) -> None:
    """The same in some million states."""
    assert errors(searched(tmp_path, **sizes)) == 0


COORDINATOR = agreement.TRANSITIONS
WRONG: dict[str, tuple[dict[Any, Any], Any, Any]] = {
    "commit although one has failed": (COORDINATOR, (Phase.SWAPPING, Step.NO), Phase.COMMITTING),
    "no revert when one has died": (COORDINATOR, (Phase.SWAPPING, Step.LOST), Phase.ABORTED),
    "no deadline for the swap": (COORDINATOR, (Phase.SWAPPING, Step.LATE), Phase.SWAPPING),
    "finish without a record": (COORDINATOR, (Phase.SWAPPING, Step.ALL), Phase.FINISHING),
}  # fmt: skip


@needs_spin
@pytest.mark.timeout(3 * PATIENCE)
@pytest.mark.parametrize("name", WRONG)
def test_a_model_with_one_wrong_row_is_found_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search is able to fail."""
    table, row, wrong = WRONG[name]
    monkeypatch.setitem(table, row, wrong)
    assert errors(searched(tmp_path, TRANSACTIONS=1)) > 0


CARELESS: dict[str, dict[str, int]] = {
    "a swap is begun however late it is read": {"LOOKS_FIRST": 0, "LOOKS_AGAIN": 0},
    "the clock is not looked at again once the Begun is there": {"LOOKS_AGAIN": 0},
    "a worker is passed over with its Begun in the socket": {"READS_FIRST": 0},
    "a worker is passed over before the time to begin is over": {"WAITS": 0},
}
"""What makes it right to pass over a worker that stands still, left out one by one."""


@needs_spin
@pytest.mark.timeout(3 * PATIENCE)
@pytest.mark.parametrize("name", CARELESS)
def test_who_is_passed_over_without_care_serves_what_was_given_up(
    name: str, tmp_path: Path
) -> None:
    """The search finds the way there: the push is rolled back, and the worker serves the new."""
    said = searched(tmp_path, TRANSACTIONS=1, **CARELESS[name])
    assert errors(said) > 0
    assert re.search(r"assertion violated \(\(serves\[k\] ?&", said), said
    assert (tmp_path / "model.pml.trail").stat().st_size
