"""`netswap blockers` acts: nudge, cancel and abort while a swap waits, seen from outside."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.harness import Client, Server, until

pytestmark = pytest.mark.timeout(120)

Make = Callable[..., Server]

BUSY = """
import asyncio
import time
from netswap import Session, State

class Work(State, kind="busy.connection", version=VERSION):
    lines: int = 0
    hurried: bool = False

class Busy(Session[Work]):
    async def run(self):
        while line := await self.swap_point(self.read_line()):
            self.state.lines += 1
            self.write(b"vVERSION %d\\n" % self.state.lines)
            if line == b"block":
                time.sleep(60)
            while line == b"stay" and not self.state.hurried:
                await asyncio.sleep(0.01)
            self.state.hurried = False

    def on_nudge(self):
        self.state.hurried = True
"""


@pytest.fixture(scope="module")
def server(make_shared_server: Make) -> Iterator[Server]:
    """A server of busy sessions."""
    made = make_shared_server(("busy",))
    yield made
    # one worker is killed while it does not read
    assert {row["event"] for row in made.errors()} <= {"control channel broke"}
    made.stop()


@pytest.fixture
def modules(server: Server, tmp_path: Path) -> tuple[Path, Path]:
    """Both versions; the first is served."""
    paths = tmp_path / "v1.py", tmp_path / "v2.py"
    for number, path in enumerate(paths, 1):
        path.write_text(BUSY.replace("VERSION", str(number)))
    server.push(paths[0])
    return paths


class Waiting:
    """A push that waits for a busy session."""

    def __init__(self, server: Server, path: Path) -> None:
        self.server = server
        self.client = server.client("busy")
        assert self.client.ask("stay") == "v1 1"
        self.other = server.client("busy")
        assert self.other.ask("go") == "v1 1"
        self.push = server.starts("push", path, "--timeout", "60s")

        def swapping() -> bool:
            return server.kinds()["busy.connection"]["by_version"] == {"1": 1, "2": 1}

        until(swapping, "the push waits for the busy one")

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        for client in (self.client, self.other):  # by a reset: the busy one does not see an end
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        until(lambda: not self.server.kinds()["busy.connection"]["objects"], "they are gone")
        self.push.kill()
        self.push.communicate()

    @property
    def id(self) -> str:
        """What `netswap blockers` calls the busy session."""
        (row,) = self.server.look("blockers")["blockers"]
        found: str = row["id"]
        return found

    def pushed(self) -> tuple[int, dict[str, Any]]:
        """How the push ended."""
        out, _ = self.push.communicate(timeout=30)
        page: dict[str, Any] = json.loads(out)
        return self.push.returncode, page


def test_a_nudge_lets_the_swap_go_on(server: Server, modules: tuple[Path, Path]) -> None:
    """All that are in the way, or one; the client keeps its connection."""
    with Waiting(server, modules[1]) as waiting:
        identity = waiting.id
        answer = server.netswap("blockers", "--nudge", "all")
        assert answer.code == 0
        (row,) = answer.page["acted"]
        assert (row["id"], row["done"]) == (identity, True)
        assert waiting.pushed()[0] == 0
        assert waiting.client.ask("go") == "v2 2"
        again = server.netswap("blockers", "--nudge", identity)
        assert again.code == 20
        assert again.page["what"].startswith(f"nothing is suspended in {identity}")


def test_a_cancel_ends_the_session_in_order(server: Server, modules: tuple[Path, Path]) -> None:
    """Its client gets what was written and the end, and the swap finds one less."""
    with Waiting(server, modules[1]) as waiting:
        answer = server.netswap("blockers", "--cancel", waiting.id)
        assert answer.code == 0
        assert "then the end of its connection" in answer.page["acted"][0]["what"]
        code, page = waiting.pushed()
        assert (code, page["receipt"]["gone"]) == (0, 1)
        assert waiting.client.rest() == b""
        assert waiting.other.ask("go") == "v2 2"


def test_an_abort_takes_everything_back(server: Server, modules: tuple[Path, Path]) -> None:
    """The push says who did it and exits 21; nobody notices anything."""
    with Waiting(server, modules[1]) as waiting:
        answer = server.netswap("blockers", "--abort")
        assert answer.code == 0
        assert answer.page["what"].endswith("v2.py: aborted")
        code, page = waiting.pushed()
        assert (code, page["what"]) == (21, "aborted by `netswap blockers --abort`")
        assert waiting.other.ask("go") == "v1 2"
        assert server.kinds()["busy.connection"]["by_version"] == {"1": 2}
    last = server.look("history")["transactions"][0]
    assert (last["outcome"], last["reason"]) == (
        "rolled back",
        "refused at agreement: aborted by `netswap blockers --abort`",
    )


def test_what_can_not_be_done_says_why(server: Server, modules: tuple[Path, Path]) -> None:
    """Nothing under way, no such object, no such word, two words at once."""
    assert modules
    nothing = server.netswap("blockers", "--abort")
    assert (nothing.code, nothing.page["what"]) == (20, "no transaction is under way")
    for words, sentence in {
        ("--cancel", "0.999999"): "no object 0.999999 lives",
        ("--nudge", "7.1"): "worker 7 does not serve",
        ("--cancel", "all"): "all can be nudged, not cancelled",
        ("--nudge", "it"): "'it' is not SLOT.NUMBER, or SLOT.NUMBER#CALL",
        ("--nudge", "0.1", "--abort"): "--nudge, --cancel and --abort are one of three",
    }.items():
        answer = server.netswap("blockers", *words)
        assert (answer.code, answer.page["what"]) == (2, sentence)
    assert server.netswap("blockers", "--nudge", "all").code == 0


def test_nothing_is_done_over_get(server: Server, modules: tuple[Path, Path]) -> None:
    """A query changes nothing, whatever it says."""
    with Waiting(server, modules[1]) as waiting:
        server.look(f"blockers?cancel={waiting.id}&abort=true&nudge=all")
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.push.wait(0.3)
        assert server.netswap("blockers", "--abort").code == 0


def test_a_client_of_the_api_gets_the_same(server: Server, modules: tuple[Path, Path]) -> None:
    """One of the three words, or none of them is carried out."""
    assert modules
    body = b'{"nudge": "all", "abort": true}'
    head = f"POST /v1/blockers HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(server.socket))
        sock.sendall(head + body)
        assert sock.recv(1 << 16).startswith(b"HTTP/1.0 400")


def test_a_worker_whose_loop_is_blocked_is_named_with_its_line(
    server: Server, modules: tuple[Path, Path]
) -> None:
    """A push ends when its time is over and looks do not wait; a kill makes room for the next."""
    line = BUSY.splitlines().index("                time.sleep(60)") + 1
    client = server.client("busy")
    assert client.ask("go") == "v1 1"
    client.send(b"block\n")

    def placed() -> list[dict[str, Any]]:
        return [row for row in server.look("workers")["unanswered"] if row["file"]]

    (stuck,) = until(placed, "it is missing, and has said where it is", 20)
    assert (stuck["file"], stuck["line"]) == ("v1.py", line)
    answer = server.netswap("push", modules[1], "--timeout", "3s")
    assert answer.code == 20
    assert answer.page["where"] == f"v1.py:{line}, worker {stuck['worker']}"
    assert f"kill -9 {stuck['pid']}" in answer.page["advice"]
    os.kill(stuck["pid"], signal.SIGKILL)
    server.wait_serving(without=[stuck["pid"]])
    client.close()
    assert server.push(modules[1])["outcome"] == "done"


def test_words_are_for_people_too(server: Server, modules: tuple[Path, Path]) -> None:
    """The table shows the id that the other words take."""
    with Waiting(server, modules[1]) as waiting:
        identity = waiting.id
        assert identity.count(".") == 1
        client: Client = waiting.client
        assert server.object_of(client, "busy.connection")["id"] == identity
        assert server.netswap("blockers", "--abort").code == 0
