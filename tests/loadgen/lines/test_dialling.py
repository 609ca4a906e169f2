"""Lines are connected with numbers of their own, and one that is gone at once is not told of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

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


async def test_a_connect_that_is_given_up_when_it_is_made_is_no_drop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the end of the run nobody comes any more: then the loop closes what it has just opened."""
    traffic, dial = dialling(0, lambda _line: None, monkeypatch)
    opened, closed = asyncio.Event(), asyncio.Event()
    silent = cast(Any, SimpleNamespace(write=lambda _: None, abort=lambda: None))

    async def connect(_self: Destination, factory: Callable[[], Line]) -> Line:
        line = factory()
        line.connection_made(silent)
        opened.set()
        try:
            await asyncio.Event().wait()
        finally:
            loop = asyncio.get_running_loop()
            loop.call_soon(line.connection_lost, None)
            loop.call_soon(closed.set)
        return line

    monkeypatch.setattr(Destination, "connect", connect)
    coming = asyncio.create_task(dial.dial_next())
    await opened.wait()
    coming.cancel()
    await closed.wait()
    assert coming.cancelled()
    assert traffic.tally.faults() == 0, traffic.tally.examples
