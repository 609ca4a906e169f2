"""A connection and the service that it asks change their words together, under load."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.system.crowd import crowd
from tests.system.harness import PUSHED, Server

pytestmark = pytest.mark.timeout(180)

V1, V2, SESSION = (PUSHED / f"pair_{name}.py" for name in ("v1", "v2", "session"))
PUSHES = 2
ATTEMPTS = 20
MANY = 500
"""They take several slices, and one stroke."""
Make = Callable[..., Server]


@pytest.fixture
def server(make_server: Make) -> Iterator[Server]:
    """One worker with version 1 of the pair: its parts in other workers have no part in this."""
    made = make_server(("pair",), "--workers", "1")
    made.push(V1)
    yield made
    made.stop()


def test_old_code_never_asks_new_code(server: Server) -> None:
    """All of them change within one callback of the loop, and nobody is held for it."""
    with crowd(server, "pair", MANY) as asking:
        for _ in range(PUSHES):
            for words, version in ((("push", V2), "v2"), (("rollback",), "v1")):
                done = asking.through(server, *words)
                assert done.code == 0, done
                assert done.page["receipt"]["slices"] > 1
                assert (done.page["atomic"], done.page["remarks"]) == (False, [])
                asking.wait_answered(version)
    assert asking.faults == []
    assert server.errors() == []
    with server.client("pair") as client:
        assert int(client.ask("0").split()[1]) == sum(asking.answered.values())


def test_rolling_lets_them(server: Server) -> None:
    """It goes slice by slice, as it says; the test above could fail."""
    for number in range(ATTEMPTS):
        with crowd(server, "pair", MANY) as asking:
            words = ("rollback",) if number % 2 else ("push", V2)
            page = asking.through(server, *words, "--rolling").page
        assert page["remarks"] == [
            "pair.connection uses pair.store, and both change: objects of two versions ask each "
            "other until all have swapped, which was asked for"
        ]
        if asking.faults and server.errors():
            return
    raise AssertionError(f"{ATTEMPTS} rolling swaps under load, and no object was asked wrongly")


def test_what_can_not_be_one_stroke_is_held(server: Server) -> None:
    """A session has to come to its swap point first, so nothing is served meanwhile."""
    with crowd(server, "pair") as asking:
        for _ in range(PUSHES):
            for words, version in ((("push", SESSION), "v2"), (("rollback",), "v1")):
                done = asking.through(server, *words, "--allow-lossy")
                assert done.code == 0, done
                assert done.page["atomic"]
                assert done.page["receipt"]["held_us"] > 0
                assert done.page["remarks"] == [
                    "pair.connection uses pair.store, and both change: nothing is served until "
                    "all have swapped; --rolling swaps one after the other"
                ]
                asking.wait_answered(version)
    assert asking.faults == []
    assert server.errors() == []
