"""Every command against redis's own replies: scripts of ``command -> reply`` on a fresh store."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from .conftest import START_MS, World, words

WRONGTYPE = "-WRONGTYPE Operation against a key holding the wrong kind of value"
NOT_INTEGER = "-ERR value is not an integer or out of range"

BOTH = """
PING -> +PONG
PING hi -> $hi
ping -> +PONG
PiNg -> +PONG
PING a b -> -ERR wrong number of arguments for 'ping' command
ECHO hi -> $hi
DBSIZE -> :0

GET k -> nil
SET k v -> +OK
GET k -> $v
GET -> -ERR wrong number of arguments for 'get' command
GET a b -> -ERR wrong number of arguments for 'get' command
get -> -ERR wrong number of arguments for 'get' command
STRLEN k -> :1
STRLEN none -> :0
APPEND k w -> :2
APPEND new w -> :1
GETSET k x -> $vw
GETSET fresh x -> nil
GETDEL k -> $x
GETDEL k -> nil
SETNX k 1 -> :1
SETNX k 2 -> :0
MSET a 1 b 2 -> +OK
MSET a 1 b -> -ERR wrong number of arguments for 'mset' command
MGET a b none -> *[1 2 nil]
LPUSH list x -> :1
MGET a list -> *[1 nil]
GET list -> {wrong}
STRLEN list -> {wrong}
APPEND list x -> {wrong}
GETSET list x -> {wrong}
GETDEL list -> {wrong}
SET list x GET -> {wrong}
SET list x -> +OK
GET list -> $x

SET k v NX -> +OK
SET k w NX -> nil
SET none w XX -> nil
SET k w XX -> +OK
SET k x GET -> $w
SET none x GET -> nil
SET k y NX GET -> $x
GET k -> $x
SET k v NX XX -> -ERR syntax error
SET k v EX -> -ERR syntax error
SET k v what -> -ERR syntax error
SET k v EX 10 PX 10 -> -ERR syntax error
SET k v EX 10 KEEPTTL -> -ERR syntax error
SET k v EX ten -> {integer}
SET k v EX 0 -> -ERR invalid expire time in 'set' command
SET k v PX -1 -> -ERR invalid expire time in 'set' command
SET k v EX 9223372036854775807 -> -ERR invalid expire time in 'set' command
SETEX k 0 v -> -ERR invalid expire time in 'setex' command
PSETEX k x v -> {integer}

INCR n -> :1
INCR n -> :2
INCRBY n 40 -> :42
DECR n -> :41
DECRBY n 41 -> :0
DECRBY n 1 -> :-1
GET n -> $-1
SET n 010 -> +OK
INCR n -> {integer}
SET n +1 -> +OK
INCR n -> {integer}
SET n -0 -> +OK
INCR n -> {integer}
SET n 1_0 -> +OK
INCR n -> {integer}
SET n 1.5 -> +OK
INCR n -> {integer}
INCRBY n x -> {integer}
INCRBY n 9223372036854775808 -> {integer}
RPUSH l x -> :1
INCR l -> {wrong}

SET a 1 -> +OK
EXISTS a a none -> :2
TYPE a -> +string
TYPE none -> +none
DEL a a none -> :1
UNLINK a -> :0
SET a 1 -> +OK
RENAME a b -> +OK
RENAME a b -> -ERR no such key
GET b -> $1
RENAME b b -> +OK
GET b -> $1
RANDOMKEY -> $b
DBSIZE -> :1
FLUSHALL -> +OK
DBSIZE -> :0
RANDOMKEY -> nil

SET k v EX 100 -> +OK
TTL k -> :100
PTTL k -> :100000
PERSIST k -> :1
PERSIST k -> :0
TTL k -> :-1
TTL none -> :-2
PTTL none -> :-2
EXPIRE none 10 -> :0
EXPIRE k 10 -> :1
SET k v KEEPTTL -> +OK
TTL k -> :10
RENAME k r -> +OK
TTL r -> :10
TTL k -> :-2
SET r v -> +OK
TTL r -> :-1
EXPIRE r 10 -> :1
MSET r v -> +OK
TTL r -> :-1
EXPIRE r 10 -> :1
GETSET r w -> $v
TTL r -> :-1
PEXPIRE r 1500 -> :1
PTTL r -> :1500
TTL r -> :2
APPEND r x -> :2
PTTL r -> :1500
EXPIREAT r 1700000050 -> :1
TTL r -> :50
PEXPIREAT r 1700000050500 -> :1
PTTL r -> :50500
EXPIRE r x -> {integer}
EXPIRE r 9223372036854775807 -> -ERR invalid expire time in 'expire' command
EXPIRE r -1 -> :1
EXISTS r -> :0
SETEX s 7 v -> +OK
TTL s -> :7
PSETEX s 700 v -> +OK
PTTL s -> :700
SET s v EXAT 1700000009 -> +OK
TTL s -> :9
SET s v PXAT 1700000000900 -> +OK
PTTL s -> :900
EXPIREAT s 1 -> :1
DBSIZE -> :0

