"""chat: one order for all, whole lines, live swaps between callbacks and a coroutine."""

from __future__ import annotations

import asyncio
import socket
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netswap.transfer import decode, encode, plan_transfer
from protocols.chat import session, v1, v2

KIND = "chat.connection"
ROWS = [*v2.__netswap_migrations__]


class Third:
    """The rooms of version 2 with the connections of version 3, as a server has them."""

    Talk, Chat = session.Talk, session.Chat
    Hall, Rooms = v2.Hall, v2.Rooms
    __netswap_migrations__ = session.__netswap_migrations__ + ROWS


VERSIONS = {"v1": v1, "v2": v2, "v3": Third}
ANY = pytest.mark.parametrize("module", VERSIONS.values(), ids=VERSIONS)
MENDED = pytest.mark.parametrize("module", [v2, Third], ids=["v2", "v3"])


async def named(server, nick: str, room: str = "den"):
    """A client with a nick, in a room."""
    client = await server.connect()
    await client.send(f"/nick {nick}\n".encode())
    assert (await client.read_lines(1))[0].endswith(f" is now {nick}")
    await client.send(f"/join {room}\n".encode())
    while (await client.read_lines(1)) != [f"* {nick} joined {room}"]:
        pass
    return client


async def rest(client) -> list[str]:
    """Everything that is still to come, once the client has said that it leaves."""
    await client.finish()
    return (await client.read_all()).decode().splitlines()


@ANY
async def test_what_is_said_reaches_all_of_the_room_and_nobody_else(serve, module):
    """Members see it, with the nick, themselves included; another room does not."""
    server = await serve(module, kind=KIND)
    ann = await named(server, "ann")
    bob = await named(server, "bob")
    eve = await named(server, "eve", "attic")
    assert await ann.read_lines(1) == ["* bob joined den"]
    await ann.send("grüß euch\n".encode())
    for client in (ann, bob):
        assert await client.read_lines(1) == ["<ann> grüß euch"]
    assert await rest(eve) == ["* eve left"]


@ANY
async def test_commands_in_one_packet_are_done_in_order(serve, module):
    """A client that pipelines gets its answers in order, then the connection closes."""
    server = await serve(module, kind=KIND)
    client = await server.connect()
    await client.send(b"/nick ann\n/join den\nhello\n/who\n/dance\n/quit\n")
    lines = (await client.read_all()).decode().splitlines()
    assert lines[0].endswith("is now ann")
    assert lines[1:5] == [
        "* ann joined den",
        "<ann> hello",
        "* in den: ann",
        "! there is no /dance, only /nick /join /who /quit",
    ]


@ANY
async def test_the_end_of_the_stream_is_answered_before_the_close(serve, module):
    """A client that half-closes after its last line still sees it."""
    server = await serve(module, kind=KIND)
    client = await named(server, "ann")
    await client.send(b"last words\n")
    assert "<ann> last words" in await rest(client)


@ANY
@pytest.mark.parametrize("name", ["", "a b", "x" * 33, "/slash", "tab\there"])
async def test_a_bad_name_is_refused_and_nothing_changes(serve, module, name):
    """Nicks and rooms are short, printable words."""
    server = await serve(module, kind=KIND)
    client = await named(server, "ann")
    for command in ("/nick", "/join"):
        await client.send(f"{command} {name}\n".encode())
        assert (await client.read_lines(1))[0].startswith("! a name has ")
    await client.send(b"/who\n")
    assert await client.read_lines(1) == ["* in den: ann"]


async def test_version_1_mishandles_a_line_and_a_character_that_are_cut(serve):
    """The bug is real: a packet is taken for whole lines, and decoded by itself."""
    client = await named(await serve(v1, kind=KIND), "ann")
    await client.send(b"half a li")
    await client.send(b"ne\n")
    assert await client.read_lines(2) == ["<ann> half a li", "<ann> ne"]
    cut = "ü\n".encode()
    await client.send(cut[:1])
    await client.send(cut[1:])
    assert await client.read_lines(2) == ["<ann> \ufffd", "<ann> \ufffd"]


@MENDED
async def test_any_cut_of_the_stream_gives_the_same_lines(serve, module):
    """Lines and characters are whole, wherever packets end."""
    client = await named(await serve(module, kind=KIND), "ann")
    text = "grüß\r\n\n€ end\n".encode()
    for cut in range(len(text) + 1):
        await client.send(text[:cut])
        await client.send(text[cut:])
        assert await client.read_lines(2) == ["<ann> grüß", "<ann> € end"], f"cut at {cut}"


