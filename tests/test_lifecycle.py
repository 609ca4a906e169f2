"""A life cycle gives the state after an event, or says what has no row."""

from __future__ import annotations

from enum import Enum, auto

import pytest

from netswap.errors import TransitionError
from netswap.lifecycle import LifeCycle


class Lamp(Enum):
    """What lives."""

    OFF = "off"
    ON = "on"


class Event(Enum):
    """What moves it."""

    LIT = auto()


ROWS = LifeCycle("lamp", {(Lamp.OFF, Event.LIT): Lamp.ON})


def test_what_has_a_row_goes_where_it_says():
    """A table is read like any other."""
    assert ROWS[Lamp.OFF, Event.LIT] is Lamp.ON
    assert (Lamp.ON, Event.LIT) not in ROWS
    assert ROWS.get((Lamp.ON, Event.LIT)) is None


def test_what_has_no_row_is_named_and_adds_none():
    """What lives, its state and the event are told, by their values."""
    with pytest.raises(TransitionError, match="lamp has no transition for 1 in on") as caught:
        ROWS[Lamp.ON, Event.LIT]
    assert (caught.value.machine, caught.value.state, caught.value.event) == ("lamp", "on", 1)
    assert len(ROWS) == 1
