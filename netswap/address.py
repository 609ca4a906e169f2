"""Where a listener listens: a host and a port, or the path of a Unix socket; and whom it trusts.

A Unix socket is named ``unix:/run/chat.sock``, with ``?mode=660`` for who may connect to it. Its
file has that mode from the moment that it exists.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

__all__ = ["PATH_LIMIT", "Address", "AnyAddress", "UnixAddress", "parse_address"]

PATH_LIMIT = 107  # bytes of sun_path without its final zero: unix(7)
_PORT_LIMIT = 65_535
_SCHEME = "unix:"
_MODE = re.compile(r"mode=(0?[0-7]{3})")


class Address(NamedTuple):
    """A host and a port; port 0 asks the system for a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``HOST:PORT`` or ``[IPv6]:PORT``; raise ValueError with a sentence."""
        host, colon, port = text.strip().rpartition(":")
        if not colon or not port.isascii() or not port.isdigit():
            raise ValueError(f"{text!r} is not HOST:PORT")
        if int(port) > _PORT_LIMIT:
            raise ValueError(f"port {port} is above {_PORT_LIMIT}")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"{text!r} is ambiguous: an IPv6 address stands in brackets, [::1]:80")
        if not host or host == "*":
            raise ValueError(f"{text!r} names no host: for all addresses write 0.0.0.0 or [::]")
        return cls(host, int(port))


class UnixAddress(NamedTuple):
    """The path of a Unix socket, and the mode of its file."""

    path: str
    mode: int = 0o600

    def __str__(self) -> str:
        return _SCHEME + self.path

    @classmethod
    def parse(cls, text: str) -> UnixAddress:
        """Read ``unix:/PATH`` or ``unix:/PATH?mode=660``; raise ValueError with a sentence."""
        path, question, option = text.strip().removeprefix(_SCHEME).partition("?")
        if not os.path.isabs(path) or path.endswith("/"):
            raise ValueError(f"{text!r} is not unix:/PATH, the absolute path of a file")
        if len(os.fsencode(path)) > PATH_LIMIT:
            raise ValueError(f"{path} is longer than a Unix socket's path may be, {PATH_LIMIT}")
        mode = _MODE.fullmatch(option)
        if question and mode is None:
            raise ValueError(f"{option!r} is not mode=660, the one option of a Unix socket")
        return cls(path) if mode is None else cls(path, int(mode[1], 8))


AnyAddress = Address | UnixAddress


def parse_address(text: str) -> AnyAddress:
    """Read ``HOST:PORT``, ``[IPv6]:PORT`` or ``unix:/PATH``; raise ValueError with a sentence."""
    kind = UnixAddress if text.strip().startswith(_SCHEME) else Address
    return kind.parse(text)
