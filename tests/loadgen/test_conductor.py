"""The conductor and load processes that do not do as they are told; no process is started."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest

from loadgen.conductor import Observation, _hear_outcomes, _longest_ns, _merge, _Worker
from loadgen.continuity import Tally
from loadgen.findings import build_report
from loadgen.judging import judge
from loadgen.messages import Outcome, encode
from loadgen.plan import Plan
from loadgen.samples import Samples

PLAN = Plan(protocol="echo", host="h", port=1, connections=1, duration_ns=10**9)


class Silent:
    """A process that says these words and no more; killed, it has ended."""

    def __init__(self, said: bytes) -> None:
        self.stdout = asyncio.StreamReader()
        self.stdout.feed_data(said)
        self.returncode: int | None = None

    def kill(self) -> None:
        self.returncode = -9
        self.stdout.feed_eof()


async def heard(since_ns: int, *said: bytes) -> tuple[Observation, list[_Worker]]:
    """What is kept of processes that said this, when the run began so long ago."""
    workers = [_Worker(cast(Any, Silent(words)), index) for index, words in enumerate(said)]
    seen = Observation(PLAN, time.monotonic_ns() - since_ns, Tally(connected=1))
    await asyncio.wait_for(_hear_outcomes(seen, workers), 20)
    for worker in workers:
        _merge(seen, worker)
    return seen, workers


@pytest.mark.asyncio
async def test_a_load_process_that_is_stuck_is_ended_and_the_run_is_invalid() -> None:
    """Stopped, or flooded by the server, it would keep the run from its end for ever."""
    done = encode(Outcome(Tally(answered=7), Samples.empty().to_bytes(), 0, 0))
    seen, workers = await heard(_longest_ns(PLAN), done, b"")
    assert [worker.overdue for worker in workers] == [False, True]
    assert seen.tally.answered == 7
    verdict = judge(build_report(seen))
    assert verdict.exit_code == 12
    assert "load process 1 was stopped or stuck long after the end" in verdict.reasons[0]
