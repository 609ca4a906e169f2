"""The worker's process, driven as its supervisor drives it: every message, also at odd times."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from netswap.channel import Link, messages
from netswap.events import Stage
from netswap.testing import ManualClock
from netswap.worker.process import LEAVING_AT_ONCE, may_begin
from tests.worker.one_worker import OneWorker, hear, say

TALK = """
from netswap import Connection, State

class Talk(State, kind="talk.connection", version=1):
    count: int = 0

class Echo(Connection[Talk]):
    def on_data(self, data):
        if data == b"boom\\n":
            raise ValueError("boom")
        if data == b"hang\\n":
            return
        self.state.count += 1
        self.write(b"%d\\n" % self.state.count)

    def on_drain(self):
        if self.state.count < 2:
            self.close()
"""


def served(worker: OneWorker) -> OneWorker:
    """The worker, serving."""
    worker.boot(talk_connection=worker.put(TALK, "talk.py"))
    worker.expect(messages.Ready)
    return worker


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneWorker]:
    """One worker for the tests after which it has to be as before."""
    made = OneWorker(tmp_path_factory.mktemp("shared"))
    try:
        yield served(made)
    finally:
        made.close()


class SlowLink(Link):
    """The supervisor's socket has it after so many seconds."""

    def __init__(self, clock: ManualClock, seconds: float) -> None:
        super().__init__("supervisor", print, print)
        self.clock, self.seconds = clock, seconds
        self.sent: list[messages.Message] = []

    def send(self, message: messages.Message) -> None:
        self.sent.append(message)

    async def flushed(self) -> None:
        self.clock.advance(self.seconds)


@pytest.mark.parametrize(
    ("begins_at", "takes", "says", "begins"),
    [(1.0, 0.5, True, True), (1.0, 1.5, True, False), (2.5, 0.0, False, False)],
    ids=["in time", "stopped in between", "too late"],
)
async def test_a_swap_begins_when_its_begun_has_arrived_in_time(
    begins_at: float, takes: float, says: bool, begins: bool
) -> None:
    """One that is stopped between the clock and the message is passed over, and must not begin."""
    clock = ManualClock()
    until = clock.monotonic_ns() / 1e9 + 2.0
    clock.advance(begins_at)
    link = SlowLink(clock, takes)
    assert await may_begin(messages.Swap(1, until=until), 0, link, clock) is begins
    assert link.sent == ([messages.Begun(1, 0)] if says else [])


def test_it_says_hello_boots_serves_and_drains(either: OneWorker) -> None:
    """The whole life, on either loop; it ends with status 0 and nothing to complain of."""
    served(either)
    client = either.connect()
    assert (say(client, b"x\n"), say(client, b"x\n")) == (b"1\n", b"2\n")
    assert either.wait_heartbeat() == messages.Heartbeat(0, 1)
    status = either.ask("status")
    assert status.connections == 1
    assert status.memory > 1 << 20
    client.close()
    either.send(messages.Drain(20))
    assert either.expect(messages.Drained) == messages.Drained(0)
    assert either.wait_ended() == 0
    assert "error" not in either.log


def test_hello_names_slot_and_process(worker: OneWorker) -> None:
    """The supervisor knows whom it speaks to."""
    assert worker.expect(messages.Hello) == messages.Hello(0, worker.process.pid)


def test_a_question_before_boot_is_answered_that_it_starts(worker: OneWorker) -> None:
    """A look at a starting server does not hang."""
    worker.expect(messages.Hello)
    worker.send(messages.Query(5, "status"))
    answer = worker.expect(messages.Answer)
    assert (answer.id, answer.data, answer.error) == (5, b"", "the worker is starting")


@pytest.mark.parametrize(
    ("what", "argument", "error"),
    [
        ("nonsense", "", "nonsense"),
        ("objects", "kind", "'kind' is not a condition"),
        ("inspect", "none", None),
        ("inspect", "99", None),
    ],
)
def test_a_question_that_makes_no_sense_is_answered(
    shared: OneWorker, what: str, argument: str, error: str | None
) -> None:
    """With an error, or with nothing, and the worker serves on."""
    shared.send(messages.Query(1, what, argument))
    answer = shared.expect(messages.Answer)
    if error is None:
        assert (answer.data, answer.error) == (b"\xc0", None)
    else:
        assert answer.error is not None
        assert error in answer.error
    with shared.connect() as client:
        assert say(client, b"x\n") == b"1\n"


def test_every_look_has_its_answer(worker: OneWorker) -> None:
    """Objects with attributes, one with its state, versions with their hashes, blockers."""
    client = served(worker).connect()
    say(client, b"x\n")
    (row,) = worker.ask("objects", "kind=talk.connection")
    assert row.attributes["peer"].startswith(client.getsockname()[0])
    assert (row.kind, row.version) == ("talk.connection", 1)
    assert row.sha256 == worker.active["talk.connection"]
    assert worker.ask("objects", "kind=talk.connection,version>1") == []
    seen = worker.ask("inspect", str(row.identity))
    assert (seen.implementation, seen.state) == ("Echo", {"count": 1})
    versions = {row.kind: row for row in worker.ask("versions")}
    assert versions.keys() == worker.active.keys()
    assert (versions["talk.connection"].objects, versions["talk.connection"].active) == (1, True)
    assert worker.ask("blockers") == []


