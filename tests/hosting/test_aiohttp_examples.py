"""What aiohttp's documentation shows how to do, each as a small application of its own."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from protocols.websocket import v2 as websocket
from tests.protocols.conftest import until


async def test_routes_by_decorators_views_and_names(site):
    """A RouteTableDef, a class as a view, variable parts with a pattern, and url_for."""
    routes = web.RouteTableDef()

    @routes.view("/view")
    class View(web.View):
        async def get(self) -> web.Response:
            return web.Response(text=f"GET by {type(self.request).__mro__[1].__name__}")

        async def post(self) -> web.Response:
            data = await self.request.post()
            return web.Response(text=f"POST {data['name']}")

    @routes.get(r"/users/{user:\d+}/info", name="info")
    async def info(request: web.Request) -> web.Response:
        url = request.app.router["info"].url_for(user="7").with_query({"a": "b"})
        return web.json_response({"user": request.match_info["user"], "url": str(url)})

    app = web.Application()
    app.add_routes(routes)
    here = await site(app)
    async with here.session.get("/view") as answer:
        assert await answer.text() == "GET by Request"
    async with here.session.post("/view", data={"name": "Grace"}) as answer:
        assert await answer.text() == "POST Grace"
    async with here.session.put("/view") as answer:
        assert answer.status == 405
    async with here.session.get("/users/3/info") as answer:
        assert await answer.json() == {"user": "3", "url": "/users/7/info?a=b"}
    async with here.session.get("/users/x/info") as answer:
        assert answer.status == 404


async def test_a_login_with_cookies_and_redirects(site):
    """Set at the login, sent with each request, deleted at the logout."""

    async def root(request: web.Request) -> web.Response:
        return web.Response(text=request.cookies.get("who", "nobody"))

    async def login(request: web.Request) -> web.StreamResponse:
        found = web.HTTPFound("/")
        found.set_cookie("who", (await request.post())["name"], httponly=True)  # type: ignore[arg-type]
        raise found

    async def logout(request: web.Request) -> web.StreamResponse:
        found = web.HTTPSeeOther("/")
        found.del_cookie("who")
        raise found

    app = web.Application()
    app.add_routes([web.get("/", root), web.post("/login", login), web.get("/logout", logout)])
    here = await site(app)
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(here.url("/"), cookie_jar=jar) as session:
        for method, path, who in (
            ("GET", "/", "nobody"),
            ("POST", "/login", "Ada"),
            ("GET", "/", "Ada"),
            ("GET", "/logout", "nobody"),
        ):
            async with session.request(method, path, data={"name": "Ada"}) as answer:
                assert await answer.text() == who


async def test_pages_for_errors_by_a_middleware(site):
    """It catches what handlers raise, and what no route is for."""

    @web.middleware
    async def pages(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            answer: web.StreamResponse = await handler(request)
        except web.HTTPNotFound:
            return web.Response(text="our own 404", status=404)
        except ZeroDivisionError:
            return web.json_response({"error": "division"}, status=500)
        answer.headers["X-By"] = "pages"
        return answer

    async def divide(request: web.Request) -> web.Response:
        return web.Response(text=str(1 // int(request.query["by"])))

    app = web.Application(middlewares=[pages])
    app.router.add_get("/", divide)
    here = await site(app)
    async with here.session.get("/?by=1") as answer:
        assert (await answer.text(), answer.headers["X-By"]) == ("1", "pages")
    async with here.session.get("/?by=0") as answer:
        assert (answer.status, await answer.json()) == (500, {"error": "division"})
    async with here.session.get("/none") as answer:
        assert (answer.status, await answer.text()) == (404, "our own 404")


QUEUE = web.AppKey("queue", asyncio.Queue)
WORKER = web.AppKey("worker", asyncio.Task)
DONE = web.AppKey("done", list)
SOCKETS = web.AppKey("sockets", weakref.WeakSet)


async def test_a_background_task_of_a_cleanup_context(site):
    """It works beside the requests, and ends with the application."""

    async def work(app: web.Application) -> None:
        while True:
            app[DONE].append(await app[QUEUE].get())

    async def worker(app: web.Application) -> AsyncIterator[None]:
        app[QUEUE], app[DONE] = asyncio.Queue(), []
        app[WORKER] = asyncio.create_task(work(app))
        yield
        app[WORKER].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await app[WORKER]

    async def add(request: web.Request) -> web.Response:
        request.app[QUEUE].put_nowait(await request.json())
        raise web.HTTPAccepted

    app = web.Application()
    app.cleanup_ctx.append(worker)
    app.router.add_post("/", add)
    here = await site(app)
    async with here.session.post("/", json=[1]) as answer:
        assert answer.status == 202
    await until(lambda: app[DONE] == [[1]])
    await here.retire(here.started)
    assert app[WORKER].cancelled()


async def test_news_are_sent_as_events(site):
    """Server-sent events: a stream that ends when the client goes."""
    news: asyncio.Queue[str] = asyncio.Queue()
    ended: list[bool] = []

    async def events(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Cache-Control": "no-cache"})
        answer.content_type = "text/event-stream"
        await answer.prepare(request)
        try:
            while True:
                await answer.write(f"data: {await news.get()}\n\n".encode())
        except ConnectionResetError:
            ended.append(True)
            raise

    app = web.Application()
    app.router.add_get("/", events)
    here = await site(app)
    async with here.session.get("/") as answer:
        assert answer.content_type == "text/event-stream"
        for number in range(3):
            news.put_nowait(str(number))
            assert await answer.content.readuntil(b"\n\n") == b"data: %d\n\n" % number
    while not ended:
        news.put_nowait("nobody reads this")
        await asyncio.sleep(0)


async def test_a_chat_whose_sockets_are_closed_at_the_shutdown(site):
    """Everybody hears everybody; a WeakSet of the sockets; on_shutdown closes what is left."""

    async def chat(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        request.app[SOCKETS].add(ws)
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    for other in request.app[SOCKETS]:
                        await other.send_str(message.data)
        finally:
            request.app[SOCKETS].discard(ws)
        return ws

    async def shutdown(app: web.Application) -> None:
        for ws in set(app[SOCKETS]):
            await ws.close(code=1001, message=b"Server shutdown")

    app = web.Application()
    app[SOCKETS] = weakref.WeakSet()
    app.router.add_get("/chat", chat)
    app.on_shutdown.append(shutdown)
    here = await site(app)
    await here.server.swap(websocket)
    async with here.session.ws_connect("/chat") as one, here.session.ws_connect("/chat") as two:
        await until(lambda: len(app[SOCKETS]) == 2)
        await one.send_str("hello")
        assert [await one.receive_str(), await two.receive_str()] == ["hello", "hello"]
        load = here.started
        here.loads.remove(load)
        stopping = asyncio.ensure_future(load.stop())
        for ws in (one, two):
            message = await ws.receive()
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
        await stopping
    await until(lambda: not load.open)


@pytest.mark.parametrize("prefix", ["/admin", "/deep/admin"])
async def test_a_nested_application_with_its_own_data(site, prefix):
    """Its routes below the prefix, its signals with those of the outer one."""
    done: list[str] = []

    async def note(app: web.Application) -> None:
        done.append("startup")

    async def show(request: web.Request) -> web.Response:
        url = request.app.router["show"].url_for()
        return web.json_response([str(url), request.config_dict[DONE]])

    admin = web.Application()
    admin.router.add_get("/show", show, name="show")
    admin.on_startup.append(note)
    app = web.Application()
    app[DONE] = ["outer"]
    app.add_subapp(prefix, admin)
    here = await site(app)
    async with here.session.get(f"{prefix}/show") as answer:
        assert await answer.json() == [f"{prefix}/show", ["outer"]]
    assert done == ["startup"]
