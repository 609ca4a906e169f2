"""A worker's life, and the patience between two lives."""

from __future__ import annotations

import pytest

from netswap.errors import TransitionError
from netswap.supervisor.lifecycle import LIFE, Backoff, Happening, WorkerState, advance


@pytest.mark.parametrize("state", WorkerState)
@pytest.mark.parametrize("happening", Happening)
def test_every_happening_in_every_state(state: WorkerState, happening: Happening) -> None:
    """What the table has goes where it says; anything else raises."""
    if (state, happening) in LIFE:
        assert advance(state, happening) is LIFE[state, happening]
    else:
        with pytest.raises(TransitionError, match="worker has no transition"):
            advance(state, happening)


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
