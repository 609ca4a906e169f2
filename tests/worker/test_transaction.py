"""One worker's part in a transaction: prepare, swap, then finish or revert, in a real process."""

from __future__ import annotations

import itertools
import os
import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netswap.channel import messages
from netswap.events import Stage, Verdict
from tests.worker.one_worker import OneWorker, hear, say

TALK = """
import os
from netswap import Connection, State, migration

class Talk1(State, kind="talk.connection", version=1):
    count: int = 0
    text: str = ""

class Echo(Connection[Talk1]):
    def on_data(self, data):
        self.state.count += 1
        self.state.text = data.decode().strip()
        self.write(b"v1 %d\\n" % self.state.count)
"""

TALK2 = """
import os
from netswap import Connection, State, migration

class Talk2(State, kind="talk.connection", version=2):
    raw: bytes = b""
    count: int = 0

@migration("talk.connection", 1, 2)
def up(old):
    STEP
    return old | {"raw": old["text"].encode()}

@migration("talk.connection", 2, 1)
def down(new):
    return new | {"text": new["raw"].decode()}

class Echo(Connection[Talk2]):
    def on_data(self, data):
        self.state.count += 1
        self.state.raw = data.strip()
        self.write(b"v2 %d %s\\n" % (self.state.count, self.state.raw))
"""

BUSY = """
import asyncio
from netswap import Session, State

class Work(State, kind="busy.connection", version=VERSION):
    lines: int = 0

class Busy(Session[Work]):
    async def run(self):
        while line := await self.swap_point(self.read_line()):
            self.state.lines += 1
            self.write(b"vVERSION %d\\n" % self.state.lines)
            if line == b"stay":
                await asyncio.Event().wait()
"""

HALL = """
from netswap import Service, State

class Hall(State, kind="late.hall", version=1):
    names: list[str] = []

class Rooms(Service[Hall]):
    def on_start(self):
        START

    def enter(self, name):
        self.state.names.append(name)
        return len(self.state.names)
"""

LATE = """
from netswap import Connection, State

class Talk(State, kind="late.connection", version=1):
    pass

class Late(Connection[Talk], uses={"rooms": "late.hall"}):
    def on_data(self, data):
        self.write(b"%d\\n" % self.rooms.enter("x"))
"""

KIND = "talk.connection"
NUMBERS = itertools.count(1)
"""Transactions of the worker that tests share: a number is never used twice."""


def talk2(step: str = "pass") -> str:
    """Version 2, with something that its step does first."""
    return TALK2.replace("STEP", step)


def busy(version: int) -> str:
    """A session that may leave its swap point for ever."""
    return BUSY.replace("VERSION", str(version))


def served(worker: OneWorker) -> OneWorker:
    """The worker, serving version 1 of everything."""
    worker.boot(talk_connection=worker.put(TALK), busy_connection=worker.put(busy(1)))
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


def swapped(worker: OneWorker, tx: int, **target: str) -> messages.Swapped:
    """Prepare and swap."""
    worker.prepare(tx, messages.Prepared, **target)
    worker.send(messages.Swap(tx))
    return worker.expect(messages.Swapped)


def finished(worker: OneWorker, tx: int, **target: str) -> messages.Swapped:
    """Prepare, swap, finish."""
    done = swapped(worker, tx, **target)
    worker.send(messages.Finish(tx))
    assert worker.expect(messages.Finished) == messages.Finished(tx, 0)
    return done


