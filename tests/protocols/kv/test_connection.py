"""The stream: any cut gives the same replies, faults are told as redis does, order is kept."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from protocols.kv import v1, v2

from .conftest import World, encode

TRANSCRIPT = (
    encode("SET", "a", "1")
    + b"PING\r\n"
    + encode("GET", "a")
    + b"\r\n*0\r\n*-1\r\n"
    + encode("SET", "b", b"\r\n*3\r\n$1\r\n> *12345678\r\n")
    + b"set \"c d\" 'x y'\n"
    + encode("GET", "b")
    + encode("GET", "c d")
    + b"*2\r\n+GET\r\n+a\r\n"
    + encode("mget", "a", "c d", "none")
    + encode("WHAT", "is", "this")
    + encode("APPEND", "a", b"\0\xff" * 10)
    + b"   echo   hi   \r\n"
    + encode("CLIENT", "SETNAME", "me")
    + encode("CLIENT", "GETNAME")
    + encode("KEYS", "*")
    + encode("LPUSH", "l", *range(20))
    + encode("LRANGE", "l", 0, -1)
    + encode("QUIT")
    + encode("SET", "a", "after the end")
)

FAULTS = {
    b"*abc\r\n": b"invalid multibulk length",
    b"*1048577\r\n": b"invalid multibulk length",
    b"*99999999999\r\n": b"invalid multibulk length",
    b"*4294967295\r\n": b"invalid multibulk length",
    b"*1\r\n$abc\r\n": b"invalid bulk length",
    b"*1\r\n$-1\r\n": b"invalid bulk length",
    b"*1\r\n$536870913\r\n": b"invalid bulk length",
    b"*2\r\n$3\r\nGET\r\n:1\r\n": b"expected '$', got ':'",
    b"*1\r\n*4294967295\r\n": b"expected '$', got '*'",
    b"*1\r\n>4294967295\r\n": b"expected '$', got '>'",
    b"*1\r\n~4294967295\r\n": b"expected '$', got '~'",
    b"*2\r\n$3\r\nGET\r\n_\r\n": b"expected '$', got '_'",
    b"*2\r\n$3\r\nGET\r\n-ERR\r\n": b"expected '$', got '-'",
    b"*1" + b"0" * 70_000: b"too big mbulk count string",
    b"*1\r\n$1" + b"0" * 70_000: b"too big bulk count string",
    b"x" * 70_000: b"too big inline request",
    b'set a "b\r\n': b"unbalanced quotes in request",
    b"set a 'b\r\n": b"unbalanced quotes in request",
    b'set a "b"c\r\n': b"unbalanced quotes in request",
}


def talk(world: World, chunks: list[bytes], slot: int = 0) -> bytes:
    """What a new client reads that sends these chunks."""
    entry = world.connect(slot)
    wire = entry.target.transport
    for chunk in chunks:
        if chunk and not wire.closed:
            entry.target.data_received(chunk)
            world.turns.one()
    world.turns.all()
    return bytes(wire.out)


def fresh(kv: ModuleType, slots: int = 1) -> World:
    world = World(slots)
    for slot in world.slots:
        world.start(slot, kv)
    return world


def cuts(data: bytes) -> list[list[bytes]]:
    return [[data[:at], data[at:]] for at in range(len(data) + 1)]


@pytest.mark.parametrize("slot", [0, 1], ids=["home", "elsewhere"])
def test_any_cut_gives_the_same_replies(kv: ModuleType, slot: int) -> None:
    """A pipeline of every kind of command, cut at any byte, reads the same; so byte by byte."""
    expected = talk(fresh(kv, 2), [TRANSCRIPT], slot)
    assert expected.startswith(b"+OK\r\n+PONG\r\n$1\r\n1\r\n+OK\r\n+OK\r\n")
    assert expected.endswith(b"$1\r\n1\r\n$1\r\n0\r\n+OK\r\n")
    for chunks in cuts(TRANSCRIPT):
        assert talk(fresh(kv, 2), chunks, slot) == expected, chunks[0][-20:]
    single = [TRANSCRIPT[at : at + 1] for at in range(len(TRANSCRIPT))]
    assert talk(fresh(kv, 2), single, slot) == expected


@pytest.mark.parametrize("slot", [0, 1], ids=["home", "elsewhere"])
@pytest.mark.parametrize(("old", "new"), [(v1, v2), (v2, v1)], ids=["up", "down"])
def test_a_swap_at_any_cut_changes_no_reply(old: ModuleType, new: ModuleType, slot: int) -> None:
    """The client's transcript is the same with a swap of everything at any byte as without one."""
    expected = talk(fresh(old, 2), [TRANSCRIPT], slot)
    for first, second in cuts(TRANSCRIPT):
        world = fresh(old, 2)
        entry = world.connect(slot)
        wire = entry.target.transport
        if first:
            entry.target.data_received(first)
        world.swap_all(new)
        if second and not wire.closed:
            entry.target.data_received(second)
        world.turns.all()
        assert bytes(wire.out) == expected, first[-20:]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault[:30])
