"""Durations as people write them."""

from __future__ import annotations

import pytest

from netswap.duration import read_seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("10", 10),
        (10, 10),
        (2.5, 2.5),
        ("10s", 10),
        ("1.5 s", 1.5),
        (" .5s ", 0.5),
        ("500ms", 0.5),
        ("2m", 120),
        ("1h", 3600),
        ("0", 0),
    ],
)
def test_a_duration_has_a_unit_or_is_in_seconds(value: object, seconds: float) -> None:
    """A number as TOML has it, too."""
    assert read_seconds(value) == seconds


@pytest.mark.parametrize(
    "value", ["", "soon", "10 d", "-1s", -1, "1e3", float("nan"), float("inf"), "1s 2s", True, None]
)
def test_what_is_no_duration_is_quoted(value: object) -> None:
    """With what to write in its place."""
    with pytest.raises(ValueError, match="is not a duration such as 10s") as refused:
        read_seconds(value)
    assert str(refused.value).startswith(repr(value))
