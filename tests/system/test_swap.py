"""Every class of connection, through pushes and rollbacks, on both loops: byte for byte."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.system.harness import PUSHED, ROOT, Client, Server, until

pytestmark = pytest.mark.timeout(120)

V1, V2 = PUSHED / "counter_v1.py", PUSHED / "counter_v2.py"
ROWS = 8000
Make = Callable[..., Server]


def pid_of(client: Client) -> int:
    """The process that serves a client of the counter."""
    return int(client.ask("pid"))


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def shared(request: pytest.FixtureRequest, make_shared_server: Make) -> Iterator[Server]:
    """A server for each loop; its counter had no code at first, though a client was there."""
    server = make_shared_server(("counter", "greeter"), "--loop", request.param)
    early = server.client("counter")
    with early:
        early.send(b"add 40\nadd 2\nad")
        server.push(V1, PUSHED / "greeter_v1.py")
        assert early.line() == "v1 1 lines, total 40", "who came before the code is served"
        assert early.line() == "v1 2 lines, total 42"
    loops = {row["loop"] for row in server.look("workers")["workers"]}
    assert len(loops) == 1
    assert request.param in loops.pop()
    yield server
    server.stop()


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    """The module's server with version 1 of the counter; no test may leave an error in its log."""
    if shared.kinds()["counter.connection"]["version"] != 1:
        shared.netswap("swap", "counter.connection@1")
    yield shared
    assert not shared.errors()


def test_state_and_half_read_input_are_carried_in_every_worker(server: Server) -> None:
    """Push and rollback: sums go on, a line that was cut by the swap is one line."""
    with server.clients("counter", pid_of) as clients:
        for client in clients:
            client.send(b"add 7\nadd 1")
            assert client.line().endswith(" lines, total 7")
            until(lambda c=client: _state(server, c)["partial"] == "add 1", "the half line is read")
        done = server.push(V2)
        assert done["receipt"]["objects"]["counter.connection"] >= 2
        assert done["receipt"]["dropped"] == 0
        assert done["receipt"]["workers"] == 2
        assert server.kinds()["counter.connection"]["by_version"].keys() == {"2"}
        lines = [client.ask("2") for client in clients]
        assert [re.sub(r"\d+ lines", "n lines", line) for line in lines] == [
            "v2 n lines, total 19",
            "v2 n lines, total 19",
        ]
        clients[0].send(b"add 1000")
        until(lambda: _state(server, clients[0])["pieces"] == ["add 1000"], "it is read")
        server.rollback()
        assert clients[0].ask("").startswith("v1 ")
        assert clients[0].ask("add 1").endswith("total 1020")
        assert clients[1].ask("add 1").endswith("total 20")


def test_who_has_sent_nothing_yet_is_carried_too(server: Server) -> None:
    """Accepted and silent, idle since long, and come after: all get the new code."""
    with server.client("counter") as silent:
        until(lambda: server.kinds()["counter.connection"]["objects"] == 1, "it is accepted")
        server.push(V2)
        with server.client("counter") as late:
            assert late.ask("add 1") == silent.ask("add 1") == "v2 1 lines, total 1"


def test_timers_keep_their_remaining_time_and_fire_once_in_the_new_code(server: Server) -> None:
    """What remains after the swap is what remained before, less the time that has passed."""
    for seconds in (3, 12, 48):  # when others compute, a push may take longer
        with server.client("counter") as client:
            client.sock.settimeout(3 * seconds)
            assert client.ask(f"later {seconds}") == "v1 armed"
            armed = time.monotonic()
            before = _remaining(client)
            server.push(V2)
            if time.monotonic() - armed > seconds / 2:
                server.rollback()
                continue
            after = _remaining(client)
            assert after[0] - before[2] <= before[1] - after[1] <= after[2] - before[0]
            assert client.line() == "v2 due"
            took = time.monotonic() - armed
            assert seconds - 0.1 < took < 3 * seconds, took
            assert client.ask("remaining") == "None"
            assert client.ask("add 1").startswith("v2 "), "it fired once"
            return
    raise AssertionError("no push was over in 24 s")


def _remaining(client: Client) -> tuple[float, float, float]:
    """When it was asked, what remained, when the answer was there."""
    asked = time.monotonic()
    remaining = float(client.ask("remaining"))
    return asked, remaining, time.monotonic()


