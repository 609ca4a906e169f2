"""What the cost benchmark makes of its rounds."""

from __future__ import annotations

from benchmarks.witness.cost import Pair


def test_a_ratio_is_of_two_that_ran_one_after_the_other() -> None:
    """A machine that became slower in between made both cost more."""
    said = Pair([8.0, 16.0, 9.0], [10.0, 20.0, 9.0]).say("http at netswap", "wrk")
    assert "loadgen   9.0 us" in said
    assert "wrk  10.0 us" in said
    assert said.endswith("ratio 0.80 (0.80 to 1.00)")
