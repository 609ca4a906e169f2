"""What a rehearsal expects of a swap is refused when it can't be done in its time."""

from __future__ import annotations

import pytest

from netswap.hotswap import Change
from netswap.worker import play
from netswap.worker.trial import Trial, Trials
from protocols.verify.v1 import Verify


@pytest.mark.parametrize(
    ("tried", "untried", "late"), [(2, 0, False), (2, 2, False), (2, 3, True), (0, 9, False)]
)
def test_a_swap_that_would_not_end_in_time_is_refused(tried: int, untried: int, late: bool) -> None:
    """From what the objects took that were tried, also for those that were not."""
    changes = [Change("verify.connection", Verify, Verify, ())]
    trials = Trials(Trial(changes, lambda: 0), changes, 0)
    trials.tried, trials.untried, trials.spent_ns = tried, untried, tried * 1_000_000_000
    refusal = play._too_long(trials, 4.0)
    assert (refusal is not None) is late
    if refusal is not None:
        assert "converting 5 objects takes 5.0 s (1.0000 s each" in refusal.reason
        assert refusal.kind == "verify.connection"
