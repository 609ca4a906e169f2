"""An ASGI application in a real server: its lifespan around a push, with a request in flight."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.harness import Server, until

pytestmark = pytest.mark.timeout(120)

MAIN = """
import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route


def say(text):
    with Path("LOG").open("a") as file:
        file.write(f"{text} VERSION\\n")


@asynccontextmanager
async def lifespan(app):
    say("up")
    START
    yield {"version": "VERSION"}
    say("down")


async def root(request):
    return PlainTextResponse(request.state.version + "\\n")


async def slow(request):
    say("slow")
    while not Path("GO").exists():
        await asyncio.sleep(0.01)
    say("done")
    return await root(request)


app = Starlette(routes=[Route("/", root), Route("/slow", slow)], lifespan=lifespan)
"""


def test_a_lifespan_is_begun_before_a_push_and_ended_after_the_last_request(tmp_path: Path) -> None:
    """A start-up that fails refuses the push with its line; the old shutdown waits its turn."""
    log, go, main = tmp_path / "log", tmp_path / "go", tmp_path / "main.py"

    def write(version: int, start: str = "pass") -> None:
        words = {"VERSION": str(version), "START": start, "LOG": str(log), "GO": str(go)}
        text = MAIN
        for word, value in words.items():
            text = text.replace(word, value)
        main.write_text(text)

    write(1)
    server = Server(tmp_path, ["http"], "--app", "main:app", "--workers", "1")
    try:
        server.start()
        with server.client("http") as waiting, server.client("http") as client:
            waiting.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            until(lambda: "slow 1" in log.read_text(), "the slow request is in flight")
            write(2, "raise ConnectionRefusedError('no database')")
            answer = server.netswap("push", main)
            refusal = answer.page["refusals"][0]
            line = (
                main.read_text()
                .splitlines()
                .index("    raise ConnectionRefusedError('no database')")
            )
            assert (answer.code, refusal["file"], refusal["line"]) == (20, "main.py", line + 1)
            assert "ConnectionRefusedError: no database" in answer.page["what"]
            write(3)
            server.push(main)
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            while client.line().strip():
                pass
            assert client.line().strip() == "3"
            assert "down 1" not in log.read_text()
            go.touch()
            while waiting.line().strip():
                pass
            assert waiting.line().strip() == "1"
            until(lambda: "down 1" in log.read_text(), "the old one is cleaned up")
        server.stop()
    finally:
        server.kill()
    said = log.read_text().splitlines()
    assert said == ["up 1", "slow 1", "up 2", "up 3", "done 1", "down 1", "down 3"]
