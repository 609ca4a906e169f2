"""Live TLS sessions: swapped at any byte, held by gates, rotated under, on both loops."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import ssl
import struct
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from netswap import Connection, State
from netswap.events import Refusal, Stage
from netswap.interpose import Figures, Monitor, put_in, take_out
from netswap.mediator import present
from netswap.ott import ATTRIBUTES, Selector
from netswap.worker import accepting
from netswap.worker.gate.gate import Gate
from tests.interpose.conftest import until
from tests.worker.tls_world import RawClient, TlsWorld

KIND = "lines.connection"
Make = Callable[..., Awaitable[TlsWorld]]


class Lines1(State, kind=KIND, version=1):
    """What came of a line, and the callbacks."""

    partial: bytes = b""
    lines: int = 0
    calls: list[str] = []


class Lines2(State, kind=KIND, version=2):
    """The same."""

    partial: bytes = b""
    lines: int = 0
    calls: list[str] = []


class Lines:
    """Answers each line with its number; ``big`` with very much."""

    state: Any

    def on_data(self: Any, data: bytes) -> None:
        *whole, self.state.partial = (self.state.partial + data).split(b"\n")
        for line in whole:
            self.state.lines += 1
            self.write(b"%d %s\n" % (self.state.lines, line * (1 if line != b"big" else 100_000)))
            if line == b"quit":
                self.close()

    def on_eof(self: Any) -> bool:
        self.state.calls.append("eof")
        self.write(b"bye\n")
        return True

    def on_pause_writing(self: Any) -> None:
        self.state.calls.append("pause")

    def on_resume_writing(self: Any) -> None:
        self.state.calls.append("resume")

    def on_close(self: Any, error: Exception | None) -> None:
        self.state.calls.append("close")


class One(Lines, Connection[Lines1]):
    """The first version."""


class Two(Lines, Connection[Lines2]):
    """The second version."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Make]:
    """``await world()``: a TLS listener of connections of version 1."""
    made: list[TlsWorld] = []

    async def make(**settings: Any) -> TlsWorld:
        made.append(TlsWorld((One,), KIND, tmp_path, **settings))
        return await made[-1].listen()

    yield make
    for one in made:
        if one.host.gate is not None:
            one.host.gate.abandon()
        await one.close()


def versions(world: TlsWorld) -> list[int]:
    """Of the live objects, oldest first."""
    return [entry.target.version for entry in world.entries]


async def line(streams: Any) -> bytes:
    """The next line."""
    async with asyncio.timeout(20):
        found: bytes = await streams[0].readline()
    return found


def unread(entry: Any) -> int:
    """Bytes that lie before the server."""
    fd = entry.target.transport.get_extra_info("socket").fileno()
    waiting: int = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0]
    return waiting


async def test_a_swap_at_every_byte_of_the_wire(world: Make) -> None:
    """Half a record stays with the session; every line is answered once, by its number."""
    one = await world()
    client = await one.raw()
    (entry,) = one.entries
    cut, lines = 0, 0
    while True:
        wire = client.sealed(b"one\ntw") + client.sealed(b"o\nthree\n")
        await client.send(wire[:cut])
        await until(lambda: not unread(entry))
        one.swap(Two if cut % 2 == 0 else One)
        await client.send(wire[cut:])
        expected = b"%d one\n%d two\n%d three\n" % (lines + 1, lines + 2, lines + 3)
        assert await client.read(len(expected)) == expected, f"cut at {cut}"
        lines, cut = lines + 3, cut + 1
        if cut > len(wire):
            break
    assert cut > 50
    client.close()


