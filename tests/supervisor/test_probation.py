"""A canary and a watch over real worker processes, decided by rules and by hand."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import pytest

from netswap.canary import WHOLE, Canary
from netswap.channel import messages
from netswap.events import WorkerReceipt
from netswap.options import Options
from netswap.outcome import Outcome
from netswap.supervisor.agreement import Agreement
from netswap.supervisor.transaction import Plan, Transaction
from netswap.supervisor.versions import Change
from tests.supervisor.conftest import Serve, bundle

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])

TENTH = "10%"


async def test_a_canary_that_stands_its_watch_is_committed(serve: Serve) -> None:
    """The result has the figures of every worker, and the lines were told on the way."""
    async with serve() as server:
        result = await server.push(bundle(), canary=TENTH, watch=5.0)
        assert (result.outcome, server.active) == (Outcome.DONE, {"k": bundle().sha256})
        assert [(row.worker, row.calls) for row in result.watch] == [(0, 10), (1, 10)]
        phases = list(dict.fromkeys(line.phase for line in server.lines))
        assert phases == [
            "loading", "preparing", "swapping the canary", "watching the canary", "swapping",
            "watching", "finishing",
        ]  # fmt: skip
        assert "k v2 new: 2 objects, 10 calls" in next(
            line.text for line in server.lines if line.phase == "watching the canary"
        )


async def test_a_violated_rule_in_one_worker_reverts_in_all(serve: Serve) -> None:
    """Rolled back, with the line of the module and the figures that spoke against it."""
    async with serve() as server:
        await server.push(bundle(1))
        server.fault(1, "violate")
        result = await server.push(bundle(2), watch=5.0)
        assert result.outcome is Outcome.ROLLED_BACK
        assert result.what == "k version 2: failed once"
        assert result.where == "v2.py:5, k, worker 1"
        assert {row.worker: row.errors for row in result.watch}[1] == 1
        assert server.active == {"k": bundle(1).sha256}
        texts = [line.text for line in server.lines if line.worker == 0]
        assert texts[-1] == "serves the old code"


async def test_promote_ends_the_probation_and_says_how_it_ended(serve: Serve) -> None:
    """Both who pushed and who promoted hear the same."""
    async with serve() as server:
        server.fault(0, "silent watch")
        pushed = asyncio.create_task(server.push(bundle(), canary=TENTH, by_hand=600.0))
        await server.wait_running("the canary is on probation")
        assert (await server.supervisor.looks.history())["transactions"][0]["outcome"] == "running"
        promoted = await server.promote()
        assert promoted == await pushed
        assert promoted.outcome is Outcome.DONE
        assert server.active == {"k": bundle().sha256}


async def test_rollback_takes_back_what_is_on_probation(serve: Serve) -> None:
    """The push ends as rolled back; what was committed before is not undone."""
    async with serve() as server:
        await server.push(bundle(1))
        server.fault(1, "silent watch")
        pushed = asyncio.create_task(server.push(bundle(2), watch=600.0))
        await server.wait_running("it is on probation")
        taken = await server.rollback()
        assert (taken.outcome, taken.what) == (Outcome.DONE, "push k/v2.py: taken back")
        result = await pushed
        assert result.outcome is Outcome.ROLLED_BACK
        assert result.what == "taken back by `netswap rollback`"
        assert server.active == {"k": bundle(1).sha256}


async def test_nobody_else_changes_anything_meanwhile(serve: Serve) -> None:
    """A conflict that says what would decide it."""
    async with serve() as server:
        server.fault(0, "silent watch")
        pushed = asyncio.create_task(server.push(bundle(1), watch=600.0))
        await server.wait_running("it is on probation")
        for second in (server.push(bundle(2)), server.rollback("k"), server.swap("k", "1")):
            result = await second
            assert result.outcome is Outcome.CONFLICT
            assert "netswap promote" in result.advice
        assert (await server.promote()).outcome is Outcome.DONE
        await pushed


async def test_without_a_probation_there_is_nothing_to_promote(serve: Serve) -> None:
    """Refused, with what to type."""
    async with serve() as server:
        result = await server.promote()
        assert (result.outcome, result.what) == (Outcome.REFUSED, "nothing is on probation")
        assert result.state == "nothing was changed"
        assert "--canary" in result.advice


async def test_a_canary_that_nobody_promotes_is_taken_back(serve: Serve) -> None:
    """By hand means that rules alone do not promote; the time is finite."""
    async with serve() as server:
        result = await server.push(bundle(), canary=TENTH, by_hand=1.0)
        assert (result.outcome, server.active) == (Outcome.ROLLED_BACK, {})
        assert result.what == "nobody promoted the canary in time"


@pytest.mark.parametrize("how", ["dies by itself", "is killed"])
async def test_a_worker_that_dies_on_probation_means_the_old_set(serve: Serve, how: str) -> None:
    """Its successor boots into it, and the others go back."""
    async with serve() as server:
        await server.push(bundle(1))
        slots = server.supervisor.fleet.slots
        before = slots[1].pid
        server.fault(1, "die in watch" if how == "dies by itself" else "silent watch")
        pushed = asyncio.create_task(server.push(bundle(2), watch=600.0))
        if how == "is killed":
            await server.wait_running("it is on probation")
            assert before is not None
            os.kill(before, signal.SIGKILL)
        result = await pushed
        server.fault(1)
        assert result.outcome is Outcome.ROLLED_BACK
        assert result.what == "worker 1 died while watching"
        while slots[1].pid == before or len(server.supervisor.fleet.serving()) < 2:
            await server.supervisor.fleet.wait_changed()
        assert server.active == {"k": bundle(1).sha256}


async def test_a_worker_that_does_not_answer_in_time_reverts(serve: Serve) -> None:
    """The watch's own length, and a little more."""
    async with serve() as server:
        server.fault(0, "silent watch")
        result = await server.push(bundle(), watch=0.2)
        assert result.outcome is Outcome.ROLLED_BACK
        assert result.what == "worker 0 did not answer in time while watching"


