"""The canary of one worker: whom it takes, who joins it, and that all go back together."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest

from netswap.canary import WHOLE, Canary
from netswap.channel import messages
from netswap.events import Stage
from netswap.modules import Bundle
from tests.worker.one_worker import ROOT, OneWorker, say
from tests.worker.test_transaction import HALL, KIND, LATE, served, talk2

TENTH = Canary.parse("10%")
FIFTH = Canary.parse("20%")


def versions(clients: list[socket.socket]) -> str:
    """What answers each client, as one digit each."""
    return "".join(say(client, b"a\n").decode()[1] for client in clients)


def tried(worker: OneWorker, canary: Canary, carry: int = WHOLE - 1, **target: str) -> None:
    """Prepare, and swap the canary."""
    worker.canary(1, canary, messages.Prepared, **target)
    worker.send(messages.Swap(1, True, carry))
    assert worker.expect(messages.Swapped).canary


def test_every_fifth_goes_first_of_those_there_and_of_those_that_come(either: OneWorker) -> None:
    """The share is exact; when it is promoted all follow, and so does who comes then."""
    served(either)
    clients = [either.connect() for _ in range(10)]
    assert versions(clients) == "1" * 10
    v2 = either.put(talk2())
    prepared = either.canary(1, FIFTH, messages.Prepared, talk_connection=v2)
    assert prepared.connections == 10
    either.send(messages.Swap(1, True, WHOLE - 1))
    swapped = either.expect(messages.Swapped)
    assert (swapped.canary, swapped.receipt.objects) == (True, {KIND: 2})
    assert versions(clients) == "2111121111"
    born = []
    for _ in range(10):
        born.append(either.connect())
        say(born[-1], b"first\n")
    assert versions(born) == "2111121111"
    either.send(messages.Swap(1))
    swapped = either.expect(messages.Swapped)
    assert (swapped.canary, swapped.receipt.objects) == (False, {KIND: 2 + 16})
    assert versions([*clients, *born, either.connect()]) == "2" * 21
    either.send(messages.Finish(1))
    either.expect(messages.Finished)
    assert either.kind(KIND)[0] == {2: 21}


def test_a_canary_goes_back_with_its_state_and_nothing_is_left(either: OneWorker) -> None:
    """Those that were converted and those that were born in new code."""
    served(either)
    clients = [either.connect() for _ in range(5)]
    versions(clients)
    bundles = either.kind(KIND)[1]
    tried(either, FIFTH, talk_connection=either.put(talk2()))
    born = [either.connect() for _ in range(5)]
    assert sorted(versions([*clients, *born])) == list("1" * 8 + "2" * 2)
    either.send(messages.Revert(1))
    assert either.expect(messages.Reverted) == messages.Reverted(1, 0)
    assert [say(client, b"c\n") for client in clients] == [b"v1 3\n"] * 5
    assert versions([*born, either.connect()]) == "1" * 6
    assert either.kind(KIND) == ({1: 11}, bundles)


@pytest.mark.parametrize(("carry", "first"), [(0, "1111"), (WHOLE - 1, "2111"), (7_000, "1121")])
def test_a_worker_goes_on_where_the_one_before_it_ended(
    worker: OneWorker, carry: int, first: str
) -> None:
    """So that all workers together have the share, and not each of them a part too much."""
    served(worker)
    clients = [worker.connect() for _ in range(4)]
    versions(clients)
    tried(worker, TENTH, carry, talk_connection=worker.put(talk2()))
    assert versions(clients) == first


def test_a_selector_chooses_among_those_there_and_those_that_come(worker: OneWorker) -> None:
    """A canary of one client alone, by its address."""
    served(worker)
    first, second = worker.connect(), worker.connect()
    assert versions([first, second]) == "11"
    address = f"127.0.0.1:{second.getsockname()[1]}"
    tried(
        worker,
        Canary.parse(f"listener=talk,address={address}"),
        talk_connection=worker.put(talk2()),
    )
    assert versions([first, second, worker.connect()]) == "121"
    worker.send(messages.Revert(1))
    worker.expect(messages.Reverted)
    tried2 = Canary.parse("peer=127.0.0.1")
    worker.canary(2, tried2, messages.Prepared, talk_connection=worker.put(talk2()))
    worker.send(messages.Swap(2, True))
    worker.expect(messages.Swapped)
    assert versions([first, second, worker.connect()]) == "222"


@pytest.mark.parametrize(
    ("canary", "found"),
    [
        ("listener=talk", 2),
        ("peer=10.9.9.9", 0),
        ("50%", 2),
        ("worker=0,listener=talk", 2),
    ],
)
def test_a_worker_says_how_many_connections_it_is_about(
    worker: OneWorker, canary: str, found: int
) -> None:
    """Those that a selector finds, or those among which a share is counted."""
    served(worker)
    clients = [worker.connect(), worker.connect()]
    assert versions(clients) == "11"
    about = Canary.parse(canary)
    told = worker.canary(1, about, messages.Prepared, talk_connection=worker.put(talk2()))
    assert told.connections == found


def test_a_worker_outside_of_the_canary_stays_as_it_is(worker: OneWorker) -> None:
    """Also for who comes meanwhile; with the promotion it follows."""
    served(worker)
    client = worker.connect()
    versions([client])
    tried(worker, Canary("worker=5", 0, 5), talk_connection=worker.put(talk2()))
    assert versions([client, worker.connect()]) == "11"
    worker.send(messages.Swap(1))
    worker.expect(messages.Swapped)
    assert versions([client, worker.connect()]) == "22"


def test_a_service_goes_first_with_a_whole_worker_only(worker: OneWorker) -> None:
    """It is one object: a share of it is refused with what to do instead."""
    served(worker)
    hall = HALL.replace("START", "pass")
    first = worker.put(hall, "hall.py"), worker.put(LATE, "late.py")
    worker.prepare(1, messages.Prepared, late_hall=first[0], late_connection=first[1])
    worker.send(messages.Swap(1))
    worker.expect(messages.Swapped)
    worker.send(messages.Finish(1))
    worker.expect(messages.Finished)
    client = worker.connect("late")
    assert say(client, b"x\n") == b"1\n"
    again = worker.put(hall.replace("len(self.state.names)", "-len(self.state.names)"), "hall.py")
    refusal = worker.canary(2, TENTH, messages.Refused, late_hall=again).refusal
    assert (refusal.stage, refusal.kind) == (Stage.VERDICT, "late.hall")
    assert "--canary worker=" in refusal.advice
    assert refusal.where.startswith("hall.py:7")
    worker.canary(3, Canary("worker=0", WHOLE, 0), messages.Prepared, late_hall=again)
    worker.send(messages.Swap(3, True))
    worker.expect(messages.Swapped)
    assert say(client, b"y\n") == b"-2\n"
    worker.send(messages.Revert(3))
    worker.expect(messages.Reverted)
    assert say(client, b"z\n") == b"3\n"


def test_a_service_that_is_written_as_before_does_not_have_to_be_split(worker: OneWorker) -> None:
    """A file with both, of which only the connection has changed: the service follows later."""
    served(worker)
    both = HALL.replace("START", "pass") + LATE
    for tx, source in ((1, both), (2, both.replace('b"%d', 'b"new %d'))):
        kinds = {kind: worker.put(source, "both.py") for kind in ("late.hall", "late.connection")}
        canary = Canary.parse("50%") if tx == 2 else None
        worker.send(messages.Prepare(tx, kinds, canary=canary, probation=tx == 2))
        worker.expect(messages.Prepared)
        if tx == 1:
            worker.send(messages.Swap(1))
            worker.expect(messages.Swapped)
            worker.send(messages.Finish(1))
            worker.expect(messages.Finished)
            clients = [worker.connect("late") for _ in range(4)]
            assert [say(client, b"x\n") for client in clients] == [b"1\n", b"2\n", b"3\n", b"4\n"]
    worker.send(messages.Swap(2, True, WHOLE - 1))
    assert worker.expect(messages.Swapped).receipt.objects == {
        "late.hall": 0,
        "late.connection": 2,
    }
    heard = [say(client, b"x\n") for client in clients]
    assert heard == [b"new 5\n", b"6\n", b"new 7\n", b"8\n"]
    worker.send(messages.Swap(2))
    assert worker.expect(messages.Swapped).receipt.objects == {
        "late.hall": 1,
        "late.connection": 4,
    }
    assert say(clients[1], b"x\n") == b"new 9\n"


def test_the_parts_of_a_connection_go_with_it(worker: OneWorker) -> None:
    """A buffer's canary is the buffers of every fifth connection, also of those that come."""
    served(worker)
    clients = [worker.connect("busy") for _ in range(5)]
    assert versions(clients) == "11111"
    chunked = worker.store.put(Bundle.from_paths([ROOT / "protocols/buffers/chunked.py"]))
    prepared = worker.canary(1, FIFTH, messages.Prepared, buffer_receive=chunked)
    assert prepared.connections == 5
    worker.send(messages.Swap(1, True, WHOLE - 1))
    assert worker.expect(messages.Swapped).receipt.objects == {"buffer.receive": 1}
    assert worker.kind("buffer.receive")[0] == {1: 4, 2: 1}
    clients += [worker.connect("busy") for _ in range(5)]
    assert versions(clients) == "1" * 10
    assert worker.kind("buffer.receive")[0] == {1: 8, 2: 2}
    worker.send(messages.Revert(1))
    worker.expect(messages.Reverted)
    assert worker.kind("buffer.receive")[0] == {1: 10}
    assert versions(clients) == "1" * 10


