"""The command's verdict beside what the server itself has counted: neither may know better.

Of each seed comes a server, faultless or with one kind of mistake that it makes on some of its
connections, and a run of some scenario against it. The server counts by itself what it got, what it
answered, how long it took, and its mistakes; each of ``CHECKS`` compares that with the result.
``make proof`` does so for most of a minute, with seeds that are printed; SEED=N repeats one.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import pytest

from loadgen.continuity import FAULTS
from loadgen.spread import PERCENTILES
from tests.loadgen.conftest import ROOT, command
from tests.loadgen.faulty_server import PROTOCOLS
from tests.loadgen.faulty_server import Counter as SharedCounter

SECONDS = 45
PAUSED_S = 0.25  # a generator that stood still so long has proved nothing by silence
LAST_WORDS = (b"\r\nDEL\r\n", b"\r\nEXPIRE\r\n")
OF_SILENCE = {"lost", "dropped", "refused"}

WAYS: dict[str, tuple[object, ...]] = {
    "steady": ("--rate", 500),
    "ramp": ("--rates", "50,900"),
    "closed": ("--depth", 4),
    "churn": ("--requests", 5, "--depth", 3),
    "churn at its time": ("--requests", 5, "--depth", 2, "--rate", 400),
    "loyal": ("--rate", 500),
    "idle": (),
    "slow": ("--hold", "60ms", "--rate", 12),
    "pipeline": (),
}


class Mistake(NamedTuple):
    """What is said instead of an answer, what that is called, and whether the connection ends.
    ``several``: it needs several open questions.
    """

    instead: Callable[[bytes], bytes]
    found: str
    ends: bool = False
    several: bool = False


def half(answer: bytes) -> bytes:
    return answer[: len(answer) // 2]


def spoilt(answer: bytes) -> bytes:
    """The last byte of payload, in each of the protocols' answers."""
    return answer[:-3] + bytes([answer[-3] ^ 0x20]) + answer[-2:]


MISTAKES = {
    "none": Mistake(bytes, ""),
    "drop": Mistake(lambda _: b"", "lost"),
    "duplicate": Mistake(lambda answer: answer * 2, "duplicated"),
    "corrupt": Mistake(spoilt, "corrupted"),
    "late": Mistake(lambda _: b"", "reordered", several=True),
    "tear": Mistake(half, "dropped", ends=True),
    "close": Mistake(lambda _: b"", "dropped", ends=True),
    "close behind": Mistake(bytes, "dropped", ends=True),
}


class Case(NamedTuple):
    """What a seed comes to; ``delay_s`` is how long the server collects answers."""

    seed: int
    protocol: str
    way: str
    mistake: str
    connections: int
    processes: int
    delay_s: float

    def line(self, port: int) -> list[str]:
        """The command."""
        return command(
            "--protocol", self.protocol, "--port", port, "--scenario", self.way.split()[0],
            *WAYS[self.way], "--connections", self.connections, "--processes", self.processes,
            "--duration", "600ms", "--run-at", "250ms=true", "--json", "--progress", "off",
        )  # fmt: skip


def chosen(seed: int) -> Case:
    dice = random.Random(seed)
    way = dice.choice([*WAYS])
    several = way in ("pipeline", "closed", "churn")
    kinds = [name for name, mistake in MISTAKES.items() if several or not mistake.several]
    protocol, mistake = dice.choice([*PROTOCOLS]), dice.choice(["none", "none", "none", *kinds])
    if protocol == "counter" and mistake in ("duplicate", "corrupt", "late"):
        mistake = "drop"  # its answers have no number: more may follow of one mistake
    return Case(seed, protocol, way, mistake, dice.choice([1, 6, 20]), dice.choice([1, 2]),
                dice.choice([0.0, 0.0, 0.01]))  # fmt: skip


class Log:
    """What the server knows of itself; ``took_us`` are from question to answer."""

    def __init__(self) -> None:
        self.connections = 0
        self.got = 0
        self.took_us: list[float] = []
        self.mistakes: Counter[str] = Counter()


class Served(asyncio.Protocol):
    """One connection, which counts what it does; it may be wrong once, in one of its first three
    answers, when it is of the first connections: what comes at the end is nobody's mistake.
    """

    def __init__(self, case: Case, log: Log) -> None:
        self.case, self.log = case, log
        self.mistake = MISTAKES[case.mistake]
        self.inner = PROTOCOLS[case.protocol]()
        dice = random.Random(f"{case.seed} {log.connections}")
        may = log.connections < case.connections and dice.random() < 0.6
        self.strikes = dice.randrange(3) if may and self.mistake.found else -1
        log.connections += 1
        self.answered = 0
        self.held, self.out = b"", b""
        self.asked: list[float] = []
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        operations = not any(word in data for word in LAST_WORDS)
        for answer in self.inner.feed(data):
            if operations and not self.ended:
                self.log.got += 1
                self.answer(answer)
            elif not self.ended:
                self.out += answer
        if self.case.delay_s:
            asyncio.get_running_loop().call_later(self.case.delay_s, self.flush)
        else:
            self.flush()

    def answer(self, answer: bytes) -> None:
        """As it should be, or once with the mistake of the case."""
        self.asked.append(time.monotonic())
        if self.answered == self.strikes:
            self.log.mistakes[self.mistake.found] += 1
            self.held = answer if self.mistake.several else b""
            self.out += self.mistake.instead(answer)
            self.ended = self.mistake.ends
        else:
            self.out += answer + self.held
            self.held = b""
        self.answered += 1

    def flush(self) -> None:
        now, out = time.monotonic(), self.out
        self.log.took_us.extend(1e6 * (now - asked) for asked in self.asked)
        self.asked, self.out = [], b""
        if not self.transport.is_closing():
            self.transport.write(out)
        if self.ended:
            self.transport.close()


