"""Behind a proxy: the header is taken to the byte, from those who may send it, TLS or not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from netswap import Connection, State
from netswap.address import Trusted
from netswap.http import App, Request, Response, route
from netswap.mediator import present
from netswap.ott import Selector
from netswap.worker import accepting
from netswap.worker.accepting import Acceptor, Entrance
from protocols.http import v1, v2
from protocols.http.limits import HttpLimits
from tests.interpose.conftest import World, until
from tests.worker.test_proxyheader import BAD, FOUR, binary
from tests.worker.tls_world import TlsWorld

KIND = "lines.connection"
LINE = b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 443\r\n"
HEADERS = {"line": LINE, "binary": binary(0x11, FOUR)}
Make = Callable[..., Awaitable[TlsWorld]]


class Lines(State, kind=KIND, version=1):
    """How many bytes."""

    seen: int = 0


class One(Connection[Lines]):
    """Answers with the peer and what it was sent."""

    def on_data(self, data: bytes) -> None:
        self.state.seen += len(data)
        self.write(b"%s %s" % (self.peer.encode(), data))


class Nothing(State, kind="http.app", version=1):
    """No state."""


class Who(App[Nothing]):
    """Says who has asked."""

    @route("GET", "/now")
    def now(self, request: Request) -> Response:
        tls = request.tls and request.tls.version()
        return Response(f"{request.peer} {request.local} {request.scheme} {tls}")

    @route("GET", "/later")
    async def later(self, request: Request) -> Response:
        return self.now(request)


HTTP = {"v1": v1.HttpConnection, "v2": v2.HttpConnection}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Make]:
    """``await world(tls)``: a listener that trusts 127.0.0.0/8 to be a proxy."""
    made: list[TlsWorld] = []

    async def make(
        tls: bool = False,
        trusted: tuple[str, ...] = ("127.0.0.0/8",),
        classes: tuple[Any, ...] = (One,),
        kind: str = KIND,
    ) -> TlsWorld:
        one = TlsWorld(classes, kind, tmp_path)
        made.append(one)
        one.proxies = Trusted(trusted)
        if not tls:
            one.context = None  # type: ignore[assignment]
        return await one.listen()

    yield make
    for one in made:
        await one.close()


class Client:
    """A blocking client in a thread of its own would hide the order: this one is asynchronous."""

    def __init__(self, one: TlsWorld, tls: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._at = one.at
        self._tls = one.authority.client() if tls else None
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def __aenter__(self) -> Client:
        await self._loop.sock_connect(self.sock, self._at)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sock.close()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    async def ask(self, head: bytes, data: bytes) -> bytes:
        """Send the rest of a header and ``data``, which is encrypted in TLS; what is answered."""
        if self._tls is None:
            await self.send(head + data)
            async with asyncio.timeout(20):
                return await self._loop.sock_recv(self.sock, 1000)
        await self.send(head)
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection(
                sock=self.sock, ssl=self._tls, server_hostname="localhost"
            )
            writer.write(data)
            answer = await reader.read(1000)
            writer.close()
            await writer.wait_closed()
        return answer

    async def ended(self) -> bool:
        """Whether it was closed, without an answer."""
        async with asyncio.timeout(20):
            try:
                return await self._loop.sock_recv(self.sock, 1000) == b""
            except ConnectionError:
                return True


async def turns(one: TlsWorld) -> None:
    """Let the acceptor see what has come."""
    await until(lambda: one.server._arriving)
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("header", HEADERS)
async def test_a_header_cut_at_every_byte(world: Make, header: str, tls: bool) -> None:
    """It is whole whenever its last byte comes, and what follows belongs to the connection."""
    one = await world(tls)
    wire = HEADERS[header]
    for cut in range(len(wire) + 1):
        async with Client(one, tls) as client:
            await client.send(wire[:cut])
            await turns(one) if cut < len(wire) else None
            answer = await client.ask(wire[cut:], b"hello")
            assert answer == b"192.0.2.7:5000 hello", f"cut at {cut}"
    assert one.server.turned_away == {}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("version", HTTP)
async def test_an_application_is_told_who_asks(world: Make, version: str, tls: bool) -> None:
    """A plain function too: the peer is the header's, and the rest is that of the connection."""
    classes = (HTTP[version], HttpLimits, Who)
    one = await world(tls, classes=classes, kind="http.connection")
    said = f"('192.0.2.7', 5000) {one.at} {'https TLSv1.3' if tls else 'http None'}"
    for path in (b"/now", b"/now", b"/later"):
        asked = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path
        async with Client(one, tls) as client:
            answer = await client.ask(LINE, asked)
            assert answer.rpartition(b"\r\n\r\n")[2].decode() == said


async def test_all_in_one_piece(world: Make) -> None:
    """Header and data in one segment: exactly the header is taken."""
    one = await world()
    for wire in HEADERS.values():
        async with Client(one, False) as client:
            assert await client.ask(wire, b"hello") == b"192.0.2.7:5000 hello"