def test_a_paused_writer_stays_paused_and_goes_on_in_the_new_code(server: Server) -> None:
    """A long response to a client that does not read: no row lost, doubled or out of order."""
    with server.client("counter", receive_buffer=8192) as client:
        client.send(b"flood %d\n" % ROWS)
        left = until(lambda: _settled(server, client, "flood"), "the writer is paused")
        server.push(V2)
        assert _state(server, client)["rows_left"] == left
        server.rollback()
        server.push(V2)
        assert _state(server, client)["rows_left"] == left
        rows = [client.line() for _ in range(ROWS)]
        assert [int(row.split()[1]) for row in rows] == list(range(ROWS - 1, -1, -1))
        versions = "".join(row[:2] for row in rows)
        assert versions == "v1" * (ROWS - left) + "v2" * left
        assert set(map(len, rows)) == {len("v1 00000000 ") + 1000}
        assert client.ask("add 3") == "v2 2 lines, total 3"


def test_output_that_nobody_reads_survives_the_swap(server: Server) -> None:
    """Eight megabytes in the transport's buffer arrive as they were written."""
    with server.client("counter", receive_buffer=8192) as client:
        client.send(b"burst %d\n" % ROWS)
        assert client.read(3) == b"v1 "
        server.push(V2)
        expected = b"".join(b"v1 %08d " % n + b"." * 1000 + b"\n" for n in range(ROWS))
        assert client.read(len(expected) - 3) == expected[3:]
        assert client.ask("add 3") == "v2 2 lines, total 3"


def test_a_half_closed_client_gets_its_answer_from_the_new_code(server: Server) -> None:
    """It has sent its end before the swap; the new code knows and closes when it is done."""
    with server.client("counter", receive_buffer=8192) as client:
        client.send(b"flood %d\n" % ROWS)
        client.finish()
        until(lambda: _state(server, client)["mark"] == "eof", "the server knows of the end")
        server.push(V2)
        rows = client.rest().decode().splitlines()
        assert [int(row.split()[1]) for row in rows] == list(range(ROWS - 1, -1, -1))
        assert {rows[0][:2], rows[-1][:2]} == {"v1", "v2"}


def test_a_stream_of_requests_sees_one_version_after_the_other(server: Server) -> None:
    """Pipelined through pushes and rollbacks: every answer, in order, of one version each."""
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client("counter")) for _ in range(4)]
        streams = [_Stream(client) for client in clients]
        for stream in streams:
            stream.start()
        stack.callback(lambda: [stream.stop() for stream in streams])
        for _ in range(2):
            server.push(V2)
            server.rollback()
        for stream in streams:
            stream.stop()
            rows = [re.fullmatch(r"v(\d) (\d+) lines, total (\d+)", row) for row in stream.rows]
            assert [int(row[2]) for row in rows if row] == list(range(1, stream.sent + 1))
            assert [int(row[3]) for row in rows if row] == list(range(1, stream.sent + 1))
            versions = "".join(row[1] for row in rows if row)
            assert re.fullmatch("1+2+1+2+1+", versions), re.sub(r"(\d)\1*", r"\1", versions)


class _Stream(threading.Thread):
    """Sends requests without waiting for answers, until it is stopped, and reads them all."""

    def __init__(self, client: Client) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.sent = 0
        self.rows: list[str] = []
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.is_set():
            self.client.send(b"add 1\n" * 20 + b"ad")
            self.client.send(b"d 1\n")
            self.sent += 21
            while len(self.rows) < self.sent - 40:
                self.rows.append(self.client.line())
        while len(self.rows) < self.sent:
            self.rows.append(self.client.line())

    def stop(self) -> None:
        self._stopping.set()
        self.join(20)
        assert not self.is_alive()


def test_a_session_is_stopped_at_its_swap_point_and_started_in_new_code(server: Server) -> None:
    """Half a line in its receive buffer, and the buffer itself replaced in the same transaction."""
    chunked = ROOT / "protocols/buffers/chunked.py"
    with server.client("greeter") as client:
        assert client.ask("ann") == "v1 hello ann, number 1"
        client.send(b"bo")
        done = server.push(PUSHED / "greeter_v2.py", chunked)
        assert done["receipt"]["objects"] == {"greeter.connection": 1, "buffer.receive": 1}
        assert client.ask("b") == "v2 hello bob, number 2"
        client.send(b"c")
        server.rollback()
        assert client.ask("yd") == "v1 hello cyd, number 3"
        client.send(b"dan")
        client.finish()
        assert client.rest() == b"v1 hello dan, number 4\n"


def _state(server: Server, client: Client) -> dict[str, object]:
    row = server.object_of(client, "counter.connection")
    state: dict[str, object] = row["state"]
    return state


def _settled(server: Server, client: Client, field: str) -> int:
    """What is left when it does not change any more, 0 while it does."""
    seen = [int(str(_state(server, client)[field])) for _ in range(3)]
    return seen[0] if len(set(seen)) == 1 and seen[0] < ROWS else 0