@pytest.mark.parametrize(
    ("sent", "shape"),
    [
        (messages.Swap(9), messages.SwapFailed),
        (messages.Finish(9), messages.Finished),
        (messages.Revert(9), messages.Reverted),
    ],
)
def test_what_was_never_prepared_is_answered_and_changes_nothing(
    shared: OneWorker, sent: messages.Message, shape: Any
) -> None:
    """A swap fails, the rest is as good as done."""
    with shared.connect() as client:
        say(client, b"x\n")
        shared.send(sent)
        answer = shared.expect(shape)
        assert say(client, b"x\n") == b"2\n"
    assert (answer.tx, answer.slot) == (9, 0)
    if isinstance(answer, messages.SwapFailed):
        assert answer.refusal.stage == Stage.SWAP
        assert answer.refusal.reason == "nothing is prepared here"
        assert answer.refusal.worker == 0
    if isinstance(answer, messages.Reverted):
        assert answer.refusal is None


def test_an_exception_costs_the_connection_that_it_served(worker: OneWorker) -> None:
    """The others are not hurt, and the log names version and line."""
    other = served(worker).connect()
    assert say(worker.connect(), b"boom\n") == b""
    assert say(other, b"x\n") == b"1\n"
    assert "ValueError: boom" in worker.log
    assert "talk.py:10" in worker.log


def test_signals_of_the_terminal_are_the_supervisors(worker: OneWorker) -> None:
    """A worker ends when it is told to."""
    client = served(worker).connect()
    for number in (signal.SIGINT, signal.SIGTERM):
        worker.process.send_signal(number)
    assert say(client, b"x\n") == b"1\n"
    assert worker.wait_heartbeat().connections == 1


def test_a_drain_ends_by_its_limit(worker: OneWorker) -> None:
    """A connection that does not close by itself is cut off; who comes meanwhile is not served."""
    served(worker)
    stays, goes = worker.connect(), worker.connect()
    for _ in range(2):
        say(stays, b"x\n")
    say(goes, b"x\n")
    worker.send(messages.Drain(0.2))
    assert hear(goes) == b""
    assert worker.expect(messages.Drained)
    assert hear(stays) == b""
    assert worker.wait_ended() == 0


def test_a_worker_without_a_supervisor_ends(either: OneWorker) -> None:
    """Nobody could swap it or stop it; its connections end with it."""
    client = served(either).connect()
    say(client, b"x\n")
    either.control.close()
    assert hear(client) == b""
    assert either.wait_ended() == 0
    assert "supervisor_gone" in either.log


def test_a_worker_whose_supervisor_ends_before_boot_ends_too(worker: OneWorker) -> None:
    """Nothing hangs in the middle of a start."""
    worker.expect(messages.Hello)
    worker.control.close()
    assert worker.wait_ended() == 0


def test_a_worker_that_can_not_boot_ends_and_says_why(worker: OneWorker) -> None:
    """A bundle has gone from the disk: the supervisor hears it, and the log has it."""
    gone = "ab" * 32
    worker.boot(talk_connection=gone)
    refusal = worker.expect(messages.Unbooted).refusal
    assert refusal.reason == f"bundle {gone} is not in the store"
    assert "its state directory back" in refusal.advice
    assert worker.wait_ended() == 0
    assert "start_failed" in worker.log


def test_connections_are_told_of_the_end_in_batches(worker: OneWorker) -> None:
    """Each of more than one batch is told once, and gets what was written before its end."""
    told = TALK.replace("if self.state.count < 2:", 'self.write(b"bye\\n")\n        if True:')
    worker.boot(talk_connection=worker.put(told, "talk.py"))
    worker.expect(messages.Ready)
    clients = [worker.connect() for _ in range(LEAVING_AT_ONCE + 20)]
    assert [say(client, b"x\n") for client in clients] == [b"1\n"] * len(clients)
    worker.send(messages.Drain(20))
    assert [hear(client) for client in clients] == [b"bye\n"] * len(clients)
    for client in clients:
        client.close()
    assert worker.expect(messages.Drained) == messages.Drained(0)


REBEL = """
import asyncio
from netswap import Connection, State

class Talk(State, kind="talk.connection", version=1):
    count: int = 0

async def leave():
    raise SystemExit(3)

class Rebel(Connection[Talk]):
    def on_data(self, data):
        loop = asyncio.get_running_loop()
        if data == b"stop\\n":
            loop.stop()
        if data == b"cancel\\n":
            for task in asyncio.all_tasks():
                task.cancel()
        if data == b"exit\\n":
            loop.create_task(leave())
        self.write(data)
"""


def test_who_stops_the_loop_exits_out_of_a_task_or_cancels_all_there_are_ends_nobody(
    either: OneWorker,
) -> None:
    """The worker goes on; all other clients would pay for it, those of other protocols too."""
    either.boot(talk_connection=either.put(REBEL, "rebel.py"))
    either.expect(messages.Ready)
    client = either.connect()
    for line in (b"stop\n", b"exit\n", b"cancel\n", b"stop\n"):
        assert say(client, line) == line
        assert say(client, b"hello\n") == b"hello\n"
    assert either.ask("status").connections == 1
    assert either.log.count("loop_exception") >= 3
    client.close()
    either.send(messages.Drain(20))
    either.expect(messages.Drained)
    assert either.wait_ended() == 0
