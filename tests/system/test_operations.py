"""What an operator does on a living server, and what twenty pushes leave behind: nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.system.harness import PUSHED, ROOT, Client, Server, run, until

pytestmark = pytest.mark.timeout(120)

KIND = "counter.connection"
V1, V2 = PUSHED / "counter_v1.py", PUSHED / "counter_v2.py"
Make = Callable[..., Server]


@pytest.fixture(scope="module")
def shared(make_shared_server: Make) -> Iterator[Server]:
    """A server whose counter has revisions 1 and 2."""
    server = make_shared_server(("counter", "echo"))
    server.push(V1)
    server.push(V2)
    yield server
    server.stop()


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    """The module's server with revision 1 of the counter active."""
    assert shared.netswap("swap", f"{KIND}@1").code == 0
    yield shared
    assert not shared.errors()


def pid_of(client: Client) -> int:
    """The process that serves a client of the counter."""
    return int(client.ask("pid"))


def by_version(server: Server) -> dict[str, int]:
    """Live counters of each version."""
    found: dict[str, int] = server.kinds()[KIND]["by_version"]
    return found


def test_a_dry_run_says_what_would_happen_and_does_nothing(server: Server) -> None:
    """Prepared in every worker, with verdicts and counts; no record, no new code."""
    history = server.look("history")
    with server.client("counter") as client:
        client.ask("add 1")
        loaded = client.ask("loaded")
        page = server.push(V2, "--dry-run")
        assert page["dry_run"] is True
        assert page["receipt"]["objects"] == {KIND: 1}
        assert page["verdicts"][0]["verdict"] == "by migration"
        assert client.ask("add 1").startswith("v1 ")
        assert client.ask("loaded") == loaded
    assert server.look("history") == history


def test_only_swaps_the_objects_that_a_selector_matches(server: Server) -> None:
    """One client gets the new code, by its id; the committed set and everybody else stay."""
    with server.clients("counter", pid_of) as (first, second):
        chosen = server.object_of(second, KIND)["id"]
        page = server.push(V2, "--only", f"kind={KIND},id={chosen}")
        assert page["receipt"]["objects"] == {KIND: 1}
        assert second.ask("add 1").startswith("v2 ")
        assert first.ask("add 1").startswith("v1 ")
        assert by_version(server)["2"] == 1
        with server.client("counter") as late:
            assert late.ask("add 1").startswith("v1 ")
        assert server.kinds()[KIND]["revision"] == 1
        page = server.netswap("swap", f"{KIND}@1").page
        assert page["outcome"] == "done"
        assert second.ask("add 1").startswith("v1 ")


def test_revisions_are_reached_by_number_and_by_hash(server: Server) -> None:
    """swap KIND@REV and rollback --to, both ways; what is active already is said to be."""
    rows = [row for row in server.look("versions")["versions"] if row["kind"] == KIND]
    assert [(row["number"], row["version"], row["active"]) for row in rows[:2]] == [
        (1, 1, True),
        (2, 2, False),
    ]
    with server.client("counter") as client:
        assert server.netswap("swap", f"{KIND}@{rows[1]['sha256'][:10]}").code == 0
        assert client.ask("add 1").startswith("v2 ")
        assert server.netswap("rollback", KIND, "--to", "1").code == 0
        assert client.ask("add 1").startswith("v1 ")
        again = server.netswap("swap", f"{KIND}@1")
        assert (again.code, again.page["what"]) == (0, "already active")


def test_objects_are_selected_and_inspected(server: Server) -> None:
    """By kind, version and peer; one object shows its state in plain data."""
    with server.client("counter") as client:
        client.ask("add 41")
        row = server.object_of(client, KIND)
        assert row["state"]["total"] == 41
        matching = f"kind={KIND},version<2,peer=127.0.0.1"
        found = server.netswap("objects", matching).page["objects"]
        assert [one["id"] for one in found] == [row["id"]]
        assert server.netswap("objects", f"kind={KIND},version>1").page["objects"] == []
        shown = server.netswap("inspect", row["id"])
        assert shown.page["object"]["attributes"]["address"] == client.address
    until(lambda: server.netswap("inspect", row["id"]).code == 2, "the object is gone")


