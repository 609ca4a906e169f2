"""The deadline: an author's code ends in time, whatever it catches, and nobody else is hit."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace

import pytest

from netswap.errors import DeadlinePassed
from netswap.worker import deadline as module
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


def test_the_handler_is_set_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each later use only sets the timer; it is in front of every call that is guarded."""
    with Deadline(LONG):
        pass
    with monkeypatch.context() as patched:
        patched.setattr(signal, "signal", pytest.fail)
        with Deadline(LONG):
            assert signal.getitimer(signal.ITIMER_REAL)[0] > LONG / 2


def test_an_author_who_takes_the_signal_has_it_for_one_block_at_most() -> None:
    """The next block is bounded again."""
    with Deadline(LONG):
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
    with pytest.raises(DeadlinePassed), Deadline(SHORT):
        spin(time.monotonic() + LONG)


def test_one_inside_another_gives_the_rest_of_its_time_back() -> None:
    """The inner one passes by itself; the outer one still passes when its own time is over."""

    def both() -> None:
        with Deadline(LONG):
            with pytest.raises(DeadlinePassed, match=r"within 0\.02 s"), Deadline(SHORT):
                spin(time.monotonic() + LONG)
            rest, _ = signal.getitimer(signal.ITIMER_REAL)
            assert 0 < rest <= LONG - SHORT
            signal.setitimer(signal.ITIMER_REAL, SHORT)
            spin(time.monotonic() + LONG)

    with pytest.raises(DeadlinePassed, match=r"within 30 s"):
        both()


def test_an_outer_one_whose_time_is_over_inside_of_another_passes_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its time goes on meanwhile, and it raises in its own block."""
    ended: list[str] = []
    clock = SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr(module, "time", clock)

    def both() -> None:
        with Deadline(LONG):
            with Deadline(LONG):
                clock.monotonic = lambda: LONG
                ended.append("inner")
            spin(time.monotonic() + LONG)

    with pytest.raises(DeadlinePassed, match=r"within 30 s"):
        both()
    assert ended == ["inner"]


def test_an_outer_one_that_has_passed_is_not_set_again() -> None:
    """What cleans up after it may use one of its own."""

    def both() -> None:
        with Deadline(LONG):
            try:
                signal.raise_signal(signal.SIGALRM)
            finally:
                with Deadline(LONG):
                    pass
                assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)

    with pytest.raises(DeadlinePassed, match=r"within 30 s"):
        both()
