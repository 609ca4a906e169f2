"""Over TLS the end of a run is judged as elsewhere, and who asks the wrong way is told so."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from loadgen.conductor import Observation
from loadgen.findings import build_report
from loadgen.judging import judge
from loadgen.lines.hints import why_dropped, why_refused
from loadgen.lines.secure import Session
from tests.authority import Authority
from tests.loadgen.carried import MS, carried
from tests.loadgen.faulty_server import PROTOCOLS, Server
from tests.loadgen.test_dialects import faults

on_uvloop = pytest.mark.asyncio(loop_factories=["uvloop"])
LAST = b"<load-nonce-0> 0:5:"
"""How the sixth message of the first begins, its last."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


class Room(asyncio.Protocol):
    """A room of chat, in which the last message comes late to all but who said it, or never."""

    members: ClassVar[list[Room]] = []
    later_s: ClassVar[float | None] = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.rest = self.nick = b""
        self.members.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.members.remove(self)

    def data_received(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"/nick "):
                self.nick = line[6:]
            elif not line.startswith(b"/"):
                self.tell(b"<%b> %b\n" % (self.nick, line))

    def tell(self, line: bytes) -> None:
        for member in self.members:
            if member is self or not line.startswith(LAST):
                member.transport.write(line)
            elif self.later_s is not None:
                asyncio.get_running_loop().call_later(self.later_s, member.hear, line)

    def hear(self, line: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(line)


async def over_tls(
    authority: Authority, make: Callable[[], asyncio.Protocol], *, secure: bool = True,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, name: str = "localhost", **asked: Any
) -> Observation:  # fmt: skip
    """What is seen of this server; ``secure``: whether it speaks TLS, of this ``version``, with a
    certificate of this ``name``.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(*authority.issue(name))
    server = await asyncio.get_running_loop().create_server(
        make, "127.0.0.1", 0, ssl=context if secure else None
    )
    port = server.sockets[0].getsockname()[1]
    asked = {"tls": True, "ca": str(authority.file), **asked}
    seen = await carried(port, **asked)
    server.close()
    return seen


@pytest.mark.parametrize(
    ("later_s", "found"), [pytest.param(None, {"lost": 1}, id="never"),
                           pytest.param(0.3, {}, id="late")],
)  # fmt: skip
@on_uvloop
async def test_the_last_message_of_a_room_is_waited_for(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, later_s: float | None, found: Any
) -> None:
    """Who leaves first hears until all was heard, at most for the grace, and then it is lost."""
    monkeypatch.setattr(Room, "members", [])
    monkeypatch.setattr(Room, "later_s", later_s)
    seen = await over_tls(authority, Room, protocol="chat", rate=40.0, grace_ns=600 * MS)
    assert seen.tally.issued == 12
    report = build_report(seen)
    assert faults(report.tally) == found, report.tally.examples


@on_uvloop
async def test_the_last_word_of_kv_is_answered_over_tls(authority: Authority) -> None:
    """Keys that are gone at the end were not carried: there is time to hear that."""
    kept: list[Forgetful] = []

    class Forgetful(Server):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            kept.append(self)

        def data_received(self, data: bytes) -> None:
            if b"DEL" in data:
                self.inner.forget()
            super().data_received(data)

    make = partial(Forgetful, PROTOCOLS["kv"], "none")
    seen = await over_tls(authority, make, protocol="kv", rate=100.0, ms=100)
    assert len(kept) == 2
    assert faults(seen.tally) == {"not_carried": 2}


@on_uvloop
async def test_an_answer_too_many_is_heard_over_tls(authority: Authority) -> None:
    """Nothing is expected any more, and yet a line hears on for a moment before it closes."""

    class Tardy(Server):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.answered == 5:  # the last
                asyncio.get_running_loop().call_later(0.07, self.transport.write, data[-52:])

    make = partial(Tardy, PROTOCOLS["echo"], "none")
    seen = await over_tls(authority, make, protocol="echo", rate=100.0, ms=50, connections=1)
    assert seen.tally.issued == 5
    assert faults(seen.tally) == {"duplicated": 1}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@on_uvloop
async def test_what_is_said_after_our_own_end_is_heard_over_tls(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    """A server that has heard our end says half an answer more, and then ends its half."""
    make = partial(Server, PROTOCOLS["verify"], "exceed")
    seen = await over_tls(authority, make, version=version, rate=400.0)
    assert faults(seen.tally) == {"corrupted": 2}
    (example, _) = seen.tally.examples
    assert "bytes at the end make no whole answer" in example.detail


@pytest.mark.parametrize(("tls", "hint"), [(False, "ask with --tls"), (True, "Without --tls")])
@on_uvloop
async def test_who_asks_the_wrong_way_is_told_so(
    authority: Authority, tls: bool, hint: str
) -> None:
    """A server of TLS asked without it, and a plain one asked with it."""
    make = partial(Server, PROTOCOLS["verify"], "none")
    seen = await over_tls(
        authority, make, secure=not tls, tls=tls, rate=100.0, ms=100, timeout_s=0.3
    )
    (reason,) = [each for each in judge(build_report(seen)).reasons if "no " in each]
    assert hint in reason


@pytest.mark.parametrize(
    ("server_name", "refused"), [("shop.example", 0), ("other.example", 2)],
)  # fmt: skip
@on_uvloop
async def test_a_certificate_of_another_name_than_the_host(
    authority: Authority, server_name: str, refused: int
) -> None:
    """Who is dialled by an address is known by the name that was told."""
    make = partial(Server, PROTOCOLS["echo"], "none")
    seen = await over_tls(
        authority, make, name="shop.example", protocol="echo", server_name=server_name, ms=50
    )
    assert seen.tally.refused == refused
    assert (seen.tally.answered > 0) == (not refused)


def test_an_alert_of_tls_is_known() -> None:
    """Whatever was answered before: these bytes are of no other protocol."""
    said = why_dropped(None, b"\x15\x03\x03\x00\x02\x02\x46", tls=False, first=False)
    assert said == "the server closed the connection with an alert of TLS: ask with --tls"
    assert why_dropped(OSError("gone"), b"\x15\x03\x03", tls=True, first=True) == "gone"
    assert "TLS" not in why_dropped(None, b"", tls=False, first=False)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (ssl.SSLError("wrong version number"), "Without --tls"),
        (ConnectionResetError(), "Without --tls"),
        (ssl.SSLCertVerificationError("unknown authority"), "--ca FILE"),
        (ConnectionRefusedError("nobody listens"), ""),
    ],
)
def test_a_connect_of_tls_that_fails(error: OSError, hint: str) -> None:
    """What is not about TLS has no word about it."""
    said = why_refused(error, tls=True)
    assert hint in said
    assert bool(hint) == ("--" in said)
    assert "--" not in why_refused(error, tls=False)


@pytest.mark.parametrize("buffer", [None, bytearray(9)])
def test_the_end_of_the_servers_half_is_the_end_of_what_is_read(
    buffer: bytearray | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No bytes to who asks for bytes, and a count of none to who has a buffer."""

    def read(_self: ssl.SSLObject, *_asked: object) -> bytes:
        raise ssl.SSLZeroReturnError

    monkeypatch.setattr(ssl.SSLObject, "read", read)
    assert Session.__new__(Session).read(9, buffer) == (b"" if buffer is None else 0)
