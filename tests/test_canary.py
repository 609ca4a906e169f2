"""The canary as an operator writes it, and the arithmetic of its share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netswap.canary import WHOLE, Canary
from netswap.errors import UsageError


@pytest.mark.parametrize(
    ("text", "share", "worker", "selector"),
    [
        ("10%", 1000, None, None),
        (" 2.5 %", 250, None, None),
        ("0.05%", 5, None, None),
        ("100%", WHOLE, None, None),
        ("worker=0", WHOLE, 0, None),
        ("worker = 12", WHOLE, 12, None),
        ("peer=10.0.0.1", WHOLE, None, "peer=10.0.0.1"),
        ("worker=1,peer=10.0.0.1", WHOLE, 1, "peer=10.0.0.1"),
    ],
)
def test_what_an_operator_may_write(
    text: str, share: int, worker: int | None, selector: str | None
) -> None:
    """A share, a worker, or a selector, which may be within a worker."""
    canary = Canary.parse(text)
    assert (canary.share, canary.worker, canary.selector) == (share, worker, selector)


@pytest.mark.parametrize("text", ["", "10", "0%", "101%", "-5%", "worker=0,worker=1", "peer"])
def test_what_is_no_canary_says_what_is_one(text: str) -> None:
    """A slip is a usage error that shows the three forms."""
    with pytest.raises(UsageError, match=r"10%, worker=0, or a selector"):
        Canary.parse(text)


def test_only_a_whole_worker_is_not_split() -> None:
    """Services can go first with a whole worker, and with nothing less."""
    assert not Canary.parse("worker=0").splits
    assert not Canary.parse("100%").splits
    assert Canary.parse("10%").splits
    assert Canary.parse("worker=0,peer=a").splits


@given(
    st.integers(min_value=1, max_value=WHOLE),
    st.lists(st.integers(min_value=0, max_value=200), min_size=1, max_size=5),
)
def test_a_share_is_exact_over_all_workers(share: int, connections: list[int]) -> None:
    """Rounded up over all, never worker by worker: 10 % of 27 and 23 is 5."""
    canary = Canary("", share)
    chosen = 0
    for index, count in enumerate(connections):
        chosen += (canary.carry(sum(connections[:index])) + count * share) // WHOLE
    assert chosen == -(-sum(connections) * share // WHOLE)
