"""Where a listener listens: a host and a port, or the path of a Unix socket; and whom it trusts.

Settings of single listeners are tables by the listener's name; a protocol's name there is all of
its listeners that have no row of their own.

A Unix socket is named ``unix:/run/chat.sock``, with ``?mode=660`` for who may connect to it. Its
file has that mode from the moment that it exists.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

__all__ = [
    "BACKLOG",
    "PATH_LIMIT",
    "Address",
    "AnyAddress",
    "Trusted",
    "UnixAddress",
    "listener_name",
    "of_listener",
    "parse_address",
    "read_listen",
    "read_trusted",
]

BACKLOG = 4096
"""Connections that a listener's queue holds."""
PATH_LIMIT = 107  # bytes of sun_path without its final zero: unix(7)
_PORT_LIMIT = 65_535
_SCHEME = "unix:"
_UNIX = "unix"
_MODE = re.compile(r"mode=(0?[0-7]{3})")


T = TypeVar("T")


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


def listener_name(protocol: str, number: int) -> str:
    """The name of a protocol's listener at its address ``number``, counted from 0."""
    return protocol if number == 0 else f"{protocol}-{number + 1}"


def of_listener(table: Mapping[str, T], name: str, protocol: str) -> T | None:
    """The row of a listener, else that of its protocol."""
    return table[name] if name in table else table.get(protocol)


class Trusted:
    """Peers whose word is taken: networks, and ``unix`` for all who connect to a Unix socket."""

    def __init__(self, words: Iterable[str]) -> None:
        """Raise ValueError for what is neither."""
        words = list(words)
        self.unix = _UNIX in words
        self.networks = [ipaddress.ip_network(word) for word in words if word != _UNIX]

    def includes(self, peername: Any) -> bool:
        """Whether a peer is one of them; who may connect to a path is said by its mode."""
        if not isinstance(peername, tuple):
            return self.unix
        address = ipaddress.ip_address(str(peername[0]).partition("%")[0])
        return any(address in network for network in self.networks)


def read_listen(value: object) -> dict[str, tuple[AnyAddress, ...]]:
    """Addresses by protocol. Raises ValueError for what is none, or is given twice."""
    found: dict[str, list[AnyAddress]] = {}
    for protocol, text in _pairs(value, "PROTOCOL", "HOST:PORT"):
        if not re.fullmatch(r"[a-z][a-z0-9_.-]*", protocol):
            raise ValueError(f"{protocol!r} is not the name of a protocol")
        found.setdefault(protocol, []).append(parse_address(text))
    _refuse_doubles([address for addresses in found.values() for address in addresses])
    return {protocol: tuple(addresses) for protocol, addresses in found.items()}


def _pairs(value: object, name: str, row: str) -> list[tuple[str, str]]:
    """The rows ``name = row`` of a TOML table, of repeated flags, or of a variable."""
    if isinstance(value, dict):
        tabled = [(key, at if isinstance(at, list) else [at]) for key, at in value.items()]
        return [(str(key), str(one)) for key, several in tabled for one in several]
    words = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(words, list | tuple):
        raise ValueError(f"{value!r} is not a table of {name} = '{row}'")
    pairs = [str(word).partition("=") for word in words]
    for word, equals, _ in pairs:
        if not equals:
            raise ValueError(f"{word!r} is not {name}={row}")
    return [(word, rest) for word, _, rest in pairs]


def _refuse_doubles(addresses: list[AnyAddress]) -> None:
    fixed = [str(one) for one in addresses if isinstance(one, UnixAddress) or one.port]
    for address in fixed:
        if fixed.count(address) > 1:
            raise ValueError(f"{address} is given twice")


def read_trusted(value: object) -> dict[str, tuple[str, ...]]:
    """Networks by listener, of a TOML table, repeated flags, or a variable; else ValueError."""
    found: dict[str, tuple[str, ...]] = {}
    for name, word in _pairs(value, "LISTENER", "NETWORK"):
        found[name] = (*found.get(name, ()), _network(word))
    return found


def _network(word: str) -> str:
    if word == _UNIX:
        return word
    try:
        return str(ipaddress.ip_network(word))
    except ValueError as error:
        raise ValueError(f"{word!r} is neither a network, as 10.0.0.0/8, nor unix") from error
