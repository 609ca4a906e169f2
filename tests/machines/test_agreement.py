"""The agreement under crashes, delays and deadlines, at every point and in any interleaving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase as Generate
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from netswap.channel import messages
from netswap.outcome import Outcome
from netswap.supervisor import agreement as agreements
from netswap.supervisor.agreement import Phase, Probation, Step
from netswap.worker import participant as participants
from netswap.worker.participant import Act, Input, State
from tests.machines.agreement_machines import HarshNetwork, ReliableChannel, no_fsync, search
from tests.machines.agreement_world import World


@pytest.mark.parametrize("machine", [ReliableChannel, HarshNetwork])
def test_one_committed_set_whatever_crashes(machine: type[RuleBasedStateMachine]) -> None:
    """Never two committed sets, never a worker that serves neither, and every end is told truly."""
    search(machine, 200)


@pytest.mark.fuzz
@pytest.mark.timeout(0)
@pytest.mark.parametrize("machine", [ReliableChannel, HarshNetwork])
def test_one_committed_set_in_a_long_search(machine: type[RuleBasedStateMachine]) -> None:
    """The same, with many more and longer examples."""
    with no_fsync():
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            machine, settings=settings(settings.get_profile("fuzz"))
        )


COORDINATOR, WORKER = agreements.TRANSITIONS, participants.TRANSITIONS
MUTATIONS: dict[str, tuple[dict[Any, Any], Any, Any]] = {
    "commit before anybody has swapped": (
        COORDINATOR, (Phase.PREPARING, Step.ALL), Phase.COMMITTING),
    "commit although one has failed": (
        COORDINATOR, (Phase.SWAPPING, Step.NO), Phase.COMMITTING),
    "commit although one did not answer": (
        COORDINATOR, (Phase.SWAPPING, Step.LATE), Phase.COMMITTING),
    "commit what was taken back": (
        COORDINATOR, (Phase.PROBATION, Step.TAKEN_BACK), Phase.COMMITTING),
    "no revert when one has died": (
        COORDINATOR, (Phase.SWAPPING, Step.LOST), Phase.ABORTED),
    "no revert when one has refused": (
        COORDINATOR, (Phase.PREPARING, Step.NO), Phase.ABORTED),
    "no revert when the watch has failed": (
        COORDINATOR, (Phase.WATCHING, Step.NO), Phase.ABORTED),
    "finish without a record": (
        COORDINATOR, (Phase.SWAPPING, Step.ALL), Phase.FINISHING),
    "finish though the record was not written": (
        COORDINATOR, (Phase.COMMITTING, Step.UNWRITTEN), Phase.FINISHING),
    "revert what is committed": (
        COORDINATOR, (Phase.FINISHING, Step.LATE), Phase.REVERTING),
    "a worker that does not revert what it swapped": (
        WORKER, (State.SWAPPED, Input.REVERT), (State.IDLE, ())),
    "a worker that does not revert its canary": (
        WORKER, (State.TRIED, Input.REVERT), (State.IDLE, ())),
    "a worker that does not say that it failed": (
        WORKER, (State.SWAPPING, Input.NO), (State.FAILED, ())),
    "a worker that does not say that it reverted": (
        WORKER, (State.REVERTING, Input.YES), (State.IDLE, ())),
    "a worker that finishes too early": (
        WORKER, (State.SWAPPING, Input.YES), (State.FINISHING, (Act.ANSWER, Act.FINISH))),
    "a revert that is not heard in the middle of a swap": (
        WORKER, (State.SWAPPING, Input.REVERT), None),
}  # fmt: skip
"""A row of a table, and what is put in its place; None takes it away."""
IN_THE_HARSH_NETWORK: dict[str, tuple[dict[Any, Any], Any, Any]] = {
    "no deadline for the swap": (
        COORDINATOR, (Phase.SWAPPING, Step.LATE), None),
    "no deadline for the revert": (
        COORDINATOR, (Phase.REVERTING, Step.LATE), None),
    "a worker that begins the next one in the middle of another": (
        WORKER, (State.SWAPPED, Input.NEXT), (State.PREPARING, (Act.PREPARE,))),
}  # fmt: skip


def fails(machine: type[RuleBasedStateMachine], examples: int) -> None:
    """A search must find something, and need not make it small."""
    with pytest.raises((AssertionError, ExceptionGroup)):
        search(machine, examples, phases=[Generate.generate], report_multiple_bugs=False)


WRONG = [
    pytest.param(name, marks=[pytest.mark.slow] * (number % 2))
    for number, name in enumerate([*MUTATIONS, *IN_THE_HARSH_NETWORK])
]
"""Every other one in ``make test``, all in ``make proof``."""


@pytest.mark.parametrize("mutation", WRONG)
def test_a_table_with_one_wrong_row_is_found_out(
    mutation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search is able to fail: each of these breaks what it is there for."""
    table, row, wrong = (MUTATIONS | IN_THE_HARSH_NETWORK)[mutation]
    assert table[row] != wrong
    if wrong is None:
        monkeypatch.delitem(table, row)
    else:
        monkeypatch.setitem(table, row, wrong)
    fails(ReliableChannel if mutation in MUTATIONS else HarshNetwork, 400)


def test_a_worker_that_boots_while_a_transaction_decides_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would boot into the old set, and the new one be committed behind its back."""
    monkeypatch.setattr(World, "boots_at_any_time", True)
    fails(ReliableChannel, 400)


def told(world: World, stuck: bool) -> list[messages.Message]:
    """What worker 0 is told while worker 1 fails to swap; what it swapped may be ``stuck``."""
    supervisor, heard = world.supervisor, list[messages.Message]()
    assert supervisor is not None
    supervisor.push(Probation())
    while supervisor.transaction is not None:
        heard += world.workers[0].down
        for worker in world.workers.values():
            while worker.down:
                worker.hear()
            while worker.work:
                well = worker.slot == 0 or worker.participant.state is not State.SWAPPING
                worker.end(well, stuck and worker.slot == 0)
            while worker.up:
                supervisor.hear(worker.slot)
    return heard


@pytest.mark.parametrize("ruled", [True, False], ids=["with the rule", "without"])
def test_what_is_over_does_not_come_back_with_doubled_messages(
    ruled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second Prepare and Swap arrive when the transaction has been reverted and forgotten."""
    if not ruled:
        nothing = property(lambda _: 0, lambda *_: None)
        monkeypatch.setattr(participants.Participant, "_newest", nothing, raising=False)
    world = World(tmp_path, 2, None)
    world.settle()
    again = told(world, stuck=False)
    assert [type(message).__name__ for message in again] == ["Prepare", "Swap", "Revert"]
    for message in again[:2]:
        world.workers[0].down.append(message)
        world.settle()
    serves = world.workers[0].serves
    world.close()
    assert (serves == {world.committed()}) is ruled


@pytest.mark.parametrize("ruled", [True, False], ids=["with the rule", "without"])
def test_a_second_answer_is_not_friendlier_than_the_first(
    ruled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that could not go back says so each time that it is asked."""
    if not ruled:
        monkeypatch.setattr(participants, "_answers", lambda *_: False)
    world = World(tmp_path, 2, None)
    world.settle()
    again = told(world, stuck=True)
    assert world.outcomes == [Outcome.MIXED]
    world.workers[0].down.append(again[-1])
    world.workers[0].hear()
    (answer,) = world.workers[0].up
    world.close()
    assert isinstance(answer, messages.Reverted)
    assert (answer.refusal is not None) is ruled