def test_up_and_down_with_state_while_clients_stay(either: OneWorker) -> None:
    """Each answer is of the code that serves, the count goes on, and unused code is given up."""
    served(either)
    clients = [either.connect() for _ in range(3)]
    assert [say(client, b"a\n") for client in clients] == [b"v1 1\n"] * 3
    loaded = either.kind(KIND)[1]
    v1, v2 = either.active[KIND], either.put(talk2())

    prepared = either.prepare(1, messages.Prepared, talk_connection=v2)
    (line,) = prepared.verdicts
    assert (line.verdict, line.old, line.new) == (Verdict.BY_MIGRATION, 1, 2)
    assert prepared.objects == {KIND: 3}
    assert 0 < prepared.rehearsal.fork_us <= prepared.rehearsal.stall_us
    assert say(clients[0], b"b\n") == b"v1 2\n"

    either.send(messages.Swap(1))
    receipt = either.expect(messages.Swapped).receipt
    assert (receipt.worker, receipt.objects, receipt.gone, receipt.dropped) == (0, {KIND: 3}, 0, 0)
    assert receipt.slices >= 1
    assert 0 < receipt.stall_us <= receipt.blackout_us
    either.send(messages.Finish(1))
    either.expect(messages.Finished)
    assert either.kind(KIND) == ({2: 3}, loaded)
    assert say(clients[0], b"c\n") == b"v2 3 c\n"
    assert say(either.connect(), b"new\n") == b"v2 1 new\n"

    finished(either, 2, talk_connection=v1)
    assert either.kind(KIND) == ({1: 4}, loaded)
    assert say(clients[0], b"d\n") == b"v1 4\n"


def test_reverting_what_was_prepared_leaves_nothing(worker: OneWorker) -> None:
    """A dry run is that."""
    client = served(worker).connect()
    say(client, b"a\n")
    before = worker.kind(KIND)
    worker.prepare(1, messages.Prepared, talk_connection=worker.put(talk2()))
    worker.send(messages.Revert(1))
    assert worker.expect(messages.Reverted) == messages.Reverted(1, 0)
    assert worker.kind(KIND) == before
    worker.send(messages.Swap(1))
    worker.expect(messages.SwapFailed)
    assert say(client, b"b\n") == b"v1 2\n"


def test_reverting_what_was_swapped_brings_all_back(either: OneWorker) -> None:
    """Also who was born in new code meanwhile; what was done meanwhile is kept."""
    client = served(either).connect()
    say(client, b"a\n")
    before = either.kind(KIND)[1]
    swapped(either, 1, talk_connection=either.put(talk2()))
    born = either.connect()
    assert (say(client, b"b\n"), say(born, b"x\n")) == (b"v2 2 b\n", b"v2 1 x\n")
    either.send(messages.Revert(1))
    assert either.expect(messages.Reverted) == messages.Reverted(1, 0)
    assert (say(client, b"c\n"), say(born, b"y\n")) == (b"v1 3\n", b"v1 2\n")
    assert say(either.connect(), b"z\n") == b"v1 1\n"
    assert either.kind(KIND) == ({1: 3}, before)


@pytest.mark.parametrize(
    ("source", "stage", "reason", "place"),
    [
        ("import no_such_module\n", Stage.LOAD, "no_such_module", "mine.py:1"),
        (talk2("raise ValueError('no')"), Stage.PREPARE, "ValueError: no", "mine.py:11"),
        (talk2("raise SystemExit(0)"), Stage.PREPARE, "SystemExit", "mine.py:11"),
        (talk2("os._exit(0)"), Stage.PREPARE, "process died (exit code 0)", "mine.py:11"),
        (talk2("os.abort()"), Stage.PREPARE, "process died (signal 6)", "mine.py:11"),
        (
            TALK.replace("text: str", "text: bytes"),
            Stage.VERDICT,
            "shape of version 1",
            "mine.py:5",
        ),
        (busy(1), Stage.LOAD, "provides busy.connection and not talk.connection", ""),
    ],
    ids=["import", "step", "exits", "dies", "crashes", "type", "wrong kind"],
)
def test_what_can_not_be_done_is_refused_before_anything_is_touched(
    shared: OneWorker, source: str, stage: str, reason: str, place: str
) -> None:
    """The refusal says what and where; the old code serves, and none of the new one is loaded."""
    with shared.connect() as client:
        say(client, b"a\n")
        before = shared.kind(KIND)
        mine = shared.put(source)
        refusal = shared.prepare(next(NUMBERS), messages.Refused, talk_connection=mine).refusal
        assert (refusal.stage, refusal.worker) == (stage, 0), refusal
        assert reason in refusal.reason
        assert place in refusal.where
        assert shared.kind(KIND) == before
        assert say(client, b"b\n") == b"v1 2\n"
    shared.until(lambda: not shared.kind(KIND)[0])


