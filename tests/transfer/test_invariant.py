"""An invariant is asked of a state, and its violation names method, file and line."""

from __future__ import annotations

import pytest

from netswap.errors import DeadlinePassed
from netswap.transfer import State, invariant, violated
from netswap.transfer.state import StateMeta
from tests.transfer.conftest import Pushed

TALK = """
from netswap import State, invariant

def plain(check):
    return check

class Talk(State, kind="k", version=1):
    history: list[str] = []

    @invariant
    @plain
    def history_is_bounded(self) -> bool:
        return len(self.history) <= LIMIT

LIMIT = 2
"""


def test_a_state_that_keeps_its_invariants_is_not_violated(pushed: Pushed) -> None:
    """Nor one that has none."""
    assert violated(pushed(TALK).Talk(["a", "b"])) is None

    class Bare(State, kind="k", version=1):
        """Nothing."""

    assert violated(Bare()) is None


def test_what_returns_nothing_true_is_violated_at_the_method(pushed: Pushed) -> None:
    """The line is that of ``def``; the file is named as its author knows it."""
    found = violated(pushed(TALK).Talk(["a", "b", "c"]))
    assert found is not None
    assert found.name == "Talk.history_is_bounded"
    assert (found.file, found.line) == ("pushed.py", 12)
    assert str(found) == "the invariant Talk.history_is_bounded does not hold: it returned False"


@pytest.mark.parametrize("error", ["ValueError('odd')", "SystemExit('odd')"])
def test_what_raises_is_violated_at_the_line_that_raised(pushed: Pushed, error: str) -> None:
    """Even when it wants to end the process."""
    source = TALK.replace("return len(self.history) <= LIMIT", f"raise {error}")
    found = violated(pushed(source).Talk())
    assert found is not None
    assert (found.file, found.line) == ("pushed.py", 13)
    assert f"raised {error.partition('(')[0]}: odd" in found.why


def test_a_method_that_forgets_its_return_is_violated(pushed: Pushed) -> None:
    """None is not true; the text says what came back."""
    found = violated(pushed(TALK.replace("return len", "len")).Talk())
    assert found is not None
    assert found.why == "does not hold: it returned None"


def test_a_deadline_passes_through() -> None:
    """An endless invariant is stopped by whoever asked it."""

    class Slow(State, kind="k", version=1):
        @invariant
        def ends(self) -> bool:
            raise DeadlinePassed("too long")

    with pytest.raises(DeadlinePassed):
        violated(Slow())


def test_invariants_are_inherited_and_overridden() -> None:
    """A plain method under the same name takes an invariant back; a mixin can bring one."""

    class Positive:
        __slots__ = ()

        @invariant
        def is_positive(self) -> bool:
            return self.count > 0  # type: ignore[attr-defined, no-any-return]  # the state's own

    class First(State, Positive, kind="k", version=1):
        count: int = 0

        @invariant
        def is_small(self) -> bool:
            return self.count < 10

    class Second(First, kind="k", version=2):
        def is_small(self) -> bool:
            return False

    assert isinstance(First, StateMeta)
    assert set(First.__invariants__) == {"is_small", "is_positive"}
    assert violated(First()) is not None
    assert violated(Second(5)) is None
    assert violated(Second(99)) is None
    found = violated(Second(0))
    assert found is not None
    assert found.name == "Second.is_positive"


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ("@invariant\n    async def check(self): return True", "is a plain method"),
        ("@invariant\n    def check(self, other): return True", "takes self and nothing else"),
        ("@invariant\n    def check(): return True", "takes self and nothing else"),
        ("@invariant\n    @property\n    def check(self): return True", "is a plain method"),
        ("@property\n    @invariant\n    def check(self): return True", "a property around an inv"),
        ("@staticmethod\n    @invariant\n    def check(x): return True", "around an invariant"),
    ],
)
def test_what_could_not_be_asked_is_refused_where_it_is_written(
    pushed: Pushed, declared: str, says: str
) -> None:
    """A coroutine is always true, and a property is found by nobody."""
    source = f"from netswap import *\nclass Talk(State, kind='k', version=1):\n    {declared}\n"
    with pytest.raises(TypeError, match=says):
        pushed(source)


def test_an_invariant_of_behaviour_is_refused(pushed: Pushed) -> None:
    """Only states are asked; it would be left out in silence."""
    source = (
        f"{TALK}\nfrom netswap import Connection\nclass Chat(Connection[Talk]):\n"
        "    @invariant\n    def is_quiet(self):\n        return True\n"
    )
    with pytest.raises(TypeError, match=r"Chat\.is_quiet is an invariant: write it in the State"):
        pushed(source)
