"""A bad module changes nothing and is told why: one row each, all on one server under clients."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.system.harness import PUSHED, Client, Process, Server, until

pytestmark = pytest.mark.timeout(120)

GOOD = (PUSHED / "counter_v2.py").read_text()
UP = GOOD.index("    pieces = [old")
Make = Callable[..., Server]

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

IN_THE_WORKER = """
import os
from pathlib import Path

def rehearsing() -> bool:
    parent = Path(f"/proc/{os.getppid()}/cmdline").read_bytes()
    return b"netswap.worker" in parent
"""
"""Tells a rehearsal's child, whose parent is a worker, from the worker itself."""


def step(*lines: str, after: str = "") -> str:
    """Version 2 with these lines at the beginning of its step up, and this at its end."""
    return GOOD[:UP] + "".join(f"    {line}\n" for line in lines) + GOOD[UP:] + after


def without(*patterns: str) -> str:
    """Version 2 without what these patterns match."""
    text = GOOD
    for pattern in patterns:
        text, count = re.subn(pattern, "", text, flags=re.DOTALL | re.MULTILINE)
        assert count, pattern
    return text


def line_of(text: str, sign: str) -> int:
    """The number of the last line that holds a sign."""
    return max(n for n, line in enumerate(text.splitlines(), 1) if sign in line)


class Bad(NamedTuple):
    """A module, the exit code of its push, what the message has to say, and where."""

    text: str | bytes
    code: int
    says: str
    at: str = ""
    """A sign of the line that is to be named; empty: the file or the kind alone."""
    words: tuple[str, ...] = ()