def test_an_endless_step_is_refused_at_its_line(worker: OneWorker) -> None:
    """Within the time that the push has; the worker answers meanwhile."""
    client = served(worker).connect()
    say(client, b"a\n")
    endless = worker.put(talk2("while True: pass"))
    worker.send(messages.Prepare(1, {KIND: endless}, timeout=1.0))
    assert say(client, b"b\n") == b"v1 2\n"
    refusal = worker.expect(messages.Refused).refusal
    assert (refusal.stage, refusal.where.split(",")[0]) == (Stage.PREPARE, "mine.py:11")
    assert "did not end within" in refusal.reason
    assert say(client, b"c\n") == b"v1 3\n"


def test_a_swap_that_is_read_too_late_is_never_begun(worker: OneWorker) -> None:
    """The supervisor has taken this worker for untouched; one in time says that it begins."""
    client = served(worker).connect()
    say(client, b"a\n")
    bundle = worker.put(talk2())
    worker.prepare(1, messages.Prepared, talk_connection=bundle)
    worker.send(messages.Swap(1, until=time.monotonic() - 0.001))
    refusal = worker.expect(messages.SwapFailed).refusal
    assert refusal.reason == "it was asked to swap when the time for that was over"
    assert (worker.begun, say(client, b"b\n")) == ([], b"v1 2\n")
    worker.send(messages.Revert(1))
    worker.expect(messages.Reverted)
    worker.prepare(2, messages.Prepared, talk_connection=bundle)
    worker.send(messages.Swap(2, until=time.monotonic() + 60))
    worker.expect(messages.Swapped)
    assert worker.begun == [messages.Begun(2, 0)]


def test_the_supervisor_has_the_begun_before_anything_is_converted(either: OneWorker) -> None:
    """Stopped in its first slice, a worker can say nothing any more, and must have said it."""
    client, other = served(either).connect(), either.connect()
    assert (say(client, b"fine\n"), say(other, b"fine\n")) == (b"v1 1\n", b"v1 1\n")
    step = "if old['text'] == 'stand still': os.kill(os.getpid(), 19)"
    either.prepare(1, messages.Prepared, talk_connection=either.put(talk2(step)))
    say(client, b"stand still\n")
    asked = [messages.Query(number, "status") for number in range(2000)]
    either.send(*asked, messages.Swap(1, until=time.monotonic() + 60))
    either.until(either.has_read_all)
    for number in (2, 3):  # the answers are in the way, so it serves on and does not begin
        assert say(other, b"x\n") == b"v1 %d\n" % number
    status = 0
    while not status:
        either.take_what_is_there()
        status = os.waitpid(either.process.pid, os.WUNTRACED | os.WNOHANG)[1]
    assert os.WIFSTOPPED(status), either.log
    either.take_what_is_there()
    assert either.begun == [messages.Begun(1, 0)]


def test_a_failure_in_the_swap_takes_back_what_was_done(worker: OneWorker) -> None:
    """State that was not there in the rehearsal: the object and the line are named."""
    served(worker)
    clients = [worker.connect() for _ in range(3)]
    for client in clients:
        say(client, b"fine\n")
    step = "assert old['text'] != 'bad', 'a bad text'"
    worker.prepare(1, messages.Prepared, talk_connection=worker.put(talk2(step)))
    assert say(clients[1], b"bad\n") == b"v1 2\n"
    worker.send(messages.Swap(1))
    refusal = worker.expect(messages.SwapFailed).refusal
    assert refusal.stage == Stage.SWAP
    assert "AssertionError: a bad text" in refusal.reason
    assert (refusal.file, refusal.line, refusal.worker) == ("mine.py", 11, 0)
    (culprit,) = [
        row.identity
        for row in worker.ask("objects", f"kind={KIND}")
        if worker.ask("inspect", str(row.identity)).state["text"] == "bad"
    ]
    assert refusal.entry == f"0.{culprit}"
    worker.send(messages.Revert(1))
    assert worker.expect(messages.Reverted).refusal is None
    assert [say(client, b"x\n") for client in clients] == [b"v1 2\n", b"v1 3\n", b"v1 2\n"]


