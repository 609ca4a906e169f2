"""The bundled protocols over TLS, through TCP: cut and swapped in their records, no client notices.

In memory, every class of connection is in ``test_classes.py`` and every pair in
``test_swappable.py``.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from netswap.supervisor.certificates import read_files
from netswap.tls import Context, TlsFiles, context_of
from protocols.chat import session as chat_session
from protocols.chat import v2 as chat_v2
from protocols.echo import v1 as echo_v1
from protocols.echo import v2 as echo_v2
from protocols.http import limits
from protocols.http import v1 as http_v1
from protocols.http import v2 as http_v2
from protocols.kv import v1 as kv_v1
from protocols.kv import v2 as kv_v2
from protocols.welcome import v1 as welcome_v1
from tests.authority import Authority
from tests.protocols.conftest import OTHERS, STACK, Server, unread, until
from tests.worker.tls_world import RawClient

KV = b"SET a 1\r\n*2\r\n$4\r\nINCR\r\n$1\r\na\r\nGET a\r\n"
CHAT = b"/nick ann\n" + "grüß €\n".encode() + b"/who\n"

CASES: dict[str, tuple[str, bytes, tuple[ModuleType, ...], tuple[ModuleType, ...]]] = {
    "echo": ("echo.connection", b"hello\nworld", (echo_v1,), (echo_v2,)),
    "kv": ("kv.connection", KV, (kv_v1,), (kv_v2,)),
    "chat": ("chat.connection", CHAT, (chat_v2,), (chat_session,)),
    "everything": ("kv.connection", KV, (kv_v1, *STACK), (kv_v2, *OTHERS)),
}
"""Kind, what a client says, and the modules before and after."""


class Conversation:
    """A client that says its script in two pieces, cut at a byte of the wire."""

    def __init__(self, server: Server, authority: Authority) -> None:
        self.server = server
        self.client = RawClient(server.address, authority.client())

    async def held(
        self, script: bytes, cut: int, swap: tuple[ModuleType, ...]
    ) -> tuple[int, bytes]:
        """The length of the wire, and all that was answered to it."""
        client, server = self.client, self.server
        await client.connect()
        entry = await self._entry()
        half = len(script) // 2
        wire = client.sealed(script[:half]) + client.sealed(script[half:])
        await client.send(wire[:cut])
        await until(lambda: entry.target is None or not unread(entry.target.transport))
        if swap:
            await server.swap(*swap)
        await client.send(wire[cut:])
        answer = await self._answer()
        client.close()
        await until(lambda: not server.host.table.count(server.kind))
        return len(wire), answer

    async def _entry(self) -> object:
        address = self.client.sock.getsockname()
        await until(lambda: self.server.entry_of(address))
        return self.server.entry_of(address)

    async def _answer(self) -> bytes:
        """Up to the answer to one line more than the script has, which ends it."""
        await self.client.send(self.client.sealed(b"\nlast\r\n"))
        answer = b""
        while not any(mark in answer for mark in (b"last\r\n", b"'last'", b"last\n")):
            more = await self.client.read(1)
            assert more, f"the stream ended after {answer!r}"
            answer += more
        return answer


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Signs the server's certificate."""
    return Authority(tmp_path)


def context(authority: Authority) -> Context:
    """What sessions begin with."""
    pair = authority.issue()
    return context_of(read_files(TlsFiles(cert=pair.cert, key=pair.key), "echo").terms)


@pytest.mark.parametrize("case", CASES)
async def test_swapped_within_the_wire(authority: Authority, case: str) -> None:
    """What was said comes out as it does without a swap, up and down in turns."""
    kind, script, before, after = CASES[case]
    tls = context(authority)

    async def play(cut: int, swap: bool) -> tuple[int, bytes]:
        server = Server(before, kind, {})
        await server.start(tls)
        held = await Conversation(server, authority).held(script, cut, after if swap else ())
        await server.stop()
        return held

    length, expected = await play(0, swap=False)
    for cut in range(0, length + 1, 7):
        assert await play(cut, swap=True) == (length, expected), f"cut at {cut} of {length}"


HTTP = (
    b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
)
HTTP += b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


UP_AND_DOWN = pytest.mark.parametrize(
    ("first", "second"), [(http_v1, http_v2), (http_v2, http_v1)], ids=["up", "down"]
)


@UP_AND_DOWN
async def test_http_swapped_within_the_wire(
    authority: Authority, first: ModuleType, second: ModuleType
) -> None:
    """Half a head, inside a chunk, between two pipelined requests: each is answered once."""
    tls = context(authority)

    async def play(cut: int) -> tuple[int, bytes]:
        server = Server((limits, first, welcome_v1), "http.connection", {})
        await server.start(tls)
        client = RawClient(server.address, authority.client())
        await client.connect()
        await until(lambda: server.host.table.count(server.kind))
        (entry,) = server.host.table.of_kind(server.kind)
        wire = client.sealed(HTTP[:70]) + client.sealed(HTTP[70:])
        await client.send(wire[:cut])
        await until(lambda: entry.target is None or not unread(entry.target.transport))
        await server.swap(second, welcome_v1)
        await client.send(wire[cut:])
        answer = await client.read(1 << 20)
        client.close()
        await server.stop()
        return len(wire), answer

    length, _ = await play(0)
    for cut in range(0, length, 7):
        _, answer = await play(cut)
        assert answer.count(b"HTTP/1.1 200 ") == 2, cut
        assert answer.count(b"\r\n\r\nhello") == 1, cut
        assert answer.endswith(b"Hello, world!"), cut
