"""The sockets that the supervisor owns: listeners and the mesh.

Theory. Each listener has one SO_REUSEPORT socket per worker slot. The kernel spreads new
connections over them by a hash, and a connection waits in the queue of the socket that it was
given to. So a socket lives as long as the server: it is bound once, inherited by every worker
that its slot ever has, never shut down and closed only at the end. What is queued while a slot
has no worker waits for the successor.

A Unix socket can't be bound twice, so all slots share one, and each worker takes one connection at
a time from it. Its file is removed at the end, unless somebody has put another one there.

SO_REUSEPORT would also let a second server of the same user join in silently and take half the
connections. Hence a probe without it first: that one fails when anybody else listens.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from netswap.address import BACKLOG, PATH_LIMIT, listener_name, of_listener
from netswap.channel.messages import ListenerSpec
from netswap.config import Address, AnyAddress, UnixAddress
from netswap.errors import CallerError
from netswap.unixsocket import Bound, PathTaken, bind_path

__all__ = ["Listener", "ListenError", "Listeners", "Mesh", "raise_descriptor_limit"]

_FOLDER_LIMIT = PATH_LIMIT - len("/9999.sock")


class ListenError(CallerError):
    """An address can't be listened on; says which protocol's, why, and what to do."""

    def __init__(self, protocol: str, address: AnyAddress, error: OSError) -> None:
        super().__init__(protocol, address, error)
        self.protocol = protocol
        self.address = address
        self.error = error

    def __str__(self) -> str:
        fallback = (self.error.strerror or str(self.error), "choose another address with --listen")
        reason, advice = _REASONS[type(self.address)].get(self.error.errno or 0, fallback)
        return f"{self.protocol} can't listen on {self.address}: {reason}; " + advice.format(
            protocol=self.protocol, **self.address._asdict()
        )


_OF_PORTS: dict[int, tuple[str, str]] = {
    errno.EADDRINUSE: (
        "another program listens there",
        "stop it (ss -ltnp 'sport = :{port}' names it) or use --listen {protocol}={host}:0",
    ),
    errno.EACCES: (
        "this user may not use that port",
        "use a port from 1024 up, or grant CAP_NET_BIND_SERVICE",
    ),
    errno.EADDRNOTAVAIL: (
        "this machine has no such address",
        "`ip addr` lists those it has",
    ),
}
_OF_PATHS: dict[int, tuple[str, str]] = {
    errno.EADDRINUSE: (
        "a running server answers there",
        "stop it (ss -xlp src {path} names it) or use another path",
    ),
    errno.EEXIST: ("a file that is no socket is there", "move it away"),
    errno.EACCES: ("this user may not write there", "use a directory of the server's user"),
    errno.ENOENT: ("there is no such directory", "make it, or use another path"),
}
_TOO_MANY = {
    errno.EMFILE: (
        "this process may open no more files",
        "start fewer --workers, or raise its limit (ulimit -n, LimitNOFILE=)",
    ),
}
_REASONS: dict[type, dict[int, tuple[str, str]]] = {
    Address: _OF_PORTS | _TOO_MANY,
    UnixAddress: _OF_PATHS | _TOO_MANY,
}


@dataclass(frozen=True)
class Listener:
    """One address of one protocol, with its socket for each slot; a Unix socket is one for all.

    ``proxy`` are those whose PROXY headers are taken; None when there are no headers.
    """

    name: str
    protocol: str
    address: AnyAddress
    sockets: tuple[socket.socket, ...]
    bound: Bound | None = None
    proxy: tuple[str, ...] | None = None

    def spec(self, slot: int) -> ListenerSpec:
        """What the worker of ``slot`` is told; the descriptor's number stays the same there."""
        fd = self.sockets[slot].fileno()
        proxy = None if self.proxy is None else list(self.proxy)
        return ListenerSpec(self.name, self.protocol, str(self.address), fd, proxy=proxy)

    def close(self) -> None:
        """Close every socket; connections still queued are reset."""
        if self.bound is not None:
            self.bound.remove()
        for sock in self.sockets:
            sock.close()