def test_a_step_that_hangs_in_the_swap_is_interrupted(worker: OneWorker) -> None:
    """The loop goes on after a moment, with the old code."""
    client = served(worker).connect()
    say(client, b"fine\n")
    step = "while old['text'] == 'bad': pass"
    worker.prepare(1, messages.Prepared, talk_connection=worker.put(talk2(step)))
    say(client, b"bad\n")
    worker.send(messages.Swap(1))
    refusal = worker.expect(messages.SwapFailed).refusal
    assert "did not end within" in refusal.reason
    assert (refusal.file, refusal.line) == ("mine.py", 11)
    assert say(client, b"x\n") == b"v1 3\n"


def test_a_session_that_never_rests_fails_the_swap_at_its_deadline(worker: OneWorker) -> None:
    """The refusal names the line at which it is suspended; everybody serves on."""
    served(worker)
    stays, rests = worker.connect("busy"), worker.connect("busy")
    assert (say(stays, b"stay\n"), say(rests, b"x\n")) == (b"v1 1\n", b"v1 1\n")
    (blocker,) = worker.ask("blockers")
    assert (blocker.kind, blocker.where) == ("busy.connection", "mine.py:14")
    assert blocker.age > 0
    v2 = worker.put(busy(2))
    worker.prepare(1, messages.Prepared, busy_connection=v2)
    worker.send(messages.Swap(1, until=time.monotonic() + 1.5))
    refusal = worker.expect(messages.SwapFailed).refusal
    assert "not quiescent in time" in refusal.reason
    assert (refusal.file, refusal.line, refusal.entry) == ("mine.py", 14, blocker.entry)
    assert worker.kind("busy.connection")[0] == {1: 2}
    assert say(rests, b"y\n") == b"v1 2\n"


def test_a_revert_in_the_middle_of_a_swap_ends_it(either: OneWorker) -> None:
    """The supervisor gives up long before the deadline; both messages are answered, in order."""
    served(either)
    stays, rests = either.connect("busy"), either.connect("busy")
    assert (say(stays, b"stay\n"), say(rests, b"x\n")) == (b"v1 1\n", b"v1 1\n")
    either.prepare(1, messages.Prepared, timeout=600.0, busy_connection=either.put(busy(2)))
    either.send(messages.Swap(1))
    either.until(lambda: either.kind("busy.connection")[0] == {1: 1, 2: 1})
    either.send(messages.Revert(1))
    refusal = either.expect(messages.SwapFailed).refusal
    assert (refusal.stage, refusal.reason) == (
        Stage.AGREEMENT,
        "the supervisor ended what was under way",
    )
    assert either.expect(messages.Reverted).refusal is None
    assert either.kind("busy.connection")[0] == {1: 2}
    assert say(rests, b"y\n") == b"v1 2\n"


def test_a_revert_that_comes_before_the_swap_has_begun_ends_it_at_once(worker: OneWorker) -> None:
    """Both messages in one piece: nothing is converted, though one session will never rest."""
    served(worker)
    stays = worker.connect("busy")
    assert say(stays, b"stay\n") == b"v1 1\n"
    worker.prepare(1, messages.Prepared, timeout=600.0, busy_connection=worker.put(busy(2)))
    worker.send(messages.Swap(1), messages.Revert(1))
    assert (
        worker.expect(messages.SwapFailed).refusal.reason
        == "the supervisor ended what was under way"
    )
    assert worker.expect(messages.Reverted).refusal is None
    assert worker.kind("busy.connection")[0] == {1: 1}


