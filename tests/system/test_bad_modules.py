"""A bad module changes nothing and is told why: the gallery, pushed at one server under load.

``tests/bad_modules`` has the modules, ``gallery.toml`` there says how each has to end. While they
are pushed one after the other, the load generator checks every answer of verify and kv, and a
client of each worker has half a line under way. ``make test`` takes every third module, ``make
gallery`` and ``pytest -m slow`` the rest.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gallery import GALLERY, Bad, Ending, faults, read_gallery
from benchmarks.load import FAULTS, LIGHT
from tests.system.harness import PUSHED, ROOT, Client, Process, Server, until

pytestmark = pytest.mark.timeout(120)

GOOD = (PUSHED / "counter_v2.py").read_text()
BODY_OF_UP = "    pieces = [old"
Make = Callable[..., Server]
GALLERY_ROWS = {bad.name: bad for bad in read_gallery()}

LEDGER = '''
"""ledger and its client."""
from netswap import Connection, Service, State

class Book(State, kind="ledger", version=1):
    rows: list[str] = []

class Ledger(Service[Book]):
    def enter(self, row: str) -> int:
        self.state.rows.append(row)
        return len(self.state.rows)

class Desk(State, kind="desk.connection", version=1):
    pass

class Teller(Connection[Desk], uses={"ledger": "ledger"}):
    def on_data(self, data: bytes) -> None:
        self.write(b"row %d\\n" % self.ledger.enter(data.decode()))
'''


def pid_of(client: Client) -> int:
    """The process that serves a client of the counter."""
    return int(client.ask("pid"))


class Load:
    """A load generator that runs until it is told to end, and what it has seen."""

    def __init__(self, port: int, protocol: str) -> None:
        words = [sys.executable, "-m", "loadgen", "run", "--protocol", protocol, "--json"]
        words += ["--port", str(port), "--duration", "60m", *LIGHT]
        self.process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def end(self) -> dict[str, Any]:
        """End it in order: its report."""
        self.process.terminate()
        report: dict[str, Any] = json.loads(self.process.communicate(timeout=30)[0])
        return report

    def kill(self) -> None:
        """End it at once, if it still runs."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def server(make_shared_server: Make) -> Iterator[Server]:
    """Two workers; nothing that is tried on it may leave an error in its log."""
    server = make_shared_server(("verify", "kv", "counter", "desk"))
    ledger = server.folder / "ledger.py"
    ledger.write_text(LEDGER)
    server.push(PUSHED / "counter_v1.py", ledger)
    yield server
    assert {row["event"] for row in server.errors()} <= {"guard_fired"}
    server.stop()


@pytest.fixture(scope="module")
def loads(server: Server) -> Iterator[list[Load]]:
    """Checked load on two protocols, with all its connections there."""
    wanted = sum(row["connections"] for row in server.workers()) + 2 * int(LIGHT[1])
    found = [Load(server.ports[protocol], protocol) for protocol in ("verify", "kv")]
    until(lambda: sum(row["connections"] for row in server.workers()) >= wanted, "all connected")
    yield found
    for load in found:
        load.kill()


@pytest.fixture(scope="module")
def clients(server: Server, loads: list[Load]) -> Iterator[list[Client]]:
    """A client of each worker, with half a line under way in each."""
    with server.clients("counter", pid_of) as found:
        yield found


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(bad, id=name, marks=[pytest.mark.slow] * bool(number % 3))
        for number, (name, bad) in enumerate(GALLERY_ROWS.items())
    ],
)
def test_a_bad_module_changes_nothing_and_is_told_why(
    server: Server, clients: list[Client], bad: Bad
) -> None:
    """Exit code, stage, reason, file and line; clients, versions and code stay as they were."""
    before = _seen(server, clients)
    for client in clients:
        client.send(b"add 1\nad")
    counts = [client.line() for client in clients]
    answer = server.netswap("push", bad.path(server.folder), *bad.words)
    for client in clients:
        client.send(b"d 1\n")
    assert [client.line() for client in clients] == [_next(line) for line in counts]
    assert not faults(bad, Ending.of(answer.code, answer.page)), answer
    assert answer.page["advice"]
    outcome = {20: "nothing was touched", 21: "rolled back"}[bad.code]
    assert answer.page["state"].startswith(outcome)
    assert _seen(server, clients) == before


def test_the_load_has_seen_nothing_of_it(loads: list[Load]) -> None:
    """Not one operation lost, done twice, out of order, wrong or of a state left behind."""
    for load in loads:
        report = load.end()
        counts = report["counts"]
        assert counts["answered"] == counts["issued"] > 0, report
        assert {name: counts[name] for name in FAULTS} == dict.fromkeys(FAULTS, 0), report


def test_the_bad_code_is_gone(server: Server) -> None:
    """What was loaded in a worker and taken back has died there, and nobody was accused."""
    left: list[dict[str, Any]] = []

    def all_gone() -> bool:
        left[:] = server.look("status")["retiring"]
        return not left

    try:
        until(all_gone, "no old code is left", patience=60)
    except AssertionError as error:
        raise AssertionError(f"{error}: {left}") from None
    assert not server.accused()


def test_every_module_of_the_gallery_is_in_its_table() -> None:
    """And says in its first line what is wrong with it."""
    kept = {path.stem for path in GALLERY.iterdir() if path.suffix in ("", ".py")}
    kept.discard("__pycache__")
    assert kept == {bad.name for bad in GALLERY_ROWS.values() if not bad.made}
    assert all(bad.about.endswith((".", ")")) and bad.lines for bad in GALLERY_ROWS.values())