async def test_the_real_peer_is_the_peer_everywhere(world: Make) -> None:
    """To the factory's counts, to selectors and to attributes."""
    one = await world()
    async with Client(one, False) as client:
        await client.ask(LINE, b"hello")
        (entry,) = one.entries
        assert present(entry).peername == ("192.0.2.7", 5000)
        selector = Selector("peer=192.0.2.7,address=192.0.2.7:5000")
        assert one.host.table.select(selector) == [entry]
        assert one.host.factories["test"].target.state.addresses == {"192.0.2.7": 1}
    await until(lambda: not one.entries)
    assert one.host.factories["test"].target.state.addresses == {}


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", binary(0, b"", command=0x20)])
async def test_the_proxys_own_connections_are_its_own(world: Make, header: bytes) -> None:
    """A health check has the proxy's address."""
    one = await world()
    async with Client(one, False) as client:
        host, port = client.sock.getsockname()
        assert await client.ask(header, b"hello") == f"{host}:{port} hello".encode()


async def test_a_stranger_is_refused_whatever_he_sends(world: Make) -> None:
    """He could claim to be anybody: closed, counted and logged, and nothing was served."""
    one = await world(trusted=("10.0.0.0/8", "unix", "::1/128"))
    said: list[Any] = []
    one.host.log.info = lambda event, **fields: said.append((event, fields["error"]))
    for wire in (LINE, b"hello"):
        async with Client(one, False) as client:
            await client.send(wire)
            assert await client.ended()
    await until(lambda: one.server.turned_away == {"proxy": 2})
    assert said == [("turned_away", "it is no trusted proxy")]
    assert not one.entries


@pytest.mark.parametrize("wire", [*list(BAD.values())[:4], LINE[:10], b""])
async def test_no_header_no_connection(world: Make, wire: bytes) -> None:
    """From a proxy too: what is malformed, cut off, or missing is closed and counted."""
    one = await world()
    async with Client(one, False) as client:
        await client.send(wire)
        client.sock.shutdown(socket.SHUT_WR)
        assert await client.ended()
        await until(lambda: one.server.turned_away == {"proxy": 1})
    assert not one.entries
    assert not one.errors


async def test_who_sends_slowly_holds_up_nobody_and_has_a_limit(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are served meanwhile; no call a turn while nothing comes."""
    monkeypatch.setattr(accepting, "HEADER_S", 0.3)
    one = await world()
    async with Client(one, False) as slow:
        await slow.send(LINE[:20])
        await turns(one)
        looks: list[int] = []
        real = one.server._look

        async def counted(sock: socket.socket, size: int) -> bytes:
            looks.append(size)
            return await real(sock, size)

        one.server._look = counted
        async with Client(one, False) as quick:
            assert await quick.ask(LINE, b"hello") == b"192.0.2.7:5000 hello"
        assert await slow.ended()
        assert len(looks) < 5
    assert one.server.turned_away == {"proxy": 1}


async def test_closing_drops_those_on_their_way_in(world: Make) -> None:
    """Nothing of them is left."""
    one = await world()
    async with Client(one, False) as client:
        await client.send(LINE[:20])
        await turns(one)
        one.server.close()
        assert await client.ended()
        await until(lambda: not one.server._arriving)
    one.server = type("Closed", (), {"close": lambda _self: None})()


async def test_a_unix_socket_has_proxies_too(tmp_path: Path) -> None:
    """``unix`` trusts all who may connect to it; without that nobody is."""
    for trusted, expected in ((("unix",), b"192.0.2.7:5000 hello"), (("127.0.0.0/8",), b"")):
        path = str(tmp_path / f"{len(expected)}.sock")
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        sock.listen()
        one = World((One,), KIND)

        def make(peername: Any, one: World = one) -> Any:
            return one.host.present[KIND].accepted(one.host, "test", peername)  # type: ignore[attr-defined]

        one.server = Acceptor(one.host, "test", sock, make, Entrance(proxies=Trusted(trusted)))
        reader, writer = await asyncio.open_unix_connection(path)
        one.writers.append(writer)
        writer.write(LINE + b"hello")
        answer = b""
        async with asyncio.timeout(20):
            with suppress(ConnectionResetError):  # what he sent is not read any more
                answer = await reader.read(1000)
        assert answer == expected
        await one.close()


def test_what_is_trusted() -> None:
    """Networks of both versions, a scoped address, and unix."""
    trusted = Trusted(["10.0.0.0/8", "fe80::/10"])
    assert trusted.includes(("10.1.2.3", 5))
    assert trusted.includes(("fe80::1%eth0", 5, 0, 2))
    assert not trusted.includes(("11.1.2.3", 5))
    assert not trusted.includes("unix:0:1")
    assert Trusted(["unix"]).includes("unix:0:1")
    assert not Trusted(["unix"]).includes(("10.1.2.3", 5))
