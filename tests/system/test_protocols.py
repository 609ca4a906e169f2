"""The bundled protocols on a whole server: malformed input, Redis's own clients, checked load."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import redis

from tests.system.harness import (
    ROOT,
    Answer,
    Client,
    Process,
    Server,
    assert_faultless,
    lasting,
    until,
)

pytestmark = pytest.mark.timeout(120)

PROTOCOLS = ROOT / "protocols"
SERVED = ("echo", "chat", "kv", "verify", "http")
Make = Callable[..., Server]
SWAPS = 6


@pytest.fixture(scope="module")
def shared(make_shared_server: Make) -> Iterator[Server]:
    """One server for all; it ends in order."""
    server = make_shared_server(SERVED)
    yield server
    server.stop()


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    """The module's server with every protocol at version 1; no test loses a worker or logs one."""
    pids = [row["pid"] for row in shared.workers()]
    yield shared
    assert [row["pid"] for row in shared.workers()] == pids
    assert not shared.errors()
    for name in SERVED:
        if shared.kinds()[f"{name}.connection"]["version"] != 1:
            assert shared.netswap("swap", f"{name}.connection@1").code == 0


def needs(program: str) -> pytest.MarkDecorator:
    """Skip, and say what to install."""
    return pytest.mark.skipif(
        shutil.which(program) is None, reason=f"no {program}: apt-get install redis-tools"
    )


# -- malformed input --

MALFORMED: dict[str, tuple[str, bytes, bytes]] = {
    "kv: a negative bulk": ("kv", b"*1\r\n$-5\r\n", b"-ERR Protocol error"),
    "kv: a huge array": ("kv", b"*2147483648\r\n", b"-ERR Protocol error"),
    "kv: no number": ("kv", b"*x\r\n", b"-ERR Protocol error"),
    "kv: an integer in a command": ("kv", b"*1\r\n:5\r\n", b"-ERR Protocol error"),
    "kv: binary": ("kv", bytes(range(128, 256)) + b"\r\n", b"-ERR unknown command"),
    "kv: unbalanced quotes": ("kv", b'SET a "b\r\n', b"-ERR Protocol error: unbalanced quotes"),
    "verify: too short": ("verify", b"\0\0\0\5abcde", b""),
    "verify: too long": ("verify", b"\xff\xff\xff\xffabc", b""),
    "verify: text": ("verify", b"GET / HTTP/1.1\r\n\r\n", b""),
    "http: no header": ("http", b"GET / HTTP/1.1\r\nno\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
    "http: no method": ("http", b"\x16\x03\x01", b"HTTP/1.1 400 Bad Request\r\n"),
    "chat: not UTF-8": ("chat", b"\xff\xfe\x80 hello\n", b""),
    "chat: an unknown word": ("chat", b"/frobnicate now\n", b"! there is no /frobnicate"),
    "echo: anything": ("echo", b"\0\xff\r\n" * 100, b"\0\xff\r\n"),
}


@pytest.mark.parametrize("protocol", sorted({protocol for protocol, _, _ in MALFORMED.values()}))
@pytest.mark.parametrize("version", [1, 2])
def test_malformed_input_harms_nobody_else(server: Server, protocol: str, version: int) -> None:
    """An error in the protocol's own terms; the worker and its other clients go on."""
    if version == 2:
        server.push(PROTOCOLS / protocol / "v2.py")
    cases = {name: row[1:] for name, row in MALFORMED.items() if row[0] == protocol}
    with server.client("echo") as other:
        for name, (sent, answer) in cases.items():
            assert other.ask("before") == "before"
            with server.client(protocol) as client:
                client.send(sent)
                client.finish()
                said = client.rest()
            assert answer in said, name
            assert said == b"" or protocol != "verify", name
            assert other.ask("after") == "after", name
            with server.client(protocol) as client:
                client.send(b"PING\r\n" if protocol == "kv" else b"")
                assert protocol != "kv" or client.read(7) == b"+PONG\r\n", name


HALF = {"echo": b"x", "chat": b"/ni", "kv": b"*3\r\n$3\r\nSE", "verify": b"\0\0\0\x40abc"}
HALF["http"] = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"


@pytest.mark.parametrize("protocol", SERVED)
def test_a_client_that_resets_leaves_nothing(server: Server, protocol: str) -> None:
    """Half a message, then a reset: its object goes."""

    kind = f"{protocol}.connection"
    with server.client(protocol) as client:
        client.send(HALF[protocol])
        until(lambda: server.kinds()[kind]["objects"] == 1, "it is served")
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: server.kinds()[kind]["objects"] == 0, "its object is gone")