def test_a_fault_is_told_and_the_connection_closed(kv: ModuleType, fault: bytes) -> None:
    """What came before is answered, then redis's protocol error, and nothing after it."""
    expected = b"+PONG\r\n-ERR Protocol error: " + FAULTS[fault] + b"\r\n"
    data = encode("PING") + fault
    for at in {*range(min(len(data), 60)), len(data) - 1, len(data)}:
        world = fresh(kv)
        assert talk(world, [data[:at], data[at:], encode("PING")]) == expected
        assert talk(world, [encode("PING")]) == b"+PONG\r\n"


def test_a_large_value_arrives_in_pieces(kv: ModuleType) -> None:
    """Pieces of a large argument are kept as they come; the message is complete at the last."""
    world = fresh(kv)
    value = bytes(range(256)) * 4096
    data = encode("SET", "big", value) + encode("STRLEN", "big")
    chunks = [data[at : at + 10_000] for at in range(0, len(data), 10_000)]
    assert talk(world, chunks) == b"+OK\r\n:1048576\r\n"
    assert world.store().state.data[b"big"] == value


def test_headers_that_promise_much_are_not_believed(kv: ModuleType) -> None:
    """A value that looks like a huge header is a value, wherever it stands."""
    value = b"*4294967295\r\n>4294967295\r\n~4294967295\r\n"
    for data in (encode("SET", "k", value), encode("PING") + encode("SET", "k", value)):
        world = fresh(kv)
        talk(world, [data])
        assert world.store().state.data[b"k"] == value


FOREIGN = [
    b">1\r\n$4\r\nPING\r\n",
    b"~1\r\n$4\r\nPING\r\n",
    b"%1\r\n$4\r\nPING\r\n:1\r\n",
    b"|1\r\n+PING\r\n+a\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"+\r\n",
    b"$0\r\n\r\n",
    b"$-1\r\n",
    b":0\r\n",
    b"_\r\n",
    b"#t\r\n",
    b",1.5\r\n",
]


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda foreign: foreign[:4])
def test_what_only_replies_have_is_a_line_at_any_cut(kv: ModuleType, foreign: bytes) -> None:
    """RESP that is no command is an inline command, as in redis, and never a command by itself."""
    data = encode("PING") + foreign + encode("ECHO", "x")
    expected = talk(fresh(kv), [data])
    assert expected.startswith(b"+PONG\r\n")
    assert expected.endswith(b"$1\r\nx\r\n")
    for chunks in cuts(data):
        assert talk(fresh(kv), chunks) == expected, chunks[0]


@pytest.mark.parametrize("kind", [b"*", b">", b"~", b"%", b"|"])
@pytest.mark.parametrize("before", [b"", encode("PING"), b"*2\r\n$4\r\nPING\r\n", b"*2\r\n"])
def test_hiredis_never_sees_a_header_that_announces_much(
    kv: ModuleType, kind: bytes, before: bytes
) -> None:
    """It makes room at once; so the reader is not even fed, wherever the header stands."""

    class Fed(Exception):  # noqa: N818 - no error: it says what happened
        pass

    class Reader:
        def feed(self, data: bytes) -> None:
            raise Fed

    state = kv.Talk()
    state.reader = Reader()
    kv.parse(state, before + kind + b"10000000\r\n" + encode("PING"))
    with pytest.raises(Fed):
        kv.parse(kv.Talk(reader=Reader()), encode("PING"))


def test_inline_quotes_and_escapes(kv: ModuleType) -> None:
    """Quotes keep blanks, escapes give bytes, as redis-cli and telnet users expect."""
    assert kv.split_words(rb'a "b \"c\"\x41\n" ' + b"'d \\'e' f") == [
        b"a", b'b "c"A\n', b"d 'e", b"f",
    ]  # fmt: skip
    assert kv.split_words(b"   ") == []
    assert kv.split_words(b'""') == [b""]


