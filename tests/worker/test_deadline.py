"""The deadline: an author's code ends in time, whatever it catches, and nobody else is hit."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from netswap.errors import DeadlinePassed
from netswap.worker.deadline import Deadline

SHORT = 0.02
LONG = 30.0


@pytest.fixture(autouse=True)
def _alarm_is_given_back() -> Iterator[None]:
    """pytest-timeout uses the same signal: it gets its handler and its time back."""
    handler = signal.getsignal(signal.SIGALRM)
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    yield
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0, "a deadline is still armed"
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, left)


def spin(until: float) -> None:
    """An endless loop as far as the deadline is concerned."""
    while time.monotonic() < until:
        pass


def test_an_endless_loop_is_interrupted() -> None:
    """The exception says how long it had."""
    with pytest.raises(DeadlinePassed, match=r"did not end within 0\.02 s"), Deadline(SHORT):
        spin(time.monotonic() + LONG)


def test_what_ends_in_time_is_left_alone() -> None:
    """The timer goes with the block, so nothing can fire later."""
    with Deadline(LONG):
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= LONG
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_signal_that_comes_after_the_block_is_nobodys() -> None:
    """One that was already on its way when the block ended hits no innocent code."""
    with Deadline(LONG):
        pass
    signal.raise_signal(signal.SIGALRM)


def test_it_fires_once() -> None:
    """What cleans up after the interruption is not interrupted too."""
    with suppress(DeadlinePassed), Deadline(LONG):
        try:
            signal.raise_signal(signal.SIGALRM)
        finally:
            signal.raise_signal(signal.SIGALRM)
            cleaned = True
    assert cleaned


def test_an_author_who_catches_exceptions_does_not_swallow_it() -> None:
    """It is no Exception."""

    def careless() -> None:
        while True:
            try:
                spin(time.monotonic() + LONG)
            except Exception:
                continue

    with pytest.raises(DeadlinePassed), Deadline(SHORT):
        careless()


def test_an_error_of_the_code_itself_passes() -> None:
    """The deadline adds nothing to a failure, and its timer goes."""
    with pytest.raises(ValueError, match="mine"), Deadline(LONG):
        raise ValueError("mine")


def test_one_deadline_can_guard_one_block_after_the_other() -> None:
    """Each block has the whole time."""
    deadline = Deadline(LONG)
    for _ in range(2):
        with deadline:
            assert signal.getitimer(signal.ITIMER_REAL)[0] > LONG / 2