class Listeners:
    """All listeners of the server. Closing is final."""

    def __init__(
        self,
        wanted: Mapping[str, Iterable[AnyAddress]],
        slots: int,
        proxy: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """Bind everything or nothing; ``proxy`` is a table by listener or protocol.

        :raises ListenError: for the first address that can't be had.
        """
        self.all: list[Listener] = []
        with ExitStack() as undo:
            undo.callback(self.close)
            for protocol, addresses in wanted.items():
                for number, address in enumerate(addresses):
                    name = listener_name(protocol, number)
                    listen = _LISTEN[type(address)]
                    made = listen(name, protocol, address, slots)
                    trusted = of_listener(proxy or {}, name, protocol)
                    self.all.append(replace(made, proxy=trusted))
            undo.pop_all()

    def specs(self, slot: int) -> list[ListenerSpec]:
        """The listeners as the worker of ``slot`` sees them."""
        return [listener.spec(slot) for listener in self.all]

    def close(self) -> None:
        """Close every socket; connections still queued are reset."""
        for listener in self.all:
            listener.close()


def _listen_at_path(name: str, protocol: str, address: UnixAddress, slots: int) -> Listener:
    try:
        bound = bind_path(Path(address.path), address.mode, BACKLOG)
    except PathTaken as error:
        code = errno.EADDRINUSE if error.running else errno.EEXIST
        raise ListenError(protocol, address, OSError(code, error.reason)) from error
    except OSError as error:
        raise ListenError(protocol, address, error) from error
    return Listener(name, protocol, address, (bound.sock,) * slots, bound)


def _listen_at_port(name: str, protocol: str, address: Address, slots: int) -> Listener:
    sockets: list[socket.socket] = []
    try:
        resolved = _resolve(address)
        _bound(resolved, shared=False).close()
        for _ in range(slots):
            sockets.append(_bound(resolved, shared=True))
            resolved = resolved[0], sockets[0].getsockname()
        for sock in sockets:
            sock.listen(BACKLOG)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise ListenError(protocol, address, error) from error
    # The host stays as it was given, so that clients see the name they know.
    port = sockets[0].getsockname()[1]
    return Listener(name, protocol, Address(address.host, port), tuple(sockets))


_LISTEN: dict[type, Callable[[str, str, Any, int], Listener]] = {
    Address: _listen_at_port,
    UnixAddress: _listen_at_path,
}
_Resolved = tuple[int, tuple[str, int] | tuple[str, int, int, int]]


def _resolve(address: Address) -> _Resolved:
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise OSError(errno.EADDRNOTAVAIL, str(error.strerror)) from error
    family, _, _, _, sockaddr = found[0]
    return family, sockaddr  # type: ignore[return-value]  # a stream's address is one of the two


def _bound(resolved: _Resolved, shared: bool) -> socket.socket:
    family, sockaddr = resolved
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # [::] means IPv6 only, so that 0.0.0.0 can be a listener of its own beside it.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


class Mesh:
    """A listening Unix socket per slot, in a folder that only this user can enter.

    The folder is in ``parent``, which no other server may use, so that what a crash has left is
    found and removed; only where that makes a path too long for a socket is it a temporary one.
    """

    def __init__(self, slots: int, parent: Path) -> None:
        self.folder = _mesh_folder(parent.absolute())
        self.paths = {slot: str(self.folder / f"{slot}.sock") for slot in range(slots)}
        self.sockets: dict[int, socket.socket] = {}
        with ExitStack() as undo:
            undo.callback(self.close)
            for slot, path in self.paths.items():
                sock = self.sockets[slot] = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                sock.bind(path)
                sock.listen(BACKLOG)
                sock.setblocking(False)
            undo.pop_all()

    def close(self) -> None:
        """Close the sockets and remove the folder."""
        for sock in self.sockets.values():
            sock.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _mesh_folder(parent: Path) -> Path:
    folder = parent / "mesh"
    if len(os.fsencode(folder)) > _FOLDER_LIMIT:
        return Path(tempfile.mkdtemp(prefix="netswap-mesh-"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one, for workers too; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
