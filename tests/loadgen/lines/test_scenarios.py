"""Each scenario sends what its row of the table says, when it says it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from statistics import median
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.conductor import Observation
from loadgen.continuity import FAULTS, Operation
from loadgen.dialects.framed import Echo
from loadgen.findings import build_report
from loadgen.findings.timeline import whole_run
from loadgen.judging import judge
from loadgen.lines import SCENARIOS, Traffic, complete, without_effect
from loadgen.lines.line import Line
from loadgen.lines.pace import Pacing, Profile, Waves, levels, slopes
from loadgen.plan import Plan, PlanError, parse_rates
from tests.loadgen.carried import MS, carried, served
from tests.loadgen.faulty_server import ERROR, PROTOCOLS, Server

SECOND = 1_000_000_000
on_uvloop = pytest.mark.asyncio(loop_factories=["uvloop"])
"""A load process always runs on it."""


class Watched(Server):
    """Keeps when what came, connection by connection."""

    def __init__(self, seen: list[list[tuple[float, int]]], protocol: str = "verify") -> None:
        super().__init__(PROTOCOLS[protocol], "none")
        self.chunks: list[tuple[float, int]] = []
        seen.append(self.chunks)

    def data_received(self, data: bytes) -> None:
        self.chunks.append((asyncio.get_running_loop().time(), len(data)))
        super().data_received(data)


async def watched(**asked: Any) -> tuple[Observation, list[list[tuple[float, int]]]]:
    """A faultless run, and what the server saw of each connection."""
    chunks: list[list[tuple[float, int]]] = []
    protocol = asked.get("protocol", "verify")
    seen = await served(lambda: Watched(chunks, protocol), **asked)
    assert seen.tally.faults() == 0, seen.tally.examples
    assert seen.tally.issued == seen.tally.answered == len(seen.samples.done) > 0
    return seen, chunks


@on_uvloop
async def test_steady_sends_at_its_rate() -> None:
    """Operation k is due k times the distance after the start, whenever the last was answered."""
    seen, _ = await watched(rate=400.0)
    due = sorted(seen.samples.intended)
    assert due == [(seen.start or 0) + k * SECOND // 400 for k in range(120)]


@pytest.mark.parametrize(
    ("scenario", "rates", "shares"),
    [("ramp", (0.0, 400.0), [15, 45]), ("steps", (100.0, 300.0), [15, 45])],
)
@on_uvloop
async def test_a_rate_that_changes(
    scenario: str, rates: tuple[float, ...], shares: list[int]
) -> None:
    """Each half of the run gets what the area under the rate is."""
    seen, _ = await watched(scenario=scenario, rates=rates)
    half = (seen.start or 0) + 150 * MS
    first = sum(due < half for due in seen.samples.intended)
    assert [first, seen.due - first] == shares


@on_uvloop
async def test_pipeline_keeps_many_open() -> None:
    """The server finds sixteen requests at once."""
    seen, chunks = await watched(scenario="pipeline", ms=100)
    request = 4 + 24 + 32
    assert max(size for each in chunks for _, size in each) == 16 * request
    assert seen.plan.depth == 16


@pytest.mark.parametrize(("rate", "depth"), [(None, 1), (400.0, 3)])
@on_uvloop
async def test_churn_connects_anew(rate: float | None, depth: int) -> None:
    """No connection asks more than its requests, in their order, and its number is its own."""
    seen, chunks = await watched(scenario="churn", requests=4, rate=rate, depth=depth)
    asked = [len([*rows]) for _, rows in groupby(sorted(seen.samples.connection))]
    assert max(asked) == 4
    assert len(asked) == sum(bool(each) for each in chunks) > 2
    assert len(asked) <= seen.tally.connected <= len(chunks)  # the last may come at the end itself
    if rate:
        assert seen.due == seen.tally.issued == 120


HELLO = b"\0\0\0\5hello"


class Greeted(Echo):
    """Is answered to its greeting, too."""

    def greeting(self) -> bytes:
        return HELLO

    def receive(self, data: bytes) -> Sequence[Operation]:
        return super().receive(data.removeprefix(HELLO))


@pytest.mark.parametrize("scenario", ["closed", "churn"])
@on_uvloop
async def test_nobody_asks_before_the_start(scenario: str) -> None:
    """Though the server speaks first; and who came before it is followed by others all the same."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Server(PROTOCOLS["echo"], "none"), "127.0.0.1", 0, backlog=4096
    )
    plan = Plan(
        protocol="tests.loadgen.lines.test_scenarios:Greeted", host="127.0.0.1",
        port=server.sockets[0].getsockname()[1], connections=2, duration_ns=200 * MS,
        scenario=scenario,
    )  # fmt: skip
    traffic = Traffic(complete(plan, None, None), 0, "nonce")
    await traffic.dial()
    start = time.monotonic_ns() + 50 * MS
    await traffic.run(start)
    server.close()
    assert min(traffic.samples.intended) >= start
    assert traffic.tally.faults() == 0
    if scenario == "churn":
        assert traffic.tally.connected > 4


