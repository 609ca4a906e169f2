"""A service with a part in every worker changes the words between its parts, under load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.system.crowd import Crowd, crowd
from tests.system.harness import PATIENCE, PUSHED, Server

pytestmark = pytest.mark.timeout(180)

V1, V2 = PUSHED / "tally_v1.py", PUSHED / "tally_v2.py"
PUSHES = 3
ATTEMPTS = 20
Make = Callable[..., Server]


@pytest.fixture
def server(make_server: Make) -> Iterator[Server]:
    """With version 1 of the tally in two workers."""
    made = make_server(("tally",))
    made.push(V1)
    yield made
    made.stop()


SWAPS = (("push", V2), ("rollback",))


def swapped(server: Server, asking: Crowd, number: int, *options: str) -> dict[str, Any]:
    """Push, roll back, push: the result of this one."""
    done = asking.through(server, *SWAPS[number % 2], *options)
    assert done.code == 0, done
    return done.page


def test_no_part_is_asked_in_words_of_another_version(server: Server) -> None:
    """With no option given: each push holds all workers by itself, and says why."""
    with crowd(server, "tally") as asking:
        for number in range(2 * PUSHES):
            page = swapped(server, asking, number)
            assert page["atomic"]
            assert page["receipt"]["held_us"] > 0
            assert page["remarks"] == [
                "tally.store has a part in every worker: nothing is served until all have swapped; "
                "--rolling swaps one after the other"
            ]
            asking.wait_answered("v1" if number % 2 else "v2")
    assert asking.faults == []
    assert server.errors() == []
    with server.client("tally") as client:
        total = int(client.ask("0").split()[1])
    assert total == sum(asking.answered.values())


def test_rolling_is_passed_through_and_mixes_them(server: Server) -> None:
    """Nothing is held, the result says what that means, and the test above could fail."""
    assert server.netswap("push", V2, "--rolling", "--atomic").code == 2
    for number in range(ATTEMPTS):
        with crowd(server, "tally", patience=1.0) as asking:  # some are never answered
            page = swapped(server, asking, number, "--rolling")
        assert not page["atomic"]
        assert page["receipt"]["held_us"] == 0
        assert "parts of two versions ask each other until all have swapped" in page["remarks"][0]
        if asking.faults and server.errors():
            return
    raise AssertionError(f"{ATTEMPTS} rolling swaps under load, and no part was asked wrongly")


def test_the_way_back_from_a_watch_mixes_nothing_either(server: Server) -> None:
    """All hold once more before the first goes back: no question is left for the other version."""
    with crowd(server, "tally") as asking:
        push = server.starts("push", V2, "--watch", "60s", "--no-guard")
        with push:
            asking.wait_answered("v2")
            assert server.netswap("rollback").code == 0
            out, told = push.communicate(timeout=PATIENCE)
        assert push.returncode == 21, out
        assert "worker 1: serves the old code" in told
        asking.wait_answered("v1")
    assert asking.faults == [], "\n".join(map(str, server.log()[-40:]))
    assert server.errors() == []