def _seen(server: Server, clients: list[Client]) -> tuple[Any, ...]:
    """All that a refused push must leave as it is."""
    loaded = [client.ask("loaded") for client in clients]
    workers = [(row["pid"], row["restarts"]) for row in server.workers()]
    return server.kinds(), server.look("versions")["versions"], workers, loaded


def _next(line: str) -> str:
    """The answer after one more ``add 1``."""
    lines, total = map(int, re.findall(r"\d+", line.removeprefix("v1 ")))
    return f"v1 {lines + 1} lines, total {total + 1}"


@pytest.mark.parametrize("path", ["nowhere.py", "link.py"])
def test_what_is_not_there_is_a_usage_error(server: Server, path: str) -> None:
    """A file that is missing and a link to one: 2, named, and the server hears nothing of it."""
    if path == "link.py":
        (server.folder / path).symlink_to("gone.py")
    answer = server.netswap("push", server.folder / path)
    assert answer.code == 2
    assert path in answer.stderr


def test_a_worker_that_dies_in_the_swap_takes_nobody_with_it(make_server: Make) -> None:
    """Its step crashes one worker's process: the other serves the old code, its successor too."""
    server = make_server(("counter",))
    server.push(PUSHED / "counter_v1.py")
    file = server.folder / "crash.py"
    late = (GALLERY / "late_raises.py").read_text()
    crash = '    rehearsing() or old["mark"] != "x" or os.kill(os.getpid(), 9)\n'
    text = GOOD.replace(BODY_OF_UP, crash + BODY_OF_UP)
    file.write_text(
        f"{text}\n\n{late[late.index('def rehearsing') :]}".replace(
            "import os\n", "import os\nfrom pathlib import Path\n", 1
        )
    )
    with server.clients("counter", pid_of) as (kept, lost):
        lost.ask("mark x")
        kept.ask("add 4")
        dead = pid_of(lost)
        answer = server.netswap("push", file)
        assert answer.code == 21, answer
        assert "worker 1 died" in answer.page["what"]
        assert kept.ask("add 3").endswith("total 7")
        pids = server.wait_serving(without=[dead])
        assert pids[0] == pid_of(kept)
        assert set(server.kinds()["counter.connection"]["by_version"]) == {"1"}
        assert server.netswap("push", PUSHED / "counter_v2.py").code == 0
        assert kept.ask("add 3") == "v2 5 lines, total 10"


def waits_for(file: Path) -> str:
    """A module's last lines: it is not loaded before this file is there."""
    return f"\nimport os, time\nwhile not os.path.exists({str(file)!r}):\n    time.sleep(0.01)\n"


def test_of_two_pushes_at_once_one_is_told_to_wait(server: Server) -> None:
    """24 at once, naming what runs; the first is not disturbed."""
    slow, go = server.folder / "slow.py", server.folder / "go"
    slow.write_text(f"{GOOD}{waits_for(go)}raise ValueError('it was not disturbed')\n")
    with server.starts("push", slow, "--timeout", "100s") as first:
        until(
            lambda: server.look("status")["transaction"] == "push server0/slow.py", "the first runs"
        )
        for words in (("push", PUSHED / "counter_v2.py"), ("rollback",)):
            other = server.netswap(*words)
            assert (other.code, other.page["outcome"]) == (24, "conflict")
            assert "push server0/slow.py" in other.page["what"]
        go.touch()
        out, _ = first.communicate(timeout=30)
        assert first.returncode == 20
        assert "it was not disturbed" in json.loads(out)["what"]
    assert server.look("status")["transaction"] is None


def test_an_operator_who_leaves_does_not_stop_the_push(server: Server) -> None:
    """The command is killed in the middle; the transaction ends as it would have."""
    slow, go = server.folder / "gone.py", server.folder / "gone"
    slow.write_text(GOOD + waits_for(go))
    with server.client("counter") as client:
        client.ask("add 1")
        words = ("push", slow, "--timeout", "100s")
        with server.starts(*words) as push, Process(push.pid) as process:
            until(lambda: server.look("status")["transaction"] == "push server0/gone.py", "it runs")
            process.kill()
            push.communicate(timeout=10)
            assert push.returncode == -signal.SIGKILL
        go.touch()
        until(lambda: server.look("status")["transaction"] is None, "it has ended")
        assert server.look("history")["transactions"][0]["outcome"] == "done"
        assert client.ask("add 1") == "v2 2 lines, total 2"
        server.rollback()
        assert client.ask("add 1") == "v1 3 lines, total 3"


@pytest.mark.parametrize(
    "words",
    [
        ("push",),
        ("push", PUSHED / "counter_v2.py", "--timeout", "soon"),
        ("swap", "counter.connection"),
        ("rollback", "--to", "1"),
        ("objects", "kind~x"),
        ("inspect", "me"),
    ],
)
def test_what_is_not_understood_is_a_usage_error(server: Server, words: tuple[object, ...]) -> None:
    """2, and nothing is begun."""
    before = server.look("history")
    assert server.netswap(*words).code == 2
    assert server.look("history") == before


def test_nothing_to_undo_is_refused(make_server: Make) -> None:
    """A fresh server's first set can't be rolled back: 20."""
    server = make_server(("echo",))
    answer = server.netswap("rollback")
    assert answer.code == 20
    assert "nothing to undo" in answer.page["what"]
    assert server.netswap("rollback", "no.such").code == 20
    assert server.netswap("swap", "echo.connection@7").code == 20
