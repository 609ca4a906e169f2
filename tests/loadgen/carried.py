"""A run within the test's own process: one load process's lines against a server of the test's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from loadgen.conductor import Observation
from loadgen.events import EventRecord
from loadgen.findings import build_report
from loadgen.judging import judge, parse_threshold
from loadgen.lines import Traffic, complete
from loadgen.plan import Event, Plan

__all__ = ["MS", "RUNS", "carried", "event_at", "is_disturbed", "served", "undisturbed"]

MS = 1_000_000
SECOND = 1000 * MS
INVALID = 12
RUNS = 5
"""At most, until one is not disturbed."""
_DISTURBED = ("the generator stood still", "the generator was late")


def is_disturbed(reasons: Iterable[str]) -> bool:
    """Whether the machine had no time for the generator: what it saw proves nothing (exit 12)."""
    return any(reason.startswith(_DISTURBED) for reason in reasons)


async def undisturbed(run: Callable[[], Awaitable[Observation]], *limits: str) -> Observation:
    """What the first run saw that was not disturbed, nor proves nothing of a limit; or the last."""
    thresholds = [parse_threshold(limit) for limit in limits]
    for _ in range(RUNS):
        seen = await run()
        verdict = judge(build_report(seen), thresholds)
        unproved = limits and verdict.exit_code == INVALID
        if not unproved and not is_disturbed(verdict.reasons):
            break
    return seen


async def served(factory: Callable[[], asyncio.Protocol], **asked: Any) -> Observation:
    """What the lines of a plan see of this server; ``asked`` completes the plan."""
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, backlog=4096)
    try:
        return await carried(server.sockets[0].getsockname()[1], **asked)
    finally:
        server.close()
        await server.wait_closed()


async def carried(
    port: int, *, payload: int | None = None, depth: int | None = None, ms: int = 300, **asked: Any
) -> Observation:
    """What they see of what listens there."""
    plan = Plan(
        **{"protocol": "verify", "connections": 2, "grace_ns": SECOND, **asked},
        host="127.0.0.1", port=port, duration_ns=ms * MS,
    )  # fmt: skip
    plan = complete(plan, payload, depth)
    traffic = Traffic(plan, 0, "nonce")
    await traffic.dial()
    start = time.monotonic_ns()
    await traffic.run(start)
    return Observation(
        plan, start, traffic.tally, traffic.samples, traffic.due, [traffic.busy_ns],
        counted=traffic.counted, paused_ns=traffic.paused_ns, members=traffic.members,
        late=traffic.late, left=traffic.left, pauses=[traffic.pauses],
    )  # fmt: skip


def event_at(start: int, exit_code: int = 0) -> EventRecord:
    """A push of a millisecond, at this time (ns)."""
    event = Event("push", 0, ("v2.py",))
    return EventRecord(event, ["netswap"], start, start + MS, exit_code, "", "")
