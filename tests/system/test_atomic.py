"""``push --atomic``: nobody who has read a new answer gets an old one to a question asked later."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.machine import raise_descriptor_limit
from tests.system.harness import (
    NETSWAP,
    PATIENCE,
    PUSHED,
    ROOT,
    Client,
    Process,
    Server,
    assert_faultless,
    environment,
    until,
)

pytestmark = pytest.mark.timeout(180)

V1, V2 = PUSHED / "counter_v1.py", PUSHED / "counter_v2.py"
CROWD = 3000
ATTEMPTS = 20
Make = Callable[..., Server]


class Answered(NamedTuple):
    """One answer: when it was asked for, when it was there, by which version and worker."""

    sent: float
    there: float
    version: str
    worker: int


def stale(answers: Iterable[Answered], old: str, new: str) -> list[Answered]:
    """Old answers to what was asked after somebody had read a new one.

    An old answer that only arrives later proves nothing: it may have been on its way.
    """
    answers = list(answers)
    first = min((one.there for one in answers if one.version == new), default=float("inf"))
    return [one for one in answers if one.version == old and one.sent > first]


def test_the_criterion_tells_two_versions_at_once_from_one_after_the_other() -> None:
    """It knows an answer that is late from a question that is."""
    new = Answered(2.0, 3.0, "v2", 0)
    under_way = Answered(2.5, 4.0, "v1", 1)
    too_late = Answered(3.1, 3.2, "v1", 1)
    assert stale([new, under_way], "v1", "v2") == []
    assert stale([under_way, too_late, new], "v1", "v2") == [too_late]
    assert stale([too_late], "v1", "v2") == []
    assert stale([Answered(0.0, 1.0, "v1", 0), new], "v1", "v2") == []


class Asker(threading.Thread):
    """Asks on one connection, again and again, until it is enough, and writes down the answers."""

    def __init__(self, client: Client, worker: int) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.worker = worker
        self.answers: list[Answered] = []
        self.enough = threading.Event()

    def run(self) -> None:
        total = int(self.client.ask("add 0").rpartition(" ")[2])
        while not self.enough.is_set():
            sent = time.monotonic()
            line = self.client.ask("add 1")
            version, _, rest = line.partition(" ")
            self.answers.append(Answered(sent, time.monotonic(), version, self.worker))
            total += 1
            assert rest.endswith(f" lines, total {total}"), line


def pid_of(client: Client) -> int:
    """The process that serves a client of the counter."""
    return int(client.ask("pid"))


@contextmanager
def asking(clients: Iterable[Client]) -> Iterator[list[Asker]]:
    """One asker for each client; they end before this does, each with its sum intact."""
    askers = [Asker(client, worker) for worker, client in enumerate(clients)]
    for asker in askers:
        asker.start()
    try:
        until(lambda: all(asker.answers for asker in askers), "everybody was answered")
        yield askers
    finally:
        for asker in askers:
            asker.enough.set()
        for asker in askers:
            asker.join(PATIENCE)
    for asker in askers:
        assert not asker.is_alive()


def all_of(askers: Iterable[Asker]) -> list[Answered]:
    """Everything that they were answered."""
    return [answer for asker in askers for answer in asker.answers]


def seen_in(askers: Iterable[Asker], version: str) -> set[int]:
    """The workers that have answered in this version."""
    return {answer.worker for answer in all_of(askers) if answer.version == version}


@pytest.fixture(scope="module", params=["uvloop", pytest.param("asyncio", marks=pytest.mark.slow)])
def shared(request: pytest.FixtureRequest, make_shared_server: Make) -> Iterator[Server]:
    """A server for each loop."""
    server = make_shared_server(("counter", "verify", "chat", "greeter"), "--loop", request.param)
    server.push(V1, PUSHED / "greeter_v1.py")
    yield server
    server.stop()


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    """With version 1 of the counter; no test may leave an error in its log or lose a worker."""
    pids = [row["pid"] for row in shared.workers()]
    yield shared
    for kind in ("counter.connection", "verify.connection", "chat.connection"):
        if shared.kinds()[kind]["version"] != 1:
            assert shared.netswap("rollback").code == 0
    assert [row["pid"] for row in shared.workers()] == pids
    assert not shared.errors()


@contextmanager
def crowd(server: Server) -> Iterator[list[Client]]:
    """A client of each worker, of the first and the last objects to be swapped; many in between."""
    raise_descriptor_limit(CROWD + 500)
    with ExitStack() as stack:
        first = stack.enter_context(server.clients("counter", pid_of))
        for _ in range(CROWD):
            stack.enter_context(server.client("counter"))
        last = stack.enter_context(server.clients("counter", pid_of))
        yield [*first, *last]


def test_no_old_answer_after_a_new_one(server: Server) -> None:
    """Two workers, thousands of connections: the versions serve one after the other, both ways."""
    with verify_load(server) as load, crowd(server) as clients:
        for command, old, new in (("push", "v1", "v2"), ("rollback", "v2", "v1")):
            with asking(clients) as askers:
                words = [V2, ROOT / "protocols/verify/v2.py"] if command == "push" else []
                done = server.netswap(command, *words, "--atomic")
                assert done.code == 0, done
                until(lambda n=new: seen_in(askers, n) == set(range(4)), "all answer as new")
            answers = all_of(askers)
            assert {answer.version for answer in answers} == {old, new}
            assert stale(answers, old, new) == []
            receipt = done.page["receipt"]
            assert receipt["workers"] == 2
            assert receipt["objects"]["counter.connection"] >= CROWD
            assert receipt["blackout_us"] >= receipt["held_us"] > receipt["convert_us"] / 2
            client = Client(server.ports["counter"])
            with client:
                assert client.ask("add 1") == f"{new} 1 lines, total 1"
        judged(load)


def test_without_atomic_the_same_askers_see_two_versions_at_once(server: Server) -> None:
    """So the test above can fail: a swap that rolls is caught by it, often enough."""
    with crowd(server) as clients:
        for _ in range(ATTEMPTS):
            found = []
            for command, old, new in (("push", "v1", "v2"), ("rollback", "v2", "v1")):
                with asking(clients) as askers:
                    done = server.netswap(command, *([V2] if command == "push" else []))
                    assert done.code == 0, done
                    assert done.page["receipt"]["held_us"] == 0
                found += stale(all_of(askers), old, new)
            if found:
                return
    raise AssertionError(f"{2 * ATTEMPTS} rolling swaps, and none was seen")


@contextmanager
def verify_load(server: Server) -> Iterator[subprocess.Popen[str]]:
    """Checked load until it is told to end, or this does."""
    words = [*NETSWAP, "load", "run", "--protocol", "verify", "--json", "--duration", "60m",
             "--port", str(server.ports["verify"]), "--connections", "40",
             "--rate", "500"]  # fmt: skip
    environ = environment(server.folder)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environ) as load:
        try:
            yield load
        finally:
            load.kill()


def judged(load: subprocess.Popen[str]) -> None:
    """End the load; not one operation was lost, doubled, out of order or wrongly carried."""
    load.terminate()
    report = json.loads(load.communicate(timeout=30)[0].splitlines()[-1])
    assert_faultless(load.returncode, report)
    assert {"1", "2"} <= set(report["by_version"])


def test_a_room_over_both_workers_hears_everything_in_one_order(server: Server) -> None:
    """What people say goes from worker to worker, and waits where it is."""
    with ExitStack() as stack:
        clients = [_in_worker(server, stack, "chat", slot) for slot in (0, 1)]
        for number, client in enumerate(clients):
            client.send(b"/nick p%d\n" % number)
            while f"p{number}" not in client.line():
                pass
        enough = threading.Event()
        said = [0, 0]

        def talk(number: int) -> None:
            while not enough.is_set():
                clients[number].send(b"%d\n" % said[number])
                said[number] += 1
                enough.wait(0.002)
            clients[number].send(b"end\n")

        talking = [threading.Thread(target=talk, args=(n,), daemon=True) for n in (0, 1)]
        for thread in talking:
            thread.start()
        for version in (2, 1):
            words = ["push", ROOT / "protocols/chat/v2.py"] if version == 2 else ["rollback"]
            done = server.netswap(*words, "--atomic", "--allow-lossy")
            assert done.code == 0, done
            assert server.kinds()["chat.connection"]["version"] == version
        enough.set()
        for thread in talking:
            thread.join(PATIENCE)
        heard = [_heard(client) for client in clients]
    assert heard[0] == heard[1]
    assert sorted(heard[0]) == sorted(f"<p{n}> {i}" for n in (0, 1) for i in range(said[n]))


def _heard(client: Client) -> list[str]:
    """What was said until both have said ``end``."""
    lines: list[str] = []
    while sum(line.endswith("> end") for line in lines) < 2:
        line = client.line()
        if line.startswith("<"):
            lines.append(line)
    return [line for line in lines if not line.endswith("> end")]


def _in_worker(server: Server, stack: ExitStack, protocol: str, slot: int) -> Client:
    for _ in range(50):
        client = stack.enter_context(server.client(protocol))
        if server.object_of(client, f"{protocol}.connection")["id"].startswith(f"{slot}."):
            return client
    raise AssertionError("the kernel gives all connections to the other worker")


def test_sessions_carry_on_behind_the_gate(server: Server) -> None:
    """A line that was begun before is answered afterwards, by the new version."""
    with ExitStack() as stack:
        clients = [_in_worker(server, stack, "greeter", slot) for slot in (0, 1)]
        for client in clients:
            assert client.ask("ann") == "v1 hello ann, number 1"
            client.send(b"bo")
        server.push(PUSHED / "greeter_v2.py", "--atomic")
        for client in clients:
            assert client.ask("b") == "v2 hello bob, number 2"
        server.rollback("--atomic")
        for client in clients:
            assert client.ask("eve") == "v1 hello eve, number 3"


STUCK = '''
"""A session that reads where there is no swap point."""
from netswap import Session, State

class Wait(State, kind="stuck.connection", version=1):
    pass

class Stuck(Session[Wait]):
    async def run(self) -> None:
        while line := await self.swap_point(self.read_line()):
            self.write(b"got " + line + b"\\n")
            self.write(b"got " + await self.read_line() + b"\\n")
'''


@pytest.fixture
def stuck_server(make_server: Make) -> Iterator[Server]:
    """Version 1 of the counter, and sessions that may never rest."""
    server = make_server(("counter", "stuck"))
    module = server.folder / "stuck.py"
    module.write_text(STUCK)
    server.push(V1, module)
    again(server).write_text(STUCK + "# again\n")
    yield server
    server.stop()


def again(server: Server) -> Path:
    """The stuck module with a comment more: a change that its sessions have to rest for."""
    return server.folder / "again.py"


@contextmanager
def half_closed(server: Server) -> Iterator[tuple[subprocess.Popen[str], Client, list[Client]]]:
    """A push for which worker 0 holds its clients, and worker 1 can't: its stuck client is given.

    And a client of the counter of each worker, that of worker 0 with a question under way.
    """
    with ExitStack() as stack:
        clients = stack.enter_context(server.clients("counter", pid_of))
        stuck = _in_worker(server, stack, "stuck", 1)
        assert stuck.ask("begin") == "got begin"
        words = ("push", V2, again(server), "--atomic", "--timeout", "60s")
        push = stack.enter_context(server.starts(*words))
        stack.callback(push.kill)
        assert push.stderr is not None
        for line in push.stderr:
            if "worker 0" in line and "serves nothing" in line:
                break
        clients[0].send(b"add 5\n")
        assert clients[1].ask("add 7") == "v1 2 lines, total 7", "worker 1 serves on"
        yield push, stuck, clients


def ending(push: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    """Exit code and result."""
    out, _ = push.communicate(timeout=PATIENCE)
    page: dict[str, Any] = json.loads(out.splitlines()[-1])
    return push.returncode, page


@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_is_killed_while_the_gates_close(stuck_server: Server, victim: int) -> None:
    """The old set serves, in the worker that lives, in what was held, and in the successor."""
    server = stuck_server
    with half_closed(server) as (push, _, clients):
        pids = [row["pid"] for row in server.workers()]
        with Process(pids[victim]) as worker:
            worker.kill()
            worker.wait_ended()
        code, page = ending(push)
        assert (code, page["outcome"]) == (21, "rolled back")
        assert f"worker {victim} died while holding" in page["what"]
        if victim == 1:
            assert clients[0].line() == "v1 2 lines, total 5"
        else:
            assert clients[1].ask("add 1") == "v1 3 lines, total 8"
        server.wait_serving(without=[pids[victim]])
        with server.clients("counter", pid_of) as after:
            assert [one.ask("add 1") for one in after] == ["v1 2 lines, total 1"] * 2
    server.push(V2, "--atomic")


def test_a_worker_that_is_late_lets_all_serve_on(stuck_server: Server) -> None:
    """The worker that waits for it is told; when the session rests in time, the push goes on."""
    server = stuck_server
    began = time.monotonic()
    with half_closed(server) as (push, stuck, clients):
        took = time.monotonic() - began
        stuck.send(b"more\n")
        assert stuck.line() == "got more"
        code, page = ending(push)
        assert (code, page["outcome"]) == (0, "done"), page
        assert clients[0].line() == "v2 2 lines, total 5"
        assert clients[1].ask("add 1") == "v2 3 lines, total 8"
        server.rollback()
        assert stuck.ask("begin") == "got begin"
        seconds = 1 + 2 * took  # so long the first push has taken, until worker 0 held its clients
        words = ("push", V2, again(server), "--atomic", "--timeout", f"{seconds:.1f}s")
        answer = server.netswap(*words)
        assert answer.code == 21
        assert "not quiescent in time: stuck.connection 1." in answer.page["what"]
        assert "stuck.py:12" in answer.page["where"]
        assert "--rolling" in answer.page["advice"]
        assert [one.ask("add 1")[:2] for one in clients] == ["v1", "v1"]


def test_a_session_that_can_not_call_what_changes_is_not_waited_for(stuck_server: Server) -> None:
    """It is suspended off its swap point, and goes on afterwards with what its client has sent."""
    server = stuck_server
    with server.client("stuck") as stuck, server.clients("counter", pid_of) as clients:
        assert stuck.ask("begin") == "got begin"
        page = server.push(V2, "--atomic", "--timeout", "5s")
        assert page["receipt"]["held_us"] > 0
        assert [one.ask("add 1")[:2] for one in clients] == ["v2", "v2"]
        assert stuck.ask("more") == "got more"
        assert stuck.ask("begin") == "got begin"


def test_atomic_and_canary_exclude_each_other(server: Server) -> None:
    """It says why, and nothing is sent."""
    answer = server.netswap("push", V2, "--atomic", "--canary", "10%")
    assert answer.code == 2
    assert "a canary serves beside the old code" in answer.stderr + json.dumps(answer.page)


def test_atomic_goes_with_a_watch(server: Server) -> None:
    """The new code is watched from the moment when all serve again; a dry run holds nobody."""
    with server.clients("counter", pid_of) as clients:
        assert server.netswap("push", V2, "--atomic", "--dry-run").code == 0
        assert [one.ask("add 1")[:2] for one in clients] == ["v1", "v1"]
        push = server.starts("push", V2, "--atomic", "--watch", "1s")
        with push, asking(clients) as askers:
            code, page = ending(push)
        assert code == 0, page
        assert stale(all_of(askers), "v1", "v2") == []
        rows = [row for row in page["watch"] if row["on_watch"]]
        assert all(row["calls"] and not row["errors"] for row in rows)
        assert page["receipt"]["held_us"] < 1_000_000, "the watch was not held"
