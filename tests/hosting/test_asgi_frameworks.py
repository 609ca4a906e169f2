"""ASGI with the frameworks that are used with it: Starlette, FastAPI and Litestar, unchanged.

Annotations are no text here: FastAPI and Litestar look at those of functions inside of others.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import fastapi
import litestar
import pytest
from litestar.datastructures import State, UploadFile
from litestar.di import Provide
from litestar.enums import RequestEncodingType
from litestar.params import Body
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from tests.hosting.site import Site, get, post, site_of
from tests.protocols.conftest import until

UPLOADED = bytes(range(256)) * 800
MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    + UPLOADED
    + b"\r\n--b--\r\n"
)
done: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_done() -> None:
    done.clear()


def upload(path: str = "/upload") -> bytes:
    """The request that uploads it."""
    return post(path, MULTIPART, "Content-Type: multipart/form-data; boundary=b")


async def chunks() -> AsyncIterator[bytes]:
    """A stream of three parts."""
    for number in range(3):
        await asyncio.sleep(0)
        yield b"part %d\n" % number


async def faults(site: Site) -> list[str]:
    """What was laid to the application, when all its requests have ended."""
    await until(lambda: not site.started[-1].open)
    errors = [row["error"] for row in site.log.errors]
    site.log.errors.clear()
    return errors


# Starlette


class Named(BaseHTTPMiddleware):
    """Adds a header; runs what is below it in a task group of anyio's."""

    async def dispatch(self, request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["x-named"] = request.url.path
        return response


@asynccontextmanager
async def lifespan(_app: Any) -> AsyncIterator[dict[str, Any]]:
    """Gives a pool to the requests."""
    done.append("started")
    yield {"pool": {"name": "pool"}}
    done.append("stopped")


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"hello {request.path_params['name']} {request.state.pool['name']}")


async def stream(_request: Request) -> StreamingResponse:
    return StreamingResponse(chunks(), media_type="text/plain")


async def uploaded(request: Request) -> JSONResponse:
    async with request.form() as form:
        file: Any = form["file"]
        data = await file.read()
    return JSONResponse({"name": file.filename, "same": data == UPLOADED})


async def later(_request: Request) -> PlainTextResponse:
    async def work() -> None:
        await asyncio.sleep(0)
        done.append("background")

    return PlainTextResponse("soon", background=BackgroundTask(work))


async def fails(_request: Request) -> PlainTextResponse:
    raise ValueError("no")


def starlette(*middleware: Any) -> Starlette:
    """An application with some of everything."""
    routes = [
        Route("/stream", stream),
        Route("/upload", uploaded, methods=["POST"]),
        Route("/later", later),
        Route("/fails", fails),
        Mount("/sub", routes=[Route("/{name}", hello)]),
    ]
    return Starlette(
        routes=routes, lifespan=lifespan, middleware=[Middleware(m) for m in middleware]
    )


@pytest.mark.parametrize("middleware", [(), (Named,), (Named, Named, GZipMiddleware)])
async def test_starlette_is_served_as_it_is(middleware: Any) -> None:
    """Routes, mounts, streams, uploads, background tasks, state, errors; with middlewares, too."""
    async with site_of(starlette(*middleware)) as site:
        answer = await site.ask(get("/sub/ann?x"))
        assert (answer.status, answer.body) == (200, b"hello ann pool")
        assert answer.headers.get("x-named") == ("/sub/ann" if middleware else None)
        streamed = await site.ask(get("/stream"))
        assert (streamed.body, streamed.whole) == (b"part 0\npart 1\npart 2\n", True)
        assert json.loads((await site.ask(upload())).body) == {"name": "a.bin", "same": True}
        assert (await site.ask(get("/nowhere"))).status == 404
        assert (await site.ask(get("/later"))).body == b"soon"
        await until(lambda: "background" in done)
        assert await faults(site) == []
        assert (await site.ask(get("/fails"))).status == 500
        assert await faults(site) == ["ValueError: no"]
    assert done == ["started", "background", "stopped"]