async def test_a_server_that_stops_takes_back_what_is_on_probation(serve: Serve) -> None:
    """It does not wait for a watch that lasts an hour."""
    async with serve() as server:
        server.fault(0, "silent watch")
        pushed = asyncio.create_task(server.push(bundle(), canary=TENTH, by_hand=3600.0))
        await server.wait_running("the canary is on probation")
        began = time.monotonic()
        await server.supervisor.stop()
        assert time.monotonic() - began < 60
        assert "the server shuts down" in (await pushed).what


async def test_a_probation_needs_every_worker(serve: Serve) -> None:
    """One that is not there could not boot before it ends, and one that is not at all is named."""
    async with serve() as server:
        result = await server.push(bundle(), canary="worker=7")
        assert (result.outcome, result.what) == (Outcome.REFUSED, "there is no worker 7")
        slot = server.supervisor.fleet.slots[1]
        assert slot.pid is not None
        server.fault(1, "die at start")
        os.kill(slot.pid, signal.SIGKILL)
        while len(server.supervisor.fleet.serving()) == 2:
            await server.supervisor.fleet.wait_changed()
        result = await server.push(bundle(), watch=5.0)
        assert result.outcome is Outcome.REFUSED
        assert "workers [1] do not serve" in result.what or "still starting" in result.what


def told(canary: str | None, *connections: int, **options: Any) -> list[messages.Message]:
    """What the workers hear of a plan that goes through."""
    heard: list[messages.Message] = []
    slots = range(len(connections))
    chosen = Options(canary=canary, **options)
    what = Plan("push", [Change("k", None, "b", 2)], options=chosen)
    agreement = Agreement(1, slots, probation=what.probation)
    transaction = Transaction(
        agreement, what, lambda _slot, message: heard.append(message), lambda _record: None, print
    )
    transaction.begin()
    for slot in slots:  # one after the other: each is asked when the one before has answered
        transaction.take(messages.Prepared(1, slot, [], {}, connections[slot]))
    for vote in (
        lambda slot: messages.Swapped(1, slot, WorkerReceipt(slot, {}), True),
        lambda slot: messages.Watched(1, slot, [], True),
        lambda slot: messages.Swapped(1, slot, WorkerReceipt(slot, {})),
    ):
        for slot in slots:
            transaction.take(vote(slot))
    return heard


async def test_each_worker_hears_its_own_part_of_the_canary() -> None:
    """Where the share of the ones before it ended, or that it has no part in it."""
    heard = told(TENTH, 27, 23, watch=5.0)
    prepares = [one for one in heard if isinstance(one, messages.Prepare)]
    assert [one.canary for one in prepares] == [Canary.parse(TENTH)] * 2
    assert all(one.probation for one in prepares)
    swaps = [one for one in heard if isinstance(one, messages.Swap)]
    assert [(one.canary, one.carry) for one in swaps] == [
        (True, WHOLE - 1),
        (True, (WHOLE - 1 + 27_000) % WHOLE),
        (False, 0),
        (False, 0),
    ]
    watches = [one for one in heard if isinstance(one, messages.Watch)]
    assert [(one.canary, one.seconds) for one in watches] == [(True, 5.0)] * 2 + [(False, 5.0)] * 2
    first, second = [
        one.canary
        for one in told("worker=1,id=1.7", 3, 3, by_hand=60.0)
        if isinstance(one, messages.Prepare)
    ]
    assert first is not None
    assert second is not None
    assert (first.share, second.share, second.selector) == (0, WHOLE, "id=7")
