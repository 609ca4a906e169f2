"""kv with its users' own tools: redis-cli, redis-benchmark and the redis package."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from tests.system.conftest import Make
from tests.system.harness import ROOT, Process, Server, lasting, until

V2 = ROOT / "protocols" / "kv" / "v2.py"

SUITE = [
    "PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "LPUSH", "RPUSH", "LPOP", "RPOP", "SADD",
    "HSET", "SPOP", "ZADD", "ZPOPMIN", "LPUSH (needed to benchmark LRANGE)",
    "LRANGE_100 (first 100 elements)", "LRANGE_300 (first 300 elements)",
    "LRANGE_500 (first 500 elements)", "LRANGE_600 (first 600 elements)", "MSET (10 keys)",
]  # fmt: skip


def tool(name: str) -> str:
    """The path of one of redis's tools; without it the test is skipped."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (Debian: redis-tools)")
    return path


@pytest.fixture(scope="module")
def served(make_shared_server: Make) -> Server:
    """Two workers that serve kv, version 1 at first."""
    return make_shared_server(("kv",), "--workers", "2")


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def server(served: Server, request: pytest.FixtureRequest) -> Iterator[Server]:
    """The server with each version in turn."""
    if request.param == 2:
        served.push(V2)
    yield served
    if request.param == 2:
        served.rollback()
    assert served.errors() == []


def benchmark(server: Server, *options: object) -> subprocess.Popen[str]:
    """A redis-benchmark that runs against ``server``."""
    words = [tool("redis-benchmark"), "-p", str(server.ports["kv"]), "-q", *map(str, options)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def measured(process: subprocess.Popen[str]) -> list[str]:
    """The names of the measurements that redis-benchmark has made without an error."""
    out, _ = process.communicate(timeout=50)
    assert process.returncode == 0, out
    assert "rror" not in out, out
    return re.findall(r"^\s*(.+): [\d.]+ requests per second", out.replace("\r", "\n"), re.M)


def test_the_whole_default_suite_of_redis_benchmark(server: Server) -> None:
    """Every one of redis-benchmark's default measurements runs, inline commands too."""
    assert measured(benchmark(server, "-n", 500, "-c", 20)) == SUITE
    assert measured(benchmark(server, "-n", 2000, "-c", 20, "-P", 16)) == SUITE


def test_redis_cli(server: Server) -> None:
    """redis-cli sends commands, reads every type of reply and scans."""
    script = "set k v\nget k\nincr n\nlpush l a b\nlrange l 0 -1\nget l\nnothing\n"
    done = subprocess.run(
        [tool("redis-cli"), "-p", str(server.ports["kv"])],
        input="flushall\n" + script, capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line]
    assert lines[:7] == ["OK", "OK", "v", "1", "2", "b", "a"]
    assert lines[7].startswith("WRONGTYPE")
    assert lines[8].startswith("ERR unknown command 'nothing'")


@pytest.mark.parametrize("protocol", [None, 2, 3])
def test_the_redis_package(server: Server, protocol: int | None) -> None:
    """The Python client works as it comes, and with each of its protocols."""
    options: dict[str, Any] = {} if protocol is None else {"protocol": protocol}
    with redis.Redis(port=server.ports["kv"], decode_responses=True, **options) as client:
        client.flushall()
        lasts = lasting(100)
        assert client.set("k", "v", ex=100)
        assert lasts(client.ttl("k"))
        assert client.mget("k", "none") == ["v", None]
        client.hset("h", mapping={"f": "1", "g": "2"})
        assert client.hgetall("h") == {"f": "1", "g": "2"}
        client.sadd("s", "a", "b")
        assert client.smembers("s") == {"a", "b"}
        client.zadd("z", {"m": 1.5})
        assert client.zscore("z", "m") == 1.5
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            client.get("h")
        pipeline = client.pipeline(transaction=False)
        for number in range(3000):
            pipeline.set(f"key:{number}", number)
        assert pipeline.execute() == [True] * 3000
        assert sorted(client.keys("key:1?")) == [f"key:1{digit}" for digit in range(10)]
        assert len(client.keys()) == 3004


@pytest.mark.parametrize("pipelined", [1, 16])
def test_counts_add_up_while_versions_change(served: Server, pipelined: int) -> None:
    """Under load, pushes and rollbacks lose no command and repeat none."""
    with redis.Redis(port=served.ports["kv"]) as client:
        client.flushall()
        count = 20_000 * (1 if pipelined == 1 else 8)
        load = benchmark(
            served, "-c", 20, "-n", count, "-t", "incr,lpush", "-P", pipelined, "--threads", 1
        )
        swaps = 0
        while load.poll() is None:
            served.push(V2)
            served.rollback()
            swaps += 1
        assert swaps
        assert measured(load) == ["INCR", "LPUSH"]
        assert client.get("counter:__rand_int__") == b"%d" % count
        assert client.llen("mylist") == count


def test_a_deadline_passes_in_time_over_swaps(served: Server) -> None:
    """A key lives as long as it was told to, whatever versions it lives in."""
    with redis.Redis(port=served.ports["kv"]) as client:
        lasts = lasting(1000)
        client.set("long", "v", ex=1000)
        client.set("short", "v", px=1500)
        served.push(V2)
        served.rollback()
        assert lasts(client.ttl("long"))
        until(lambda: client.exists("short") == 0, "the short deadline has passed")
        assert client.exists("long")


def test_the_store_is_there_again_after_its_worker_died(make_server: Make) -> None:
    """Clients of the other worker get errors, not silence, then the successor's empty store."""
    server = make_server(("kv",), "--workers", "2")
    port = server.ports["kv"]
    home = next(row["pid"] for row in server.workers() if row["id"] == 0)
    clients = [redis.Redis(port=port, single_connection_client=True) for _ in range(8)]

    def answered() -> bool:
        for client in clients:
            try:
                client.set("k", "v")
            except redis.RedisError:
                return False
        return True

    assert answered()
    with Process(home) as process:
        process.kill()
        process.wait_ended()
    until(answered, "every client is served again")
    for client in clients:
        assert client.get("k") == b"v"
        client.close()


def test_large_answers_are_the_same_from_every_worker(served: Server) -> None:
    """Pipelined answers of a megabyte each arrive whole, whichever worker accepted the client."""
    value = bytes(range(256)) * 4096
    clients = [redis.Redis(port=served.ports["kv"]) for _ in range(6)]
    clients[0].set("large", value)
    pipelines = [client.pipeline(transaction=False) for client in clients]
    for pipeline in pipelines:
        for _ in range(12):
            pipeline.get("large")
    with ThreadPoolExecutor(len(pipelines)) as pool:
        for answers in pool.map(lambda pipeline: pipeline.execute(), pipelines):
            assert all(answer == value for answer in answers)
            assert len(answers) == 12
    clients[0].delete("large")
    for client in clients:
        client.close()
