"""Which changed kinds ask each other, and when all of them can change in one stroke."""

from __future__ import annotations

from typing import Any

import pytest

from netswap import Connection, Part, Service, Session, State
from netswap.hotswap import Change
from netswap.worker.together import STROKE_US, callers, fits_a_stroke, together


class Shelf1(State, kind="shop.shelf", version=1):
    """What lies there."""


class Shelf2(State, kind="shop.shelf", version=2):
    """What lies there."""


class Desk1(State, kind="shop.desk", version=1):
    """Between the two."""


class Client1(State, kind="shop.connection", version=1):
    """Who asks."""


class Client2(State, kind="shop.connection", version=2):
    """Who asks."""


class OldShelf(Service[Shelf1], clustered=True):
    """The first version."""


class NewShelf(Service[Shelf2]):
    """The second version."""


class Desk(Service[Desk1], uses={"shelf": "shop.shelf"}):
    """Stays as it is."""


class OldClient(Connection[Client1], uses={"shelf": "shop.shelf"}):
    """Asks the shelf."""


class NewClient(Connection[Client2], uses={"desk": "shop.desk"}):
    """Asks the desk, which asks the shelf."""


class NewSession(Session[Client2]):
    """Asks nobody."""


class Bytes1(State, kind="buffer.receive", version=1):
    """What has come."""


class Buffer(Part[Bytes1]):
    """Of one connection."""


SHELF = Change("shop.shelf", NewShelf, OldShelf, ())
CLIENT = Change("shop.connection", NewClient, OldClient, ())
ALL: dict[str, set[Any]] = {
    "shop.shelf": {OldShelf, NewShelf},
    "shop.desk": {Desk},
    "shop.connection": {OldClient, NewClient},
}


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ({OldClient, NewClient}, ["shop.connection uses shop.shelf"]),
        ({NewClient}, ["shop.connection uses shop.desk, which uses shop.shelf"]),
        ({NewSession}, []),
    ],
    ids=["directly", "through one that stays", "not at all"],
)
def test_a_changed_kind_that_leads_to_another_asks_it(classes: set[Any], told: list[str]) -> None:
    """By what old and new code use, and by what lies in between."""
    found = together([SHELF, CLIENT], {**ALL, "shop.connection": classes})
    assert found == (["shop.shelf"], told)


@pytest.mark.parametrize(
    "other",
    [
        Change("shop.connection", NewClient, None, ()),
        Change("shop.connection", OldClient, OldClient, ()),
    ],
    ids=["is new", "is written as before"],
)
def test_a_kind_of_which_there_are_no_two_versions_mixes_nothing(other: Change) -> None:
    """Nobody of the one version can ask the other of something."""
    assert together([SHELF, other], ALL).asking == []


def test_a_kind_that_changes_alone_asks_nobody_who_changes() -> None:
    """Its clients stay as they are, and so do the words that they use."""
    assert together([SHELF], ALL).asking == []
    assert together([CLIENT], ALL) == ([], [])


def test_two_that_ask_each_other_are_told_once_each_way() -> None:
    """A circle has an end."""
    classes = {**ALL, "shop.shelf": {OldShelf, type("Odd", (), {"uses": {"a": "shop.connection"}})}}
    assert together([SHELF, CLIENT], classes).asking == [
        "shop.connection uses shop.shelf",
        "shop.shelf uses shop.connection",
    ]


@pytest.mark.parametrize(
    ("change", "predicted_us", "fits"),
    [
        (CLIENT, STROKE_US, True),
        (CLIENT, STROKE_US + 1, False),
        (Change("shop.connection", NewSession, OldClient, ()), 1.0, False),
        (Change("shop.connection", OldClient, NewSession, ()), 1.0, False),
    ],
    ids=["short", "too long", "new code suspends", "old code suspends"],
)
def test_one_stroke_is_short_and_waits_for_nobody(
    change: Change, predicted_us: float, fits: bool
) -> None:
    """Else the loop stood still for too long, or for as long as a call takes."""
    classes: dict[str, set[Any]] = {"shop.connection": {change.before, change.new}}
    assert fits_a_stroke([SHELF, change], {**ALL, **classes}, predicted_us) is fits


def test_a_gate_waits_for_what_can_call_the_changed_kinds() -> None:
    """Or be called back by them; parts join nothing, and timers are called by everything."""
    classes = {**ALL, "other.connection": {NewSession}, "buffer.receive": {Buffer}}
    classes["shop.other"] = {NewSession}
    shop = {"shop.shelf", "shop.desk", "shop.connection"}
    assert callers([SHELF], classes) == callers([CLIENT], classes) == shop
    assert callers([Change("other.connection", NewSession, NewSession, ())], classes) == {
        "other.connection"
    }
    buffer = Change("buffer.receive", Buffer, Buffer, ())
    assert callers([buffer], classes) == {"buffer.receive", "other.connection", "shop.other"}
    assert callers([Change("timer.service", NewShelf, OldShelf, ())], classes) is None
