"""Steps between versions are declared single, and noted in the module that wrote them."""

from __future__ import annotations

import pytest

from netswap.transfer import Migration, migration
from tests.transfer.conftest import Pushed


@pytest.mark.parametrize(("source", "target"), [(1, 1), (1, 3), (3, 1)])
def test_only_single_steps_are_written(source: int, target: int) -> None:
    """Longer ways are found; the error says so."""
    with pytest.raises(TypeError, match="write the single steps, the path is found"):
        migration("k", source, target)


def test_two_steps_may_share_a_function_name(pushed: Pushed) -> None:
    """Both are noted, with kind, versions, what they lose, and their line."""
    module = pushed("""\
        from netswap import migration
        @migration("k", 1, 2)
        def step(old): return old
        @migration("k", 2, 1, lossy=["seen"], derived=["hint"])
        def step(new): return new
        """)
    rows: list[Migration] = module.__netswap_migrations__
    assert [(r.kind, r.source, r.target, r.lossy) for r in rows] == [
        ("k", 1, 2, ()),
        ("k", 2, 1, ("seen",)),
    ]
    assert [row.derived for row in rows] == [(), ("hint",)]
    assert [row.line for row in rows] == [2, 4]


def test_a_step_stays_a_plain_function(pushed: Pushed) -> None:
    """Its author can call it in a test."""
    module = pushed("""\
        from netswap import migration
        @migration("k", 1, 2)
        def up(old): return old | {"seen": 1}
        """)
    assert module.up({"a": 2}) == {"a": 2, "seen": 1}