DOWN = r"^@migration\(\"counter.connection\", 2, 1\).*?^\n\n"
BAD = {
    "does not parse": Bad("def broken(:\n", 20, "does not parse", "broken"),
    "is not Python": Bad(b"\x7fELF\x02\x01\x00\x00binary", 20, "not text", "ELF"),
    "is not UTF-8": Bad(b"x = 'caf\xe9'\n", 20, "not text", "caf"),
    "is empty": Bad("", 20, "no implementation"),
    "raises at import": Bad(GOOD + "\nprint(1 // 0)\n", 20, "ZeroDivisionError", "1 // 0"),
    "exits at import": Bad(GOOD + "\nsys.exit(3)\n", 20, "SystemExit", "sys.exit"),
    "hangs at import": Bad(
        GOOD + "\nwhile True: pass\n", 20, "not done after 1 s", "while", ("--timeout", "1s")
    ),
    "sleeps at import": Bad(
        GOOD + "\nimport time\ntime.sleep(60)\n",
        20, "not done after 1 s", "time.sleep", ("--timeout", "1s"),
    ),
    "crashes at import": Bad(GOOD + "\nos.kill(os.getpid(), 11)\n", 20, "signal 11", "os.kill"),
    "leaves at import": Bad(GOOD + "\nos._exit(7)\n", 20, "exit status 7", "os._exit"),
    "imports what is not there": Bad(
        GOOD + "\nimport nowhere_at_all\n", 20, "nowhere_at_all", "import nowhere"
    ),
    "starts a thread": Bad(
        GOOD + "\nimport threading\nthreading.Thread(target=input, daemon=True).start()\n",
        20, "thread", "Thread(",
    ),
    "state without kind": Bad(
        GOOD.replace('kind="counter.connection", version=2', ""),
        20, "names no kind", "class Counter(",
    ),
    "handler without state": Bad(
        without(r"\[Count\]"), 20, "has no kind", "class Counter("
    ),
    "provides nothing": Bad("X = 1\n", 20, "no implementation", "X = 1"),
    "two of a kind": Bad(
        GOOD + "\nclass Other(Connection[Count]):\n    pass\n", 20, "implements", "class Other"
    ),
    "type change without a step": Bad(
        without(r"^@migration.*?^(?=class Counter)").replace("lines: int = 0", "lines: str = ''"),
        20, "lines", "class Count(",
    ),
    "same version, other shape": Bad(
        without(r"^@migration.*?^(?=class Counter)").replace("version=2", "version=1"),
        20, "version", "class Count(",
    ),
    "no way back": Bad(
        without(r'^@migration\("counter.connection", 2, 1\).*?^(?=class Counter)'),
        20, "no way back", "class Count(",
    ),
    "field without a default": Bad(
        GOOD.replace('mark: str = ""', "mark: str"), 20, "no default", "    mark: str"
    ),
    "callable in the state": Bad(
        GOOD.replace('mark: str = ""', "mark: object = print"), 20, "mark"
    ),
    "mutable global": Bad(GOOD + "\nSEEN = {}\n", 20, "SEEN", "SEEN"),
    "writes a global": Bad(
        GOOD + "\nCOUNT = 0\n\ndef bump():\n    global COUNT\n    COUNT += 1\n",
        20, "COUNT", "global",
    ),
    "lock": Bad(GOOD + "\nimport threading\nLOCK = threading.Lock()\n", 20, "LOCK", "LOCK"),
    "uses what nobody provides": Bad(
        GOOD.replace("(Connection[Count])", '(Connection[Count], uses={"x": "no.such"})'),
        20, "no.such", "class Counter",
    ),
    "lacks a method that clients call": Bad(
        LEDGER.partition("class Desk")[0].replace("def enter", "def write_down")
        .replace("version=1", "version=2"),
        20, "enter", "class Ledger",
    ),
    "becomes a service": Bad(
        "from netswap import Service, State\n"
        'class Count(State, kind="counter.connection", version=2):\n    lines: int = 0\n'
        "class Counter(Service[Count]):\n    pass\n",
        20, "Counter", "class Counter",
    ),
    "loses data unasked": Bad(
        GOOD.replace('"counter.connection", 1, 2)', '"counter.connection", 1, 2, lossy=["mark"])'),
        20, "mark", "class Count(",
    ),
    "step raises for one object": Bad(
        step('assert old["mark"] != "x", "marked"'), 20, "AssertionError: marked", "assert old"
    ),
    "step hangs": Bad(
        step("while True:", "    pass"), 20, "did not end", "while True", ("--timeout", "1s")
    ),
    "step hangs for one object": Bad(
        step('while old["mark"] == "x":', "    pass"),
        20, "did not end", "while old", ("--timeout", "1s"),
    ),
    "step changes what it was given": Bad(
        step('old["seen"].append("x")'), 20, "changed the old state", "class Count(",
    ),
    "step returns no dict": Bad(step("return 7"), 20, "up returned int", "def up("),
    "step returns a wrong type": Bad(
        step('return {"lines": "many"}'), 20, "lines", "def up(",
    ),
    "step down raises": Bad(
        GOOD.replace("    total = new", '    raise KeyError("down")\n    total = new'),
        20, "down", "raise KeyError",
    ),
    "step crashes": Bad(step("os.kill(os.getpid(), 11)"), 20, "signal 11", "os.kill"),
    "step leaves": Bad(step("os._exit(7)"), 20, "exit code 7", "os._exit"),
    "step exits": Bad(step("sys.exit(7)"), 20, "SystemExit", "sys.exit(7)"),
    "step raises in the worker only": Bad(
        step('assert rehearsing() or old["mark"] != "x", "late"', after=IN_THE_WORKER),
        21, "late", "assert rehearsing",
    ),
    "step hangs in the worker only": Bad(
        step("while not rehearsing():", "    pass", after=IN_THE_WORKER),
        21, "did not end", "",
    ),
    "step exits in the worker only": Bad(
        step("rehearsing() or sys.exit(7)", after=IN_THE_WORKER),
        21, "SystemExit", "or sys.exit",
    ),
}  # fmt: skip


def pid_of(client: Client) -> int:
    """The process that serves a client of the counter."""
    return int(client.ask("pid"))


@pytest.fixture(scope="module")
def server(make_shared_server: Make) -> Iterator[Server]:
    """Two workers; nothing that is tried on it may leave an error in its log."""
    server = make_shared_server(("counter", "desk"))
    ledger = server.folder / "ledger.py"
    ledger.write_text(LEDGER)
    server.push(PUSHED / "counter_v1.py", ledger)
    yield server
    assert not server.errors()
    server.stop()


@pytest.fixture(scope="module")
def clients(server: Server) -> Iterator[list[Client]]:
    """A client of each worker, one of which is marked, with half a line under way in each."""
    with server.clients("counter", pid_of) as found:
        assert found[1].ask("mark x") == "v1 marked"
        yield found


@pytest.fixture(scope="module")
def told() -> Iterator[list[tuple[str, str]]]:
    """What was said of each, printed as a table at the end (``pytest -s``)."""
    rows: list[tuple[str, str]] = []
    yield rows
    width = max((len(name) for name, _ in rows), default=0)
    print("\n\n" + "\n".join(f"{name:<{width}}  {what}" for name, what in rows))


