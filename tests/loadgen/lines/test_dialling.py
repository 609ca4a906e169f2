"""Lines are connected with numbers of their own, and one that is gone at once is not told of."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loadgen.dialects import Opening
from loadgen.lines import Traffic, complete
from loadgen.lines.destination import Destination
from loadgen.lines.dialling import Dialling
from loadgen.lines.line import Line
from loadgen.plan import Plan


def dialling(
    index: int, came: Callable[[Line], None], monkeypatch: pytest.MonkeyPatch
) -> tuple[Traffic, Dialling]:
    """Of two processes with two connections each, whose server closes each at once."""

    async def connect(_self: Destination, factory: Callable[[], Line]) -> Line:
        return factory()

    monkeypatch.setattr(Destination, "connect", connect)
    plan = Plan(protocol="echo", host="h", port=1, connections=4, processes=2, duration_ns=1)
    traffic = Traffic(complete(plan, None, None), index, "nonce")
    opening = Opening(-1, 0, "nonce", traffic.tally, traffic.counted)
    return traffic, Dialling(traffic, index, opening, came)


async def test_one_that_is_gone_when_its_connect_returns_has_not_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was connected, and its end has been counted already."""
    came: list[Line] = []
    traffic, dial = dialling(0, came.append, monkeypatch)
    await dial.dial_all()
    assert (traffic.tally.connected, dial.under_way, came) == (2, 0, [])


async def test_no_two_lines_have_one_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that are dialled later, by different processes."""
    numbers: list[int] = []
    for index in range(2):
        _, dial = dialling(index, lambda _line: None, monkeypatch)
        for _ in range(3):
            line = await dial.dial_next()
            assert line is not None
            assert line.connection % 2 == index, "a number tells whose it is"
            numbers.append(line.connection)
    assert sorted(numbers) == [4, 5, 6, 7, 8, 9]
