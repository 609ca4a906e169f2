"""A watch on a real server: what fails on probation is taken back in every worker."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.system.harness import (
    PATIENCE,
    PUSHED,
    ROOT,
    Client,
    Process,
    Server,
    assert_faultless,
    still_runs,
    until,
)

pytestmark = pytest.mark.timeout(180)

Make = Callable[..., Server]
V1 = PUSHED / "counter_v1.py"
SET = "counter.connection"


def changed(folder: Path, name: str, body: str) -> Path:
    """Version 1 with another answer to ``mark``, in a file of this name."""
    path = folder / name
    path.write_text(V1.read_text().replace(MARKED, body))
    return path


MARKED = '        self.say("marked")\n'
WELL = "        self.say('new', '')\n"
SLOW = WELL + "        import time\n        time.sleep(0.7)\n"
FAILS = WELL + "        raise KeyError('half-way')\n"
HOW = re.compile(r"push .*: (?:it|the canary) is on probation")


@pytest.fixture
def server(make_server: Make) -> Iterator[Server]:
    """Two workers with version 1 of the counter."""
    server = make_server(("counter",))
    server.push(V1)
    yield server
    server.stop()


@contextmanager
def on_probation(server: Server, *words: Any) -> Iterator[subprocess.Popen[str]]:
    """A push that has got as far as its watch."""
    process = server.starts("push", *words)
    try:
        until(lambda: HOW.fullmatch(server.look("status")["transaction"] or ""), "it is on watch")
        yield process
    finally:
        with process:
            process.kill()


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    """Exit code and result of a push."""
    out, _ = process.communicate(timeout=PATIENCE)
    page: dict[str, Any] = json.loads(out.splitlines()[-1])
    return process.returncode, page


def pid_of(client: Client) -> int:
    """The process that serves a client of the counter."""
    return int(client.ask("pid"))


def on_watch(page: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures of the new code."""
    return [row for row in page["watch"] if row["on_watch"]]


def test_a_good_version_is_committed_after_its_watch(server: Server, tmp_path: Path) -> None:
    """With the figures of both workers; nobody was disconnected."""
    with server.clients("counter", pid_of) as clients:
        with server.starts("push", changed(tmp_path, "well.py", WELL), "--watch", "2s") as push:
            asked, answers = 0, [client.ask("mark x") for client in clients]
            while still_runs(push) or answers != ["new", "new"]:
                assert {*answers} <= {"new", "v1 marked"}
                answers = [client.ask("mark x") for client in clients]
                asked += 1
            code, page = ended(push)
        assert (code, page["outcome"]) == (0, "done")
        assert [(row["worker"], row["errors"]) for row in on_watch(page)] == [(0, 0), (1, 0)]
        assert all(row["calls"] >= 1 and row["memory"] > 0 for row in on_watch(page))
        lines = [client.ask("add 5") for client in clients]
        assert lines == [f"v1 {asked + 3} lines, total 5"] * 2
    assert server.kinds()[SET]["revision"] == 2


def test_what_raises_under_guard_is_rolled_back_and_nobody_sees_it(
    server: Server, tmp_path: Path
) -> None:
    """The old version answers, in its own words; exit code 21 and the line of the module."""
    path = changed(tmp_path, "fails.py", FAILS)
    with server.clients("counter", pid_of) as clients:
        with on_probation(server, path, "--watch", "10m") as push:
            clients[1].ask("add 5")
            assert clients[1].ask("mark x") == "v1 marked"
            code, page = ended(push)
        assert (code, page["outcome"]) == (21, "rolled back")
        assert "KeyError: 'half-way'" in page["what"]
        assert "the guard fired once" in page["what"]
        line = path.read_text().splitlines().index("        raise KeyError('half-way')") + 1
        assert page["where"].startswith(f"fails.py:{line}, {SET} ")
        for client in clients:
            assert client.ask("add 1").startswith("v1 ")
        assert clients[1].ask("add 1").endswith("total 7")
    assert server.kinds()[SET]["revision"] == 1


def test_what_raises_without_guard_costs_one_connection(server: Server, tmp_path: Path) -> None:
    """The others keep theirs, in both workers, with their state."""
    path = changed(tmp_path, "fails.py", FAILS)
    with server.clients("counter", pid_of) as clients, server.client("counter") as victim:
        clients[0].ask("add 5")
        with on_probation(server, path, "--watch", "10m", "--no-guard") as push:
            assert victim.ask("mark x") in ("", "new")
            code, page = ended(push)
        assert (code, page["outcome"]) == (21, "rolled back")
        assert "failed once" in page["what"]
        assert sum(row["errors"] for row in on_watch(page)) == 1
        assert clients[0].ask("add 1").endswith("total 6")
        assert clients[1].ask("add 1").endswith("total 1")


