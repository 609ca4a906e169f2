"""WebSockets on a whole server: sessions move, stay and are listed, or are told of the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.system.harness import ROOT, Server, until

pytestmark = pytest.mark.timeout(120)

Make = Callable[..., Server]

APP = """
from netswap import State
from netswap.http import App, Channel, websocket

class Nothing(State, kind="http.app", version=1):
    \"\"\"Nothing is kept.\"\"\"

class Counting(App[Nothing]):
    @websocket("/count")
    async def count(self, channel: Channel) -> None:
        seen = channel.carry or 0
        async for message in channel:
            seen += 1
            if message != "stay":
                channel.carry = seen
            await channel.send(f"NAME {seen}")
"""


@pytest.fixture
def server(make_server: Make) -> Iterator[Server]:
    """A server of HTTP; it is stopped by the test."""
    made = make_server(("http",))
    yield made
    assert not made.errors()


def begin(session: ClientConnection, word: str) -> None:
    """Say one word and be answered."""
    session.send(word)
    assert session.recv() == "old 1"


def test_sessions_move_stay_are_listed_and_are_told_of_the_end(
    server: Server, tmp_path: Path
) -> None:
    """One that carries goes on in the new code, one that does not is counted until it is ended."""
    old, new = tmp_path / "old.py", tmp_path / "new.py"
    for path in (old, new):
        path.write_text(APP.replace("NAME", path.stem))
    server.push(old)
    address = f"ws://127.0.0.1:{server.ports['http']}/count"
    with connect(address) as moving, connect(address) as staying:
        begin(moving, "x")
        begin(staying, "stay")
        server.push(new, ROOT / "protocols/websocket/v2.py")
        moving.send("x")
        assert moving.recv() == "new 2"
        staying.send("stay")
        assert staying.recv() == "old 2"
        assert server.kinds()["http.app"]["pinned"] == 1
        (row,) = server.look("blockers")["blockers"]
        assert (row["kind"], "old.py:" in row["where"]) == ("http.app", True)
        assert server.netswap("blockers", "--cancel", row["id"]).code == 0
        with pytest.raises(ConnectionClosed) as ended:
            staying.recv()
        assert ended.value.rcvd.code == 1012
        until(lambda: server.kinds()["http.app"]["pinned"] == 0, "nobody stays")
        until(lambda: not server.look("status")["retiring"], "the old code is gone")
        moving.send("x")
        assert moving.recv() == "new 3"
        server.signal()
        with pytest.raises(ConnectionClosed) as stopped:
            moving.recv()
        assert (stopped.value.rcvd.code, stopped.value.rcvd.reason) == (1012, "the server restarts")
        assert server.wait() == 0