def test_what_is_said_twice_is_done_once(worker: OneWorker) -> None:
    """Each answer comes again in the same words, and the way back is still there."""
    client = served(worker).connect()
    say(client, b"a\n")
    v2 = worker.put(talk2())
    first = worker.prepare(1, messages.Prepared, talk_connection=v2)
    assert worker.prepare(1, messages.Prepared, talk_connection=v2) == first
    worker.send(messages.Swap(1))
    receipt = worker.expect(messages.Swapped)
    worker.send(messages.Swap(1))
    assert worker.expect(messages.Swapped) == receipt
    assert say(client, b"b\n") == b"v2 2 b\n"
    worker.send(messages.Revert(1), messages.Revert(1))
    assert worker.expect(messages.Reverted) == messages.Reverted(1, 0)
    assert say(client, b"c\n") == b"v1 3\n"
    assert worker.kind(KIND)[0] == {1: 1}


def test_a_later_transaction_shows_that_what_was_prepared_has_ended(worker: OneWorker) -> None:
    """Nothing was touched for it, so it is forgotten, code and all."""
    client = served(worker).connect()
    say(client, b"a\n")
    before = worker.kind(KIND)[1]
    worker.prepare(1, messages.Prepared, talk_connection=worker.put(talk2()))
    v2 = worker.put(talk2("'another'"))
    worker.prepare(2, messages.Prepared, talk_connection=v2)
    worker.send(messages.Swap(1))
    assert worker.expect(messages.SwapFailed).refusal.reason == "nothing is prepared here"
    worker.send(messages.Swap(2))
    worker.expect(messages.Swapped)
    worker.send(messages.Finish(2))
    worker.expect(messages.Finished)
    assert say(client, b"b\n") == b"v2 2 b\n"
    assert worker.kind(KIND) == ({2: 1}, before)


def test_what_was_swapped_and_never_decided_refuses_the_next_one(worker: OneWorker) -> None:
    """Only the journal knows how it ended; the refusal says how to get there."""
    client = served(worker).connect()
    say(client, b"a\n")
    swapped(worker, 1, talk_connection=worker.put(talk2()))
    refusal = worker.prepare(2, messages.Refused, talk_connection=worker.active[KIND]).refusal
    assert refusal.reason == "how transaction 1 ended was never told here"
    assert "netswap workers" in refusal.advice
    worker.send(messages.Revert(1))
    worker.expect(messages.Reverted)
    assert say(client, b"b\n") == b"v1 2\n"


def test_a_connection_that_closes_meanwhile_is_gone_and_a_success(worker: OneWorker) -> None:
    """Nothing waits for it."""
    served(worker)
    stays, rests = worker.connect("busy"), worker.connect("busy")
    assert (say(stays, b"stay\n"), say(rests, b"x\n")) == (b"v1 1\n", b"v1 1\n")
    worker.prepare(1, messages.Prepared, busy_connection=worker.put(busy(2)))
    worker.send(messages.Swap(1))
    stays.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stays.close()  # by a reset: a session may have something to say after its peer's end
    receipt = worker.expect(messages.Swapped).receipt
    assert (receipt.objects, receipt.gone) == ({"busy.connection": 1}, 1)
    assert say(rests, b"y\n") == b"v2 2\n"


def test_only_swaps_what_a_selector_matches(worker: OneWorker) -> None:
    """New objects are still of the committed version."""
    served(worker)
    one, other = worker.connect(), worker.connect()
    assert (say(one, b"a\n"), say(other, b"a\n")) == (b"v1 1\n", b"v1 1\n")
    (row, _) = worker.ask("objects", f"kind={KIND}")
    v2 = worker.put(talk2())
    prepared = worker.prepare(1, messages.Prepared, talk_connection=v2, only=f"id={row.identity}")
    assert prepared.objects == {KIND: 1}
    worker.send(messages.Swap(1))
    assert worker.expect(messages.Swapped).receipt.objects == {KIND: 1}
    worker.send(messages.Finish(1))
    worker.expect(messages.Finished)
    assert worker.kind(KIND)[0] == {1: 1, 2: 1}
    assert {say(one, b"b\n"), say(other, b"b\n")} == {b"v1 2\n", b"v2 2 b\n"}
    assert say(worker.connect(), b"c\n") == b"v1 1\n"