class Told(NamedTuple):
    """A run, and what the server knows of it."""

    case: Case
    log: Log
    exit_code: int
    result: dict[str, Any]

    @property
    def faults(self) -> dict[str, int]:
        """What was found."""
        return {name: self.result["counts"][name] for name in FAULTS if self.result["counts"][name]}

    @property
    def paused(self) -> bool:
        """Whether the generator stood still: then silence proves nothing."""
        return bool(self.result["paused_s"] >= PAUSED_S)


def miscounts(told: Told) -> Iterator[str]:
    """Every operation has one outcome, and is seen by both."""
    counts, log = told.result["counts"], told.log
    outcomes = counts["answered"] + counts["lost"] + counts["unknown"]
    if counts["issued"] != outcomes:
        yield f"{counts['issued']} issued, {outcomes} have an outcome"
    if counts["answered"] > len(log.took_us) or counts["issued"] < log.got:
        yield f"{counts} beside {log.got} that came and {len(log.took_us)} that were answered"
    if sum(told.result["timeline"]["answered"]) != counts["answered"]:
        yield "the time line has other answers"


def false_convictions_and_acquittals(told: Told) -> Iterator[str]:
    """Each mistake is counted as what it is, once, and nothing else is."""
    passed_over = {"unknown"} | (OF_SILENCE if told.paused else set())
    for name in {*FAULTS} - passed_over:
        found, made = told.result["counts"][name], told.log.mistakes[name]
        if found != made:
            yield f"{found} {name}, and the server knows of {made}"
    if told.faults.get("unknown") and not told.faults.get("dropped"):
        yield "unknown, without a drop"


def other_codes(told: Told) -> Iterator[str]:
    """10 where anything was wrong, else a pass, unless it was the generator."""
    proved = {*told.log.mistakes} - (OF_SILENCE if told.paused else set())
    right = (10,) if proved else (10, 12) if told.log.mistakes else (0, 12)
    if told.exit_code not in right or told.exit_code != told.result["exit_code"]:
        yield f"exit {told.exit_code}, {told.result['reasons']}"


def other_windows(told: Told) -> Iterator[str]:
    """The faults of the event's window, with those elsewhere, are all."""
    (event,) = told.result["events"]
    sum_of = Counter(event["window"]["faults"]) + Counter(told.result["faults_elsewhere"])
    if sum_of != Counter(told.faults):
        yield f"{told.faults}, and {dict(sum_of)} in and out of the window"


def too_short(told: Told) -> Iterator[str]:
    """No percentile of the service time is below the server's own."""
    ordered = sorted(told.log.took_us)
    if told.log.mistakes or len(ordered) != told.result["counts"]["answered"]:
        return
    for name, share in PERCENTILES:
        own = ordered[max(0, math.ceil(len(ordered) * share) - 1)]
        if told.result["service_us"][name] < own - 1:
            yield f"service {name} {told.result['service_us'][name]} us, the server took {own:.1f}"


CHECKS = (
    miscounts, false_convictions_and_acquittals, other_codes, other_windows, too_short,
)  # fmt: skip


async def told_of(case: Case) -> Told:
    """One run."""
    log = Log()
    SharedCounter.shared.clear()
    server = await asyncio.get_running_loop().create_server(
        lambda: Served(case, log), "127.0.0.1", 0, backlog=1024
    )
    line = case.line(server.sockets[0].getsockname()[1])
    pipe = asyncio.subprocess.PIPE
    running = await asyncio.create_subprocess_exec(*line, cwd=ROOT, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(60):
        out, err = await running.communicate()
    server.close()
    assert not err, err.decode()
    return Told(case, log, running.returncode or 0, json.loads(out))


@pytest.mark.slow
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_the_verdict_is_the_servers_own() -> None:
    """Neither more nor less than what was done wrong is found, in runs of all kinds."""
    named = os.environ.get("SEED")
    seed, until = int(named or time.time()), time.monotonic() + SECONDS * (not named)
    while True:
        case = chosen(seed)
        told = await told_of(case)
        print(f"{case} {told.exit_code} {told.faults}", flush=True)
        wrong = [sentence for check in CHECKS for sentence in check(told)]
        assert not wrong, f"{case}: {wrong}, {told.result['examples'][:4]}"
        seed += 1
        if time.monotonic() >= until:
            break