@pytest.mark.parametrize("name", BAD)
def test_a_bad_module_changes_nothing_and_is_told_why(
    server: Server, clients: list[Client], told: list[tuple[str, str]], name: str
) -> None:
    """Exit code, reason, file and line; clients, versions and code stay as they were."""
    bad = BAD[name]
    file = server.folder / "bad.py"
    file.write_bytes(bad.text if isinstance(bad.text, bytes) else bad.text.encode())
    before = _seen(server, clients)
    for client in clients:
        client.send(b"add 1\nad")
    counts = [client.line() for client in clients]
    answer = server.netswap("push", file, *bad.words)
    for client in clients:
        client.send(b"d 1\n")
    assert [client.line() for client in clients] == [_next(line) for line in counts]
    page = answer.page
    told.append((name, f"{answer.code} {page.get('what')} ({page.get('where')})"))
    assert answer.code == bad.code, answer
    assert bad.says in page["what"]
    assert page["advice"]
    outcome = {20: "nothing was touched", 21: "rolled back"}[bad.code]
    assert page["state"].startswith(outcome)
    if bad.at:
        text = file.read_bytes().decode(errors="replace")
        assert f"bad.py:{line_of(text, bad.at)}" in page["where"]
    else:
        assert "bad.py" in page["where"] or "counter.connection" in page["where"]
    assert _seen(server, clients) == before


def _seen(server: Server, clients: list[Client]) -> tuple[Any, ...]:
    """All that a refused push must leave as it is."""
    loaded = [client.ask("loaded") for client in clients]
    workers = [(row["pid"], row["restarts"]) for row in server.workers()]
    return server.kinds(), server.look("versions"), workers, loaded


def _next(line: str) -> str:
    """The answer after one more ``add 1``."""
    lines, total = map(int, re.findall(r"\d+", line.removeprefix("v1 ")))
    return f"v1 {lines + 1} lines, total {total + 1}"


def test_a_worker_that_dies_in_the_swap_takes_nobody_with_it(make_server: Make) -> None:
    """Its step crashes one worker's process: the other serves the old code, its successor too."""
    server = make_server(("counter",))
    server.push(PUSHED / "counter_v1.py")
    file = server.folder / "crash.py"
    crash = 'rehearsing() or old["mark"] != "x" or os.kill(os.getpid(), 9)'
    file.write_text(step(crash, after=IN_THE_WORKER))
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


def test_of_two_pushes_at_once_one_is_told_to_wait(server: Server) -> None:
    """24 at once, naming what runs; the first is not disturbed."""
    slow = server.folder / "slow.py"
    slow.write_text(GOOD + "\nimport time\ntime.sleep(60)\n")
    with server.starts("push", slow, "--timeout", "2s") as first:
        until(
            lambda: server.look("status")["transaction"] == "push server0/slow.py", "the first runs"
        )
        second = server.netswap("push", PUSHED / "counter_v2.py")
        third = server.netswap("rollback")
        assert second.code == third.code == 24
        assert second.page["outcome"] == "conflict"
        assert "push server0/slow.py" in second.page["what"]
        first.communicate(timeout=30)
        assert first.returncode == 20
    assert server.look("status")["transaction"] is None


def test_an_operator_who_leaves_does_not_stop_the_push(server: Server) -> None:
    """The command is killed in the middle; the transaction ends as it would have."""
    slow = server.folder / "gone.py"
    slow.write_text(GOOD + "\nimport time\ntime.sleep(0.5)\n")
    with server.client("counter") as client:
        client.ask("add 1")
        with server.starts("push", slow) as push, Process(push.pid) as process:
            until(lambda: server.look("status")["transaction"] == "push server0/gone.py", "it runs")
            process.kill()
            push.communicate(timeout=10)
            assert push.returncode == -signal.SIGKILL
        until(lambda: server.look("status")["transaction"] is None, "it has ended")
        assert server.look("history")["transactions"][0]["outcome"] == "done"
        assert client.ask("add 1") == "v2 2 lines, total 2"
        server.rollback()
        assert client.ask("add 1") == "v1 3 lines, total 3"


@pytest.mark.parametrize(
    "words",
    [
        ("push",),
        ("push", "/nowhere/at/all.py"),
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