# -- the chat, over all workers --


def test_a_room_over_all_workers_hears_everything_in_one_order(server: Server) -> None:
    """Six people talk through pushes and rollbacks: everyone sees the same lines, all of them."""
    people, said = 6, 60
    with ExitStack() as stack:
        clients = three_of_each_worker(server, stack)
        for number, client in enumerate(clients):
            client.send(f"/nick p{number}\n".encode())
            while f"p{number}" not in client.line():
                pass
        with swapping(server, PROTOCOLS / "chat/v2.py") as codes:
            talks = [Talk(client, number, said) for number, client in enumerate(clients)]
            for talk in talks:
                talk.start()
            until(lambda: len(codes) >= 2, "a push and a rollback")
            for talk in talks:
                talk.enough.set()
            for talk in talks:
                talk.join(30)
                assert not talk.is_alive()
        heard = [hear(client, people) for client in clients]
    assert all(lines == heard[0] for lines in heard[1:])
    assert sorted(heard[0]) == sorted(f"<p{t.number}> {n}" for t in talks for n in range(t.said))


def three_of_each_worker(server: Server, stack: ExitStack) -> list[Client]:
    """Chat connections; the kernel chooses the worker of each, so those too many are closed."""
    served: dict[str, list[Client]] = {"0": [], "1": []}
    for _ in range(100):
        client = stack.enter_context(server.client("chat"))
        clients = served[server.object_of(client, "chat.connection")["id"][0]]
        if len(clients) < 3:
            clients.append(client)
        else:
            client.close()
        if sum(map(len, served.values())) == 6:
            return [*served["0"], *served["1"]]
    raise AssertionError("the kernel gives all connections to one worker")


class Talk(threading.Thread):
    """Says numbers, at least ``least`` of them, until it is enough; then ``end``."""

    def __init__(self, client: Client, number: int, least: int) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.number = number
        self.least = least
        self.said = 0
        self.enough = threading.Event()

    def run(self) -> None:
        while self.said < self.least or not self.enough.is_set():
            self.client.send(b"%d\n" % self.said)
            self.said += 1
            self.enough.wait(0.005)
        self.client.send(b"end\n")


def hear(client: Client, people: int) -> list[str]:
    """What was said until everybody has said ``end``."""
    lines: list[str] = []
    ended = 0
    while ended < people:
        line = client.line()
        assert line, lines[-5:]
        ended += line.endswith("> end")
        if line.startswith("<") and not line.endswith("> end"):
            lines.append(line)
    return lines


# -- Redis's own programs --


@contextmanager
def swapping(server: Server, path: Any) -> Iterator[list[int]]:
    """Push and roll back while the block runs, ``SWAPS`` times at most; the exit codes."""
    ended = threading.Event()
    codes: list[int] = []
    refused: list[Answer] = []

    def swap() -> None:
        while (not ended.is_set() and len(codes) < SWAPS) or len(codes) % 2:
            words = ("rollback", "--allow-lossy") if len(codes) % 2 else ("push", path)
            answer = server.netswap(*words)
            codes.append(answer.code)
            refused.extend([answer] * (answer.code != 0))

    thread = threading.Thread(target=swap, daemon=True)
    thread.start()
    try:
        yield codes
    finally:
        ended.set()
        thread.join(30)
    assert not thread.is_alive()
    assert not refused, (codes, refused)


