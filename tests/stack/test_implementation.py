"""What an author's class may define, and what would take the place of something of ours."""

from __future__ import annotations

import asyncio
import weakref
from contextlib import nullcontext
from typing import Any

import pytest

from netswap import Connection, Service, Session, State
from netswap.hotswap import Change, Phase, Swap
from netswap.stack import Host, Implementation


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


class Greets1(Service[Hall]):
    """The first of two versions."""

    def greet(self) -> str:
        """Say who it is."""
        return "first"


def greets(word: str) -> type[Service[Any]]:
    """A second one: its methods have free variables and a base, and it has a slot more."""

    class Greets2(Greets1, Service[Hall], uses={"clock": "timer.service"}):
        """The second."""

        def greet(self) -> str:
            return f"{super().greet()}, {word}"

    return Greets2


def swapped() -> tuple[Any, Any]:
    """The handle of a service that was swapped, and the object that it was."""
    host = Host(asyncio.get_running_loop(), None)
    host.install(Greets1)
    handle = host.services[Hall.__kind__]
    old = handle.target
    change = Change(Hall.__kind__, greets("second"), Greets1, ())
    swap = Swap(host.table, [change], [handle], host.clock, nullcontext)
    assert swap.slice(1_000_000).phase is Phase.DONE
    return handle, old


async def test_an_object_is_built_and_never_patched() -> None:
    """So slots, free variables and ``super()`` are what Python makes them, in both versions."""
    handle, old = swapped()
    assert handle.target is not old
    assert handle.target.greet() == "first, second"
    assert (type(old), old.greet()) == (Greets1, "first")


async def test_only_the_handle_is_referenced_weakly() -> None:
    """A reference to an object would die in a swap, and nobody can have one."""
    handle, old = swapped()
    reference = weakref.ref(handle)
    with pytest.raises(TypeError, match="weak reference"):
        weakref.ref(old)
    with pytest.raises(TypeError, match="weak reference"):
        weakref.ref(handle.target)
    found = reference()
    assert found is not None
    assert found.target.greet() == "first, second"