RPUSH l a b c -> :3
LPUSH l z y -> :5
LLEN l -> :5
LRANGE l 0 -1 -> *[y z a b c]
LRANGE l 1 2 -> *[z a]
LRANGE l -2 -1 -> *[b c]
LRANGE l 3 1 -> *[]
LRANGE l -100 100 -> *[y z a b c]
LRANGE l 9 10 -> *[]
LRANGE none 0 -1 -> *[]
LRANGE l a 1 -> {integer}
LINDEX l 0 -> $y
LINDEX l -1 -> $c
LINDEX l 5 -> nil
LINDEX l x -> {integer}
LINDEX none x -> nil
LPOP l -> $y
RPOP l -> $c
LPOP l 2 -> *[z a]
LPOP l 0 -> *[]
RPOP l 9 -> *[b]
TYPE l -> +none
LPOP l -> nil
LPOP l 1 -> *nil
LPOP l -1 -> -ERR value is out of range, must be positive
LPOP l x -> -ERR value is out of range, must be positive
LLEN l -> :0
SET s x -> +OK
LPUSH s x -> {wrong}
LPOP s -> {wrong}
LLEN s -> {wrong}
LRANGE s 0 1 -> {wrong}
LINDEX s 0 -> {wrong}
TYPE s -> +string

SADD s a b a -> :2
SADD s b c -> :1
SCARD s -> :3
SISMEMBER s a -> :1
SISMEMBER s x -> :0
SISMEMBER none x -> :0
SREM s a x -> :1
SREM s b -> :1
SMEMBERS s -> *[c]
SPOP s -> $c
SPOP s -> nil
SPOP s 2 -> *[]
EXISTS s -> :0
SADD s a -> :1
SPOP s 0 -> *[]
SPOP s 5 -> *[a]
SMEMBERS s -> *[]
SCARD s -> :0
SREM s a -> :0
SADD s a -> :1
GET s -> {wrong}
HGET s a -> {wrong}
SPOP s -1 -> -ERR value is out of range, must be positive
TYPE s -> +set

HSET h f 1 g 2 -> :2
HSET h f 3 -> :0
HSET h f -> -ERR wrong number of arguments for 'hset' command
HSET h f 1 g -> -ERR wrong number of arguments for 'hset' command
HMSET h x 1 -> +OK
HGET h f -> $3
HGET h none -> nil
HGET none f -> nil
HMGET h f none g -> *[3 nil 2]
HMGET none f g -> *[nil nil]
HGETALL h -> *[f 3 g 2 x 1]
HGETALL none -> *[]
HLEN h -> :3
HLEN none -> :0
HEXISTS h f -> :1
HEXISTS h z -> :0
HDEL h f z -> :1
HDEL h g x -> :2
EXISTS h -> :0
HDEL h g -> :0
HSET h f v -> :1
TYPE h -> +hash
LPUSH h x -> {wrong}
HMGET h f -> *[v]

ZADD z 1 a 2 b -> :2
ZADD z 3 a 3 c -> :1
ZADD z 3 -> -ERR wrong number of arguments for 'zadd' command
ZADD z x a -> -ERR value is not a valid float
ZADD z nan a -> -ERR value is not a valid float
ZADD z 1_0 a -> -ERR value is not a valid float
ZCARD z -> :3
ZCARD none -> :0
ZSCORE z a -> $3
ZSCORE z none -> nil
ZSCORE none a -> nil
ZRANGE z 0 -1 -> *[b a c]
ZRANGE z 0 -1 WITHSCORES -> *[b 2 a 3 c 3]
ZRANGE z 1 1 -> *[a]
ZRANGE z 5 9 -> *[]
ZRANGE z 0 -1 WHAT -> -ERR syntax error
ZRANGE z 0 x -> {integer}
ZRANGE none 0 -1 -> *[]
ZADD z 1.5 b -inf d inf e -> :2
ZRANGE z 0 -1 WITHSCORES -> *[d -inf b 1.5 a 3 c 3 e inf]
ZPOPMIN z -> *[d -inf]
ZPOPMIN z 2 -> *[b 1.5 a 3]
ZREM z c x -> :1
ZRANGE z 0 -1 -> *[e]
ZPOPMIN z 0 -> *[]
ZPOPMIN z -1 -> -ERR value is out of range, must be positive
ZPOPMIN z 9 -> *[e inf]
EXISTS z -> :0
ZPOPMIN z -> *[]
ZREM z a -> :0
ZADD z 1 a -> :1
TYPE z -> +zset
GET z -> {wrong}
ZADD s 1 a -> :1
SADD z a -> {wrong}
ZREM z a -> :1
EXISTS z -> :0

