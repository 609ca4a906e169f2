"""The bundled policy: which figures are reason enough to take new code back."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.watch.v1 import Limits, Policy

WELL: dict[str, Any] = {
    "kind": "echo.connection",
    "version": 2,
    "seconds": 3.0,
    "objects": 10,
    "calls": 1000,
    "errors": 0,
    "firings": 0,
    "mean_us": 40.0,
    "max_us": 900.0,
    "stall_ms": 4.0,
    "memory": 60 << 20,
    "memory_before": 50 << 20,
    "old": {"version": 1, "calls": 1000, "errors": 0, "mean_us": 30.0, "max_us": 700.0},
}


def judge(limits: Limits | None = None, **figures: Any) -> str | None:
    """What the policy says of good figures with some that are other."""
    policy = Policy.__new__(Policy)
    policy.state = limits or Limits()
    return policy.judge(WELL | figures)


def test_good_figures_are_no_reason() -> None:
    """Nor is it one that nothing has happened yet, or that there is nothing to compare with."""
    assert judge() is None
    assert judge(calls=0, mean_us=0.0, max_us=0.0, objects=0) is None
    assert judge(old=None) is None


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"errors": 1}, "failed once in 1000 calls"),
        ({"errors": 3}, "failed 3 times in 1000 calls"),
        ({"firings": 1}, "the guard fired once in 1000 calls"),
        ({"max_us": 500_001.0}, "one call took 500.0 ms, of at most 500.0 ms"),
        ({"mean_us": 21_000.0}, "calls take 21.0 ms on average, of at most 20.0 ms"),
        (
            {"mean_us": 1_200.0},
            "calls take 1.2 ms on average, and those of version 1 take 0.0 ms",
        ),
        ({"stall_ms": 1_400.0}, "the loop was held for 1400 ms, of at most 1000 ms"),
        ({"memory": 400 << 20}, "the worker grew by 350 MiB, of at most 256 MiB"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_each_limit_is_a_reason_by_itself(figures: dict[str, Any], reason: str) -> None:
    """With the figure and the limit in the sentence."""
    assert judge(**figures) == reason


@pytest.mark.parametrize(
    "figures",
    [
        {"calls": 49, "mean_us": 21_000.0},
        {"mean_us": 999.0},
        {"mean_us": 1_200.0, "old": {**WELL["old"], "calls": 49}},
        {"mean_us": 1_200.0, "old": {**WELL["old"], "mean_us": 301.0}},
        {"memory": 306 << 20},
    ],
    ids=["few calls", "short anyway", "few old calls", "not so much slower", "not so much larger"],
)
def test_what_may_be_chance_is_no_reason(figures: dict[str, Any]) -> None:
    """A mean of few calls says nothing, and twice of very little is very little."""
    assert judge(**figures) is None


@pytest.mark.parametrize(
    "figures",
    [
        {"max_us": 500_000.0},
        {"mean_us": 20_000.0, "old": None},
        {"mean_us": 1_200.0, "old": {**WELL["old"], "mean_us": 300.0}},
        {"stall_ms": 1_000.0},
        {"memory": (50 + 256) << 20},
    ],
    ids=["one call", "on average", "slower", "stall", "memory"],
)
def test_a_limit_may_be_reached(figures: dict[str, Any]) -> None:
    """What is allowed is allowed; a reason is what lies beyond."""
    assert judge(**figures) is None


def test_the_limits_are_state() -> None:
    """Another policy's, or an operator's, are carried as any state is."""
    assert judge(Limits(errors=3), errors=3) is None
    assert judge(Limits(stall_ms=3.0)) == "the loop was held for 4 ms, of at most 3 ms"
