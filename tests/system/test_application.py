"""serve --app: an application from the disk, replaced by pushes and by saves, sessions and all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.harness import Client, Server, until

pytestmark = pytest.mark.timeout(120)

MAIN = """
import io
from netswap.http import Response, kept
import db

loads = kept("loads", io.BytesIO)
loads.write(db.V[:1].encode())

async def app(request):
    if request.path == "/loads":
        return Response(loads.getvalue() + b"\\n")
    return Response(f"{db.V}\\n")
"""


def write(folder: Path, version: str) -> None:
    """The application, of that version."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "main.py").write_text(MAIN)
    (folder / "db.py").write_text(f"V = {version!r}\n")


def get(client: Client, path: str = "/") -> str:
    """What a kept connection answers."""
    client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    while line := client.line().strip():
        assert not line.startswith("HTTP") or line == "HTTP/1.1 200 OK"
    return client.line().strip()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Of one worker over a folder with the application; it is not started."""
    write(tmp_path, "one")
    made = Server(tmp_path, ["http"], "--app", "main:app", "--workers", "1")
    yield made
    made.kill()


def test_a_save_is_a_push_and_sessions_survive_it(server: Server) -> None:
    """A save that is refused is told, and the code before serves on."""
    server.options = (*server.options, "--reload")
    server.start()
    log = server.folder / "server.log"
    with server.client("http") as client:
        assert get(client) == "one"
        write(server.folder, "two, longer")
        until(lambda: get(client) == "two, longer", "the save is served")
        (server.folder / "db.py").write_text("V = = 3\n")
        until(lambda: "db.py:1" in log.read_text(), "the refusal is told")
        assert "the code before serves on" in log.read_text()
        assert get(client) == "two, longer"
        write(server.folder, "three")
        until(lambda: get(client) == "three", "the mended save is served")
        assert get(client, "/loads") == "ott"  # what is kept is one for all versions
    server.stop()


def test_what_was_pushed_is_served_again_unless_the_files_were_edited(
    server: Server, tmp_path: Path
) -> None:
    """A restart goes on with the committed set, of which a push that can't start is no part; an
    edit while the server was down is taken.
    """
    server.start()
    pushed = tmp_path / "elsewhere"
    write(pushed, "pushed")
    server.push(pushed / "main.py")
    broken = tmp_path / "broken.py"
    broken.write_text("async def create_app():\n    raise ConnectionRefusedError('no pool')\n")
    answer = server.netswap("push", broken)
    assert (answer.code, answer.page["where"].split(",")[0]) == (20, "broken.py:2")
    assert answer.page["what"] == "http.app could not start: ConnectionRefusedError: no pool"
    with server.client("http") as client:
        assert get(client) == "pushed"
    server.stop()
    server.start()
    with server.client("http") as client:
        assert get(client) == "pushed"
    server.stop()
    write(tmp_path, "edited")
    server.start()
    with server.client("http") as client:
        assert get(client) == "edited"
        assert server.kinds()["http.app"]["objects"] == 1


def test_a_server_that_can_not_start_its_application_says_why(server: Server) -> None:
    """And ends, with nothing left."""
    (server.folder / "main.py").write_text("def create_app():\n    raise OSError('no pool')\n")
    server.options = ("--app", "main", "--workers", "1")
    with pytest.raises(AssertionError, match="http.app could not start: OSError: no pool"):
        server.start()


def test_an_application_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    """With the folder in which it was looked for."""
    server = Server(tmp_path, ["http"], "--app", "nowhere:app", "--workers", "1")
    with pytest.raises(AssertionError, match=f"there is no module nowhere in {tmp_path}"):
        server.start()