async def test_a_client_that_leaves_a_stream_is_no_fault_of_starlette() -> None:
    """The stream ends, and what Starlette raises is not laid to the application."""

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
        finally:
            done.append("ended")

    async def answer(_request: Request) -> StreamingResponse:
        return StreamingResponse(endless())

    async with site_of(Starlette(routes=[Route("/", answer)])) as site:
        client = await site.connect()
        await client.send(get())
        await client.read(100_000)
        client.sock.close()
        await until(lambda: not site.started[0].open)
        assert [row["event"] for row in site.log.infos] == ["request_abandoned"]


# FastAPI


def with_fastapi() -> fastapi.FastAPI:
    """An application with some of everything."""
    app = fastapi.FastAPI(lifespan=lifespan)

    async def number(n: int) -> AsyncIterator[int]:
        yield n * 2
        done.append("number closed")

    @app.get("/double/{n}")
    async def double(
        request: fastapi.Request, value: Annotated[int, fastapi.Depends(number)]
    ) -> dict[str, Any]:
        return {"value": value, "pool": request.state.pool["name"]}

    @app.get("/thread")
    def in_thread() -> str:
        return "from a thread"

    @app.post("/upload")
    async def take(file: fastapi.UploadFile, background: fastapi.BackgroundTasks) -> dict[str, Any]:
        background.add_task(done.append, "background")
        return {"name": file.filename, "same": await file.read() == UPLOADED}

    @app.get("/teapot")
    async def teapot() -> None:
        raise fastapi.HTTPException(418, "short and stout")

    @app.middleware("http")
    async def named(request: fastapi.Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["x-named"] = "yes"
        return response

    return app


async def test_fastapi_is_served_as_it_is() -> None:
    """Dependencies, validation, threads, uploads, background tasks, errors, its documentation."""
    async with site_of(with_fastapi()) as site:
        answer = await site.ask(get("/double/21"))
        assert json.loads(answer.body) == {"value": 42, "pool": "pool"}
        assert answer.headers["x-named"] == "yes"
        assert (await site.ask(get("/double/x"))).status == 422
        assert json.loads((await site.ask(get("/thread"))).body) == "from a thread"
        assert json.loads((await site.ask(upload())).body) == {"name": "a.bin", "same": True}
        assert (await site.ask(get("/teapot"))).status == 418
        assert (await site.ask(get("/openapi.json"))).status == 200
        assert await faults(site) == []
    assert done == ["started", "number closed", "background", "stopped"]


# Litestar


def with_litestar() -> litestar.Litestar:
    """An application with some of everything."""

    @litestar.get("/double/{n:int}")
    async def double(value: int, state: State) -> dict[str, Any]:
        return {"value": value, "pool": state.pool}

    @litestar.get("/stream")
    async def streamed() -> litestar.response.Stream:
        return litestar.response.Stream(chunks())

    @litestar.post("/upload")
    async def take(
        data: Annotated[UploadFile, Body(media_type=RequestEncodingType.MULTI_PART)],
    ) -> dict[str, Any]:
        return {"name": data.filename, "same": await data.read() == UPLOADED}

    @litestar.get("/fails")
    async def failing() -> None:
        raise ValueError("no")

    async def number(n: int) -> int:
        return n * 2

    @asynccontextmanager
    async def life(app: litestar.Litestar) -> AsyncIterator[None]:
        app.state.pool = "pool"
        yield
        done.append("stopped")

    return litestar.Litestar(
        [double, streamed, take, failing],
        dependencies={"value": Provide(number)},
        lifespan=[life],
    )


async def test_litestar_is_served_as_it_is() -> None:
    """Dependencies, validation, streams, uploads, errors, state."""
    async with site_of(with_litestar()) as site:
        answer = await site.ask(get("/double/21"))
        assert json.loads(answer.body) == {"value": 42, "pool": "pool"}
        assert (await site.ask(get("/double/x"))).status == 404
        assert (await site.ask(get("/stream"))).body == b"part 0\npart 1\npart 2\n"
        found = await site.ask(upload())
        assert (found.status, json.loads(found.body)) == (201, {"name": "a.bin", "same": True})
        assert (await site.ask(get("/fails"))).status == 500
        assert await faults(site) == []
    assert done == ["stopped"]
