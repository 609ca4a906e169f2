"""Who is passed over on the way back, on both loops: a worker that was silent and has not begun."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack

import pytest

from netswap.channel import messages
from netswap.events import Refusal, Stuck
from netswap.outcome import Outcome
from netswap.supervisor import transaction as driver
from netswap.supervisor.agreement import Agreement, Phase
from netswap.supervisor.transaction import Lookout, Plan, Transaction
from netswap.supervisor.versions import Change, Record

TX = 7
NO = Refusal("swap", "no")


class Silence(Lookout):
    """Nobody says anything, unless it is looked at: then ``wakes`` is called."""

    def __init__(self) -> None:
        self.wakes: Callable[[], None] = lambda: None

    def silence(self, slot: int) -> float:  # noqa: ARG002
        """For ever."""
        return math.inf

    async def stuck(self, slots: Iterable[int]) -> list[Stuck]:
        """All that is known is who."""
        self.wakes()
        return [Stuck(slot, 0, math.inf) for slot in slots]


class Told:
    """A push that was told to swap in workers 0 and 1; worker 0 has failed and is back by now."""

    def __init__(self, timeout: float) -> None:
        self.lookout = Silence()
        self.records: list[Record] = []
        self.sent: list[tuple[int, messages.Message]] = []
        self.transaction = Transaction(
            Agreement(TX, [0, 1]),
            Plan("push", [Change("k", None, "b", 2)], timeout),
            lambda slot, message: self.sent.append((slot, message)),
            self.records.append,
            lambda _line: None,
            self.lookout,
        )
        self.transaction.begin()
        for slot in (0, 1):
            self.transaction.take(messages.Prepared(TX, slot, [], {}))
        self.transaction.take(messages.SwapFailed(TX, 0, NO))
        self.transaction.take(messages.Reverted(TX, 0))

    async def ended(self) -> Outcome:
        """How it ends now that all the time that a silent worker has is over."""
        transaction = self.transaction
        while not transaction.agreement.done:
            if not await transaction._collect(Phase.REVERTING):
                await transaction._be_late(Phase.REVERTING)
        assert self.records[-1].outcome == transaction.agreement.outcome.value
        return transaction.agreement.outcome


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way back has no time at all."""
    for name in ("PROMPT", "SETTLE", "GRACE"):
        monkeypatch.setattr(driver, name, 0.0)


async def test_one_that_read_no_swap_in_time_is_passed_over() -> None:
    """It will read the swap too late, and then the revert: it was never touched."""
    assert await Told(timeout=0.0).ended() is Outcome.ROLLED_BACK


async def test_one_that_may_still_begin_is_not_passed_over() -> None:
    """The way back ends long before the time of a push that has ten minutes: it could begin."""
    told = Told(timeout=600.0)
    assert await told.ended() is Outcome.MIXED
    swap = told.sent[3][1]
    assert isinstance(swap, messages.Swap)
    assert swap.until > time.monotonic()
    assert told.transaction.agreement.stuck == {1}


async def test_what_lies_in_the_socket_is_read_before_the_time_is_called_over() -> None:
    """A supervisor that stood still itself finds the deadline and the Begun at the same moment."""
    told, loop = Told(timeout=0.0), asyncio.get_running_loop()
    with ExitStack() as stack:
        ours, theirs = map(stack.enter_context, socket.socketpair())
        theirs.send(b"begun")

        def read() -> None:
            ours.recv(5)
            told.transaction.offer(messages.Begun(TX, 1))

        loop.add_reader(ours, read)
        stack.callback(loop.remove_reader, ours)
        assert await told.ended() is Outcome.MIXED
    assert told.transaction.agreement.stuck == {1}


async def test_what_was_said_in_time_counts_though_it_is_taken_later() -> None:
    """The answer waits in the queue when the time is over."""
    told = Told(timeout=0.0)
    told.transaction.offer(messages.Begun(TX, 1))
    told.transaction.offer(messages.Reverted(TX, 1))
    assert await told.ended() is Outcome.ROLLED_BACK
    assert told.transaction.agreement.stuck == set()


async def test_one_that_goes_on_while_it_is_looked_at_is_not_mixed() -> None:
    """To learn what a silent one does takes a moment, in which it may say that it is back."""
    told = Told(timeout=0.0)
    told.transaction.take(messages.Begun(TX, 1))
    told.lookout.wakes = lambda: told.transaction.offer(messages.Reverted(TX, 1))
    assert await told.ended() is Outcome.ROLLED_BACK


async def test_a_begun_of_another_transaction_says_nothing_of_this_one() -> None:
    """It was passed over in the one before, and has gone on since."""
    told = Told(timeout=0.0)
    told.transaction.offer(messages.Begun(TX - 1, 1))
    assert await told.ended() is Outcome.ROLLED_BACK
