"""After a swap the old code is gone, in real workers; what still holds it is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.system.harness import PUSHED, ROOT, Client, Server, until

pytestmark = pytest.mark.timeout(120)

Make = Callable[..., Server]
PROTOCOLS = ("echo", "chat", "kv", "verify")
FIRST = {
    "echo": b"hello\n",
    "chat": b"/nick somebody\n",
    "kv": b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n",
    "verify": b"",
}

STUBBORN = """
import asyncio
from netswap import Session, State

class Work(State, kind="stubborn.connection", version=1):
    lines: int = 0

class Busy(Session[Work]):
    async def run(self):
        try:
            await self.swap_point(self.read_line())
        finally:
            await asyncio.sleep(1000)
"""

PLAIN = """
from netswap import Connection, State

class Work(State, kind="stubborn.connection", version=2):
    lines: int = 0

class Plain(Connection[Work]):
    def on_data(self, data):
        self.write(data)
"""


@pytest.fixture(scope="module", params=["uvloop", pytest.param("asyncio", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest, make_shared_server: Make) -> Iterator[Server]:
    """A server for each loop, with the bundled protocols and the counter."""
    made = make_shared_server((*PROTOCOLS, "counter", "stubborn"), "--loop", request.param)
    made.push(PUSHED / "counter_v1.py")
    yield made
    made.stop()


def retiring(server: Server) -> list[dict[str, Any]]:
    """Old code that is in some worker."""
    found: list[dict[str, Any]] = server.look("status")["retiring"]
    return found


def wait_retired(server: Server) -> None:
    """Return when no old code is left."""
    try:
        until(lambda: not retiring(server), "old code is gone")
    except AssertionError as error:
        raise AssertionError(f"{error}, and still: {retiring(server)}") from None


def newest(protocol: str) -> Path:
    """The newest version of a bundled protocol."""
    return sorted((ROOT / "protocols" / protocol).glob("v*.py"))[-1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_clean_swap_of_a_bundled_protocol_retires(server: Server, protocol: str) -> None:
    """Its modules, classes and functions are dead in every worker, there and back, while served."""
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client(protocol)) for _ in range(8)]
        for client in clients:
            client.send(FIRST[protocol])
        for number in range(3):
            path = newest(protocol) if number % 2 else newest(protocol).with_name("v1.py")
            server.netswap("push", path, "--allow-lossy")
            wait_retired(server)
        bundles = [row["bundles"] for row in server.look("workers")["workers"]]
        assert len(set(bundles)) == 1
    assert not server.errors()
    assert not server.accused()


def test_a_chat_of_sessions_retires(server: Server) -> None:
    """Coroutines that were stopped at their swap points keep nothing."""
    with server.client("chat") as one, server.client("chat") as other:
        for client in (one, other):
            client.send(FIRST["chat"])
        for name in ("session.py", "v1.py", "session.py"):
            server.netswap("push", ROOT / "protocols" / "chat" / name, "--allow-lossy")
            wait_retired(server)
    server.netswap("push", ROOT / "protocols" / "chat" / "v1.py", "--allow-lossy")
    wait_retired(server)


@pytest.mark.parametrize("protocol", ["kv"])
def test_what_a_watch_and_a_canary_have_held_retires_too(server: Server, protocol: str) -> None:
    """Guards and recordings let go of the version before when the transaction has ended."""
    first = newest(protocol).with_name("v1.py")
    server.netswap("push", first, "--allow-lossy")
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client(protocol)) for _ in range(8)]
        for client in clients:
            client.send(FIRST[protocol])
        for path in (newest(protocol), first):
            answer = server.netswap("push", path, "--allow-lossy", "--watch", "0.5s")
            assert answer.code == 0, answer
            wait_retired(server)


def test_what_live_objects_are_made_of_is_pinned_and_goes_with_the_last(server: Server) -> None:
    """It is counted, nobody is accused, and it needs no further push."""

    def address(client: Client) -> str:
        return client.address.rpartition(":")[2]

    with server.client("counter") as one, server.client("counter") as other:
        for client in (one, other):
            client.ask("add 1")
        selector = f"address=127.0.0.1:{address(one)}"
        server.push(PUSHED / "counter_v2.py", "--only", selector)

        def stays() -> list[dict[str, Any]]:
            return [row for row in retiring(server) if row["standing"] != "leaving"]

        (row,) = until(stays, "it is known to be pinned")
        assert (row["standing"], row["objects"], row["held_by"]) == ("pinned", 1, [])
        assert row["kinds"] == {"counter.connection": 2}
        one.close()
        wait_retired(server)
        assert other.ask("add 1") == "v1 2 lines, total 2"


def test_a_task_that_does_not_end_is_named_with_its_line(server: Server, tmp_path: Path) -> None:
    """`netswap versions` says who holds what; when it lets go, the code is gone."""
    path = tmp_path / "stubborn.py"
    path.write_text(STUBBORN)
    server.push(path)
    with server.client("stubborn") as client:
        client.send(b"half a line")
        until(lambda: server.kinds()["stubborn.connection"]["objects"] == 1, "it is served")
        path.write_text(PLAIN)
        server.push(path)

        def found() -> list[dict[str, Any]]:
            known = server.accused()
            return [row for row in retiring(server) if known and row["held_by"]]

        held = until(found, "the holder is found")
    (row,) = held
    assert row["standing"] == "held"
    (chain,) = row["held_by"]
    assert chain.startswith(f"task of stubborn.connection {row['worker']}.")
    assert ", suspended at stubborn.py:13" in chain
    shown = server.netswap("versions")
    assert shown.page["retiring"][0]["held_by"] == [chain]
    told = [row for row in server.log() if row["event"] == "old_code_held"]
    assert (told[-1]["held_by"], told[-1]["kinds"]) == ([chain], {"stubborn.connection": 1})
    assert server.accused() == [chain]