def test_a_new_kind_opens_the_listener_that_waits_for_it(worker: OneWorker) -> None:
    """Several kinds are one transaction: a service and its clients."""
    served(worker)
    client = worker.connect("late")
    client.sendall(b"x\n")
    target = {"late_hall": worker.put(HALL.replace("START", "pass"), "hall.py")}
    target["late_connection"] = worker.put(LATE, "late.py")
    done = finished(worker, 1, **target)
    assert done.receipt.objects == {"late.hall": 0, "late.connection": 0}
    assert hear(client) == b"1\n"
    assert say(client, b"x\n") == b"2\n"


def test_a_new_service_that_does_not_start_fails_the_swap(worker: OneWorker) -> None:
    """Nothing of it is left, and the next push may mend it."""
    served(worker)
    before = worker.kind(KIND)
    broken = worker.put(HALL.replace("START", "raise OSError('no disk')"), "hall.py")
    worker.send(messages.Prepare(1, {"late.hall": broken}, rehearse=False))
    worker.expect(messages.Prepared)
    worker.send(messages.Swap(1))
    refusal = worker.expect(messages.SwapFailed).refusal
    assert refusal.reason == "late.hall could not start: OSError: no disk"
    assert (refusal.file, refusal.line) == ("hall.py", 9)
    worker.send(messages.Revert(1))
    assert worker.expect(messages.Reverted).refusal is None
    assert worker.kind(KIND) == before
    finished(worker, 2, late_hall=worker.put(HALL.replace("START", "pass"), "hall.py"))


def held(worker: OneWorker, tx: int, **target: str) -> None:
    """Prepare, and serve nothing any more."""
    worker.prepare(tx, messages.Prepared, **target)
    worker.send(messages.Hold(tx))
    assert worker.expect(messages.Held) == messages.Held(tx, 0)


def is_silent(worker: OneWorker, client: socket.socket) -> bool:
    """Whether nothing comes to a client while the worker answers us, several times."""
    for _ in range(5):
        worker.ask("status")
    client.setblocking(False)
    try:
        return not client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        client.settimeout(20)


def test_while_it_holds_nothing_is_served_and_then_all_of_it(either: OneWorker) -> None:
    """What was sent is answered in the new version; for how long it was not is said."""
    client = served(either).connect()
    say(client, b"a\n")
    session = either.connect("busy")
    assert say(session, b"a\n") == b"v1 1\n"
    new = {"talk_connection": either.put(talk2()), "busy_connection": either.put(busy(2))}
    held(either, 1, **new)
    client.sendall(b"b\n")
    session.sendall(b"b\n")
    late = either.connect()
    late.sendall(b"x\n")
    assert is_silent(either, client)
    either.send(messages.Swap(1))
    receipt = either.expect(messages.Swapped).receipt
    assert receipt.objects == {KIND: 1, "busy.connection": 1}
    assert receipt.blackout_us >= receipt.held_us > 0
    assert is_silent(either, client)
    assert is_silent(either, late)
    either.send(messages.Finish(1))
    assert either.expect(messages.Finished).held_us > receipt.held_us
    assert (hear(client), hear(session), hear(late)) == (b"v2 2 b\n", b"v2 2\n", b"v2 1 x\n")
    assert say(client, b"c\n") == b"v2 3 c\n"


