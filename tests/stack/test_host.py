"""The host on a real loop: ``async def`` methods that are called from plain places."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from netswap.stack import Host, Service
from netswap.transfer import State


class Told(State, kind="post.office", version=1):
    """What arrived."""

    letters: list[str] = []
    answers: list[list[Any]] = []


class Office(Service[Told], clustered=True):
    """Takes letters, slowly."""

    async def deliver(self, letter: str) -> str:
        """Yield once, then keep it."""
        await asyncio.sleep(0)
        self.state.letters.append(letter)
        return f"{letter} kept"

    async def lose(self, letter: str) -> None:
        """Fail after a turn of the loop."""
        await asyncio.sleep(0)
        raise ValueError(f"{letter} fell into the river")

    def on_answer(self, token: int, value: object, error: str | None) -> None:
        """Keep the answer."""
        self.state.answers.append([token, value, error])


async def until(condition: Any) -> None:
    """Turn the loop until something holds, a bounded number of times."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


def office() -> tuple[Host, Any]:
    """A host with the post office."""
    host = Host(asyncio.get_running_loop(), structlog.get_logger())
    host.install(Office)
    return host, host.services["post.office"]


async def test_guarded_call_of_an_async_method_is_carried_out() -> None:
    """A timer or a cast that names an async method runs it to its end."""
    host, entry = office()
    assert host.guarded(entry, "deliver", "a letter") is None
    await until(lambda: entry.target.state.letters == ["a letter"])


async def test_failure_of_an_async_method_is_counted_as_a_fault() -> None:
    """An async method that fails in the background is that object's fault and is logged."""
    host, entry = office()
    host.guarded(entry, "lose", "a letter")
    await until(lambda: host.faults == 1)


async def test_request_to_the_own_slot_answers_what_an_async_method_returns() -> None:
    """A part that asks itself gets values and errors of async methods like anybody else."""
    _, entry = office()
    cluster = entry.target.cluster
    cluster.request(0, "deliver", ("one",), entry, "on_answer", 1)
    cluster.request(0, "lose", ("two",), entry, "on_answer", 2)
    answers = entry.target.state.answers
    await until(lambda: len(answers) == 2)
    assert sorted(answers) == [
        [1, "one kept", None],
        [2, None, "ValueError: two fell into the river"],
    ]
