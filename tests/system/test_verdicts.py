"""Nothing that is pushed is left unapplied in silence: what is said of it, on a running server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.harness import PUSHED, Client, Server, until

pytestmark = pytest.mark.timeout(120)
Make = Callable[..., Server]

DESK = """
from netswap import Connection, State
from {home} import price

class Desk(State, kind="{kind}.connection", version=1):
    asked: int = 0

class Teller(Connection[Desk]):
    def on_data(self, data: bytes) -> None:
        self.state.asked += 1
        self.write(b"%d %d\\n" % (self.state.asked, price()))
"""
ALONE = """
from netswap import Connection, State

class Bell(State, kind="bell.connection", version=1):
    pass

class Ring(Connection[Bell]):
    pass
"""


@pytest.fixture(scope="module")
def server(make_shared_server: Make) -> Iterator[Server]:
    """Two workers with listeners for what is pushed here."""
    server = make_shared_server(("counter", "desk", "till"))
    server.push(PUSHED / "counter_v1.py")
    yield server
    assert not server.errors()
    server.stop()


def price(folder: Path, number: int, name: str = "prices.py") -> None:
    """What things cost, in a file that two kinds share."""
    (folder / name).write_text(f"def price():\n    return {number}\n")


def shop(server: Server, number: int) -> Path:
    """A folder of two kinds that share a file, and one that shares nothing."""
    folder = server.folder / "shop"
    folder.mkdir(exist_ok=True)
    for kind in ("desk", "till"):
        (folder / f"{kind}.py").write_text(DESK.format(kind=kind, home=".prices"))
    (folder / "bell.py").write_text(ALONE)
    price(folder, number)
    return folder


def said(page: dict[str, Any]) -> dict[str, str]:
    """Kind to verdict and reason."""
    return {line["kind"]: f"{line['verdict']}: {line['reason']}" for line in page["verdicts"]}


def test_a_change_of_what_is_shared_swaps_all_that_import_it(server: Server) -> None:
    """A folder is one bundle; what is not affected is told so, and goes with it."""
    server.push(shop(server, 1))
    with server.client("desk") as desk, server.client("till") as till:
        assert (desk.ask("x"), till.ask("x")) == ("1 1", "1 1")
        page = server.push(shop(server, 2))
        assert (desk.ask("x"), till.ask("x")) == ("2 2", "2 2")
    changed = "as is: same format, version 1; changed: prices.py"
    assert said(page) == {
        "desk.connection": changed,
        "till.connection": changed,
        "bell.connection": "as is: same format, version 1; none of its code has changed",
    }


def test_kinds_that_a_push_leaves_behind_are_named(server: Server) -> None:
    """With what they shared with those that went: that is there twice from now on."""
    folder = shop(server, 3)
    server.push(folder)
    with server.client("till") as till:
        assert till.ask("x") == "1 3"
        (folder / "till.py").unlink()
        price(folder, 4)
        page = server.push(folder)
        assert till.ask("x") == "2 3"
    left = said(page)["till.connection"]
    assert left.startswith("as is: not in this push: its ")
    assert left.endswith("prices.py, which it shares, is there twice from now on")
    server.rollback()


@pytest.mark.parametrize("with_it", [False, True])
def test_two_files_that_share_a_third_have_to_come_as_a_folder(
    server: Server, with_it: bool
) -> None:
    """Each path is a bundle of its own, in which a file beside it is not there."""
    folder = shop(server, 5)
    paths = [folder / "desk.py", folder / "till.py", *([folder / "prices.py"] * with_it)]
    answer = server.netswap("push", *paths)
    assert answer.code == 20
    assert "prices" in answer.page["what"]
    assert "desk.py:3" in answer.page["where"]
    assert "push the folder" in answer.page["advice"]


def test_a_library_that_has_changed_on_disk_owes_a_restart(server: Server) -> None:
    """Python keeps what a worker has loaded; the push is refused at the import, or goes on."""
    price(server.folder, 6, "tariff.py")
    file = server.folder / "desk.py"
    file.write_text(DESK.format(kind="desk", home="tariff"))
    server.push(file)
    with server.client("desk") as desk:
        assert desk.ask("x") == "1 6"
        price(server.folder, 7, "tariff.py")
        file.write_text(file.read_text() + "# a new version\n")
        answer = server.netswap("push", file)
        assert answer.code == 20
        assert answer.page["what"].startswith("restart owed: tariff (")
        assert "desk.py:3" in answer.page["where"]
        assert said(answer.page)["desk.connection"].startswith("restart owed: as is, but tariff")
        assert "--allow-stale" in answer.page["advice"]
        page = server.push(file, "--allow-stale")
        assert said(page)["desk.connection"].startswith("restart owed")
        assert desk.ask("x") == "2 6"
        back = server.rollback()
        assert said(back)["desk.connection"].startswith("restart owed")
        assert desk.ask("x") == "3 6"


def test_a_dry_run_says_what_a_push_would_and_changes_nothing(server: Server) -> None:
    """Verdicts, the rehearsal of each worker, and what is expected."""
    with server.clients("counter", lambda client: int(client.ask("pid"))) as clients:
        until(lambda: server.kinds()["counter.connection"]["objects"] == 2, "the others are gone")
        before = server.kinds()
        page = server.netswap("push", PUSHED / "counter_v2.py", "--dry-run").page
        assert (page["outcome"], page["dry_run"]) == ("done", True)
        assert said(page) == {"counter.connection": "by migration: steps 1 to 2"}
        rows = page["rehearsal"]
        assert [row["worker"] for row in rows] == [0, 1]
        for row in rows:
            assert row["objects"] >= 1
            assert row["slowest"].startswith(f"{row['worker']}.")
            assert 0 < row["us_per_object"] <= row["slowest_us"]
            assert 0 < row["fork_us"] <= row["stall_us"]
            assert (row["failed"], row["untried"], row["large"]) == (0, 0, 0)
        assert server.kinds() == before
        assert all(client.ask("add 1").startswith("v1") for client in clients)


def test_without_a_rehearsal_a_sample_is_converted(server: Server) -> None:
    """No fork; the result says so."""
    clients = [server.client("counter") for _ in range(40)]
    try:
        for client in clients:
            client.ask("add 1")
        page = server.push(PUSHED / "counter_v2.py", "--no-rehearsal")
        rows = page["rehearsal"]
        assert all(row["sample"] and row["fork_us"] == 0 for row in rows)
        assert all(row["objects"] <= 16 for row in rows)
        assert sum(row["objects"] for row in rows) >= 16
        assert _answers(clients, "v2")
        server.rollback("--no-rehearsal")
        assert _answers(clients, "v1")
    finally:
        for client in clients:
            client.close()


def _answers(clients: list[Client], version: str) -> bool:
    return all(client.ask("add 1").startswith(version) for client in clients)