@pytest.mark.parametrize("swaps", [False, True], ids=["held", "swapped"])
def test_a_revert_lets_the_old_code_serve_what_was_held(either: OneWorker, swaps: bool) -> None:
    """New code has answered nothing, though it was there."""
    client = served(either).connect()
    say(client, b"a\n")
    session = either.connect("busy")
    new = {"talk_connection": either.put(talk2()), "busy_connection": either.put(busy(2))}
    held(either, 1, **new)
    client.sendall(b"b\n")
    session.sendall(b"b\n")
    if swaps:
        either.send(messages.Swap(1))
        either.expect(messages.Swapped)
    either.send(messages.Revert(1))
    assert either.expect(messages.Reverted) == messages.Reverted(1, 0)
    assert (hear(client), hear(session)) == (b"v1 2\n", b"v1 1\n")
    assert say(client, b"c\n") == b"v1 3\n"


def test_a_swap_that_fails_while_it_holds_serves_when_all_have_gone_back(
    worker: OneWorker,
) -> None:
    """Not before, though the old code is back: another worker may still have the new one."""
    client = served(worker).connect()
    say(client, b"a\n")
    held(worker, 1, late_hall=worker.put(HALL.replace("START", "open('/dev/null/no', 'w')")))
    client.sendall(b"b\n")
    worker.send(messages.Swap(1))
    assert "could not start" in worker.expect(messages.SwapFailed).refusal.reason
    assert is_silent(worker, client)
    worker.send(messages.Revert(1))
    worker.expect(messages.Reverted)
    assert hear(client) == b"v1 2\n"


def test_a_later_transaction_ends_a_hold_that_nobody_ended(worker: OneWorker) -> None:
    """It shows that the one in hand was given up."""
    client = served(worker).connect()
    say(client, b"a\n")
    new = worker.put(talk2())
    held(worker, 1, talk_connection=new)
    client.sendall(b"b\n")
    worker.prepare(2, messages.Prepared, talk_connection=new)
    assert hear(client) == b"v1 2\n"


def test_what_does_not_rest_fails_the_hold_and_all_is_served(either: OneWorker) -> None:
    """By its file and line, within the time that was given; a revert meanwhile stops it."""
    client, stuck = served(either).connect(), either.connect("busy")
    say(client, b"a\n")
    say(stuck, b"stay\n")
    new = {"talk_connection": either.put(talk2()), "busy_connection": either.put(busy(2))}
    either.prepare(1, messages.Prepared, **new)
    either.send(messages.Hold(1, time.monotonic() + 1.0))
    refusal = either.expect(messages.SwapFailed).refusal
    assert "not quiescent in time: busy.connection" in refusal.reason
    assert (refusal.file, refusal.line) == ("mine.py", 14)
    assert say(client, b"b\n") == b"v1 2\n"
    either.send(messages.Revert(1))
    either.expect(messages.Reverted)
    either.prepare(2, messages.Prepared, **new)
    either.send(messages.Hold(2), messages.Revert(2))
    assert "the supervisor ended" in either.expect(messages.SwapFailed).refusal.reason
    either.expect(messages.Reverted)
    assert say(client, b"c\n") == b"v1 3\n"


def test_a_watch_begins_when_all_is_served_again(either: OneWorker) -> None:
    """With the guards in their places before the first call that was held."""
    client = served(either).connect()
    say(client, b"a\n")
    bad = either.put(talk2().replace("self.write(b", "1 / 0; (b"))
    either.send(messages.Prepare(1, {KIND: bad}, timeout=20.0, probation=True))
    either.expect(messages.Prepared)
    either.send(messages.Hold(1))
    either.expect(messages.Held)
    client.sendall(b"b\n")
    either.send(messages.Swap(1))
    either.expect(messages.Swapped)
    assert is_silent(either, client)
    either.send(messages.Watch(1, 30.0, 30.0))
    refusal = either.expect(messages.WatchFailed).refusal
    assert "ZeroDivisionError" in refusal.reason
    assert hear(client) == b"v1 2\n", "the old version has answered in its place"
    either.send(messages.Revert(1))
    either.expect(messages.Reverted)