CONFIG GET save -> *[save '']
CONFIG GET appendonly -> *[appendonly no]
CONFIG GET nothing -> *[]
COMMAND DOCS -> *[]
COMMAND -> *[]
FLUSHDB ASYNC -> +OK
"""

ONLY_2 = """
INCR n -> :1
SET n 9223372036854775807 -> +OK
INCR n -> -ERR increment or decrement would overflow
INCRBY n 1 -> -ERR increment or decrement would overflow
GET n -> $9223372036854775807
DECR n -> :9223372036854775806
SET n -9223372036854775808 -> +OK
DECR n -> -ERR increment or decrement would overflow
INCRBY n -9223372036854775808 -> -ERR increment or decrement would overflow
DECRBY n -9223372036854775808 -> -ERR decrement would overflow
INCR n -> :-9223372036854775807
SET n 9223372036854775808 -> +OK
INCR n -> {integer}
SET n -9223372036854775809 -> +OK
INCR n -> {integer}

SET s Hello -> +OK
GETRANGE s 0 -1 -> $Hello
GETRANGE s 1 3 -> $ell
GETRANGE s -3 -1 -> $llo
GETRANGE s -1 -3 -> $''
GETRANGE s -100 -100 -> $H
GETRANGE s 0 -100 -> $H
GETRANGE s 9 10 -> $''
GETRANGE none 0 1 -> $''
GETRANGE s a 1 -> {integer}
SETRANGE s 1 ipp -> :5
GET s -> $Hippo
SETRANGE s 6 x -> :7
STRLEN s -> :7
SETRANGE s -1 x -> -ERR offset is out of range
SETRANGE none 5 '' -> :0
EXISTS none -> :0
SETRANGE s 536870911 xx -> -ERR string exceeds maximum allowed size (512MB)

SET f 0.1 -> +OK
INCRBYFLOAT f 0.2 -> $0.3
INCRBYFLOAT f -0.3 -> $0
INCRBYFLOAT f 3.0e2 -> $300
INCRBYFLOAT f x -> -ERR value is not a valid float
INCRBYFLOAT f inf -> -ERR increment would produce NaN or Infinity
INCRBYFLOAT new 1.5 -> $1.5

SET g v EX 100 -> +OK
GETEX g -> $v
TTL g -> :100
GETEX g PERSIST -> $v
TTL g -> :-1
GETEX g EX 50 -> $v
TTL g -> :50
EXPIRETIME g -> :1700000050
PEXPIRETIME g -> :1700000050000
EXPIRETIME none -> :-2
GETEX g EX 0 -> -ERR invalid expire time in 'getex' command
GETEX g WHAT -> -ERR syntax error
GETEX none EX 5 -> nil

MSETNX a 1 b 2 -> :1
MSETNX b 3 c 4 -> :0
GET c -> nil
MSETNX a 1 b -> -ERR wrong number of arguments for 'msetnx' command

SADD x a b c -> :3
SADD y b c d -> :3
SINTER x none -> *[]
SDIFF x y -> *[a]
SDIFF none x -> *[]
SADD q c -> :1
SINTER x y q -> *[c]
SUNION q none -> *[c]
SET str v -> +OK
SINTER x str -> {wrong}

HINCRBY h n 5 -> :5
HINCRBY h n -7 -> :-2
HSET h t x -> :1
HINCRBY h t 1 -> -ERR hash value is not an integer
HINCRBY h n x -> {integer}
HKEYS h -> *[n t]
HVALS h -> *[-2 x]
HINCRBY h n -9223372036854775807 -> -ERR increment or decrement would overflow

