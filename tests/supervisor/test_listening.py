"""Sockets of the supervisor: one per slot, bound once, never shared with a stranger."""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from netswap.config import Address, UnixAddress
from netswap.supervisor.listening import (
    ListenError,
    Listeners,
    Mesh,
    raise_descriptor_limit,
)
from netswap.supervisor.transaction import local_selector
from tests.machine import needs_ipv6

LOOPBACK = Address("127.0.0.1", 0)


def test_port_0_is_resolved_once_for_all_slots() -> None:
    """Every slot listens on the same port, by a socket of its own."""
    listeners = Listeners({"echo": [LOOPBACK]}, slots=3)
    (echo,) = listeners.all
    assert {sock.getsockname() for sock in echo.sockets} == {tuple(echo.address)}
    assert len({sock.fileno() for sock in echo.sockets}) == 3
    assert echo.address.port != 0
    listeners.close()


def test_a_connection_waits_in_a_slot_that_has_no_worker() -> None:
    """It is accepted by the kernel before any worker lives."""
    listeners = Listeners({"echo": [LOOPBACK]}, slots=2)
    with socket.create_connection(listeners.all[0].address, timeout=20) as client:
        assert client.getpeername() == tuple(listeners.all[0].address)
    listeners.close()


@pytest.mark.parametrize("reuse_port", [False, True])
def test_a_busy_port_is_an_error_that_says_what_to_do(reuse_port: bool) -> None:
    """Also when the other program would share the port: half the clients would be lost to it."""
    with socket.socket() as other:
        if reuse_port:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        sentence = rf"kv can't listen on 127.0.0.1:{port}: another program .*--listen kv="
        with pytest.raises(ListenError, match=sentence):
            Listeners({"echo": [LOOPBACK], "kv": [Address("127.0.0.1", port)]}, slots=2)


@pytest.mark.parametrize("address", [LOOPBACK, UnixAddress("/x")])
def test_too_many_open_files_are_not_the_address_s_fault(address: Address | UnixAddress) -> None:
    """Another address would be refused as well."""
    error = ListenError("kv", address, OSError(errno.EMFILE, "Too many open files"))
    assert "start fewer --workers" in str(error)
    assert "another address" not in str(error)


def test_an_address_of_another_machine_is_refused() -> None:
    """The sentence says that this machine does not have it."""
    with pytest.raises(ListenError, match="this machine has no such address"):
        Listeners({"kv": [Address("192.0.2.1", 0)]}, slots=1)


@needs_ipv6
def test_ipv6_and_several_addresses_of_one_protocol() -> None:
    """Each address is a listener with a name of its own."""
    listeners = Listeners({"echo": [LOOPBACK, Address("::1", 0)]}, slots=2)
    names = [(one.name, one.protocol) for one in listeners.all]
    assert names == [("echo", "echo"), ("echo-2", "echo")]
    second = listeners.all[1]
    assert str(second.address) == f"[::1]:{second.address.port}"
    assert second.spec(1).fd == second.sockets[1].fileno()
    socket.create_connection(("::1", second.address.port), timeout=20).close()
    listeners.close()


def test_a_unix_socket_is_shared_by_the_slots_and_goes_at_the_end(tmp_path: Path) -> None:
    """One socket with the mode that was asked for; a file that somebody else puts there stays."""
    address = UnixAddress(str(tmp_path / "x.sock"), 0o660)
    Listeners({"kv": [address]}, slots=1).all[0].sockets[0].close()  # a crash leaves the file
    listeners = Listeners({"kv": [LOOPBACK, address]}, slots=2)
    one = listeners.all[1]
    assert (one.name, str(one.address)) == ("kv-2", f"unix:{tmp_path}/x.sock")
    assert one.spec(0).fd == one.spec(1).fd
    assert stat.S_IMODE(os.stat(address.path).st_mode) == 0o660
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address.path)
    listeners.close()
    assert not os.path.exists(address.path)


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("server", r"a running server answers there; stop it \(ss -xlp src .*x.sock names it\)"),
        ("file", "a file that is no socket is there; move it away"),
        ("no directory", "there is no such directory; make it"),
    ],
)
def test_a_path_that_can_not_be_had_says_what_to_do(
    tmp_path: Path, what: str, sentence: str
) -> None:
    """And what was bound before is given back, other files untouched."""
    folder = tmp_path / "none" if what == "no directory" else tmp_path
    path, first = folder / "x.sock", UnixAddress(str(tmp_path / "first.sock"))
    with socket.socket(socket.AF_UNIX) as other:
        if what == "server":
            other.bind(str(path))
            other.listen()
        elif what == "file":
            path.write_text("precious")
        with pytest.raises(ListenError, match=f"kv can't listen on unix:.*: {sentence}"):
            Listeners({"echo": [first], "kv": [UnixAddress(str(path))]}, slots=2)
    assert path.exists() is (what != "no directory")
    assert not os.path.exists(first.path)


@pytest.mark.parametrize("depth", [0, 12], ids=["short path", "long path"])
def test_the_mesh_is_for_this_user_alone(tmp_path: Path, depth: int) -> None:
    """Its folder can't be entered by others, and goes with it; a socket's path is limited."""
    parent = tmp_path.joinpath(*["a long name"] * depth)
    parent.mkdir(parents=True, exist_ok=True)
    mesh = Mesh(2, parent)
    assert stat.S_IMODE(os.stat(mesh.folder).st_mode) == 0o700
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(mesh.paths[1])
    mesh.close()
    assert not mesh.folder.exists()


def test_a_mesh_that_a_crash_has_left_is_replaced() -> None:
    """The state directory's lock says that nobody uses it."""
    with tempfile.TemporaryDirectory() as parent:
        left = Mesh(2, Path(parent))
        for sock in left.sockets.values():
            sock.close()
        again = Mesh(1, Path(parent))
        assert [path.name for path in again.folder.iterdir()] == ["0.sock"]
        again.close()


def test_the_limit_of_open_files_is_raised_as_far_as_it_goes() -> None:
    """10,000 connections need more than the usual 1,024 descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] // 2, before[1]))
    try:
        assert raise_descriptor_limit() == before[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    ("selector", "slot", "expected"),
    [
        ("id=1.42", 1, "id=42"),
        ("id=1.42", 0, "id=0"),
        ("kind=k,id = 0.7,peer=a", 0, "kind=k,id=7,peer=a"),
        ("id=42", 0, "id=42"),
        ("peer_id=1.42", 0, "peer_id=1.42"),
    ],
)
def test_object_ids_are_local_to_a_slot(selector: str, slot: int, expected: str) -> None:
    """An id of one worker matches nothing in the others."""
    assert local_selector(selector, slot) == expected
