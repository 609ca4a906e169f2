"""What an author's class may define, and what would take the place of something of ours."""

from __future__ import annotations

from typing import Any

import pytest

from netswap import Connection, Service, Session, State
from netswap.stack import Implementation


class Talk(State, kind="named.connection", version=1):
    """Nothing."""


class Hall(State, kind="named.hall", version=1):
    """Nothing."""


class Mixin:
    """Reuse without a kind."""

    def take_over(self, old: Any) -> None:
        """Its author does not know that this is what ends a swap."""


OURS = ("take_over", "data_received", "connection_lost", "attributes", "blockers", "state", "_wire")
THEIRS = ("on_data", "on_close", "close", "greet", "names", "__repr__", "expected_diff")
USUAL = ("begin", "discard", "join", "leave", "quit", "reset", "start", "stop", "send", "next")


def define(base: Any, name: str, **options: Any) -> Any:
    """A class whose only own attribute has this name."""
    return type(base)("Mine", (base,), {"__module__": "mine", name: lambda *_: None}, **options)


@pytest.mark.parametrize("name", OURS)
def test_what_transports_swaps_and_looks_call_can_not_be_replaced(name: str) -> None:
    """An error of it would end the worker, or leave a connection half swapped."""
    with pytest.raises(TypeError, match=rf"Mine\.{name} would replace netswap's own"):
        define(Connection, name)


@pytest.mark.parametrize("name", [*THEIRS, *USUAL])
def test_hooks_and_names_of_their_own_are_the_authors(name: str) -> None:
    """Also what only an author calls, which may have something put around it."""
    assert issubclass(define(Connection, name), Implementation)


def test_a_session_has_its_run() -> None:
    """It is what its author writes; where it is stopped is not."""
    assert issubclass(define(Session, "run"), Session)
    with pytest.raises(TypeError, match=r"Mine\.at_rest"):
        define(Session, "at_rest")


def test_a_mixin_replaces_nothing_either() -> None:
    """The names of plain classes among the bases count, too."""
    with pytest.raises(TypeError, match=r"Late\.take_over"):

        class Late(Mixin, Connection[Talk]):
            pass


def test_a_handle_has_no_name_of_ours_but_may_exchange_a_part() -> None:
    """``input`` is what a session uses; another buffer may stand there."""
    with pytest.raises(TypeError, match=r"Mine\.undo_building"):
        define(Service, "x", uses={"undo_building": "named.hall"})
    assert define(Session, "x", uses={"input": "buffer.other"}).uses["input"] == "buffer.other"
