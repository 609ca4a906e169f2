"""A worker's life, and the patience between two lives."""

from __future__ import annotations

import pytest

from netswap.errors import TransitionError
from netswap.supervisor.lifecycle import LIFE, Backoff, Happening, WorkerState


@pytest.mark.parametrize("happening", Happening)
def test_nothing_but_a_start_brings_a_slot_to_life(happening: Happening) -> None:
    """A dead worker says nothing and can't end once more; that it shall drain changes nothing."""
    following = {Happening.SPAWNED: WorkerState.STARTING, Happening.DRAIN: WorkerState.DEAD}
    if happening in following:
        assert LIFE[WorkerState.DEAD, happening] is following[happening]
    else:
        with pytest.raises(TransitionError, match="worker has no transition"):
            LIFE[WorkerState.DEAD, happening]


@pytest.mark.parametrize("state", [one for one in WorkerState if one is not WorkerState.DEAD])
def test_every_worker_can_end_and_be_told_to(state: WorkerState) -> None:
    """Whatever it is doing; told to drain it does, and stays so when it says that it is ready."""
    assert LIFE[state, Happening.EXITED] is WorkerState.DEAD
    assert LIFE[state, Happening.DRAIN] is WorkerState.DRAINING
    assert LIFE[WorkerState.DRAINING, Happening.READY] is WorkerState.DRAINING
    with pytest.raises(TransitionError, match="worker has no transition"):
        LIFE[state, Happening.SPAWNED]


def test_backoff_doubles_up_to_its_limit() -> None:
    """A worker that keeps dying is started ever less often, but never given up."""
    backoff = Backoff(first=0.1, longest=1.0, window=60)
    assert [backoff.died(now) for now in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_a_crash_loop_is_many_deaths_in_a_short_time() -> None:
    """Five deaths in a minute are a crash loop, five in a day are not."""
    quick, slow = Backoff(), Backoff()
    for number in range(5):
        quick.died(number)
        slow.died(number * 10_000)
    assert quick.crash_loop
    assert not slow.crash_loop


def test_a_long_life_is_forgiven() -> None:
    """A worker that served for long starts with a clean record."""
    backoff = Backoff(first=0.1)
    for number in range(5):
        backoff.died(number)
    backoff.forgive()
    assert not backoff.crash_loop
    assert backoff.died(6) == 0.1