def test_the_history_tells_what_was_done_and_undone(server: Server) -> None:
    """Latest first, with command, changes, receipt, and which kinds were taken back."""
    with server.client("counter") as client:
        client.ask("add 1")
        server.push(V2)
        server.rollback()
    undo, done = server.netswap("history").page["transactions"][:2]
    assert (undo["command"], done["command"]) == ("rollback", f"push {V2.parent.name}/{V2.name}")
    assert done["outcome"] == undo["outcome"] == "done"
    assert done["undone"] == [KIND]
    assert done["changes"][0]["old_revision"] == 1
    assert done["changes"][0]["new_revision"] == 2
    assert done["receipt"]["objects"] == {KIND: 1}


def test_several_files_are_one_transaction(server: Server, tmp_path: Path) -> None:
    """When one of them is bad, none is taken."""
    bad = tmp_path / "bad.py"
    bad.write_text("def broken(:\n")
    echo = ROOT / "protocols/echo/v2.py"
    assert server.netswap("push", V2, echo, bad).code == 20
    assert server.kinds()["echo.connection"]["version"] == 1
    server.push(V2, echo)
    assert server.kinds()["echo.connection"]["version"] == server.kinds()[KIND]["version"] == 2
    server.rollback()
    assert server.kinds()["echo.connection"]["version"] == server.kinds()[KIND]["version"] == 1


def test_people_are_told_in_four_parts(server: Server, tmp_path: Path) -> None:
    """What, where with file and line, what the server does now, what to type next."""
    bad = tmp_path / "bad.py"
    bad.write_text(V2.read_text() + "\nSEEN = {}\n")
    done = run("push", bad, "--socket", server.socket, home=tmp_path)
    assert done.returncode == 20
    assert done.stdout == ""
    line = len(V2.read_text().splitlines()) + 2
    last = done.stderr.splitlines()[-4:]
    assert last[0].startswith("netswap: SEEN of the module is a dict")
    assert f"bad.py:{line}" in last[1]
    assert "the old code serves every connection" in last[2]
    assert "next:" in last[3]


def test_every_look_can_be_read_by_people_and_programs(server: Server) -> None:
    """A table without --json, one object with it."""
    for look in ("status", "workers", "versions", "history", "objects", "blockers"):
        answer = server.netswap(look)
        assert answer.code == 0, answer
        assert answer.page["schema"] == "netswap/1"
        text = run(look, "--socket", server.socket, home=server.folder)
        assert text.returncode == 0, text
        assert not text.stdout.startswith("{")


def test_twenty_pushes_leave_nothing_behind(server: Server) -> None:
    """Descriptors, loaded bundles, tables and processes are what they were after the first two."""
    with ExitStack() as stack:
        clients = stack.enter_context(server.clients("counter", pid_of))
        early, late = _left(server, clients, 2), _left(server, clients, 18)
        assert late == early
        assert [client.ask("add 1")[:3] for client in clients] == ["v1 ", "v1 "]


def _left(server: Server, clients: list[Client], pushes: int) -> list[Any]:
    """What there is after so many pushes and swaps back."""
    for number in range(pushes):
        words = ("swap", f"{KIND}@1") if number % 2 else ("push", V2)
        answer = server.netswap(*words)
        assert answer.code == 0, answer
    assert server.process is not None
    pids = [server.process.pid, *(row["pid"] for row in server.workers())]
    found: list[Any] = [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]
    found += [Path(f"/proc/{pid}/task/{pid}/children").read_text().split() for pid in pids]
    found += [client.ask("loaded") for client in clients]
    return [*found, len(server.look("objects")["objects"])]