async def test_a_client_that_stopped_reading_gets_every_byte_from_the_new_code(world: Make) -> None:
    """That writing is paused moves along: the new object is told when it may go on."""
    one = await world()
    client = await one.connect()
    (entry,) = one.entries
    client[1].transport.pause_reading()
    client[1].write(b"big\n" * 200)
    await until(lambda: present(entry).writing_paused)
    one.swap(Two)
    assert present(entry).writing_paused
    client[1].transport.resume_reading()
    for number in range(1, 201):
        assert await line(client) == b"%d %s\n" % (number, b"big" * 100_000)
    await until(lambda: not present(entry).writing_paused)
    calls = present(entry).state.calls
    assert calls == ["pause", "resume"] * (len(calls) // 2)


async def test_reading_that_is_paused_stays_paused_and_loses_nothing(world: Make) -> None:
    """What the session has decrypted by then, too."""
    one = await world()
    client = await one.connect()
    (entry,) = one.entries
    present(entry).pause_reading()
    client[1].write(b"one\n")
    await until(lambda: not unread(entry))
    one.swap(Two)
    client[1].write(b"two\n")
    await until(lambda: not unread(entry))
    assert present(entry).state.lines == 0
    present(entry).resume_reading()
    assert [await line(client), await line(client)] == [b"1 one\n", b"2 two\n"]


async def test_a_closed_session_does_not_say_that_it_stays_open(
    world: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Its client's close comes after ours; the loops would log each time that it is none."""
    one = await world()
    client = await one.raw()
    (entry,) = one.entries
    calls = present(entry).state.calls
    present(entry).close()
    await client.send(client.farewell())
    await until(lambda: not one.entries)
    assert calls == ["eof", "close"]
    assert not [row.message for row in caplog.records if row.name == "asyncio"]
    client.close()


@pytest.mark.parametrize("swapped", [False, True])
async def test_what_is_written_up_to_the_end_of_the_stream_is_sent(
    world: Make, swapped: bool
) -> None:
    """TLS has no half-closed connections here: after on_eof it closes, whatever that returns."""
    one = await world()
    client = await one.raw()
    (entry,) = one.entries
    calls = present(entry).state.calls
    if swapped:
        one.swap(Two)
        calls = present(entry).state.calls
    await client.send(client.sealed(b"one\n") + client.farewell())
    assert await client.read(100) == b"1 one\nbye\n"
    await until(lambda: not one.entries)
    assert calls == ["eof", "close"]
    client.close()


async def test_a_client_that_goes_without_a_word_is_gone(world: Make) -> None:
    """The end of its socket is no end of its stream, which could be cut by anybody."""
    one = await world()
    client = await one.raw()
    calls = present(one.entries[0]).state.calls
    client.close()
    await until(lambda: not one.entries)
    assert calls[-1] == "close"


async def test_close_flushes_and_abort_does_not_wait(world: Make) -> None:
    """As of a plain one."""
    one = await world()
    client, other = await one.connect(), await one.connect()
    client[1].write(b"big\nquit\n")
    async with asyncio.timeout(20):
        data = await client[0].read()
    assert data.endswith(b"\n2 quit\n")
    assert len(data) == 300_003 + 7
    await until(lambda: len(one.entries) == 1)
    present(one.entries[0]).abort()
    await until(lambda: not one.entries)
    other[1].close()


async def test_who_does_not_answer_the_close_is_gone_in_time(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session ends when both have said so, or after a limit that is long enough for a flush."""
    monkeypatch.setattr(accepting, "FAREWELL_S", 0.2)
    one = await world()
    client = await one.raw()
    present(one.entries[0]).close()
    await until(lambda: not one.entries)
    client.close()
    assert not one.errors


async def test_a_swap_of_one_that_was_closed_twice(world: Make) -> None:
    """asyncio's transport lets go of its session then; nothing of it may fail in a flip."""
    one = await world()
    client = await one.connect()
    (entry,) = one.entries
    present(entry).close()
    present(entry).close()
    present(entry).transport.close()
    assert present(entry).attributes()["peer"] == "127.0.0.1"
    one.swap(Two)
    gate = await closed(one)
    await gate.open()
    async with asyncio.timeout(20):
        assert await client[0].read() == b""
    await until(lambda: not one.entries)


async def test_interposers_stand_in_front_of_a_session(world: Make) -> None:
    """Put in, swapped behind, taken out, between two lines of one session."""
    one = await world()
    client = await one.connect()
    (entry,) = one.entries
    monitor = Monitor(Figures())
    put_in(entry, monitor)
    client[1].write(b"one\n")
    assert await line(client) == b"1 one\n"
    one.swap(Two)
    client[1].write(b"two\n")
    assert await line(client) == b"2 two\n"
    assert monitor.figures.calls == 2
    take_out(monitor)
    client[1].write(b"three\n")
    assert await line(client) == b"3 three\n"
    assert entry.target.transport.get_protocol() is entry.target is present(entry)


class Failing(Lines, Connection[Lines1]):
    """Raises where it is called by its transport."""

    def on_data(self, data: bytes) -> None:
        raise ERRORS[data.decode()]("it fails")


ERRORS = {"value": ValueError, "system": OSError}


@pytest.mark.parametrize("interposed", [False, True])
@pytest.mark.parametrize("word", ERRORS)
async def test_what_a_callback_raises_is_the_objects_fault(
    world: Make, interposed: bool, word: str
) -> None:
    """The loops name their TLS instead: a watch would not see that new code fails."""
    one = await world()
    one.host.install(Failing)
    bad = await one.connect()
    told: list[tuple[str, str]] = []
    one.host.failures.append(lambda target, error: told.append((target.kind, str(error))))
    if interposed:
        put_in(one.entries[0], Monitor(Figures()))
    bad[1].write(word.encode())
    assert await line(bad) == b""
    await until(lambda: not one.entries)
    assert told == [(KIND, "it fails")]
    assert [row["event"] for row in one.errors] == ["callback_failed"]
    one.errors.clear()


# -- behind a gate --


async def closed(one: TlsWorld) -> Gate:
    """A gate that is closed."""
    gate = Gate(one.host, 60)
    assert await gate.close(5) is None
    return gate


async def test_a_gate_keeps_what_comes_for_a_session(world: Make) -> None:
    """Whoever was there, whoever shakes hands meanwhile: all is answered by the new version."""
    one = await world()
    client = await one.connect()
    gate = await closed(one)
    client[1].write(b"one\n")
    await until(lambda: len(gate._queue) == 1)
    late = await one.dial()
    late[1].write(b"early\n")
    await until(lambda: len(gate._queue) == 3)
    one.swap(Two)
    await gate.open()
    assert versions(one) == [2, 2]
    assert await line(client) == b"1 one\n"
    assert await line(late) == b"1 early\n"


async def test_who_ends_while_the_gate_is_closed_has_done_what_he_asked(world: Make) -> None:
    """The line before the end counts, though nobody is there any more to be told."""
    one = await world()
    client = await one.raw()
    (entry,) = one.entries
    gate = await closed(one)
    await client.send(client.sealed(b"one\n") + client.farewell())
    await until(lambda: len(gate._queue) >= 2)
    one.swap(Two)
    state = present(entry).state
    await gate.open()
    await until(lambda: not one.entries)
    assert state.lines == 1
    assert state.calls == ["eof", "close"]
    client.close()


async def test_a_swap_taken_back_behind_a_gate_is_never_seen(world: Make) -> None:
    """Old code answers, in the session that it had."""
    one = await world()
    client = await one.connect()
    gate = await closed(one)
    client[1].write(b"one\n")
    await until(lambda: gate._queue)
    swap = one.swap(Two)
    one.host.install(One)
    swap.give_up(Refusal(Stage.AGREEMENT, "reverted"))
    swap.slice(10**10)
    await gate.open()
    assert await line(client) == b"1 one\n"
    assert versions(one) == [1]


# -- handshakes --


async def test_what_is_asked_of_a_session(world: Make) -> None:
    """Version, cipher and ALPN by the connection; the peer as of a plain one; its selector."""
    one = await world(alpn=("x/1", "y/1"))
    client = await one.connect(one.authority.client("y/1"))
    (entry,) = one.entries
    target = present(entry)
    assert target.tls is not None
    assert target.tls.selected_alpn_protocol() == "y/1"
    assert target.tls.version() == "TLSv1.3"
    assert target.transport.get_extra_info("cipher")
    assert target.peername == client[1].get_extra_info("sockname")
    assert one.host.table.select(Selector("tls=TLSv1.3,peer=127.0.0.1")) == [entry]
    assert set(target.attributes()) == set(ATTRIBUTES) - {"kind", "version", "id"}
    assert one.server.turned_away == {}


async def test_a_handshake_has_a_limit_and_nobody_waits_for_it(world: Make) -> None:
    """Who connects and says nothing is closed; those behind are served meanwhile."""
    one = await world(handshake=0.2)
    reader, writer = await asyncio.open_connection(*one.at)
    client = await one.connect()
    client[1].write(b"one\n")
    assert await line(client) == b"1 one\n"
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()
    await until(lambda: one.server.turned_away == {"handshake": 1})
    assert len(one.entries) == 1


async def test_who_does_not_speak_tls_is_turned_away_and_counted(world: Make) -> None:
    """Not a word of it comes to the protocol, and nothing is logged as an error."""
    one = await world()
    for said in (b"GET / HTTP/1.1\r\n\r\n", b""):
        reader, writer = await asyncio.open_connection(*one.at)
        writer.write(said)
        writer.write_eof()
        async with asyncio.timeout(20):
            await reader.read()
        writer.close()
    await until(lambda: one.server.turned_away == {"handshake": 2})
    assert not one.entries
    assert not one.errors


async def test_a_client_below_the_minimum_version_is_refused(world: Make) -> None:
    """TLS 1.2 by default, 1.3 when that is asked for."""
    one = await world(minimum="1.3")
    context = one.authority.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await one.dial(context)
    await until(lambda: one.server.turned_away == {"handshake": 1})
    one.context = one.fresh()
    client = await one.connect(context)
    client[1].write(b"one\n")
    assert await line(client) == b"1 one\n"
    assert present(one.entries[0]).attributes()["tls"] == "TLSv1.2"


@pytest.mark.parametrize("client", ["required", "optional"])
async def test_clients_show_certificates_when_they_are_asked_to(world: Make, client: str) -> None:
    """One that is signed by the listener's authority is there to be read."""
    one = await world()
    one.context = one.fresh(client_ca=one.authority.file, client=client)
    pair = one.authority.issue("operator.example", into="client")
    shown = await one.connect(one.authority.client(pair=pair))
    session = present(one.entries[0]).tls
    assert session is not None
    names = session.getpeercert()["subjectAltName"]  # type: ignore[index]
    assert ("DNS", "operator.example") in names
    bare = await one.dial()
    bare[1].write(b"one\n")
    if client == "optional":
        assert await line(bare) == b"1 one\n"
    else:
        with suppress(ssl.SSLError, ConnectionError):  # or the end of the stream, as loops differ
            assert await line(bare) == b""
        await until(lambda: one.server.turned_away == {"handshake": 1})
    shown[1].write(b"one\n")
    assert await line(shown) == b"1 one\n"


# -- rotation --


async def test_a_storm_of_handshakes_while_certificates_change_loses_none(world: Make) -> None:
    """Each session has one set as a whole, those begun before it go on, and none is refused."""
    one = await world()
    sets = [one.fresh(into=f"set{number}", alpn=(f"set/{number}",)) for number in range(10)]
    names = [f"set/{number}" for number in range(10)]
    first = await one.connect()
    seen: list[tuple[str, str | None]] = []

    async def storm() -> None:
        for _ in range(12):
            streams = await one.dial(one.authority.client(*names))
            streams[1].write(b"one\n")
            assert await line(streams) == b"1 one\n"
            session = streams[1].get_extra_info("ssl_object")
            mark = hashlib.sha256(session.getpeercert(True)).hexdigest()
            seen.append((mark, session.selected_alpn_protocol()))

    async def rotate() -> None:
        for number, context in enumerate(sets, 1):
            await until(lambda: len(seen) >= 10 * number)  # noqa: B023 - awaited here
            one.context = context

    await asyncio.gather(rotate(), *(storm() for _ in range(10)))
    allowed = {(made.terms.fingerprint, made.terms.alpn[0]) for made in sets}
    assert len(seen) == 120
    assert len(set(seen)) > 5
    assert set(seen) - allowed <= {(one.first_mark, None)}
    last = await one.connect(one.authority.client(*names))
    assert last[1].get_extra_info("ssl_object").selected_alpn_protocol() == "set/9"
    first[1].write(b"still\n")
    assert await line(first) == b"1 still\n"
    assert one.server.turned_away == {}


async def test_a_ticket_of_the_old_set_does_not_bring_it_back(world: Make) -> None:
    """Resuming a session would skip what the new set asks of clients: it is a full handshake."""
    one = await world()
    context = one.authority.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    first = await one.connect(context)
    session = first[1].get_extra_info("ssl_object").session
    again = await _resume(one, context, session)
    assert again.session_reused
    one.context = one.fresh(into="second")
    fresh = await _resume(one, context, session)
    assert not fresh.session_reused
    assert hashlib.sha256(fresh.getpeercert(True)).hexdigest() == one.context.terms.fingerprint


async def _resume(one: TlsWorld, context: ssl.SSLContext, session: Any) -> ssl.SSLObject:
    client = RawClient(one.at, context)
    client.tls.session = session
    await client.connect()
    client.close()
    return client.tls