ZADD z 1 a 2 b 2 c 3 d -> :4
ZRANGEBYSCORE z 2 3 -> *[b c d]
ZRANGEBYSCORE z (2 3 -> *[d]
ZRANGEBYSCORE z 1 (2 -> *[a]
ZRANGEBYSCORE z -inf +inf -> *[a b c d]
ZRANGEBYSCORE z (1 (2 -> *[]
ZRANGEBYSCORE z 2 2 WITHSCORES -> *[b 2 c 2]
ZRANGEBYSCORE z 1 3 LIMIT 1 2 -> *[b c]
ZRANGEBYSCORE z 1 3 WITHSCORES LIMIT 1 1 -> *[b 2]
ZRANGEBYSCORE z 1 3 LIMIT 2 -1 -> *[c d]
ZRANGEBYSCORE z 3 1 -> *[]
ZRANGEBYSCORE z a 1 -> -ERR min or max is not a float
ZRANGEBYSCORE z 1 3 LIMIT 1 -> -ERR syntax error
ZRANGEBYSCORE none 1 3 -> *[]

RPUSH l a b a c a -> :5
LSET l 1 B -> +OK
LSET l -1 A -> +OK
LSET l 9 x -> -ERR index out of range
LSET none 0 x -> -ERR no such key
LRANGE l 0 -1 -> *[a B a c A]
LREM l 1 a -> :1
LRANGE l 0 -1 -> *[B a c A]
RPUSH l a -> :5
LREM l -1 a -> :1
LRANGE l 0 -1 -> *[B a c A]
LREM l 0 a -> :1
LREM l 0 none -> :0
LREM l 0 B -> :1
LREM l 0 c -> :1
LREM l 0 A -> :1
EXISTS l -> :0

SET c 1 EX 10 -> +OK
COPY c d -> :1
COPY c d -> :0
COPY c d REPLACE -> :1
COPY none d -> :0
COPY c c -> -ERR source and destination objects are the same
TTL d -> :10
RPUSH l x -> :1
COPY l m -> :1
RPUSH m y -> :2
LRANGE l 0 -1 -> *[x]
OBJECT ENCODING c -> $int
OBJECT ENCODING l -> $quicklist
OBJECT ENCODING none -> nil
SET c hello -> +OK
OBJECT ENCODING c -> $embstr
OBJECT WHAT c -> -ERR unknown subcommand 'WHAT'. Try OBJECT HELP.

FLUSHALL -> +OK
SCAN 0 -> *[0 []]
SET a 1 -> +OK
SCAN 0 -> *[0 [a]]
SCAN 0 MATCH b* -> *[0 []]
SCAN 0 TYPE string -> *[0 [a]]
SCAN 0 TYPE list -> *[0 []]
SCAN 0 COUNT 0 -> -ERR syntax error
SCAN 0 COUNT x -> {integer}
SCAN 0 MATCH -> -ERR syntax error
SCAN x -> -ERR invalid cursor
SCAN 12345 -> -ERR invalid cursor
"""


def blocks(script: str) -> list[str]:
    """The paragraphs of a script: each runs on a store of its own."""
    script = script.replace("{wrong}", WRONGTYPE).replace("{integer}", NOT_INTEGER)
    return [block.strip() for block in script.split("\n\n")]


def reply(text: str) -> bytes:
    """``$x``, ``*[a b]``, ``nil`` and lines as they are, as RESP2."""
    if text in ("nil", "*nil"):
        return b"$-1\r\n" if text == "nil" else b"*-1\r\n"
    if text.startswith("$"):
        return bulk(text[1:])
    if text.startswith("*["):
        return array(text[2:-1])
    return text.encode() + b"\r\n"


def bulk(text: str) -> bytes:
    raw = b"" if text == "''" else text.encode()
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def array(inside: str) -> bytes:
    head, bracket, nested = inside.partition("[")
    parts = [b"$-1\r\n" if word == "nil" else bulk(word) for word in head.split()]
    if bracket:
        parts.append(array(nested[:-1]))
    return b"*%d\r\n" % len(parts) + b"".join(parts)


def run(store: Any, block: str) -> None:
    for line in block.splitlines():
        command, _, expected = line.partition(" -> ")
        assert store.execute(words(command)) == reply(expected), line


@pytest.mark.parametrize("block", blocks(BOTH), ids=lambda block: block.splitlines()[0])
def test_commands_reply_as_redis_does(store: Any, block: str) -> None:
    """Both versions give redis's reply, byte for byte."""
    run(store, block)


@pytest.mark.parametrize("block", blocks(ONLY_2), ids=lambda block: block.splitlines()[0])
def test_what_version_2_adds_replies_as_redis_does(world: World, block: str) -> None:
    """The new commands and the mended ones give redis's reply, byte for byte."""
    from protocols.kv import v2

    world.start(0, v2)
    run(world.store(), block)


def test_what_version_1_counts_goes_beyond_64_bits(world: World) -> None:
    """The known fault of version 1 is there, so that the swap has something to mend."""
    store = world.store()
    store.execute(words("SET n 9223372036854775807"))
    assert store.execute(words("INCR n")) == b":9223372036854775808\r\n"


def test_a_key_dies_when_it_is_looked_at(store: Any, world: World) -> None:
    """No command sees a key whose deadline has passed, whether the sweep has been there or not."""
    store.execute(words("SET k v PX 1000"))
    world.clock.ms += 999
    assert store.execute(words("PTTL k")) == b":1\r\n"
    world.clock.ms += 1
    for command in ("GET k", "TTL k", "EXISTS k", "TYPE k", "DEL k", "PERSIST k"):
        store.execute(words("SET k v PX 1000"))
        world.clock.ms += 1000
        assert store.execute(words(command)) in (b"$-1\r\n", b":-2\r\n", b":0\r\n", b"+none\r\n")
    assert store.keys(b"*") == b"*0\r\n"


def test_keys_that_nobody_looks_at_die_too(store: Any, world: World) -> None:
    """The sweep frees what is due, leaves what is not, and goes on while there are deadlines."""
    for number in range(50):
        store.execute(words(f"SET k{number} v PX {1000 + number * 100}"))
    store.execute(words("SET stays v"))
    world.clock.ms += 3_000
    world.timers.fire()
    world.turns.all()
    assert 20 <= len(store.state.data) <= 40
    world.clock.ms += 10_000
    world.timers.fire()
    world.turns.all()
    assert list(store.state.data) == [b"stays"]
    assert not world.timers.armed


def test_a_deadline_that_is_moved_or_taken_away_is_not_swept(store: Any, world: World) -> None:
    """Only the last deadline of a key counts."""
    for command in ("SET a v EX 1", "SET b v EX 1", "SET c v EX 1", "SET d v EX 1"):
        store.execute(words(command))
    for command in ("EXPIRE a 100", "PERSIST b", "SET c w", "RENAME d e"):
        store.execute(words(command))
    world.clock.ms += 5_000
    world.timers.fire()
    world.turns.all()
    assert sorted(store.state.data) == [b"a", b"b", b"c"]
    assert store.execute(words("TTL a")) == b":95\r\n"


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("*", "hello hallo hxllo h*llo a.b"),
        ("h?llo", "hello hallo hxllo h*llo"),
        ("h[ae]llo", "hello hallo"),
        ("h[^e]llo", "hallo hxllo h*llo"),
        ("h[a-f]llo", "hello hallo"),
        (r"h\*llo", "h*llo"),
        ("h*o", "hello hallo hxllo h*llo"),
        ("*l*l*", "hello hallo hxllo h*llo"),
        ("a.b", "a.b"),
        ("hello", "hello"),
        ("h[ae", ""),
        ("h[]llo", ""),
        ("", ""),
    ],
)
def test_patterns_are_redis_globs(kv: ModuleType, pattern: str, matches: str) -> None:
    """KEYS understands ``* ? [ab] [a-c] [^a]`` and the backslash, and nothing else."""
    match = kv.glob(pattern.encode())
    keys = ["hello", "hallo", "hxllo", "h*llo", "a.b"]
    assert [key for key in keys if match(key.encode())] == matches.split()


@pytest.mark.timeout(30)
def test_no_pattern_is_slow(kv: ModuleType) -> None:
    """A pattern made to try every split of a key takes no longer than any other."""
    assert not kv.glob(b"*a" * 30 + b"b")(b"a" * 5000)


def test_time_is_the_wall_clock(store: Any) -> None:
    """TIME gives seconds and microseconds since 1970."""
    expected = b"*2\r\n$10\r\n%d\r\n$1\r\n0\r\n" % (START_MS // 1000)
    assert store.execute(words("TIME")) == expected


def test_info_says_which_version_answers(store: Any, kv: ModuleType) -> None:
    """A swap can be seen from a client."""
    assert b"kv_version:%d\r\n" % kv.Store.version in store.execute(words("INFO"))


def test_unknown_commands_are_left_to_the_connection(store: Any) -> None:
    """The store says None, so that the connection's own commands are found; redis's sentence."""
    assert store.execute(words("WHAT a b")) is None
    assert store.execute_many([words("WHAT a b"), words("PING")]) == (
        b"-ERR unknown command 'WHAT', with args beginning with: 'a' 'b' \r\n+PONG\r\n"
    )
