"""A server that announces a close and closes is no fault; the client dials again and asks on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from loadgen.findings import build_report
from loadgen.judging import judge, parse_threshold
from loadgen.lines import SCENARIOS
from loadgen.output.summary import render
from tests.loadgen.carried import MS, carried, event_at, served, undisturbed
from tests.loadgen.faulty_server import Http, Server
from tests.loadgen.test_dialects import converse, faults

on_uvloop = pytest.mark.asyncio(loop_factories=["uvloop"])
EACH = 10
ASKED: dict[str, dict[str, Any]] = {
    "steady": {"rate": 400.0},
    "ramp": {"rates": (100.0, 400.0)},
    "steps": {"rates": (100.0, 400.0)},
    "churn": {"requests": 25},
    "loyal": {"rate": 400.0},
    "slow": {"hold_ns": 2 * MS},
    "bulk": {"hold_ns": 5 * MS, "depth": 16, "connections": 2, "payload": 3_000},
    "timer": {"hold_ns": 0, "url": "/later"},
}


class Limited(Server):
    """Ends a connection behind its tenth answer, as it says in it, and does nothing more of it."""

    head = b"HTTP/1.1 200 OK\r\nConnection: Close\r\n"

    def __init__(self) -> None:
        super().__init__(Http, "none")

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        answers = self.inner.feed(data)[: EACH - self.answered]
        self.answered += len(answers)
        if self.answered == EACH:
            answers[-1] = answers[-1].replace(b"HTTP/1.1 200 OK\r\n", self.head)
        self.transport.write(b"".join(answers))
        if self.answered == EACH:
            self.end()

    def end(self) -> None:
        self.transport.close()


class Silent(Limited):
    """Closes nothing before the client has."""

    def end(self) -> None:
        self.answered += 1

    def data_received(self, data: bytes) -> None:
        if self.answered <= EACH:
            super().data_received(data)


class Unannounced(Limited):
    """The same, and does not say so."""

    head = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("scenario", sorted(set(SCENARIOS) - {"idle"}))
@on_uvloop
async def test_who_is_closed_in_order_dials_again(scenario: str) -> None:
    """In every scenario: no fault, all that was due is asked and answered, on many connections."""
    asked = {"connections": 2, **ASKED.get(scenario, {})}
    seen = await undisturbed(lambda: served(Limited, protocol="http", scenario=scenario, **asked))
    report = build_report(seen)
    tally = report.tally
    assert tally.faults() == 0, tally.examples
    assert judge(report).exit_code == 0, judge(report).reasons
    assert tally.issued == tally.answered == len(seen.samples.done) >= tally.closed * EACH
    assert tally.closed >= 3
    assert report.unsent == 0
    if scenario != "churn":  # its connections are followed when they have asked all, too
        assert 2 <= tally.connected <= 2 + tally.closed
    assert judge(report, [parse_threshold("closed>0")]).exit_code == 11
    assert f"closed in order {tally.closed:,}" in render(report, judge(report))


@pytest.mark.parametrize("loop", [{"rate": 400.0}, {"scenario": "pipeline"}])
@on_uvloop
async def test_who_announces_and_waits_for_the_client_is_closed_by_it(loop: dict[str, Any]) -> None:
    """RFC 9112, 9.6: the client closes, too, and nothing more is sent."""
    seen = await served(Silent, protocol="http", **loop)
    assert seen.tally.faults() == 0, seen.tally.examples
    assert seen.tally.closed >= 3
    assert seen.tally.issued == seen.tally.answered


@on_uvloop
async def test_a_close_that_was_not_announced_is_a_drop() -> None:
    """What the client could not know hurts it."""
    seen = await served(Unannounced, protocol="http", scenario="loyal", rate=400.0)
    assert seen.tally.closed == 0
    assert seen.tally.dropped >= 3
    assert judge(build_report(seen)).exit_code == 10


@on_uvloop
async def test_one_that_comes_of_an_event_is_told_with_it() -> None:
    """It is a trace of it, unless the server has closed some before any event already."""
    seen = await served(Limited, protocol="http", rate=400.0)
    times = sorted(seen.tally.closed_times)
    seen.events.append(event_at(times[0] - 3 * MS))
    (event,) = build_report(seen).events
    assert event.closed == len(times)
    assert event.over_s == pytest.approx((times[-1] - (seen.start or 0)) / 1e9, abs=0.001)
    assert "closed in order" in render(build_report(seen), judge(build_report(seen)))
    seen.events[:] = [event_at(times[0] + MS)]
    (event,) = build_report(seen).events
    assert event.over_s == event.end_s


@on_uvloop
async def test_a_server_that_closes_each_and_is_gone_is_refused() -> None:
    """Who announced the end of all connections and takes no new one has hurt its clients."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Limited, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    loop.call_later(0.02, server.close)
    seen = await carried(port, protocol="http", rate=400.0)
    assert seen.tally.refused > 0
    assert build_report(seen).unsent > 0
    assert judge(build_report(seen)).exit_code == 10


@pytest.mark.parametrize(
    ("line", "field", "told"),
    [
        (b"HTTP/1.1", b"Connection: close", 1),
        (b"HTTP/1.1", b"connection: x, CLOSE", 1),
        (b"HTTP/1.1", b"Connection: keep-alive", 0),
        (b"HTTP/1.1", b"X-Connection: close", 0),
        (b"HTTP/1.0", b"Server: old", 1),
        (b"HTTP/1.0", b"Connection: Keep-Alive", 0),
    ],
)
def test_what_announces_a_close(line: bytes, field: bytes, told: int) -> None:
    """RFC 9112, 9.3; the answer itself is as right as any."""
    talk, answers = converse("http", 2)
    said: list[int] = []
    talk.ends(lambda: said.append(talk.continuity.answered))
    for number, answer in enumerate(answers, 1):
        new = line + b" 200 OK\r\n" + field
        assert len(talk.receive(answer.replace(b"HTTP/1.1 200 OK", new, 1))) == 1
        assert said == [*range(1, number + 1)] * told, "each time, also when the head is known"
    assert faults(talk.continuity.tally) == {}


def test_what_is_answered_behind_an_announced_close_was_not_to_be_done() -> None:
    """What was withdrawn is asked again elsewhere; done twice is wrong."""
    talk, answers = converse("http", 2)
    line = talk.continuity
    talk.ends(line.withdraw)
    talk.receive(answers[0].replace(b"OK\r\n", b"OK\r\nConnection: close\r\n", 1))
    assert (line.issued, line.answered, line.outstanding()) == (1, 1, 0)
    talk.receive(answers[1])
    assert faults(line.tally) == {"corrupted": 1}


@pytest.mark.parametrize(
    ("coding", "found"), [(b"gzip", 1), (b"identity, br", 1), (b"Identity", 0)]
)
def test_a_body_with_a_coding_is_not_what_was_asked(coding: bytes, found: int) -> None:
    """Each time, also when the head is known."""
    talk, answers = converse("http", 3)
    for number, answer in enumerate(answers, 1):
        talk.receive(answer.replace(b"OK\r\n", b"OK\r\nContent-Encoding: " + coding + b"\r\n", 1))
        assert talk.continuity.tally.corrupted == found * number
    assert talk.continuity.answered == 3