def cli(server: Server, *words: str) -> str:
    """redis-cli's answer."""
    port = str(server.ports["kv"])
    done = subprocess.run(
        ["redis-cli", "-p", port, *words], capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout.strip()


@needs("redis-cli")
def test_redis_cli_sees_one_store_whatever_worker_it_meets(server: Server) -> None:
    """Every connection sees what every other has written, also after a swap and back."""
    cli(server, "FLUSHALL")
    for number in range(8):
        assert cli(server, "SET", f"key:{number}", str(number)) == "OK"
    assert cli(server, "DBSIZE") == "8"
    server.push(PROTOCOLS / "kv/v2.py")
    assert [cli(server, "GET", f"key:{n}") for n in range(8)] == list("01234567")
    lasts = lasting(100)
    assert cli(server, "EXPIRE", "key:0", "100") == "1"
    server.rollback()
    assert lasts(int(cli(server, "TTL", "key:0")))
    assert cli(server, "DBSIZE") == "8"


@needs("redis-benchmark")
@pytest.mark.parametrize("pipeline", ["1", "16"])
def test_the_whole_default_suite_of_redis_benchmark(server: Server, pipeline: str) -> None:
    """All of its tests, PING_INLINE too, through pushes and rollbacks, without an error."""
    port = str(server.ports["kv"])
    words = ["redis-benchmark", "-p", port, "-n", "2000", "-c", "20", "-P", pipeline, "--csv"]
    with swapping(server, PROTOCOLS / "kv/v2.py") as codes:
        done = subprocess.run(words, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done
    assert "rror" not in done.stdout + done.stderr.replace(
        "WARNING: Could not fetch server CONFIG", ""
    )
    names = [line.split('","')[0].strip('"') for line in done.stdout.splitlines()[1:]]
    assert {"PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "LPUSH", "MSET (10 keys)"} <= {
        *names
    }
    assert len(names) >= 17
    assert len(codes) >= 2


def test_the_redis_package_through_swaps(server: Server) -> None:
    """Pipelines and counters over several connections: what was counted is what was asked."""
    threads, rounds = 4, 60

    def count() -> None:
        with redis.Redis(port=server.ports["kv"], socket_timeout=20) as client:
            for number in range(rounds):
                with client.pipeline(transaction=False) as pipe:
                    pipe.incr("counter").rpush("list", number).set("last", number, ex=100)
                    done.append(len(pipe.execute()))

    done: list[int] = []
    with redis.Redis(port=server.ports["kv"], socket_timeout=20) as client:
        client.flushall()
        lasts = lasting(100)
        with swapping(server, PROTOCOLS / "kv/v2.py") as codes:
            until(lambda: codes, "the first push")
            runs = [threading.Thread(target=count) for _ in range(threads)]
            for run in runs:
                run.start()
            for run in runs:
                run.join(40)
        assert done == [3] * threads * rounds
        assert client.get("counter") == str(threads * rounds).encode()
        assert client.llen("list") == threads * rounds
        assert lasts(client.ttl("last"))


# -- checked load --


@pytest.mark.parametrize("protocol", ["verify", "echo", "kv"])
def test_checked_load_finds_no_fault_in_a_push_and_a_rollback(
    server: Server, protocol: str
) -> None:
    """Nothing lost, doubled, reordered or wrongly carried, and both versions have answered."""
    kind = f"{protocol}.connection"
    words = ("load", "run", "--protocol", protocol, "--port", server.ports[protocol],
             "--connections", 100, "--rate", 1500, "--duration", "10m")  # fmt: skip
    with server.starts(*words) as load:
        until(lambda: server.kinds()[kind]["objects"] >= 100, "all are connected")
        server.push(PROTOCOLS / protocol / "v2.py")
        assert server.kinds()[kind]["version"] == 2
        server.rollback()
        load.send_signal(signal.SIGTERM)
        out, err = load.communicate(timeout=60)
    assert out, err
    report = json.loads(out)
    assert_faultless(load.returncode, report)
    if protocol == "verify":
        assert set(report["by_version"]) == {"1", "2"}
    assert server.kinds()[kind]["version"] == 1


# -- the home of what must be one --


@pytest.mark.parametrize("version", [1, 2])
def test_the_loss_of_the_home_worker_disconnects_nobody_else(
    make_server: Make, version: int
) -> None:
    """Who is on another worker stays connected, is told what failed, and is served again."""
    server = make_server(("kv", "chat"))
    if version == 2:
        server.push(PROTOCOLS / "kv/v2.py", PROTOCOLS / "chat/v2.py")
    with ExitStack() as stack:
        store, chat = (_on_worker(server, stack, name, 1) for name in ("kv", "chat"))
        store.send(b"SET a 1\r\n")
        assert store.line() == "+OK\r"
        chat.send(b"/nick ann\n")
        while "ann" not in chat.line():
            pass
        home = server.workers()[0]["pid"]
        with Process(home) as worker:
            worker.kill()
            worker.wait_ended()
        store.send(b"SET a 2\r\n")
        assert store.line()[0] in "+-"
        server.wait_serving(without=[home])
        until(lambda: _set(store) == "+OK\r", "the store is back")
        chat.send(b"anybody there?\n")
        while chat.line() != "<ann> anybody there?":
            pass


def _on_worker(server: Server, stack: ExitStack, protocol: str, slot: int) -> Client:
    """A client that this worker serves."""
    for _ in range(50):
        client = stack.enter_context(server.client(protocol))
        if server.object_of(client, f"{protocol}.connection")["id"].startswith(f"{slot}."):
            return client
    raise AssertionError("the kernel gives all connections to the other worker")


def _set(store: Client) -> str:
    store.send(b"SET a 3\r\n")
    return store.line()
