"""The probe's deadline, when it passes before or between the modules."""

from __future__ import annotations

from pathlib import Path

from netswap.modules import Bundle
from netswap.probe import run_probe

ECHO = Path(__file__).parents[1] / "protocols" / "echo" / "v1.py"


def test_a_deadline_that_is_too_short_is_named() -> None:
    """Not taken for a module that ends the process which loads it."""
    (refusal,) = run_probe([Bundle.from_paths([ECHO])], timeout=0.001).refusals
    assert refusal.reason == "not done after 0.001 s"