def test_a_lossy_way_back_is_refused_up_front(worker: OneWorker) -> None:
    """A watch goes back by itself, and nobody can be asked then."""
    served(worker)
    lossy = talk2().replace(
        '@migration("talk.connection", 2, 1)', '@migration("talk.connection", 2, 1, lossy=["raw"])'
    )
    sha = worker.put(lossy)
    refusal = worker.canary(1, TENTH, messages.Refused, talk_connection=sha).refusal
    assert "loses raw" in refusal.reason
    assert "--allow-lossy" in refusal.advice
    worker.prepare(2, messages.Prepared, talk_connection=sha)


def test_the_rest_that_fails_takes_the_canary_back(worker: OneWorker) -> None:
    """One transaction, one end."""
    served(worker)
    clients = [worker.connect() for _ in range(3)]
    versions(clients)
    tried(worker, TENTH, talk_connection=worker.put(talk2("assert old['text'] != 'bad'")))
    assert versions(clients) == "211"
    say(clients[2], b"bad\n")
    worker.send(messages.Swap(1))
    assert "AssertionError" in worker.expect(messages.SwapFailed).refusal.reason
    assert versions([*clients, worker.connect()]) == "1111"


def test_one_that_stands_still_before_the_rest_goes_back_in_order(worker: OneWorker) -> None:
    """It finds a swap whose time is over, the revert and the next push, all at once."""
    served(worker)
    clients = [worker.connect() for _ in range(5)]
    versions(clients)
    v2 = worker.put(talk2())
    tried(worker, FIFTH, talk_connection=v2)
    assert sorted(versions(clients)) == list("11112")
    os.kill(worker.process.pid, signal.SIGSTOP)
    late = messages.Swap(1, until=time.monotonic())
    worker.send(late, messages.Revert(1), messages.Prepare(2, {KIND: v2}))
    os.kill(worker.process.pid, signal.SIGCONT)
    assert not worker.expect(messages.SwapFailed).canary
    assert worker.expect(messages.Reverted).refusal is None
    worker.expect(messages.Prepared)
    assert worker.begun == [messages.Begun(1, 0)]  # that of the canary
    assert versions(clients) == "11111"
