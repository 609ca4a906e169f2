"""Aborting what is under way, whatever it waits for, over real worker processes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from netswap.outcome import Outcome
from netswap.supervisor import Result
from netswap.supervisor.running import Running
from tests.supervisor.conftest import Serve, Server, bundle

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])

REASON = "aborted by `netswap blockers --abort`"


async def begun(server: Server, phase: str, **options: Any) -> asyncio.Task[Result]:
    """A push of version 2 that has got to a phase and waits there."""
    server.lines.clear()
    pushed = asyncio.create_task(server.push(bundle(2), timeout=60.0, **options))
    async with asyncio.timeout(20):
        while not any(line.phase == phase and line.worker == 0 for line in server.lines):
            await asyncio.sleep(0.005)
    return pushed


async def abort(server: Server) -> Result:
    """By an operator."""
    return await server.supervisor.operations.abort(server.lines.append)


@pytest.mark.parametrize(
    ("fault", "phase", "outcome"),
    [
        ("silent prepare", "preparing", Outcome.REFUSED),
        ("silent swap", "swapping", Outcome.ROLLED_BACK),
        ("silent watch", "watching", Outcome.ROLLED_BACK),
    ],
)
async def test_an_abort_brings_the_old_code_back_from_every_phase(
    serve: Serve, fault: str, phase: str, outcome: Outcome
) -> None:
    """Who pushed is told by whom; the next push finds nothing of it."""
    async with serve() as server:
        await server.push(bundle(1))
        server.fault(1, fault)
        options = {"watch": 600.0} if phase == "watching" else {}
        pushed = await begun(server, phase, **options)
        aborted = await abort(server)
        result = await pushed
        assert (aborted.outcome, aborted.what) == (Outcome.DONE, "push k/v2.py: aborted")
        assert (result.outcome, result.what) == (outcome, REASON)
        assert "netswap blockers" in result.advice
        assert server.active == {"k": bundle(1).sha256}
        server.fault(1)
        assert (await server.push(bundle(2))).outcome is Outcome.DONE


async def test_an_abort_while_the_probe_still_loads_is_kept_until_it_can_be_done(
    serve: Serve,
) -> None:
    """No worker has been told of it yet."""
    async with serve() as server:
        pushed = asyncio.create_task(server.push(bundle(2)))
        await server.wait_running("push")
        aborted = await abort(server)
        assert aborted.outcome is Outcome.DONE
        assert (await pushed).outcome is Outcome.REFUSED
        assert server.active == {}


async def test_nothing_under_way_is_a_refusal_with_what_to_do_instead(serve: Serve) -> None:
    """What is committed is undone by a rollback."""
    async with serve() as server:
        await server.push(bundle(1))
        result = await abort(server)
        assert (result.outcome, result.what) == (Outcome.REFUSED, "no transaction is under way")
        assert result.advice == "`netswap rollback` undoes the last transaction"
        assert result.state == "nothing was changed"


async def test_an_abort_that_comes_after_the_commit_does_not_say_that_old_code_serves(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused, with the command that undoes it and the code that serves."""
    async with serve() as server:
        running = Running("push k/v2.py", server.lines.append)
        running.result = await server.push(bundle(1))
        running.end()
        monkeypatch.setattr(server.supervisor.operations, "_running", running)
        result = await abort(server)
        monkeypatch.undo()
        assert result.outcome is Outcome.REFUSED
        assert result.what == "`push k/v2.py` was committed before it could be aborted"
        assert (result.state, result.transaction) == ("the new code serves", 1)
