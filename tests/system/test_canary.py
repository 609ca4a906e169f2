"""A canary on a real server: an exact share over both workers, decided by hand or by rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system.harness import ROOT, Client, Server, still_runs, until
from tests.system.test_watch import FAILS, SET, V1, WELL, changed, ended, on_probation, on_watch

pytestmark = pytest.mark.timeout(180)

Make = Callable[..., Server]


@pytest.fixture
def server(make_server: Make) -> Iterator[Server]:
    """Two workers with version 1 of the counter."""
    server = make_server(("counter",))
    server.push(V1)
    yield server
    server.stop()


@pytest.fixture
def crowd(server: Server) -> Iterator[Callable[[int], list[Client]]]:
    """``crowd(50)``: so many clients more, each of which is served."""
    with ExitStack() as stack:

        def make(count: int) -> list[Client]:
            clients = [stack.enter_context(server.client("counter")) for _ in range(count)]
            for client in clients:
                client.ask("add 1")
            return clients

        yield make


def answers(clients: list[Client]) -> Counter[str]:
    """How many clients are served by which code."""
    return Counter(client.ask("mark x") for client in clients)


def test_a_tenth_of_fifty_is_five_and_a_tenth_of_those_that_come(
    server: Server, tmp_path: Path, crowd: Callable[[int], list[Client]]
) -> None:
    """Over both workers together; promoted by hand, all have the new code, with their state."""
    clients = crowd(50)
    path = changed(tmp_path, "well.py", WELL)
    with on_probation(server, path, "--canary", "10%", "--by-hand", "10m") as push:
        first = answers(clients)
        assert first == {"new": 5, "v1 marked": 45}
        assert answers(clients) == first, "who has it keeps it"
        born = crowd(100)
        # Each worker goes on with its own sum, so each may be one off.
        assert abs(answers(born)["new"] - 10) <= 2
        conflict = server.netswap("push", V1)
        assert (conflict.code, conflict.page["advice"].count("netswap promote")) == (24, 1)
        promoted = server.netswap("promote")
        assert promoted.code == 0
        code, page = ended(push)
    assert (code, page["outcome"], page["receipt"]) == (0, "done", promoted.page["receipt"])
    assert answers([*clients, *born]) == {"new": 150}
    assert clients[0].ask("add 1").endswith("total 2")
    figures = {(row["worker"], row["on_watch"]): row for row in page["watch"]}
    assert set(figures) == {(0, True), (0, False), (1, True), (1, False)}


def test_rollback_takes_a_canary_back_with_its_state(
    server: Server, tmp_path: Path, crowd: Callable[[int], list[Client]]
) -> None:
    """The push ends with 21, and nothing of the canary is left."""
    clients = crowd(20)
    path = changed(tmp_path, "well.py", WELL)
    with on_probation(server, path, "--canary", "50%", "--watch", "10m") as push:
        assert answers(clients) == {"new": 10, "v1 marked": 10}
        taken = server.netswap("rollback")
        assert taken.code == 0
        assert taken.page["what"].endswith("well.py: taken back")
        code, page = ended(push)
    assert (code, page["what"]) == (21, "taken back by `netswap rollback`")
    assert answers([*clients, *crowd(5)]) == {"v1 marked": 25}
    assert all(client.ask("add 1").endswith("total 2") for client in clients)
    row = server.kinds()[SET]
    assert (row["revision"], row["objects"]) == (1, 25)


def test_a_canary_that_fails_takes_itself_back(
    server: Server, tmp_path: Path, crowd: Callable[[int], list[Client]]
) -> None:
    """No client sees it: who was on new code is answered by the old one."""
    clients = crowd(20)
    path = changed(tmp_path, "fails.py", FAILS)
    with on_probation(server, path, "--canary", "20%", "--watch", "10m") as push:
        assert answers(clients) == {"v1 marked": 20}
        code, page = ended(push)
    assert code == 21
    assert "KeyError: 'half-way'" in page["what"]
    assert answers(clients) == {"v1 marked": 20}


def test_a_canary_passes_by_itself_and_then_all_are_watched(
    server: Server, tmp_path: Path, crowd: Callable[[int], list[Client]]
) -> None:
    """The same time for the canary, and again for all of it."""
    clients = crowd(10)
    path = changed(tmp_path, "well.py", WELL)
    with server.starts("push", path, "--canary", "10%", "--watch", "2s") as push:
        seen = set()
        while still_runs(push):
            seen.add(answers(clients)["new"])
        code, page = ended(push)
    assert code == 0
    assert seen >= {1, 10}
    assert sum(row["objects"] for row in on_watch(page)) == 10


def test_a_whole_worker_goes_first_with_its_services(server: Server, tmp_path: Path) -> None:
    """And a share of a service is refused before anything is touched."""
    rooms = tmp_path / "wheel.py"
    rooms.write_text((ROOT / "protocols/timers/wheel.py").read_text())
    refused = server.netswap("push", rooms, "--canary", "10%")
    assert refused.code == 20
    assert "timer.service is one object a worker" in refused.page["what"]
    assert "--canary worker=0" in refused.page["advice"]
    with on_probation(server, rooms, "--canary", "worker=1", "--by-hand", "10m") as push:
        until(lambda: server.kinds()["timer.service"]["by_version"] == {"1": 1, "2": 1}, "one has")
        assert server.netswap("promote").code == 0
        assert ended(push)[0] == 0
    assert server.kinds()["timer.service"]["by_version"] == {"2": 2}


def test_a_selector_chooses_the_canary(
    server: Server, tmp_path: Path, crowd: Callable[[int], list[Client]]
) -> None:
    """One client alone."""
    clients = crowd(6)
    path = changed(tmp_path, "well.py", WELL)
    part = f"address={clients[3].address}"
    with on_probation(server, path, "--canary", part, "--by-hand", "10m") as push:
        assert [client.ask("mark x") for client in clients].index("new") == 3
        assert answers(clients) == {"new": 1, "v1 marked": 5}
        server.rollback()
        assert ended(push)[0] == 21
