"""An aiohttp application, and how aiohttp's own server runs it."""

import asyncio
import sys

import uvloop
from aiohttp import WSMsgType, web


async def hello(_request: web.Request) -> web.Response:
    """Greet."""
    return web.Response(text="Hello, world!")


async def length(request: web.Request) -> web.Response:
    """Count the body."""
    return web.Response(text=str(len(await request.read())))


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Say each message back."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
    return socket


def make_app() -> web.Application:
    """The application."""
    app = web.Application()
    app.add_routes(
        [web.get("/", hello), web.post("/length", length), web.get("/ws", echo)],
    )
    return app


async def _serve(port: int) -> None:
    runner = web.AppRunner(make_app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
