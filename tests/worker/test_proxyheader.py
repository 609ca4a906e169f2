"""PROXY headers, cut anywhere: who it is, and not a byte too many."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netswap.errors import ProtocolError
from netswap.worker.proxyheader import HeaderReader

REST = b"\x16\x03\x01 what follows\r\n"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def binary(kind: int, body: bytes, command: int = 0x21, length: int | None = None) -> bytes:
    """A header of version 2."""
    size = len(body) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, kind, size) + body


FOUR = socket.inet_aton("192.0.2.7") + socket.inet_aton("10.0.0.1") + struct.pack("!HH", 5000, 443)
SIX = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "::1")
    + struct.pack("!HH", 5000, 443)
)
UNIX = b"/run/a.sock".ljust(108, b"\0") + b"/run/b.sock".ljust(108, b"\0")
FIELDS = b"\x03\x00\x04abcd\x20\x00\x02\x01\x00"

GOOD: dict[str, tuple[bytes, Any]] = {
    "line 4": (b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 443\r\n", ("192.0.2.7", 5000)),
    "line 6": (b"PROXY TCP6 2001:db8::7 ::1 5000 443\r\n", ("2001:db8::7", 5000, 0, 0)),
    "line unknown": (b"PROXY UNKNOWN\r\n", None),
    "line unknown, with more": (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", None),
    "binary 4": (binary(0x11, FOUR), ("192.0.2.7", 5000)),
    "binary 6": (binary(0x21, SIX), ("2001:db8::7", 5000, 0, 0)),
    "binary unix": (binary(0x31, UNIX), "unix:/run/a.sock"),
    "binary unix, with a line break": (
        binary(0x31, b"\0a\nb \xff".ljust(108, b"\0") + UNIX[108:]), "unix:\\x00a\\nb \\xff"),
    "binary with fields": (binary(0x11, FOUR + FIELDS), ("192.0.2.7", 5000)),
    "local": (binary(0x11, FOUR, command=0x20), None),
    "local, empty": (binary(0x00, b"", command=0x20), None),
    "unspecified": (binary(0x00, FIELDS), None),
    "long": (binary(0x11, FOUR + b"\x04" + struct.pack("!H", 4000) + bytes(4000)),
             ("192.0.2.7", 5000)),
}  # fmt: skip

BAD: dict[str, bytes] = {
    "something else": b"GET / HTTP/1.1\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(16),
    "almost a line": b"PROXI TCP4 192.0.2.7 10.0.0.1 5000 443\r\n",
    "a line without an end": b"PROXY TCP4 " + b"1" * 200,
    "a bare line feed": b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 443\nx",
    "words missing": b"PROXY TCP4 192.0.2.7 10.0.0.1 5000\r\n",
    "words too many": b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 443 x\r\n",
    "two spaces": b"PROXY  TCP4 192.0.2.7 10.0.0.1 5000 443\r\n",
    "another family": b"PROXY UDP4 192.0.2.7 10.0.0.1 5000 443\r\n",
    "addresses of another family": b"PROXY TCP4 ::1 ::1 5000 443\r\n",
    "a host name": b"PROXY TCP4 localhost 10.0.0.1 5000 443\r\n",
    "a port too high": b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n",
    "a port with a sign": b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 443\r\n",
    "a port with a zero before": b"PROXY TCP4 192.0.2.7 10.0.0.1 05000 443\r\n",
    "letters that are no ASCII": "PROXY TCP4 192.0.2.7 10.0.0.1 ５000 443\r\n".encode(),
    "a broken signature": SIGNATURE[:-1] + b"x" + bytes(8),
    "version 1 in binary": binary(0x11, FOUR, command=0x11),
    "another command": binary(0x11, FOUR, command=0x22),
    "datagrams": binary(0x12, FOUR),
    "a family that is not known": binary(0x41, UNIX),
    "addresses cut off": binary(0x21, FOUR),
    "more than anybody needs": binary(0x11, FOUR, length=60_000),
}


def read(wire: bytes, cuts: set[int]) -> tuple[HeaderReader, bytes]:
    """Feed a reader as from a socket: what it looks at, it leaves or takes."""
    reader, arrived, waiting = HeaderReader(), 0, b""
    for cut in sorted({*cuts, len(wire)}):
        waiting, arrived = waiting + wire[arrived:cut], cut
        while waiting and not reader.done:
            looked = waiting[: reader.wanted]
            assert looked, "nothing wanted and not done"
            waiting = waiting[reader.feed(looked) :]
    return reader, waiting


@pytest.mark.parametrize("name", GOOD)
def test_a_header_cut_at_every_byte(name: str) -> None:
    """The same peer wherever it is cut, and all that follows is left."""
    wire, peer = GOOD[name]
    step = 1 if len(wire) < 300 else 97
    for cut in [*range(0, len(wire) + 1, step), len(wire) + 3]:
        reader, left = read(wire + REST, {cut})
        assert reader.done
        assert (reader.peer, left) == (peer, REST)


@pytest.mark.parametrize("name", [name for name in GOOD if name != "long"])
def test_a_header_byte_by_byte(name: str) -> None:
    """Nothing is looked at twice: each byte that is there is taken or refused."""
    wire, peer = GOOD[name]
    reader, left = read(wire + REST, set(range(len(wire + REST))))
    assert (reader.peer, left) == (peer, REST)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_header_is_refused(name: str) -> None:
    """In one piece and byte by byte, before more than a bounded number of bytes were taken."""
    for cuts in (set(), set(range(len(BAD[name])))):
        with pytest.raises(ProtocolError):
            read(BAD[name], cuts)


ADDRESSES = st.ip_addresses(v=4) | st.ip_addresses(v=6)


@given(ADDRESSES, st.integers(0, 65_535), st.booleans(), st.sets(st.integers(0, 120)))
def test_any_address_of_any_version_in_any_pieces(
    address: Any, port: int, line: bool, cuts: set[int]
) -> None:
    """What a proxy writes is what is read."""
    four = isinstance(address, ipaddress.IPv4Address)
    if line:
        words = f"PROXY TCP{4 if four else 6} {address} {address} {port} 1\r\n"
        wire = words.encode()
    else:
        body = address.packed * 2 + struct.pack("!HH", port, 1)
        wire = binary(0x11 if four else 0x21, body)
    reader, left = read(wire + REST, cuts)
    assert left == REST
    assert reader.peer == ((str(address), port) if four else (str(address), port, 0, 0))


@given(st.binary(max_size=300), st.sets(st.integers(0, 300)))
def test_anything_is_a_header_or_refused_or_cut_off(wire: bytes, cuts: set[int]) -> None:
    """No other exception, and never more bytes taken than there are."""
    try:
        reader, left = read(wire, cuts)
    except ProtocolError:
        return
    assert wire.endswith(left)
    assert reader.done or not left
