"""serve --app: an application from the disk, replaced by pushes and by saves, sessions and all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

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


SHOP = {
    "__init__.py": "",
    "state.py": """
import io
from pathlib import Path
from aiohttp import web

V = VERSION
POOL = web.AppKey("pool", io.BytesIO)

def say(text):
    with Path("LOG").open("a") as file:
        file.write(f"{text} {V}\\n")
""",
    "main.py": """
import asyncio, io
from pathlib import Path
from aiohttp import web
from shop.state import POOL, V, say

__netswap_keep__ = ["pool"]

async def context(app):
    say("up")
    START
    if POOL not in app:
        app[POOL] = io.BytesIO(b"pool of %d" % V)
    yield
    app[POOL].close()
    say("down")

async def root(request):
    return web.Response(text=f"{V} {request.app[POOL].getvalue().decode()}\\n")

async def slow(request):
    say("slow")
    while not Path("GO").exists():
        await asyncio.sleep(0.01)
    from shop.late import name
    return web.Response(text=f"{name} {V} {request.app[POOL].getvalue().decode()}\\n")

async def create_app():
    app = web.Application()
    app.cleanup_ctx.append(context)
    app.router.add_get("/", root)
    app.router.add_get("/slow", slow)
    return app
""",
    "late.py": "name = 'late'\n",
}


class Shop:
    """An aiohttp application as a package, and what it has said."""

    def __init__(self, folder: Path) -> None:
        self.package = folder / "shop"
        self.log = folder / "log"
        self.go = folder / "go"
        self.package.mkdir()

    def write(self, version: int, start: str = "pass") -> None:
        """The package, of that version."""
        words = {"VERSION": str(version), "START": start, "LOG": str(self.log), "GO": str(self.go)}
        for name, text in SHOP.items():
            for word, value in words.items():
                text = text.replace(word, value)  # noqa: PLW2901
            (self.package / name).write_text(text)

    @property
    def said(self) -> list[str]:
        return self.log.read_text().splitlines()


def write(folder: Path, version: str) -> None:
    """The application, of that version."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "main.py").write_text(MAIN)
    (folder / "db.py").write_text(f"V = {version!r}\n")


def get(client: Client, path: str = "/") -> str:
    """What a kept connection answers; with no path, to what it was asked before."""
    if path:
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


AIOHTTP = """
import asyncio
from pathlib import Path
from aiohttp import web

async def slow(request):
    Path("began").touch()
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    return web.Response(text="slow")

async def talk(request):
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data)
    return ws

async def cleaned(app):
    Path("cleaned").touch()

app = web.Application()
app.on_cleanup.append(cleaned)
app.add_routes([web.get("/slow", slow), web.get("/talk", talk)])
"""
STARLETTE = """
import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute

async def slow(request):
    Path("began").touch()
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    return PlainTextResponse("slow")

async def talk(websocket):
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(message)

@asynccontextmanager
async def lifespan(app):
    yield
    Path("cleaned").touch()

routes = [Route("/slow", slow), WebSocketRoute("/talk", talk)]
app = Starlette(routes=routes, lifespan=lifespan)
"""


@pytest.mark.parametrize(
    "source", [pytest.param(AIOHTTP, marks=pytest.mark.slow), STARLETTE], ids=["aiohttp", "asgi"]
)
def test_a_stop_answers_what_is_owed_and_ends_the_rest_in_order(
    server: Server, source: str
) -> None:
    """The last answer says that it is, WebSockets get 1012, and the application cleans up."""
    (server.folder / "main.py").write_text(source)
    server.options = (*server.options, "--drain", "60s")
    server.start()
    with (
        server.client("http") as idle,
        server.client("http") as busy,
        connect(f"ws://127.0.0.1:{server.ports['http']}/talk") as session,
    ):
        idle.send(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.line().startswith("HTTP/1.1 ")
        session.send("x")
        assert session.recv() == "x"
        busy.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        until((server.folder / "began").exists, "the request is in flight")
        server.signal()
        with pytest.raises(ConnectionClosed) as ended:
            session.recv(10)
        assert ended.value.rcvd.code == 1012
        assert not idle.rest().startswith(b"HTTP")
        (server.folder / "go").touch()
        head, _, body = busy.rest().partition(b"\r\n\r\n")
        assert (b"\r\nconnection: close" in head.lower(), body) == (True, b"slow")
        assert server.wait() == 0, "long before the drain's limit"
    assert (server.folder / "cleaned").exists()


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


def test_an_aiohttp_application_is_started_before_and_cleaned_up_after(tmp_path: Path) -> None:
    """A request in flight ends on the old one, whose clean-up waits for it; the pool goes over."""
    shop = Shop(tmp_path)
    shop.write(1)
    server = Server(tmp_path, ["http"], "--app", "shop.main:create_app", "--workers", "1")
    try:
        server.start()
        with server.client("http") as slow, server.client("http") as client:
            slow.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            until(lambda: shop.said[-1] == "slow 1", "the slow request is in flight")
            shop.write(2, "raise ConnectionRefusedError('no database')")
            answer = server.netswap("push", shop.package)
            assert (answer.code, answer.page["refusals"][0]["file"]) == (20, "main.py")
            assert "ConnectionRefusedError: no database" in answer.page["what"]
            assert get(client) == "1 pool of 1"
            shop.write(3)
            server.push(shop.package)
            assert get(client) == "3 pool of 1"
            rows = {row["standing"]: row for row in server.look("versions")["retiring"]}
            # the one that was refused leaves, too, or waits for a collection by now
            assert rows.keys() <= {"draining", "leaving", "garbage"}
            assert rows["draining"]["objects"] == 1
            assert shop.said == ["up 1", "slow 1", "up 2", "up 3"]
            shop.go.touch()
            assert get(slow, "") == "late 1 pool of 1"
            until(lambda: shop.said[-1] == "down 1", "the old one is cleaned up")
            assert get(client) == get(slow) == "3 pool of 1"
        server.stop()
        assert shop.said == ["up 1", "slow 1", "up 2", "up 3", "down 1", "down 3"]
    finally:
        server.kill()


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
