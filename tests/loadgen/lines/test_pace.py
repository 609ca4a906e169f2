"""The pace: a constant rate, shared exactly between processes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadgen.lines.pace import Pace

RATES = st.floats(0.1, 5e6, allow_nan=False)


@given(RATES, st.integers(1, 8), st.integers(0, 10**6), st.integers(0, 10**15))
def test_due_counts_what_is_intended_by_now(
    rate: float, processes: int, k: int, start: int
) -> None:
    """Operation k is due from its intended time on, and not a nanosecond before."""
    pace = Pace(start, rate, k % processes, processes)
    at = pace.intended(k)
    assert at >= start
    assert pace.due(at) > k >= pace.due(at - 1)


@given(st.floats(1, 1e5), st.integers(1, 8))
def test_processes_share_one_sequence(rate: float, processes: int) -> None:
    """Together the processes send at the times at which one process would."""
    alone = Pace(0, rate)
    shares = [Pace(0, rate, index, processes) for index in range(processes)]
    together = sorted(share.intended(k) for share in shares for k in range(20))
    assert together == [alone.intended(k) for k in range(20 * processes)]
    assert sum(share.due(10**9) for share in shares) == alone.due(10**9)
