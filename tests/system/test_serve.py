"""A server's life: ready, drained, killed, back with what was active."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.system.harness import PUSHED, Client, Process, Server, run, until

pytestmark = pytest.mark.timeout(120)

Make = Callable[..., Server]


def pid_of(client: Client) -> int:
    """The process that serves a client of the counter."""
    return int(client.ask("pid"))


@pytest.fixture
def counter(make_server: Make) -> Server:
    """A server whose counter has version 1."""
    server = make_server(("counter", "echo"))
    server.push(PUSHED / "counter_v1.py")
    return server


@pytest.fixture(scope="module")
def shared(make_shared_server: Make) -> Iterator[Server]:
    """The same, for tests that change nothing."""
    server = make_shared_server(("counter", "echo"))
    server.push(PUSHED / "counter_v1.py")
    yield server
    server.stop()


def test_status_has_the_keys_that_outside_programs_rely_on(shared: Server) -> None:
    """Workers with id, pid, connections, state; kinds with version, revision, hash and counts."""
    with shared.client("counter") as client:
        client.ask("add 1")
        answer = shared.netswap("status")
        page = answer.page
        assert answer.code == 0
        assert page["schema"] == "netswap/1"
        assert [row["id"] for row in page["workers"]] == [0, 1]
        assert {row["state"] for row in page["workers"]} == {"serving"}
        assert pid_of(client) in [row["pid"] for row in page["workers"]]
        kind = page["kinds"]["counter.connection"]
        assert kind["version"] == kind["revision"] == 1
        assert len(bytes.fromhex(kind["sha256"])) == 32
        assert kind["objects"] == 1
        assert kind["by_version"] == {"1": 1}
        until(lambda: sum(row["connections"] for row in shared.workers()) == 1, "a heartbeat")
    until(lambda: shared.kinds()["counter.connection"]["objects"] == 0, "the client is gone")


def test_the_admin_socket_is_for_its_user_alone(shared: Server) -> None:
    """0600 from the moment that it exists."""
    mode = shared.socket.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def refused(server: Server) -> bool:
    """Whether a new client is turned away."""
    try:
        Client(server.ports["counter"]).close()
    except ConnectionRefusedError:
        return True
    return False


def test_term_lets_what_was_written_arrive_and_takes_nobody_new(counter: Server) -> None:
    """A drain sends unsent output to the last byte, then exits with 0 and leaves no socket."""
    with counter.client("counter", receive_buffer=4096) as client:
        client.send(b"burst 8000\n")
        assert client.read(100).startswith(b"v1 00000000 ")
        counter.signal()
        until(lambda: any(row["event"] == "draining" for row in counter.log()), "it drains")
        until(lambda: refused(counter), "nobody waits in a queue from which nobody takes")
        rest = client.rest()
        assert rest.endswith(b"\n")
        assert len(rest) + 100 == 8000 * len(b"v1 00000000 " + b"." * 1000 + b"\n")
    assert counter.wait() == 0
    assert not counter.socket.exists()
    with pytest.raises(ConnectionRefusedError):
        Client(counter.ports["counter"])
    assert not counter.errors()


def test_a_second_term_does_not_wait_for_anybody(counter: Server) -> None:
    """A client that does not read can't hold an operator who insists.

    The first is a HUP here: a server without certificates ends with its terminal, in order.
    """
    with counter.client("counter", receive_buffer=4096) as client:
        client.send(b"burst 8000\n")
        assert client.read(10)
        counter.signal(signal.SIGHUP)
        until(lambda: any(row["event"] == "draining" for row in counter.log()), "it drains")
        counter.signal()
        assert counter.wait(5) == 0
    assert not counter.socket.exists()


def test_a_drain_is_finite(make_server: Make) -> None:
    """A client that never reads is cut off after the limit."""
    server = make_server(("echo",), "--drain", "300ms")
    with server.client("echo", receive_buffer=4096) as client:
        client.send(b"x" * 300_000)
        until(lambda: server.kinds()["echo.connection"]["objects"], "the client is served")
        server.stop()


@pytest.mark.parametrize("case", ["busy port", "state below a file", "state in use"])
def test_a_server_that_can_not_start_says_why(shared: Server, tmp_path: Path, case: str) -> None:
    """One sentence with what and where, exit 1 or 2, and nothing half started."""
    file = tmp_path / "file"
    file.touch()
    port = shared.ports["counter"]
    free, own = "echo=127.0.0.1:0", str(tmp_path / "other")
    words, sentence = {
        "busy port": ((f"echo=127.0.0.1:{port}", own), f"echo can't listen on 127.0.0.1:{port}"),
        "state below a file": ((free, str(file / "state")), "can't be written"),
        "state in use": ((free, str(shared.state_dir)), "another running server"),
    }[case]
    listen, state_dir = words
    socket_path = tmp_path / "other.sock"
    done = run("serve", "--listen", listen, "--state-dir", state_dir, "--socket", socket_path,
               home=tmp_path)  # fmt: skip
    assert done.returncode in (1, 2), done
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not socket_path.exists()
    with shared.client("counter") as client:
        assert client.ask("add 2") == "v1 1 lines, total 2"


def test_what_was_pushed_is_active_again_after_a_restart(counter: Server) -> None:
    """Stop, start: same versions, revisions and history; the rollback still works."""
    counter.push(PUSHED / "counter_v2.py")
    before, history = counter.kinds(), counter.look("history")["transactions"]
    counter.stop()
    counter.start()
    assert _committed(counter.kinds()) == _committed(before)
    assert counter.look("history")["transactions"] == history
    with counter.client("counter") as client:
        assert client.ask("add 2") == "v2 1 lines, total 2"
        counter.rollback()
        assert client.ask("add 2") == "v1 2 lines, total 4"
    assert not counter.errors()


def test_a_killed_worker_is_replaced_and_the_others_do_not_notice(counter: Server) -> None:
    """Its successor boots into the committed set; who came while it was dead is served by it."""
    counter.push(PUSHED / "counter_v2.py")
    with counter.clients("counter", pid_of) as (first, second), ExitStack() as stack:
        second.ask("add 5")
        dead, other = pid_of(first), pid_of(second)
        with Process(dead) as worker:
            worker.kill()
            worker.wait_ended()
        queued = [stack.enter_context(counter.client("counter")) for _ in range(20)]
        for client in queued:
            client.send(b"add 1\n")
        assert second.ask("add 5").endswith("total 10")
        assert {client.line() for client in queued} == {"v2 1 lines, total 1"}
        pids = {pid_of(client) for client in queued}
        assert pids == {other, *counter.wait_serving(without=[dead])}
        assert len(pids) == 2, "the kernel gave every connection to the living worker"
        with pytest.raises(ConnectionResetError):
            _raise_if_reset(first)
    assert [row["restarts"] for row in counter.workers()] == [1, 0]


def _raise_if_reset(client: Client) -> None:
    if client.sock.recv(1) == b"":
        raise ConnectionResetError


def test_workers_do_not_outlive_a_killed_supervisor(counter: Server) -> None:
    """No orphan serves; a server started at once on the same port has what was committed."""
    counter.push(PUSHED / "counter_v2.py")
    port = counter.ports["counter"]
    with _workers_of(counter), counter.client("counter") as client:
        assert client.ask("add 1") == "v2 1 lines, total 1"
        counter.signal(signal.SIGKILL)
        counter.wait()
        counter.wanted["counter"] = port
        counter.start()
    assert counter.ports["counter"] == port
    with counter.client("counter") as client:
        assert client.ask("add 1") == "v2 1 lines, total 1"


def test_workers_that_are_stuck_do_not_outlive_their_supervisor_either(counter: Server) -> None:
    """One that never gets to see that it is alone would keep its address and its clients."""
    port = counter.ports["counter"]
    with _workers_of(counter), counter.client("counter") as client:
        assert client.ask("add 1") == "v1 1 lines, total 1"
        for row in counter.workers():
            os.kill(row["pid"], signal.SIGSTOP)
        counter.signal(signal.SIGKILL)
        counter.wait()
        with suppress(ConnectionResetError):
            assert client.rest() == b""
    counter.wanted["counter"] = port
    counter.start()
    with counter.client("counter") as client:
        assert client.ask("add 1") == "v1 1 lines, total 1"


@contextmanager
def _workers_of(server: Server) -> Iterator[None]:
    """The workers that it has now must have ended at the end."""
    with ExitStack() as stack:
        workers = [stack.enter_context(Process(row["pid"])) for row in server.workers()]
        yield
        for worker in workers:
            worker.wait_ended()


def test_a_server_whose_log_nobody_reads_is_as_good_as_any(make_server: Make) -> None:
    """Its stderr is a pipe that broke: dead workers are replaced, and none outlives it."""
    server = make_server(("counter",))
    server.stop()
    reading, writing = os.pipe()
    server.start(log_to=writing)
    os.close(writing)
    os.close(reading)
    server.push(PUSHED / "counter_v1.py")
    dead = server.workers()[0]["pid"]
    with Process(dead) as worker:
        worker.kill()
    server.wait_serving(without=[dead])
    with _workers_of(server):
        server.signal(signal.SIGKILL)


def test_an_interrupted_transaction_counts_as_aborted(counter: Server, tmp_path: Path) -> None:
    """Killed between begin and commit: the old set is what it comes back with."""
    slow = tmp_path / "slow.py"
    step = "def up(old: dict[str, Any]) -> dict[str, Any]:\n"
    swift = (
        (PUSHED / "counter_v2.py").read_text().replace("from typing", "import time\nfrom typing")
    )
    slow.write_text(swift.replace(step, f"{step}    time.sleep(100)\n"))
    with counter.client("counter") as client:
        client.ask("add 1")
        with counter.starts("push", slow, "--timeout", "100s") as push:
            until(lambda: _begun(counter), "the transaction has begun")
            with _workers_of(counter):
                counter.signal(signal.SIGKILL)
            out, _ = push.communicate(timeout=30)
        assert client.rest() == b"", "the rehearsal's child keeps the connection open"
        counter.wait()
        assert push.returncode == 23
        assert json.loads(out)["outcome"] == "unknown"
    counter.wanted["counter"] = counter.ports["counter"]
    counter.start()
    assert counter.kinds()["counter.connection"]["version"] == 1
    assert counter.look("history")["transactions"][0]["outcome"] == "interrupted"
    with counter.client("counter") as client:
        assert client.ask("add 1") == "v1 1 lines, total 1"


def _begun(server: Server) -> bool:
    journal = (server.state_dir / "journal").read_text()
    return '"begin"' in journal.splitlines()[-1]


@pytest.mark.parametrize(
    ("loop", "words"),
    [
        ("uvloop", ("raise", "leave", "leave_later")),
        ("asyncio", ("raise", "leave_later")),  # a sys.exit() in on_data ends asyncio's own loop
    ],
)
def test_an_exception_of_an_author_costs_one_connection(
    make_server: Make, loop: str, words: tuple[str, ...]
) -> None:
    """Also sys.exit(): the log names version, file and line, the worker and its others go on."""
    server = make_server(("counter",), "--workers", "1", "--loop", loop)
    server.push(PUSHED / "counter_v1.py")
    with server.client("counter") as other:
        pid = pid_of(other)
        for word in words:
            with server.client("counter") as client, suppress(ConnectionResetError):
                client.send(f"{word} now\n".encode())
                assert client.rest() == b""
            assert pid_of(other) == pid
        until(lambda: server.kinds()["counter.connection"]["objects"] == 1, "the others are gone")
    errors = server.errors()
    assert [error["event"] for error in errors] == ["callback_failed"] * len(words)
    assert {error["version"] for error in errors} == {1}
    assert all(re.fullmatch(r"counter_v1\.py:\d+", error["at"]) for error in errors)


def test_no_server_is_unreachable(tmp_path: Path) -> None:
    """Every command that asks says so with 25 and the place where it looked."""
    for words in (("status",), ("push", PUSHED / "counter_v1.py"), ("rollback",), ("workers",)):
        done = run(*words, "--json", "--socket", tmp_path / "none.sock", home=tmp_path)
        page = json.loads(done.stdout)
        assert done.returncode == 25, done
        assert page["outcome"] == "unreachable"
        assert page["where"] == str(tmp_path / "none.sock")


def test_a_dead_servers_socket_is_told_from_none(tmp_path: Path) -> None:
    """What a crash has left is a socket where nobody listens: also 25."""
    path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    done = run("status", "--socket", path, home=tmp_path)
    assert done.returncode == 25
    assert "nobody listens" in done.stderr


def _committed(kinds: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {kind: (row["version"], row["revision"], row["sha256"]) for kind, row in kinds.items()}