@on_uvloop
async def test_churn_counts_from_when_the_connect_was_due() -> None:
    """A server that takes its time to accept is slow, for who measures with new connections."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listening:
        listening.setblocking(False)
        port, loop = listening.getsockname()[1], asyncio.get_running_loop()
        running = asyncio.create_task(carried(port, scenario="churn", requests=2, rate=20.0))
        kept = [await loop.sock_accept(listening) for _ in range(2)]
        await asyncio.sleep(0.15)
        make = partial(Server, PROTOCOLS["verify"], "none")
        servers = [(await loop.connect_accepted_socket(make, sock))[0] for sock, _ in kept]
        server = await loop.create_server(make, sock=listening)
        seen = await running
        server.close()
        for transport in servers:
            transport.close()
    first = seen.samples.intended.index(min(seen.samples.intended))
    assert seen.samples.done[first] - seen.samples.intended[first] > 100 * MS
    assert seen.tally.answered == seen.tally.issued == seen.due


@on_uvloop
async def test_churn_goes_on_when_connects_fail() -> None:
    """A listener that is gone is counted as refused, not besieged, and the run ends in time."""
    make = partial(Server, PROTOCOLS["verify"], "none")
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    asyncio.get_running_loop().call_later(0.1, server.close)
    seen = await carried(port, scenario="churn", requests=2)
    assert 2 <= seen.tally.refused <= 80
    assert judge(build_report(seen)).exit_code == 10


@on_uvloop
async def test_loyal_comes_back() -> None:
    """Each that is dropped is counted and dialled again; nothing that was due is left unsent."""
    make = partial(Server, PROTOCOLS["verify"], "disconnect")
    seen = await served(make, scenario="loyal", rate=500.0)
    tally = seen.tally
    assert 4 <= tally.dropped <= 6, "150 operations on two lines, and each lasts for twenty"
    over = (seen.start or 0) + seen.plan.duration_ns
    after = sum(at >= over for at, what in tally.timed() if what == "dropped")
    assert tally.connected == 2 + tally.dropped - after, "who is dropped after the end stays away"
    assert tally.issued == tally.answered + tally.unknown == seen.due == 150
    assert {*seen.samples.connection} == {*range(tally.connected)}
    assert len(seen.left) == 2 * tally.connected, "who is gone, and when"
    (there,) = whole_run(seen, tally)[1].connections.values()
    assert median(there) == 2, "who was dropped is there no more, and who came back is"


class Deliberate(Server):
    """Takes its time for the last word of kv, and has forgotten the keys then."""

    def data_received(self, data: bytes) -> None:
        if b"DEL" not in data:
            super().data_received(data)
            return
        self.inner.forget()
        (answer,) = self.inner.feed(data)
        asyncio.get_running_loop().call_later(0.05, self.transport.write, answer)

    def eof_received(self) -> bool:
        """The last word may still be answered."""
        asyncio.get_running_loop().call_later(0.1, self.transport.close)
        return True


@on_uvloop
async def test_who_came_back_when_nobody_was_there_is_heard_out() -> None:
    """At the end the answer to the last word is waited for, whoever was away before."""
    loop, kept = asyncio.get_running_loop(), list[Server]()

    def make() -> Server:
        kept.append(Deliberate(PROTOCOLS["kv"], "none"))
        return kept[-1]

    server = await loop.create_server(make, "127.0.0.1", 0)
    plan = Plan(
        protocol="kv", host="127.0.0.1", port=server.sockets[0].getsockname()[1], connections=2,
        duration_ns=400 * MS, rate=200.0, scenario="loyal",
    )  # fmt: skip
    traffic = Traffic(complete(plan, None, None), 0, "nonce")
    await traffic.dial()
    running = asyncio.create_task(traffic.run(time.monotonic_ns()))
    server.close()
    for number, each in enumerate(kept[:2], 1):
        each.transport.abort()
        while traffic.tally.dropped < number or traffic.tally.refused < number:
            await asyncio.sleep(0.001)
    server = await loop.create_server(make, "127.0.0.1", plan.port)
    await running
    server.close()
    assert (traffic.tally.dropped, traffic.tally.not_carried) == (2, 2)


@on_uvloop
async def test_loyal_waits_for_a_server_that_is_away() -> None:
    """What is due meanwhile is sent to the next, and its latency says how long it took."""
    loop, kept = asyncio.get_running_loop(), list[Server]()

    def make() -> Server:
        kept.append(Server(PROTOCOLS["verify"], "none"))
        return kept[-1]

    server = await loop.create_server(make, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    running = asyncio.create_task(carried(port, scenario="loyal", rate=400.0))
    while sum(each.answered for each in kept) < 20:
        await asyncio.sleep(0.001)
    server.close()
    for each in kept:
        each.transport.abort()
    await asyncio.sleep(0.1)
    server = await loop.create_server(make, "127.0.0.1", port)
    seen = await running
    server.close()
    tally = seen.tally
    assert tally.dropped == 2 <= tally.refused
    assert tally.answered + tally.unknown == tally.issued == seen.due
    waits = [d - i for d, i in zip(seen.samples.done, seen.samples.intended, strict=True)]
    assert max(waits) > 80 * MS


@on_uvloop
async def test_idle_is_silent_in_between() -> None:
    """Every connection asks twice, at the beginning and near the end, and lives."""
    seen, chunks = await watched(scenario="idle", connections=20, ms=400)
    assert [len(each) for each in chunks] == [2] * 20
    due: dict[int, list[int]] = {}
    for connection, at in zip(seen.samples.connection, seen.samples.intended, strict=True):
        due.setdefault(connection, []).append(at)
    assert min(abs(first - second) for first, second in due.values()) > 200 * MS


@pytest.mark.parametrize("rate", [None, 20.0])
@on_uvloop
async def test_slow_sends_halves(rate: float | None) -> None:
    """A request is cut in the middle, and whole only after the hold; that is when it was due.

    Both halves come at once only where nobody ran on this loop for about as long as the hold.
    """
    seen, chunks = await watched(scenario="slow", hold_ns=50 * MS, rate=rate)
    sizes = [size for each in chunks for _, size in each]
    assert {*sizes} == {30} or (seen.paused_ns > 20 * MS and {size % 30 for size in sizes} == {0})
    late = [sent - due for sent, due in zip(seen.samples.sent, seen.samples.intended, strict=True)]
    assert min(late) >= 0
    if rate:
        start = seen.start or 0
        due = [start + 50 * MS + k * 50 * MS for k in range(5)]
        assert sorted(seen.samples.intended) == due


class Hasty(Server):
    """Says ``words`` when it has the first half of a request, once a connection."""

    def __init__(self, words: bytes) -> None:
        super().__init__(PROTOCOLS["kv"], "none")
        self.words = words

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.words)
        self.words = b""
        super().data_received(data)


@on_uvloop
@pytest.mark.parametrize("rate", [8.0, None])
@pytest.mark.parametrize(
    ("words", "found"),
    [
        pytest.param(b"-ERR too slow\r\n", {"corrupted": 1, "duplicated": 1}, id="error"),
        pytest.param(b"+OK\r\n", {"early": 1, "duplicated": 1}, id="guessed"),
    ],
)
async def test_slow_sees_an_answer_to_half_a_question(
    rate: float | None, words: bytes, found: dict[str, int]
) -> None:
    """It is a fault, and so is the one that comes when all is sent; no latency is below nothing."""
    asked = {"scenario": "slow", "hold_ns": 120 * MS, "connections": 1, "rate": rate, "ms": 400}
    seen = await served(lambda: Hasty(words), protocol="kv", **asked)
    faults = {name: getattr(seen.tally, name) for name in FAULTS}
    assert {name: count for name, count in faults.items() if count} == found
    assert len(seen.samples.done) >= 2
    rows = zip(seen.samples.done, seen.samples.sent, seen.samples.intended, strict=True)
    assert all(done >= max(sent, intended) for done, sent, intended in rows)


class Polite(Echo):
    """Answers a question of the server's in the middle of its own."""

    def opened(self, say: Callable[[bytes], None]) -> None:
        self.say = say

    def receive(self, data: bytes) -> Sequence[Operation]:
        while data.startswith(b"?"):  # alone, or in one piece with an answer
            self.say(b"!")
            data = data[1:]
        return super().receive(data) if data else ()


