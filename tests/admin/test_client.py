"""The command line's side of the admin API, against servers that are gone or break off."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from netswap.admin import AdminClient, Interrupted, RollbackRequest, Unreachable


def test_no_server_is_unreachable(tmp_path: Path) -> None:
    """Each way of not being there has its own sentence and advice."""
    with pytest.raises(Unreachable, match="there is no such socket"):
        AdminClient(tmp_path / "none", 1).get("status")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(Unreachable, match="nobody listens"):
        AdminClient(tmp_path / "dead", 1).get("status")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b'HTTP/1.0 200 OK\r\n\r\n{"phase":"swapping","text":"x"}\n',
        b'HTTP/1.0 200 OK\r\n\r\n{"outcome":"do',
        b"SSH-2.0\r\n",
    ],
    ids=["nothing", "no line", "no result", "half a result", "no HTTP"],
)
def test_an_answer_without_its_end_is_an_unknown_outcome(tmp_path: Path, answer: bytes) -> None:
    """The client never takes half an answer for a result."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "s"))
    listening.listen()

    def speak() -> None:
        accepted, _ = listening.accept()
        accepted.recv(65536)
        accepted.sendall(answer)
        accepted.close()

    speaker = threading.Thread(target=speak)
    speaker.start()
    with pytest.raises(Interrupted):
        list(AdminClient(tmp_path / "s", 2).post("rollback", RollbackRequest()))
    speaker.join()
    listening.close()