async def test_a_push_of_version_2_mends_a_live_connection_and_back_nothing_is_lost(serve):
    """Nick, room and half a line go up; half a line goes down, too."""
    server = await serve(v1, kind=KIND)
    client = await named(server, "ann")
    await server.swap(v2)
    await client.send(b"half a li")
    await server.swap(v1)
    await client.send(b"ne\n")
    await client.send(b"/who\n")
    assert await client.read_lines(2) == ["<ann> half a line", "* in den: ann"]


@pytest.mark.parametrize("way", list(pairwise([v2, Third, v2, v1, v2])) + [(Third, v1)])
async def test_a_half_closed_client_is_answered_across_a_swap(serve, way):
    """The end of the stream is known to the new code, whether the old one had dealt with it."""
    first, second = way
    server = await serve(first, kind=KIND)
    client = await named(server, "ann")
    await client.send(b"last words\n", read=False)
    await client.finish()
    await server.swap(second)
    assert "<ann> last words" in (await client.read_all()).decode()


@MENDED
async def test_a_line_that_is_too_long_is_skipped_with_a_complaint(serve, module):
    """One error line, whatever the length and the cuts, and the next line is served."""
    client = await named(await serve(module, kind=KIND), "ann")
    for size in (v2.LINE_LIMIT + 1, 50 * v2.LINE_LIMIT):
        long = b"x" * size + b"\nshort\n"
        for part in (long, long[:1000], long[1000:-7], long[-7:]):
            await client.send(part)
        for _ in range(2):
            assert await client.read_lines(2) == ["! a line has at most 4096 bytes", "<ann> short"]
    await client.send(b"y" * v2.LINE_LIMIT + b"\n")
    assert await client.read_lines(1) == ["<ann> " + "y" * v2.LINE_LIMIT]


@pytest.mark.parametrize(("first", "second"), [(v2, Third), (Third, v2)])
async def test_a_swap_within_a_line_that_is_too_long_goes_on_skipping(serve, first, second):
    """That the rest of a line is to be dropped is state."""
    server = await serve(first, kind=KIND)
    client = await named(server, "ann")
    await client.send(b"x" * 5000)
    assert await client.read_lines(1) == ["! a line has at most 4096 bytes"]
    await server.swap(second)
    await client.send(b"x" * 5000 + b"\nshort\n")
    assert await client.read_lines(1) == ["<ann> short"]


@MENDED
async def test_what_is_not_utf_8_is_refused_and_the_next_line_served(serve, module):
    """A complaint instead of a guess."""
    client = await named(await serve(module, kind=KIND), "ann")
    await client.send(b"\xff\xfe\nfine\n")
    assert await client.read_lines(2) == ["! that line is not UTF-8", "<ann> fine"]


async def test_who_joins_is_shown_what_was_said_last(serve):
    """The history of a room, its last lines in order, and of no other room."""
    server = await serve(v2, kind=KIND)
    ann = await named(server, "ann")
    await ann.send(b"".join(b"line %d\n" % n for n in range(30)))
    await ann.read_lines(30)
    bob = await server.connect()
    await bob.send(b"/nick bob\n/join den\n/join attic\n")
    lines = await bob.read_lines(23)
    assert lines[1:21] == [f"<ann> line {n}" for n in range(10, 30)]
    assert lines[21:] == ["* bob joined den", "* bob joined attic"]


async def test_a_nick_is_taken_once_over_all_workers(serve):
    """The home decides, whatever worker accepted the client."""
    first = await serve(v2, kind=KIND, slots=2)
    second = await serve(v2, kind=KIND, slots=2)
    await named(first, "ann")
    client = await second.connect()
    await client.send(b"/nick ann\n")
    assert await client.read_lines(1) == ["! the nick ann is taken"]