@pytest.mark.parametrize("part", [(), ("--canary", "25%")], ids=["all", "canary"])
def test_under_checked_load_a_version_that_fails_on_watch_loses_nothing(
    make_server: Make, tmp_path: Path, part: tuple[str, ...]
) -> None:
    """Every request is answered once and in order, also those in which the new code raised."""
    server = make_server(("verify",))
    source = (ROOT / "protocols/verify/v2.py").read_text()
    done = "        state.answered, state.digest = answered, LENGTH.pack(rolling)\n"
    fails = "        if answered % 40 == 39:\n            raise RuntimeError('every fortieth')\n"
    path = tmp_path / "verify.py"
    path.write_text(source.replace(done, done + fails))
    words = ["run", "--protocol", "verify", "--json", "--port", str(server.ports["verify"])]
    words += ["--connections", "20", "--rate", "400", "--duration", "60m"]
    with subprocess.Popen(
        [sys.executable, "-m", "loadgen", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as load:
        try:
            until(lambda: sum(row["connections"] for row in server.workers()) >= 20, "connected")
            answer = server.netswap("push", path, *part, "--watch", "10m")
            until(lambda: server.kinds()["verify.connection"]["by_version"] == {"1": 20}, "v1")
            load.terminate()
            report = json.loads(load.communicate(timeout=60)[0])
            assert_faultless(load.returncode, report)
        finally:
            load.kill()
    assert (answer.code, answer.page["outcome"]) == (21, "rolled back")
    assert "RuntimeError: every fortieth" in answer.page["what"]
    server.stop()


def test_a_slow_version_violates_the_latency(server: Server, tmp_path: Path) -> None:
    """A call that holds the loop longer than the policy allows."""
    path = changed(tmp_path, "slow.py", SLOW)
    with server.client("counter") as client:
        with on_probation(server, path, "--watch", "10m", "--no-guard") as push:
            assert client.ask("mark x") == "new"
            code, page = ended(push)
        assert (code, page["outcome"]) == (21, "rolled back")
        assert "one call took" in page["what"]
        assert max(row["max_us"] for row in on_watch(page)) > 500_000
        assert client.ask("add 1").startswith("v1 ")


@pytest.mark.parametrize(
    ("part", "phase"),
    [
        (("--watch", "10m"), "watching"),
        (("--canary", "worker=1", "--by-hand", "10m"), "watching the canary"),
    ],
    ids=["watch", "canary"],
)
def test_a_worker_killed_on_probation_leaves_the_old_set(
    server: Server, tmp_path: Path, part: tuple[str, ...], phase: str
) -> None:
    """In the workers that live, and in the successor of the one that died."""
    path = changed(tmp_path, "well.py", WELL)
    with server.clients("counter", pid_of) as clients:
        pids = [row["pid"] for row in server.workers()]
        with on_probation(server, path, *part) as push:
            assert clients[1].ask("mark x") == "new"
            with Process(pids[0]) as victim:
                victim.kill()
            code, page = ended(push)
        assert (code, page["what"]) == (21, f"worker 0 died while {phase}")
        assert clients[1].ask("mark x") == "v1 marked"
        server.wait_serving(without=[pids[0]])
    assert server.kinds()[SET]["revision"] == 1
    with server.clients("counter", pid_of) as clients:
        assert all(client.ask("mark x") == "v1 marked" for client in clients)


def test_a_killed_supervisor_comes_back_with_the_old_set(make_server: Make, tmp_path: Path) -> None:
    """A watch lies before the commit record, so nothing of it was decided."""
    server = make_server(("counter",))
    server.push(V1)
    pids = [row["pid"] for row in server.workers()]
    with on_probation(server, changed(tmp_path, "well.py", WELL), "--watch", "10m"):
        server.signal(signal.SIGKILL)
        server.wait()
    for pid in pids:
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "the workers end")
    server.start()
    assert server.kinds()[SET]["revision"] == 1
    with server.client("counter") as client:
        assert client.ask("mark x") == "v1 marked"
    server.stop()


def test_a_server_that_stops_takes_back_and_ends(make_server: Make, tmp_path: Path) -> None:
    """It does not wait ten minutes for the watch."""
    server = make_server(("counter",))
    server.push(V1)
    with on_probation(server, changed(tmp_path, "well.py", WELL), "--watch", "10m") as push:
        server.stop()
        code, page = ended(push)
    assert code == 21
    assert "shuts down" in page["what"]


def test_the_policy_is_pushed_like_any_module_and_judged_by_the_old_one(
    server: Server, tmp_path: Path
) -> None:
    """A stricter one: the next push that only takes a while is taken back."""
    policy = tmp_path / "policy.py"
    policy.write_text(
        "from netswap import Service, State\n\n\n"
        'class Limits(State, kind="watch.policy", version=1):\n    errors: int = 0\n\n\n'
        "class Strict(Service[Limits]):\n    def judge(self, figures):\n"
        '        return "nothing is good enough"\n'
    )
    refused = server.netswap("push", policy)
    assert refused.code == 20, "a version's shape is fixed"
    policy.write_text(policy.read_text().replace("version=1", "version=2"))
    assert server.push(policy, "--watch", "1s")["outcome"] == "done"
    path = changed(tmp_path, "well.py", WELL)
    answer = server.netswap("push", path, "--watch", "10m")
    assert answer.code == 21
    assert answer.page["what"].endswith("nothing is good enough")
    server.rollback()
    assert server.push(path, "--watch", "500ms")["outcome"] == "done"
