"""An ASGI application with an answer of every kind. Version 2 is this file with another VERSION."""

import asyncio
from typing import Any

VERSION = 1
SLOW_S = 4.0
STREAM_S = 6.0
CHUNKS = 60
BIG = 16 * 1024 * 1024
PLAIN = [(b"content-type", b"text/plain"), (b"x-version", b"%d" % VERSION)]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve one request, one WebSocket or the lifespan.

    Of a WebSocket nothing has to be carried to other code, so it may go on there.
    """
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        scope.get("extensions", {}).get("netswap", {}).setdefault("carry", {})
        await websocket(receive, send)
    else:
        await http(scope["path"], receive, send)


async def lifespan(receive: Any, send: Any) -> None:
    """Start and stop at once."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def websocket(receive: Any, send: Any) -> None:
    """Say everything back, with the version in front."""
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text") or (message.get("bytes") or b"").decode()
        await send({"type": "websocket.send", "text": f"{VERSION} {text}"})


async def http(path: str, receive: Any, send: Any) -> None:
    """``/``, ``/slow``, ``/stream``, ``/big`` and ``/length``."""
    if path == "/stream":
        await stream(send)
        return
    if path == "/slow":
        await asyncio.sleep(SLOW_S)
    body = b"x" * BIG if path == "/big" else b"version %d" % VERSION
    if path == "/length":
        body = b"%d" % await length(receive)
    headers = [*PLAIN, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def length(receive: Any) -> int:
    """How long the body of the request is."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    return size


async def stream(send: Any) -> None:
    """Sixty chunks, ten a second."""
    await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
    for number in range(CHUNKS):
        await send({"type": "http.response.body", "body": b"%06d\n" % number, "more_body": True})
        await asyncio.sleep(STREAM_S / CHUNKS)
    await send({"type": "http.response.body", "body": b""})