OWN = [
    ("CLIENT ID", b":"),
    ("CLIENT SETINFO lib-name x", b"+OK"),
    ("CLIENT GETNAME", b"$-1"),
    ("CLIENT SETNAME a\tb", b"-ERR Client names cannot contain"),
    ("CLIENT WHAT", b"-ERR unknown subcommand 'WHAT'"),
    ("HELLO", b"*14"),
    ("HELLO 2", b"*14"),
    ("HELLO 3", b"%7"),
    ("HELLO 4", b"-NOPROTO"),
    ("HELLO x", b"-ERR Protocol version"),
    ("SELECT 0", b"+OK"),
    ("SELECT 1", b"-ERR DB index is out of range"),
    ("SELECT x", b"-ERR value is not an integer"),
    ("AUTH secret", b"-ERR AUTH <password> called without any password"),
    ("RESET", b"+RESET"),
    ("KEYS", b"-ERR wrong number of arguments for 'keys' command"),
    ("MULTI", b"-ERR unknown command 'MULTI'"),
]


@pytest.mark.parametrize("slot", [0, 1], ids=["home", "elsewhere"])
@pytest.mark.parametrize(("command", "start"), OWN, ids=[row[0] for row in OWN])
def test_what_the_connection_answers(kv: ModuleType, command: str, start: bytes, slot: int) -> None:
    """Commands about the connection get their reply in both kinds of worker."""
    assert talk(fresh(kv, 2), [encode(*command.split(" "))], slot).startswith(start)


@pytest.mark.parametrize(("here", "home"), [(v1, v1), (v1, v2), (v2, v1), (v2, v2)])
def test_workers_of_different_versions_understand_each_other(
    here: ModuleType, home: ModuleType
) -> None:
    """While a swap goes through the workers, a client of one is served by the home of the other."""
    world = World(2)
    world.start(0, home)
    world.start(1, here)
    world.store().state.data.update((b"%d" % number, b"v") for number in range(2500))
    data = encode("SET", "k", "v") + encode("KEYS", "24?9") + encode("GET", "k") + b"PING\r\n"
    out = talk(world, [data], 1)
    assert out.startswith(b"+OK\r\n*10\r\n$4\r\n24")
    assert out.endswith(b"$1\r\nv\r\n+PONG\r\n")


@pytest.mark.parametrize(("client", "store"), [(v1, v2), (v2, v1)])
def test_a_connection_and_a_store_of_different_versions_work(
    client: ModuleType, store: ModuleType
) -> None:
    """Objects are swapped one by one, so for a moment the two are of different versions."""
    world = fresh(client)
    world.swap(world.hosts[0].service("kv.store"), store)
    world.store().state.data.update((b"%d" % number, b"v") for number in range(2500))
    out = talk(world, [encode("KEYS", "24?9") + encode("DBSIZE")])
    assert out.startswith(b"*10\r\n")
    assert out.endswith(b":2500\r\n")


RESP3 = [
    ("HSET h f v", "HGETALL h", b"%1\r\n$1\r\nf\r\n$1\r\nv\r\n"),
    ("SET a b", "HGETALL none", b"%0\r\n"),
    ("SET a b", "CONFIG GET save", b"%1\r\n$4\r\nsave\r\n$0\r\n\r\n"),
    ("SADD s x", "SMEMBERS s", b"~1\r\n$1\r\nx\r\n"),
    ("SADD s x", "SPOP s 1", b"~1\r\n$1\r\nx\r\n"),
    ("SADD s x", "SPOP s", b"$1\r\nx\r\n"),
    ("ZADD z 1.5 m", "ZSCORE z m", b",1.5\r\n"),
    ("ZADD z 1.5 m", "ZSCORE z n", b"_\r\n"),
    ("ZADD z 1.5 m", "ZRANGE z 0 -1", b"*1\r\n$1\r\nm\r\n"),
    ("ZADD z 1.5 m", "ZRANGE z 0 -1 WITHSCORES", b"*1\r\n*2\r\n$1\r\nm\r\n,1.5\r\n"),
    ("ZADD z 1.5 m", "ZPOPMIN z", b"*2\r\n$1\r\nm\r\n,1.5\r\n"),
    ("ZADD z inf m", "ZPOPMIN z 2", b"*1\r\n*2\r\n$1\r\nm\r\n,inf\r\n"),
    ("ZADD z 1 m", "ZPOPMIN none", b"*0\r\n"),
    ("ZADD z 1 m", "HGETALL z", b"-WRONGTYPE"),
]