@on_uvloop
async def test_slow_says_nothing_in_the_middle_of_a_request() -> None:
    """What has to be said at once, a pong, comes after the other half.

    Where both halves come at once nobody has asked in between.
    """
    heard = bytearray()
    asked_by = [0]

    class Curious(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport, self.stream = cast(asyncio.Transport, transport), b""

        def data_received(self, data: bytes) -> None:
            heard.extend(data)
            self.stream = (self.stream + data).lstrip(b"!")
            while len(self.stream) >= 52:
                self.transport.write(self.stream[:52])
                self.stream = self.stream[52:].lstrip(b"!")
            if self.stream:
                asked_by[0] += 1
                self.transport.write(b"?")

    own = f"{__name__}:Polite"
    asked = {"scenario": "slow", "hold_ns": 120 * MS, "connections": 1, "rate": 8.0}
    seen = await served(Curious, protocol=own, **asked)
    assert seen.tally.faults() == 0, seen.tally.examples
    at, wholes, pongs = 0, 0, 0
    while at < len(heard):
        at, wholes = at + 52, wholes + 1
        while heard[at : at + 1] == b"!":
            at, pongs = at + 1, pongs + 1
    assert (at, wholes) == (len(heard), seen.tally.answered)
    assert pongs == asked_by[0] > 0


@on_uvloop
async def test_slow_hears_an_error_to_half_a_request() -> None:
    """It is a fault of the server, and no mistake of ours: the other half is sent all the same."""
    heard: list[bytes] = []

    class Impatient(Server):
        def data_received(self, data: bytes) -> None:
            heard.append(data)
            if data.startswith(b"POST"):
                self.transport.write(ERROR)

    seen = await served(
        lambda: Impatient(PROTOCOLS["http"], "none"),
        protocol="http", scenario="slow", hold_ns=50 * MS, rate=20.0,
    )  # fmt: skip
    assert seen.tally.corrupted == seen.tally.issued == seen.tally.answered == 5
    assert len(heard) == 10


@on_uvloop
async def test_bulk_fills_the_servers_buffers() -> None:
    """While nothing is read the server has to keep what it can't write; then all of it comes."""
    pauses: list[int] = []

    class Pausing(Server):
        def pause_writing(self) -> None:
            pauses.append(1)

    seen = await served(
        lambda: Pausing(PROTOCOLS["verify"], "none"), scenario="bulk", hold_ns=80 * MS
    )
    assert seen.tally.faults() == 0
    assert pauses
    assert seen.plan.payload == 60_000
    assert seen.tally.answered == seen.tally.issued >= 128  # what one line has open


@pytest.mark.parametrize("rate", [None, 40.0])
@on_uvloop
async def test_a_timer_is_measured_from_its_time(rate: float | None) -> None:
    """The latency of an answer that was asked for later is how much later it was still."""
    seen = await served(
        lambda: Server(PROTOCOLS["http"], "punctual"),
        protocol="http", scenario="timer", rate=rate, hold_ns=100 * MS, url="/later",
    )  # fmt: skip
    late = [done - due for done, due in zip(seen.samples.done, seen.samples.intended, strict=True)]
    assert seen.tally.faults() == 0
    assert min(late) >= -MS
    assert min(late) < 50 * MS


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_each_scenario_says_what_it_needs(scenario: str) -> None:
    """A rate where there is none, and none where there must be one, are refused by a sentence."""
    row = SCENARIOS[scenario]
    wrong = {"rate": {}, "rates": {"rate": 5.0}, "none": {"rate": 5.0}, "either": {"rates": (1, 2)}}
    plan = Plan(protocol="echo", host="h", port=1, connections=1, duration_ns=2 * SECOND,
                scenario=scenario, **wrong[row.asking])  # fmt: skip
    with pytest.raises(PlanError, match=f"--scenario {scenario} "):
        complete(plan, None, None)
    assert issubclass(row.line, Line)
    assert row.about


@pytest.mark.parametrize("text", ["fast", "1,-1", "0,0", "1,inf"])
def test_rates_that_are_none(text: str) -> None:
    """Numbers of operations a second, not all of them 0."""
    with pytest.raises(PlanError, match="no rates"):
        parse_rates(text)


@pytest.mark.parametrize("asked", [{"rate": 1e300}, {"scenario": "ramp", "rates": (1e-300, 1e300)}])
def test_a_rate_has_distances(asked: dict[str, Any]) -> None:
    """Of a billion a second at most, one a nanosecond: with more a pace would reckon for ever."""
    plan = Plan(protocol="echo", host="h", port=1, connections=1, duration_ns=SECOND, **asked)
    with pytest.raises(PlanError, match="1,000,000,000"):
        complete(plan, None, None)


RATES = st.lists(st.floats(0, 5000), min_size=2, max_size=5).filter(any)


@given(RATES, st.booleans(), st.integers(1, 4), st.integers(10**8, 10**10))
def test_a_profile_counts_what_it_intends(
    rates: list[float], ramp: bool, processes: int, duration: int
) -> None:
    """Operations are due one after the other, and together the processes keep one profile."""
    shape = (slopes if ramp else levels)(rates, duration)
    alone = Profile(0, shape, 0, 1)
    shares = [Profile(0, shape, index, processes) for index in range(processes)]
    total = alone.due(duration - 1)
    assert sum(share.due(duration - 1) for share in shares) == total
    check(alone, min(total, 50))
    area = duration / SECOND * sum(rates) / len(rates)
    if not ramp:
        assert abs(total - area) <= 1 + area * 1e-6


@given(st.integers(1, 50), st.integers(10**6, 10**10))
def test_waves_come_twice(lines: int, duration: int) -> None:
    """Each line in the first fifth and near the end, and then no more before it."""
    waves = Waves(0, duration, lines)
    check(waves, 2 * lines)
    assert waves.due(duration - 1) == 2 * lines
    assert waves.intended(lines) - waves.intended(0) >= duration * 7 // 10


def check(pace: Pacing, number: int) -> None:
    times = [pace.intended(k) for k in range(number)]
    assert times == sorted(times)
    assert all(pace.due(at) > k >= 0 for k, at in enumerate(times))
    assert all(pace.due(at - 1) <= k for k, at in enumerate(times))


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_lines_that_have_sent_all_live_until_the_end() -> None:
    """An event may come yet: at a low rate nobody would be there to see what it does."""
    seen = await served(partial(Server, PROTOCOLS["verify"], "none"), rate=4.0)
    assert seen.tally.answered == 2
    assert seen.start is not None
    assert min(seen.left[1::2]) >= seen.start + 300 * MS


def test_rates_without_a_scenario() -> None:
    """Nobody has named the closed loop that could be told to have a pace of its own."""
    plan = Plan(protocol="kv", host="h", port=1, connections=1, duration_ns=10**10, rates=(1, 2))
    with pytest.raises(PlanError, match="--scenario ramp and steps: name one"):
        complete(plan, None, None)


@pytest.mark.parametrize("way", sorted(SCENARIOS))
def test_what_was_given_and_does_nothing_is_told(way: str) -> None:
    """Each option of the ways of going on is of some of them alone."""
    rate = {"rate": 10.0} if SCENARIOS[way].asking == "rate" else {}
    rates = {"rates": (1.0, 2.0)} if SCENARIOS[way].asking == "rates" else {}
    asked = Plan(
        protocol="kv", host="h", port=1, connections=1, duration_ns=10**10, scenario=way,
        **rate, **rates,
    )  # fmt: skip
    plan = complete(asked, None, None)
    words = ("hold", "requests", "depth", "url", "duration")
    told = {why.split()[0] for why in without_effect(plan, words)}
    assert ("--hold" not in told) == (way in ("slow", "bulk", "timer"))
    assert ("--requests" not in told) == (way == "churn")
    assert ("--depth" not in told) == (way in ("closed", "pipeline", "bulk", "timer", "churn"))
    assert "--url" in told