@pytest.mark.parametrize("kind", ["talk", "busy"])
def test_a_worker_that_holds_ends_with_its_supervisor(either: OneWorker, kind: str) -> None:
    """Clients that wait wait for nothing any more."""
    client = served(either).connect(kind)
    say(client, b"a\n")
    held(either, 1, talk_connection=either.put(talk2()))
    client.sendall(b"b\n")
    either.control.close()
    assert hear(client) == b""
    assert either.wait_ended() == 0


@pytest.mark.parametrize("rehearse", [True, False])
def test_a_worker_short_of_descriptors_refuses_and_keeps_its_clients(
    worker: OneWorker, rehearse: bool
) -> None:
    """Whatever can't be opened in the preparation: the worker and its clients go on as before."""
    served(worker)
    client = worker.connect()
    assert say(client, b"x\n") == b"v1 1\n", "accepted, while it could be"
    new, pid = worker.put(talk2()), worker.process.pid
    for spare in range(1 + rehearse):
        with short_of_descriptors(pid, spare):
            ask = messages.Prepare(next(NUMBERS), {KIND: new}, rehearse=rehearse)
            worker.send(ask)
            refused = worker.expect(messages.Refused)
        assert "Too many open files" in refused.refusal.reason
        assert refused.refusal.advice
        assert say(client, b"x\n") == b"v1 %d\n" % (spare + 2)
    finished(worker, next(NUMBERS), talk_connection=new)
    assert say(client, b"x\n").startswith(b"v2 ")


def test_a_shadow_run_that_is_taken_back_does_not_go_on_recording(worker: OneWorker) -> None:
    """The worker is there for the next transaction at once, not when an hour has passed."""
    served(worker)
    client, new = worker.connect(), worker.put(talk2())
    assert say(client, b"x\n") == b"v1 1\n"
    tx = next(NUMBERS)
    ask = messages.Prepare(tx, {KIND: new}, shadow=3600.0)
    worker.send(ask, messages.Revert(tx))
    worker.expect(messages.Refused)
    assert worker.expect(messages.Reverted).refusal is None
    assert say(client, b"x\n") == b"v1 2\n"
    finished(worker, next(NUMBERS), talk_connection=new)


def test_a_state_that_no_message_can_hold_is_shown_with_the_reason(worker: OneWorker) -> None:
    """A list that holds itself: the worker that is asked for it serves on."""
    circle = TALK.replace('text: str = ""', "text: list = []").replace(
        "self.state.text = data.decode().strip()", "self.state.text.append(self.state.text)"
    )
    worker.boot(talk_connection=worker.put(circle))
    worker.expect(messages.Ready)
    client = worker.connect()
    assert say(client, b"x\n") == b"v1 1\n"
    (row,) = worker.ask("objects", f"kind={KIND}")
    state = worker.ask("inspect", str(row.identity)).state
    assert state["count"] == 1
    assert "Talk1.text can't be encoded: maximum recursion depth" in state["text"]
    assert say(client, b"x\n") == b"v1 2\n"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("error", ["SystemExit(3)", "KeyboardInterrupt"])
def test_a_callback_that_ends_the_process_ends_its_connection(
    make_worker: Callable[..., OneWorker], loop: str, error: str
) -> None:
    """asyncio's loop would end for it, and cut off all other clients of the worker."""
    worker = make_worker(loop)
    fatal = TALK.replace("self.state.count += 1", f"if data == b'die': raise {error}")
    worker.boot(talk_connection=worker.put(fatal))
    worker.expect(messages.Ready)
    other, dies = worker.connect(), worker.connect()
    assert say(other, b"x\n") == b"v1 0\n"
    assert say(dies, b"die") == b""
    assert say(other, b"x\n") == b"v1 0\n"
    worker.until(lambda: "callback_failed" in worker.log)


@contextmanager
def short_of_descriptors(pid: int, spare: int) -> Iterator[None]:
    """The process can open ``spare`` descriptors."""
    taken = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    free = next(number for number in itertools.count() if number not in taken)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free + spare, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
