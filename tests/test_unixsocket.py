"""Unix sockets at a path: the mode from the first moment, nobody's robbed, nothing left behind."""

from __future__ import annotations

import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from netswap.unixsocket import PathTaken, Peer, bind_path, peer_of


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_file_has_its_mode_from_the_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    """By umask, which is as before afterwards: between a bind and a chmod anybody could connect."""
    for name in ("chmod", "fchmod"):
        monkeypatch.setattr(os, name, lambda *_: pytest.fail("chmod"))
    before = os.umask(0o022)
    try:
        bound = bind_path(tmp_path / "x.sock", mode, 8)
        assert stat.S_IMODE(bound.path.stat().st_mode) == mode
        assert os.umask(0o022) == 0o022
        bound.remove()
    finally:
        os.umask(before)


def test_what_a_dead_server_left_is_replaced_and_a_running_ones_is_not(tmp_path: Path) -> None:
    """Nor is a file that is no socket."""
    path = tmp_path / "x.sock"
    bind_path(path, 0o600, 8).sock.close()
    bound = bind_path(path, 0o600, 8)
    with pytest.raises(PathTaken, match="a running server answers there") as caught:
        bind_path(path, 0o600, 8)
    assert caught.value.running
    bound.remove()
    path.write_text("precious")
    with pytest.raises(PathTaken, match="a file that is no socket is there"):
        bind_path(path, 0o600, 8)
    assert path.read_text() == "precious"


def test_a_successors_socket_is_not_removed(tmp_path: Path) -> None:
    """A server that ends late must not cut off the one that took its place."""
    path = tmp_path / "x.sock"
    first = bind_path(path, 0o600, 8)
    path.rename(path.with_name("keep"))
    second = bind_path(path, 0o600, 8)
    first.remove()
    assert path.exists()
    second.remove()
    assert not path.exists()
    second.remove()


def test_the_peer_is_who_the_kernel_says(tmp_path: Path) -> None:
    """Credentials come from the socket, not from what the client claims."""
    listening = bind_path(tmp_path / "x.sock", 0o600, 8).sock
    listening.setblocking(True)
    client = socket.socket(socket.AF_UNIX)
    caller = threading.Thread(target=client.connect, args=(str(tmp_path / "x.sock"),))
    caller.start()
    accepted, _ = listening.accept()
    caller.join()
    assert peer_of(accepted) == Peer(os.getpid(), os.geteuid(), os.getegid())
    for sock in (accepted, client, listening):
        sock.close()
