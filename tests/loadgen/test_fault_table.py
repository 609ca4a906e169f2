"""The checker's table: what a server does wrong, what it is called, and the exit code."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import pytest

from loadgen.conductor import Observation
from loadgen.continuity import FAULTS
from loadgen.findings import build_report
from loadgen.judging import judge, parse_threshold
from tests.loadgen.carried import MS, event_at, served, undisturbed
from tests.loadgen.faulty_server import PROTOCOLS, Counter, Server

OPEN: dict[str, Any] = {"rate": 400.0}
CLOSED: dict[str, Any] = {}
TIMER: dict[str, Any] = {"scenario": "timer", "hold_ns": 100_000_000}
LONGER: dict[str, Any] = {"ms": 700}
"""A closed loop that goes on long enough after a stall to hide it."""


class Row(NamedTuple):
    """A fault, injected once on each of two connections; and the finding, ``""`` for none."""

    protocol: str
    fault: str
    found: str
    exit_code: int
    asked: dict[str, Any] = OPEN
    limit: str = ""


TABLE = [
    Row("verify", "none", "", 0),
    Row("verify", "drop", "lost", 10),
    Row("verify", "duplicate", "duplicated", 10),
    Row("verify", "reorder", "reordered", 10),
    Row("verify", "corrupt", "corrupted", 10),
    Row("verify", "forget", "not_carried", 10),
    Row("verify", "disconnect", "unknown", 10),
    Row("verify", "tear", "unknown", 10),
    Row("verify", "exceed", "corrupted", 10),
    Row("verify", "flap", "not_monotone", 10),
    Row("verify", "stall", "", 11, OPEN, "window.p99>100ms"),
    Row("verify", "stall", "", 0, LONGER, "p99>100ms"),
    Row("verify", "stall", "", 11, LONGER, "corrected.p99>100ms"),
    Row("verify", "newest", "", 0),
    Row("echo", "drop", "lost", 10),
    Row("echo", "corrupt", "corrupted", 10),
    Row("kv", "drop", "lost", 10),
    Row("kv", "duplicate", "duplicated", 10),
    Row("kv", "exceed", "corrupted", 10),
    Row("kv", "exchange", "corrupted", 10),
    Row("kv", "forget", "not_carried", 10),
    Row("http", "none", "", 0),
    Row("http", "drop", "lost", 10),
    Row("http", "exceed", "corrupted", 10),
    Row("http", "tear", "unknown", 10),
    Row("http", "reorder", "reordered", 10),
    Row("http", "mix", "mixed_version", 10),
    Row("counter", "none", "", 0, CLOSED),
    Row("counter", "recount", "miscounted", 10, CLOSED),
    Row("counter", "skip", "miscounted", 10, CLOSED),
    Row("counter", "disconnect", "unknown", 10, CLOSED),
    Row("http", "punctual", "", 0, TIMER),
    Row("http", "early", "early", 10, TIMER),
    Row("http", "refuse", "corrupted", 10, TIMER),
    Row("http", "late", "", 11, TIMER, "max>50ms"),
    Row("http", "twice", "duplicated", 10, TIMER),
]


@pytest.mark.asyncio(loop_factories=["uvloop"])  # a load process always runs on it
@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.protocol} {row.fault} {row.limit}")
async def test_each_fault_is_named_and_has_its_exit_code(row: Row) -> None:
    """A fault is found as what it is and as nothing else, and a faithful server is acquitted.

    A push begins with the run, and a stall of 0.3 s is over the limit on its window; in a closed
    loop, as it is corrected. A timer that is late is over the limit of the run.
    """

    async def run() -> Observation:
        Counter.shared.clear()
        Server.waiting.clear()
        server = partial(Server, PROTOCOLS[row.protocol], row.fault)
        seen = await served(server, protocol=row.protocol, **row.asked)
        seen.events.append(event_at(seen.start or 0))
        return seen

    limits = [row.limit] if row.limit else []
    seen = await undisturbed(run, *limits)
    report = build_report(seen)
    verdict = judge(report, [parse_threshold(limit) for limit in limits])
    dropped = {"dropped"} if row.fault in ("disconnect", "tear") else set()
    found = {name for name in FAULTS if getattr(report.tally, name)}
    named = ", ".join(sorted(found)) or f"no fault {row.limit}"
    print(f"{row.protocol:<9}{row.fault:<12}{named:<30}exit {verdict.exit_code}")
    assert found - dropped == {row.found} - {""}
    assert verdict.exit_code == row.exit_code, verdict.reasons
    assert report.tally.answered >= 4


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_connection_that_stays_on_old_code_is_seen_by_who_asks() -> None:
    """No answer is wrong and nobody goes back; yet a push that is done has not reached all."""
    server = partial(Server, PROTOCOLS["verify"], "stay")
    seen = await undisturbed(lambda: served(server, protocol="verify", **OPEN))
    rows = zip(seen.samples.version, seen.samples.sent, strict=True)
    seen.events.append(event_at(min(sent for version, sent in rows if version > 1) - 2 * MS))
    report = build_report(seen)
    assert judge(report).exit_code == 0
    verdict = judge(report, [parse_threshold("stale>0")])
    (reason,) = verdict.reasons
    assert verdict.exit_code == 11
    assert reason == f"stale>0: it is {report.events[0].settled.stale}"


def test_the_table_has_every_fault() -> None:
    """Each class of the checker is injected at least once; a refused connect is tried elsewhere."""
    assert {row.found for row in TABLE} - {""} == set(FAULTS) - {"dropped", "refused"}
