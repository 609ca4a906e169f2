"""The head that a proxy puts before a connection's bytes: whose connection it passes on.

Both versions of the PROXY protocol (haproxy's ``proxy-protocol.txt``, 2020), without I/O: the
reader says how many bytes it may look at, and how many of those are of the header. So exactly the
header is taken out of the socket, and what follows, a TLS handshake perhaps, is left in it.

Version 1 is a line of text that ends with its first CR LF, at most 107 bytes. Version 2 is binary:
a signature, a length, addresses, and fields with more (TLV), which are skipped. ``LOCAL``,
``UNKNOWN`` and ``UNSPEC`` say that the connection is the proxy's own, such as a health check.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from typing import Final

from netswap.errors import ProtocolError

__all__ = ["HeaderReader"]

_LINE: Final = b"PROXY "
_LINE_LIMIT: Final = 107
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_HEAD: Final = struct.Struct("!12sBBH")
_LENGTH_LIMIT: Final = 4096
"""Bytes after a head of version 2: addresses take 216 at most, the rest is fields."""

Peer = tuple[str, int] | tuple[str, int, int, int] | str
"""A peername of IPv4, of IPv6, or of a Unix socket."""


class HeaderReader:
    """Reads one header, cut anywhere.

    ``wanted`` is how many bytes may be looked at; ``feed`` takes them and says how many were the
    header's. When ``done``, ``peer`` is whose connection it is: None for the proxy's own.
    """

    def __init__(self) -> None:
        self.done = False
        self.peer: Peer | None = None
        self._seen = b""
        self._total = _HEAD.size

    @property
    def wanted(self) -> int:
        """How many bytes may be looked at; more could be those of the connection."""
        if self._is_line():
            return _LINE_LIMIT - len(self._seen)
        return self._total - len(self._seen)

    def feed(self, data: bytes) -> int:
        """Take what was looked at: how many of its bytes are the header's.

        :raises ProtocolError: it is no header.
        """
        before = len(self._seen)
        self._seen += data
        read = self._feed_line if self._is_line() else self._feed_binary
        self._seen = self._seen[: read()]
        return len(self._seen) - before

    def _is_line(self) -> bool:
        start = self._seen[: len(_LINE)]
        return bool(start) and _LINE.startswith(start)

    def _feed_line(self) -> int:
        """How long the header is, as far as it has come."""
        end = self._seen.find(b"\r\n")
        if end < 0:
            if len(self._seen) >= _LINE_LIMIT or b"\n" in self._seen:
                raise ProtocolError("a PROXY line without its end")
            return len(self._seen)
        self.peer = _peer_of_line(self._seen[:end])
        self.done = True
        return end + 2

    def _feed_binary(self) -> int:
        if not _SIGNATURE.startswith(self._seen[: len(_SIGNATURE)]):
            raise ProtocolError("not a PROXY header")
        if len(self._seen) >= _HEAD.size:
            self._total = _HEAD.size + _length(self._seen)
        if len(self._seen) >= self._total:
            self.peer = _peer_of_binary(self._seen[: self._total])
            self.done = True
        return min(len(self._seen), self._total)


def _peer_of_line(line: bytes) -> Peer | None:
    try:
        words = line.decode("ascii").split(" ")
    except UnicodeDecodeError as error:
        raise ProtocolError("a PROXY line that is not ASCII") from error
    if words[1:2] == ["UNKNOWN"]:
        return None
    if len(words) != 6 or words[1] not in _FAMILIES:
        raise ProtocolError(f"a PROXY line of {len(words)} words: {line[:60]!r}")
    family = words[1]
    source, _ = (_address(family, word) for word in words[2:4])
    port, _ = (_port(word) for word in words[4:6])
    return _FAMILIES[family](source, port)


def _address(family: str, word: str) -> str:
    try:
        return str(_VERSIONS[family](word))
    except ValueError as error:
        raise ProtocolError(f"{word!r} is no address of {family}") from error


def _port(word: str) -> int:
    number = int(word) if word.isascii() and word.isdigit() and len(word) <= 5 else -1
    if not 0 <= number <= 65_535 or (len(word) > 1 and word.startswith("0")):
        raise ProtocolError(f"{word!r} is no port")
    return number


_VERSIONS: Final[dict[str, Callable[[str], object]]] = {
    "TCP4": ipaddress.IPv4Address,
    "TCP6": ipaddress.IPv6Address,
}
_FAMILIES: Final[dict[str, Callable[[str, int], Peer]]] = {
    "TCP4": lambda host, port: (host, port),
    "TCP6": lambda host, port: (host, port, 0, 0),
}


def _length(head: bytes) -> int:
    _, command, _, length = _HEAD.unpack_from(head)
    if command not in (0x20, 0x21):
        raise ProtocolError(f"a PROXY header of version {command >> 4}, command {command & 15}")
    if length > _LENGTH_LIMIT:
        raise ProtocolError(f"a PROXY header of {length} bytes")
    return int(length)


def _peer_of_binary(header: bytes) -> Peer | None:
    _, command, kind, _ = _HEAD.unpack_from(header)
    body = header[_HEAD.size :]
    if command == 0x20 or kind >> 4 == 0:  # LOCAL, or a family that is not told
        return None
    read = _BINARY.get(kind)
    if read is None:
        raise ProtocolError(f"a PROXY header of family {kind >> 4}, transport {kind & 15}")
    size, peer = read
    if len(body) < size:
        raise ProtocolError(f"a PROXY header with {len(body)} of {size} bytes of addresses")
    return peer(body)


def _of_four(body: bytes) -> Peer:
    return str(ipaddress.IPv4Address(body[:4])), int.from_bytes(body[8:10])


def _of_six(body: bytes) -> Peer:
    return str(ipaddress.IPv6Address(body[:16])), int.from_bytes(body[32:34]), 0, 0


def _of_unix(body: bytes) -> Peer:
    """Its path, printable: a client binds its socket to what it likes, a line break in it too."""
    path = body[:108].rstrip(b"\0").decode("utf-8", "backslashreplace")
    return "unix:" + "".join(
        letter if letter.isprintable() else ascii(letter)[1:-1] for letter in path
    )


_BINARY: Final[dict[int, tuple[int, Callable[[bytes], Peer]]]] = {
    0x11: (12, _of_four),
    0x21: (36, _of_six),
    0x31: (216, _of_unix),
}
"""Family and transport, both of streams: how many bytes of addresses, and whose they are."""