@pytest.mark.parametrize("slot", [0, 1], ids=["home", "elsewhere"])
@pytest.mark.parametrize(("before", "command", "end"), RESP3, ids=[row[1] for row in RESP3])
def test_clients_that_insist_on_resp3_get_it(
    kv: ModuleType, before: str, command: str, end: bytes, slot: int
) -> None:
    """After HELLO 3 maps, sets, doubles and pairs are what they are, in both kinds of worker."""
    data = encode("HELLO", "3") + encode(*before.split()) + encode(*command.split())
    out = talk(fresh(kv, 2), [data], slot)
    assert out.partition(b"*0\r\n")[2].split(b"\r\n", 1)[1].startswith(end)


def test_resp3_survives_a_swap(kv: ModuleType) -> None:
    """What a client has asked for is part of its state."""
    world = fresh(kv)
    entry = world.connect()
    entry.target.data_received(encode("HELLO", 3))
    world.swap_all(v2)
    world.swap_all(v1)
    del entry.target.transport.out[:]
    entry.target.data_received(encode("HGETALL", "none"))
    assert bytes(entry.target.transport.out) == b"%0\r\n"


def test_replies_come_in_order_whoever_answers(kv: ModuleType) -> None:
    """Commands for the home worker and the connection's own keep their order in a pipeline."""
    world = fresh(kv, 2)
    pipeline, expected = b"", b""
    for number in range(50):
        pipeline += encode("ECHO", number) + encode("CLIENT", "SETNAME", f"n{number}")
        pipeline += encode("CLIENT", "GETNAME")
        text, name = str(number).encode(), b"n%d" % number
        expected += b"$%d\r\n%b\r\n+OK\r\n" % (len(text), text)
        expected += b"$%d\r\n%b\r\n" % (len(name), name)
    assert talk(world, [pipeline], 1) == expected


def test_requests_under_way_are_bounded(kv: ModuleType) -> None:
    """A client that sends faster than the home worker answers is not read from, then is again."""
    world = fresh(kv, 2)
    entry = world.connect(1)
    wire = entry.target.transport
    for _ in range(200):
        entry.target.data_received(encode("PING"))
    assert not wire.reading
    assert len(entry.target.state.outstanding) <= 32
    world.turns.all()
    assert bytes(wire.out) == b"+PONG\r\n" * 200
    assert wire.reading
    assert not entry.target.state.backlog


def test_requests_are_bounded_by_bytes_too() -> None:
    """Version 2: large values for the home worker wait for each other."""
    world = fresh(v2, 2)
    entry = world.connect(1)
    for number in range(10):
        entry.target.data_received(encode("SET", number, b"x" * 2_000_000))
    assert len(entry.target.state.outstanding) < 4
    assert not entry.target.transport.reading
    world.turns.all()
    assert bytes(entry.target.transport.out) == b"+OK\r\n" * 10


def test_a_lost_home_worker_leaves_the_outcome_open(kv: ModuleType) -> None:
    """Each command under way gets an error that says so; its successor serves the next ones."""
    world = fresh(kv, 2)
    entry = world.connect(1)
    entry.target.data_received(encode("SET", "a", 1) + encode("SET", "b", 1) + encode("KEYS", "*"))
    del world.hosts[0]
    world.turns.all()
    gone = b"-ERR worker 0 is gone: outcome unknown\r\n"
    assert bytes(entry.target.transport.out) == gone * 3
    world.start(0, kv)
    entry.target.data_received(encode("GET", "a"))
    world.turns.all()
    assert bytes(entry.target.transport.out) == gone * 3 + b"$-1\r\n"


@pytest.mark.parametrize("slot", [0, 1], ids=["home", "elsewhere"])
def test_a_client_that_has_said_all_gets_all_its_replies(kv: ModuleType, slot: int) -> None:
    """After the client's end of stream what is under way is answered, then we close."""
    world = fresh(kv, 2)
    entry = world.connect(slot)
    wire = entry.target.transport
    entry.target.data_received(encode("SET", "k", "v") + encode("GET", "k"))
    entry.target.eof_received()
    world.turns.all()
    assert bytes(wire.out) == b"+OK\r\n$1\r\nv\r\n"
    assert wire.closed


def test_a_client_that_does_not_read_is_not_read_from(kv: ModuleType) -> None:
    """Flow control holds the peer, on the home worker and elsewhere."""
    world = fresh(kv, 2)
    for slot in world.slots:
        entry = world.connect(slot)
        entry.target.pause_writing()
        assert not entry.target.transport.reading
        entry.target.data_received(encode("PING"))
        world.turns.all()
        assert not entry.target.transport.reading
        entry.target.resume_writing()
        assert entry.target.transport.reading


