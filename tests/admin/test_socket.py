"""The admin socket: private from its first moment, and never stolen from a living server."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from netswap.admin.socket import AdminSocketError, bind_admin_socket, may_speak
from netswap.unixsocket import Peer


def test_it_is_created_private(tmp_path: Path) -> None:
    """Mode 0600 by umask, whatever the umask was, which is as before afterwards."""
    before = os.umask(0o000)
    try:
        path = tmp_path / "new" / "admin.sock"
        bind_admin_socket(path).sock.close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert os.umask(0o000) == 0o000
    finally:
        os.umask(before)


def test_it_is_never_chmoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a bind and a chmod anybody could connect."""
    for name in ("chmod", "fchmod"):
        monkeypatch.setattr(os, name, lambda *_: pytest.fail("chmod"))
    bind_admin_socket(tmp_path / "admin.sock").sock.close()


def test_what_a_dead_server_left_is_replaced(tmp_path: Path) -> None:
    """A crash must not need a hand to clean up."""
    path = tmp_path / "admin.sock"
    bind_admin_socket(path).sock.close()
    bind_admin_socket(path).sock.close()


def test_a_living_server_keeps_its_socket(tmp_path: Path) -> None:
    """The second server is told what to do."""
    path = tmp_path / "admin.sock"
    with (
        bind_admin_socket(path).sock,
        pytest.raises(AdminSocketError, match="a running server answers there.*--socket"),
    ):
        bind_admin_socket(path)


def test_a_file_in_its_place_is_not_removed(tmp_path: Path) -> None:
    """Only a socket can be stale."""
    path = tmp_path / "admin.sock"
    path.write_text("precious")
    with pytest.raises(AdminSocketError, match="no socket is there"):
        bind_admin_socket(path)
    assert path.read_text() == "precious"


def test_a_place_that_cannot_be_written_is_told_apart(tmp_path: Path) -> None:
    """A server may go on without a socket there, if nobody asked for it."""
    (tmp_path / "file").touch()
    with pytest.raises(AdminSocketError) as caught:
        bind_admin_socket(tmp_path / "file" / "admin.sock")
    assert caught.value.unwritable


@pytest.mark.parametrize(("uid", "allowed"), [(0, True), (os.geteuid(), True), (64123, False)])
def test_only_the_servers_user_and_root_may_speak(uid: int, allowed: bool) -> None:
    """A stranger is refused even when the file's mode would let him in."""
    assert may_speak(Peer(1, uid, 1)) is allowed
