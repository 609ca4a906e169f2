"""A coroutine in steps, each of which runs inside of something."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from netswap.steps import in_steps


class Around:
    """Writes down when a step begins and ends, and how it has."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.seen.append("[")
        try:
            yield
        finally:
            self.seen.append("]")


async def test_each_step_is_inside_and_no_wait_is() -> None:
    """Other code of the loop runs between two steps, outside; the value comes through."""
    around = Around()
    turns = asyncio.Event()

    async def work() -> str:
        around.seen.append("a")
        await turns.wait()
        around.seen.append("b")
        return "done"

    task = asyncio.ensure_future(asyncio.wait_for(in_steps(work(), around), 10))
    while around.seen[-1:] != ["]"]:
        await asyncio.sleep(0)
    around.seen.append("other")
    turns.set()
    assert await task == "done"
    assert around.seen == ["[", "a", "]", "other", "[", "b", "]"]


async def test_what_it_raises_comes_out() -> None:
    """Also in its first step."""

    async def work() -> None:
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await in_steps(work(), Around())


async def test_a_cancellation_goes_in_and_may_be_answered() -> None:
    """It is thrown where the work waits, inside, and what that does about it counts."""
    around = Around()

    async def work() -> str:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            around.seen.append("cancelled")
        return "undone"

    async def whole() -> str:
        return await in_steps(work(), around)

    task = asyncio.ensure_future(whole())
    while not around.seen:
        await asyncio.sleep(0)
    task.cancel()
    assert await task == "undone"
    assert around.seen == ["[", "]", "[", "cancelled", "]"]


async def test_what_is_around_may_end_a_step() -> None:
    """As a deadline does; the work is closed with its frame."""
    closed: list[bool] = []

    @contextmanager
    def late() -> Iterator[None]:
        yield
        raise TimeoutError("too long")

    async def work() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            closed.append(True)

    coroutine = work()
    with pytest.raises(TimeoutError, match="too long"):
        await in_steps(coroutine, late)
    coroutine.close()
    assert closed == [True]
