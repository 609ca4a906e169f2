"""An exchange: the table, and what a coroutine may do in each state."""

from __future__ import annotations

from itertools import product

import pytest

from netswap.errors import TransitionError
from netswap.http.exchange import NOWHERE, TRANSITIONS, Event, Exchange, Phase
from netswap.http.message import Head, Request


@pytest.mark.parametrize(("phase", "event"), list(product(Phase, Event)))
def test_nothing_moves_but_by_the_table(phase, event):
    """What is legal goes where the table says, what is not raises and changes nothing."""
    exchange = Exchange(Request(Head("GET", b"/", "/", b"", "1.1", ())), NOWHERE)
    exchange.phase = phase
    if (phase, event) in TRANSITIONS:
        exchange._move(event)
        assert exchange.phase is TRANSITIONS[phase, event]
    else:
        with pytest.raises(TransitionError):
            exchange._move(event)
        assert exchange.phase is phase