# KEYS in slices


def many(world: World, count: int = 5500) -> set[bytes]:
    keys = {b"key:%d" % number for number in range(count)}
    world.store().state.data.update(dict.fromkeys(keys, b"v"))
    return keys


def read_array(out: bytes) -> tuple[set[bytes], bytes]:
    """The strings of the array at the start, and what follows it."""
    head, _, rest = out.partition(b"\r\n")
    found = set()
    for _ in range(int(head[1:])):
        size, _, rest = rest.partition(b"\r\n")
        found.add(rest[: int(size[1:])])
        rest = rest[int(size[1:]) + 2 :]
    return found, rest


@pytest.mark.parametrize("slot", [0, 1], ids=["home", "elsewhere"])
def test_keys_does_not_hold_the_others(slot: int) -> None:
    """While one client's KEYS goes on, others are served, and its own replies keep their order."""
    world = fresh(v2, 2)
    keys = many(world)
    entry, other = world.connect(slot), world.connect(slot)
    entry.target.data_received(encode("PING") + encode("KEYS", "*") + encode("ECHO", "after"))
    entry.target.data_received(encode("ECHO", "later"))
    turns = 0
    while b"later" not in entry.target.transport.out:
        other.target.data_received(encode("PING"))
        world.turns.one()
        turns += 1
        assert turns < 100
    world.turns.all()
    assert turns >= 5
    out = bytes(entry.target.transport.out)
    assert out.startswith(b"+PONG\r\n")
    found, rest = read_array(out[7:])
    assert found == keys
    assert rest == b"$5\r\nafter\r\n$5\r\nlater\r\n"
    assert entry.target.transport.reading
    assert bytes(other.target.transport.out) == b"+PONG\r\n" * turns
    assert not world.store().state.scans


@pytest.mark.parametrize("slot", [0, 1], ids=["home", "elsewhere"])
@pytest.mark.parametrize("way", [(v1,), (v1, v2)], ids=["down", "down and up"])
@pytest.mark.parametrize("turns", range(1, 8))
def test_a_swap_in_the_middle_of_keys(slot: int, way: tuple[ModuleType, ...], turns: int) -> None:
    """A KEYS under way is answered once and whole by whatever version is there."""
    world = fresh(v2, 2)
    keys = many(world)
    entry = world.connect(slot)
    entry.target.data_received(encode("KEYS", "*") + encode("ECHO", "after"))
    for _ in range(turns):
        world.turns.one()
    for module in way:
        world.swap_all(module)
    world.turns.all()
    found, rest = read_array(bytes(entry.target.transport.out))
    assert found == keys
    assert rest == b"$5\r\nafter\r\n"
    assert entry.target.transport.reading


def test_many_keys_at_once_wait_for_each_other() -> None:
    """The memory of scans is bounded: more than four wait, and all are answered."""
    world = fresh(v2, 2)
    keys = many(world, 3000)
    entries = [world.connect(number % 2) for number in range(12)]
    for entry in entries:
        entry.target.data_received(encode("KEYS", "*"))
    while world.turns.calls:
        assert len(world.store().state.scans) <= 4
        world.turns.one()
    assert all(read_array(bytes(e.target.transport.out)) == (keys, b"") for e in entries)


def test_a_scan_that_nobody_asks_for_is_forgotten() -> None:
    """The keys that an aborted KEYS or SCAN held are freed after a minute."""
    world = fresh(v2)
    many(world)
    entry = world.connect()
    entry.target.data_received(encode("KEYS", "*"))
    world.turns.calls.clear()  # the connection is gone
    world.store().execute([b"SCAN", b"0"])
    assert world.store().state.scans
    assert world.store().state.cursors
    world.clock.ms += 61_000
    world.timers.fire()
    world.turns.all()
    assert not world.store().state.scans
    assert not world.store().state.cursors


def test_scan_gives_every_key_that_stays() -> None:
    """Keys that are there from start to end are given; those that go meanwhile are not."""
    world = fresh(v2)
    keys = many(world)
    store: Any = world.store()
    cursor, found = b"0", set()
    while True:
        reply = store.execute([b"SCAN", cursor, b"COUNT", b"100", b"MATCH", b"key*"])
        _, _, cursor, page = reply.split(b"\r\n", 3)
        found |= read_array(page)[0]
        store.execute([b"DEL", next(iter(keys - found), b"none")])
        if cursor == b"0":
            break
    assert set(store.state.data) <= found <= keys
    assert len(found) < len(keys)