@pytest.mark.parametrize("modules", [(v1, v2, v1), (v2, Third, v2), (v2, v1, Third)])
async def test_all_see_one_order_whatever_worker_accepted_them(serve, modules):
    """Three workers, also of different versions, all talking at once: one transcript."""
    servers = [await serve(module, kind=KIND, slots=3) for module in modules]
    clients = [await named(server, f"c{n}") for n, server in enumerate(servers)]
    for client in clients:
        await client.send(b"/who\n")
        while (await client.read_lines(1)) != ["* in den: c0, c1, c2"]:
            pass
    for n in range(20):
        await asyncio.gather(*(client.send(b"m%d\n" % n) for client in clients))
    seen = [await client.read_lines(60) for client in clients]
    assert seen[0] == seen[1] == seen[2]
    assert sorted(seen[0]) == sorted(f"<c{c}> m{n}" for c in range(3) for n in range(20))


async def test_members_of_other_workers_are_there_again_when_a_lost_home_is_back(serve):
    """The successor of the home learns who is where; the nick of a newcomer gives way."""
    home = await serve(v2, kind=KIND, slots=2)
    other = await serve(v2, kind=KIND, slots=2)
    ann = await named(other, "ann")
    rooms = other.host.services["chat.rooms"].target
    rooms.on_peer_lost(0)
    await ann.send(b"anybody?\n")
    assert (await ann.read_lines(1))[0].startswith("! the rooms are out of reach")
    home.host.services["chat.rooms"].target.state = v2.Hall()
    rooms.on_peer_joined(0)
    await ann.send(b"back\n/who\n")
    assert await ann.read_lines(2) == ["<ann> back", "* in den: ann"]


async def test_members_of_a_lost_worker_are_gone(serve):
    """Their nicks are free again and the room is told."""
    home = await serve(v2, kind=KIND, slots=2)
    other = await serve(v2, kind=KIND, slots=2)
    ann = await named(home, "ann")
    await named(other, "bob")
    assert await ann.read_lines(1) == ["* bob joined den"]
    home.host.services["chat.rooms"].target.on_peer_lost(1)
    assert await ann.read_lines(1) == ["* bob left"]
    await ann.send(b"/nick bob\n")
    assert await ann.read_lines(1) == ["* ann is now bob"]


@ANY
async def test_a_client_that_reads_nothing_is_closed_and_others_are_served(serve, module):
    """Output to it is bounded."""
    server = await serve(module, kind=KIND)
    deaf, ann = await server.connect(buffer=4096), await named(server, "ann", "lobby")
    entry = deaf.entry
    line = b"z" * 4000 + b"\n"
    while entry.target is not None:
        await ann.send(line * 20)
        assert len(await ann.read_lines(0)) == 0
        assert len(await ann.read(20 * (len(line) + 6))) == 20 * (len(line) + 6)


@MENDED
async def test_a_swap_while_a_client_does_not_read_goes_through(serve, module):
    """A session that waits for its client to read is at a swap point, too."""
    server = await serve(module, kind=KIND)
    client = await server.connect(buffer=4096)
    entry = client.entry
    sock = entry.target.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    entry.target.transport.write(b"." * 700_000)
    await client.send(b"/who\n", read=False)
    await server.swap(v1)
    await server.swap(module)
    assert entry.target.writing_paused
    await client.read(700_000)
    assert (await client.read_lines(1))[0].startswith("* in lobby: guest")


places = st.dictionaries(
    st.from_regex(r"[0-9]\.[0-9]{1,3}", fullmatch=True),
    st.tuples(st.text(max_size=5), st.text(max_size=5)).map(list),
    max_size=4,
)


@given(
    places, st.dictionaries(st.text(max_size=5), st.dictionaries(st.integers(1, 2**63), st.text()))
)
def test_rooms_go_up_and_down_and_lose_only_the_history(members, here):
    """What version 1 knows survives; that the history does not is declared."""
    old = v1.Hall(here=here, members=members, taken={v[0]: k for k, v in members.items()})
    up = plan_transfer(v1.Hall, v2.Hall, ROWS)
    down = plan_transfer(v2.Hall, v1.Hall, ROWS)
    assert (up.lossy, down.lossy) == ((), ("history",))
    new = up.convert(old)
    assert decode(encode(new), v2.Hall) == new
    assert down.convert(new) == old


@given(st.none() | st.text(min_size=1), st.text(), st.integers())
def test_connections_go_up_and_down_unchanged(nick, room, said):
    """No nick is None in version 1 and empty in version 2 and 3."""
    old = v1.Talk(nick, room, said)
    rows = session.__netswap_migrations__
    up = plan_transfer(v1.Talk, session.Talk, rows)
    assert not up.lossy
    assert plan_transfer(session.Talk, v1.Talk, rows).convert(up.convert(old)) == old
