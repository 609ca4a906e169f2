"""Observations made by hand, for tests of what is told of a run."""

from __future__ import annotations

from loadgen.conductor import Observation
from loadgen.continuity import FaultName, Tally
from loadgen.events import EventRecord
from loadgen.plan import Event, Plan

__all__ = ["MS", "SECOND", "go_wrong", "pushed_at", "steady_run"]

MS = 1_000_000
SECOND = 1_000_000_000


def steady_run(
    seconds: int = 6, *events: EventRecord, slow: dict[int, int] | None = None
) -> Observation:
    """A good open-loop run: an operation a millisecond, each of 1 ms; ``slow`` ones of so many."""
    count, long = 1000 * seconds, SECOND * seconds
    plan = Plan(protocol="verify", host="h", port=1, connections=2, duration_ns=long, rate=1000.0)
    tally = Tally(
        issued=count, answered=count, connected=2, by_version={1: count // 2, 2: count // 2}
    )
    seen = Observation(plan, 0, tally, due=count, busy_ns=[long // 10], events=list(events))
    for number in range(count):
        took = (slow or {}).get(number, 1)
        seen.samples.intended.append(number * MS)
        seen.samples.sent.append(number * MS + 10_000)
        seen.samples.done.append(number * MS + took * MS)
        seen.samples.version.append(1 if number < count // 2 else 2)
        seen.samples.connection.append(number % 2)
    return seen


def pushed_at(ms: int, exit_code: int = 0, said: str = '{"outcome": "committed"}') -> EventRecord:
    """A push that took 200 ms."""
    event = Event("push", ms * MS, ("v2.py",))
    command = ["netswap", "push", "v2.py"]
    return EventRecord(event, command, ms * MS, (ms + 200) * MS, exit_code, said, "")


def go_wrong(seen: Observation, what: FaultName, *at_ms: int) -> None:
    """A fault of this kind at each of these times."""
    for at in at_ms:
        seen.tally.now = at * MS
        seen.tally.fault(what, 0, -1, "made by hand")
