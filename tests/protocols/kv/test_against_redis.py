"""The same random commands for Debian's redis-server and for each version, reply for reply."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.kv import v1, v2

from .conftest import World, encode

REDIS = shutil.which("redis-server")
pytestmark = pytest.mark.skipif(
    REDIS is None, reason="redis-server is not installed: nothing to compare the replies with"
)

key = st.sampled_from(["a", "b", "c"])
member = st.sampled_from(["x", "y", "z", "", "10"])
value = st.one_of(member, st.sampled_from(["1", "-7", "007", "1.5", "text", "9" * 18]))
small = st.integers(-4, 4).map(str)
number = st.one_of(small, st.just("x"))
amount = st.one_of(st.integers(-2, 500).map(str), st.sampled_from(["x", "9223372036854775807"]))
score = st.sampled_from(["0", "1", "1.5", "-2", "0.25", "inf", "-inf", "x", "1e3"])
edge = st.one_of(score, score.map("({}".format))
count = st.one_of(st.none(), number)


def command(name: str, *parts: Any) -> st.SearchStrategy[list[str]]:
    """A command; parts that are lists are spread, and None is left out."""

    def flat(drawn: tuple[Any, ...]) -> list[str]:
        words = [name]
        for part in drawn:
            words += part if isinstance(part, list) else [] if part is None else [part]
        return words

    return st.tuples(*parts).map(flat)


def some(*parts: Any) -> st.SearchStrategy[list[str]]:
    """One to three groups of words."""
    group = st.tuples(*parts).map(list)
    return st.lists(group, min_size=1, max_size=3).map(lambda groups: sum(groups, []))


unit = st.sampled_from(["EX", "PX", "EXAT", "ex"])
options = st.lists(
    st.one_of(
        st.sampled_from([["NX"], ["XX"], ["GET"], ["KEEPTTL"], ["what"]]),
        st.tuples(unit, st.sampled_from(["100", "0", "x", "5000000000"])).map(list),
    ),
    max_size=2,
).map(lambda groups: sum(groups, []))

BOTH = [
    command("GET", key), command("SET", key, value), command("SET", key, value, options),
    command("SETNX", key, value), command("SETEX", key, amount, value),
    command("GETSET", key, value), command("GETDEL", key), command("MGET", some(key)),
    command("MSET", some(key, value)), command("MSET", some(key)), command("APPEND", key, value),
    command("STRLEN", key), command("INCR", key), command("DECR", key),
    command("INCRBY", key, number), command("DECRBY", key, number),
    command("DEL", some(key)), command("EXISTS", some(key)), command("TYPE", key),
    command("RENAME", key, key), command("EXPIRE", key, amount), command("TTL", key),
    command("EXPIREAT", key, st.sampled_from(["1", "5000000000", "x"])),
    command("PERSIST", key), command("DBSIZE"), command("PING", count), command("ECHO", value),
    command("LPUSH", key, some(value)), command("RPUSH", key, some(value)),
    command("LPOP", key, count), command("RPOP", key, count), command("LLEN", key),
    command("LRANGE", key, number, number), command("LINDEX", key, number),
    command("SADD", key, some(member)), command("SREM", key, some(member)),
    command("SMEMBERS", key), command("SISMEMBER", key, member), command("SCARD", key),
    command("HSET", key, some(member, value)), command("HSET", key, some(member)),
    command("HGET", key, member), command("HMGET", key, some(member)),
    command("HDEL", key, some(member)), command("HGETALL", key), command("HLEN", key),
    command("HEXISTS", key, member), command("ZADD", key, some(score, member)),
    command("ZREM", key, some(member)), command("ZSCORE", key, member), command("ZCARD", key),
    command("ZPOPMIN", key, count), command("ZRANGE", key, number, number),
    command("ZRANGE", key, small, small, st.sampled_from(["WITHSCORES", "withscores", "what"])),
]  # fmt: skip

ONLY_2 = [
    command("INCRBY", key, st.sampled_from(["9223372036854775807", "-9223372036854775808"])),
    command("GETRANGE", key, number, number), command("SETRANGE", key, number, value),
    command("GETEX", key, st.sampled_from([None, ["EX", "100"], ["PERSIST"], ["EX", "0"]])),
    command("MSETNX", some(key, value)), command("COPY", key, key),
    command("COPY", key, key, st.just("REPLACE")), command("SINTER", some(key)),
    command("SUNION", some(key)), command("SDIFF", some(key)),
    command("HINCRBY", key, member, number), command("HKEYS", key), command("HVALS", key),
    command("LSET", key, number, value), command("LREM", key, number, value),
    command("ZRANGEBYSCORE", key, edge, edge),
    command("ZRANGEBYSCORE", key, edge, edge, st.just(["WITHSCORES", "LIMIT", "1", "2"])),
    command("EXPIRETIME", key),
    command("INCRBYFLOAT", key, st.sampled_from(["0.5", "-1.25", "3", "x", "1e2"])),
]  # fmt: skip

UNORDERED = {"SMEMBERS", "SINTER", "SUNION", "SDIFF", "HKEYS", "HVALS", "HGETALL"}


class Redis:
    """A redis-server of our own, by a socket in a folder of our own."""

    def __init__(self, folder: Path) -> None:
        path = str(folder / "redis")
        arguments = ["--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(
            [str(REDIS), *arguments, "--dir", str(folder)], stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        while b"eady to accept connections" not in (line := self.process.stdout.readline()):
            assert line, "redis-server ended at once"
        while b"unix" not in line and not Path(path).exists():
            line = self.process.stdout.readline()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)

    def __call__(self, words: list[str]) -> Any:
        self.socket.sendall(encode(*words))
        reader = hiredis.Reader()
        while (reply := reader.gets()) is False:
            reader.feed(self.socket.recv(65_536))
        return reply

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    """One server for the module, started before any test's descriptors are counted."""
    with tempfile.TemporaryDirectory() as folder:
        server = Redis(Path(folder))
        yield server
        server.close()


def parsed(raw: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(raw)
    return reader.gets()


def plain(words: list[str], reply: Any) -> Any:
    """A reply that can be compared: errors by their text, sets without their order."""
    if isinstance(reply, hiredis.ReplyError):
        return str(reply)
    if isinstance(reply, list) and words[0] == "HGETALL":
        return sorted(zip(reply[::2], reply[1::2], strict=True))
    return sorted(reply) if isinstance(reply, list) and words[0] in UNORDERED else reply


def compare(redis: Redis, module: ModuleType, script: list[list[str]]) -> None:
    world = World()
    world.start(0, module)
    world.clock.ms = int(redis(["TIME"])[0]) * 1000
    redis(["FLUSHALL"])
    for words in script:
        ours = plain(words, parsed(world.store().execute([word.encode() for word in words])))
        theirs = plain(words, redis(words))
        if words[0] == "TTL" and theirs > 0:  # their clock goes on
            assert theirs <= ours <= theirs + 5, words
        else:
            assert ours == theirs, words


@settings(max_examples=150)
@given(script=st.lists(st.one_of(BOTH), max_size=40))
def test_version_1_replies_as_redis(redis: Redis, script: list[list[str]]) -> None:
    """Any sequence of version 1's commands has redis's replies (within 64 bits)."""
    compare(redis, v1, script)


@settings(max_examples=150)
@given(script=st.lists(st.one_of(BOTH + ONLY_2), max_size=40))
def test_version_2_replies_as_redis(redis: Redis, script: list[list[str]]) -> None:
    """Any sequence of version 2's commands has redis's replies."""
    compare(redis, v2, script)
