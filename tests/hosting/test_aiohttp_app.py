"""aiohttp applications, unchanged: what they do under aiohttp's own server they do here."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import gzip
import weakref
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from netswap.hosting.aiohttp.answers import whole
from protocols.http import v1, v2
from tests.hosting.conftest import vanish
from tests.protocols.conftest import until

pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")

LAST = b"Connection: close\r\n"


def get(path: str, more: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"GET %b HTTP/%b\r\nHost: here\r\n%b\r\n" % (path.encode(), version, more)


def application(*routes: Any, **options: Any) -> web.Application:
    app = web.Application(**options)
    app.add_routes(routes)
    return app


async def hello(request: web.Request) -> web.Response:
    return web.Response(text=f"Hello, {request.match_info.get('name', 'Anonymous')}")


async def test_a_handler_answers_by_its_route(site):
    """Names of the path, 404 and 405 are aiohttp's own."""
    here = await site(application(web.get("/", hello), web.get("/{name}", hello)))
    for path, status, text in (
        ("/", 200, "Hello, Anonymous"),
        ("/Grace%20H", 200, "Hello, Grace H"),
        ("/a/b", 404, "404: Not Found"),
    ):
        async with here.session.get(path) as answer:
            assert (answer.status, await answer.text()) == (status, text)
    async with here.session.post("/") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")


TOLD = [
    *("method", "path", "raw_path", "path_qs", "query", "host", "scheme", "url", "rel_url"),
    *("version", "cookies", "remote", "secure", "keep_alive", "can_read_body", "body_exists"),
    *("content_length", "content_type", "charset", "http_range", "if_none_match"),
    *("if_modified_since", "forwarded", "match_info"),
]


async def test_what_a_request_says_of_itself(site, own):
    """Method, target, headers, cookies and addresses are what aiohttp's own server gives."""

    async def tell(request: web.Request) -> web.Response:
        assert request.transport is not None
        told = {name: repr(getattr(request, name)) for name in TOLD}
        told["agent"] = request.headers["user-AGENT"]
        told["names"] = [name if name[0] != "x" else name.title() for name in request.headers]
        told["values"] = list(request.headers.values())
        told["peer"] = request.get_extra_info("peername")[0]
        told["transport"] = request.transport.get_extra_info("sockname")[0]
        return web.json_response(told)

    def make() -> web.Application:
        return application(web.route("*", "/a/{rest:.*}", tell))

    here, there = await site(make()), await own(make())
    for request in (
        get("/a/c%2Fd%20e?x=1&x=%C3%A9&y"),
        get("/a/b?", b'Cookie: k=v; l="w"\r\nIf-None-Match: W/"x", "y"\r\nRange: bytes=1-2\r\n'),
        get("/a/%E2%82", b"X-More: \xc3\xa9\xff\r\nForwarded: for=1.2.3.4;proto=https\r\n"),
        get("http://here/a/b?q#f", b"X-A: 1\r\nX-A: 2\r\n"),
        get("/a/", version=b"1.0"),
        get("/a/", b"If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
        get("/a/x").replace(b"GET", b"POST")[:-2]
        + b"Content-Type: a/b; charset=C\r\nContent-Length: 0\r\n\r\n",
    ):
        asked = request[:-2] + b"User-Agent: me\r\nConnection: close\r\n\r\n"
        one, two = await here.ask(asked), await there(asked)
        assert one.startswith(b"HTTP/1.1 200 OK")
        assert one.partition(b"\r\n\r\n")[2] == two.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_are_read_in_every_way(site, chunked):
    """Whole, as text, JSON and form, with a length and in chunks."""

    async def whole(request: web.Request) -> web.Response:
        assert request.can_read_body
        assert request.body_exists
        data = await request.read()
        assert await request.read() == data
        assert not request.can_read_body
        return web.Response(body=data, content_type="application/x-it")

    async def json(request: web.Request) -> web.Response:
        return web.json_response({"got": await request.json()})

    async def form(request: web.Request) -> web.Response:
        data = await request.post()
        return web.Response(text="&".join(f"{k}={v}" for k, v in data.items()))

    here = await site(
        application(web.post("/whole", whole), web.post("/json", json), web.post("/form", form))
    )

    def sent(data: bytes) -> Any:
        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(data), 50_000):
                yield data[start : start + 50_000]

        return pieces() if chunked else data

    big = bytes(range(256)) * 3000
    async with here.session.post("/whole", data=sent(big)) as answer:
        assert (answer.content_type, await answer.read()) == ("application/x-it", big)
    async with here.session.post("/json", data=sent(b'{"a": [1, "\xc3\xa9"]}')) as answer:
        assert await answer.json() == {"got": {"a": [1, "é"]}}
    as_form = {"Content-Type": "application/x-www-form-urlencoded"}
    async with here.session.post("/form", data=sent(b"a=1&b=%20"), headers=as_form) as answer:
        assert await answer.text() == "a=1&b= "


async def test_a_body_over_the_limit_is_refused(site):
    """client_max_size holds for read() as for forms, and the connection goes on."""

    async def read(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    here = await site(application(web.post("/", read), client_max_size=1000))
    for size, status in ((1000, 200), (1001, 413), (200_000, 413), (5, 200)):
        async with here.session.post("/", data=b"x" * size) as answer:
            assert answer.status == status


async def test_an_upload_is_read_part_by_part(site):
    """multipart(), and post() with files, which are closed when the answer is out."""
    files: list[Any] = []

    async def parts(request: web.Request) -> web.Response:
        reader = await request.multipart()
        found = []
        async for part in reader:
            assert isinstance(part, aiohttp.BodyPartReader)
            found.append([part.name, part.filename, len(await part.read())])
        return web.json_response(found)

    async def post(request: web.Request) -> web.Response:
        data = await request.post()
        field = data["file"]
        assert isinstance(field, web.FileField)
        files.append(field.file)
        return web.Response(body=field.file.read(), headers={"X-Name": field.filename})

    here = await site(application(web.post("/parts", parts), web.post("/post", post)))
    for path in ("/parts", "/post"):
        form = aiohttp.FormData()
        form.add_field("text", "é")
        form.add_field("file", b"y" * 300_000, filename="a.bin")
        async with here.session.post(path, data=form) as answer:
            assert answer.status == 200
            if path == "/parts":
                assert await answer.json() == [["text", None, 2], ["file", "a.bin", 300_000]]
            else:
                assert answer.headers["X-Name"] == "a.bin"
                assert await answer.read() == b"y" * 300_000
    await until(lambda: not here.started.open)
    assert files[0].closed


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", gzip.compress(b"text" * 200_000)),
        ("deflate", zlib.compress(b"text" * 200_000)),
        ("identity", b"text" * 200_000),
    ],
)
async def test_a_compressed_body_is_read_as_what_it_was(site, coding, data):
    """As aiohttp's parser does it, in pieces."""

    async def length(request: web.Request) -> web.Response:
        total = 0
        async for piece in request.content.iter_any():
            total += len(piece)
        return web.Response(text=str(total))

    here = await site(application(web.post("/", length)))
    headers = {"Content-Encoding": coding}
    async with here.session.post("/", data=data, headers=headers, compress=False) as answer:
        assert await answer.text() == "800000"


async def test_a_body_that_is_compressed_wrongly_is_the_clients_fault(site):
    """Its reader gets RequestPayloadError; who does not catch that has failed."""

    async def read(request: web.Request) -> web.Response:
        try:
            return web.Response(body=await request.read())
        except web.RequestPayloadError as error:
            raise web.HTTPBadRequest(text=str(error)) from error

    here = await site(application(web.post("/", read)))
    headers = {"Content-Encoding": "gzip"}
    async with here.session.post("/", data=b"not at all", headers=headers) as answer:
        assert answer.status == 400
        assert "gzip" in await answer.text()


async def test_a_stream_is_read_as_it_comes(site):
    """readline, readexactly, iter_chunked and at_eof see what has come."""

    async def read(request: web.Request) -> web.Response:
        content = request.content
        first = await content.readline()
        exact = await content.readexactly(3)
        assert not content.at_eof()
        rest = [piece async for piece in content.iter_chunked(4)]
        assert content.at_eof()
        assert content.is_eof()
        return web.Response(body=b"|".join([first, exact, *rest]))

    here = await site(application(web.post("/", read)))
    async with here.session.post("/", data=b"line\nabc0123456789") as answer:
        assert await answer.read() == b"line\n|abc|0123|4567|89"


async def test_a_client_is_told_to_continue_before_its_handler_runs(site):
    """aiohttp's expect handler writes the interim answer; another may refuse."""

    async def read(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def refuse(request: web.Request) -> None:
        raise web.HTTPExpectationFailed(text="no")

    here = await site(
        application(web.post("/", read), web.post("/no", read, expect_handler=refuse))
    )
    client = await here.raw()
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n"
    await client.send(head % b"/" + b"\r\n")
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert await client.read(len(interim)) == interim
    await client.send(b"abc" + head % b"/no" + LAST + b"\r\n")
    answers = await client.read_all()
    assert answers.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\n\r\nabcHTTP/1.1 417 Expectation Failed\r\n" in answers
    assert answers.count(b"100 Continue") == 0


async def test_answers_of_every_sort(site):
    """Status, reason, headers, cookies, no body, redirects, raised and returned exceptions."""

    async def plain(request: web.Request) -> web.StreamResponse:
        answer = web.Response(
            body=b"x", status=299, reason="Fine", headers={"X-A": "1", "Server": "mine"}
        )
        answer.set_cookie("k", "v", max_age=3)
        answer.set_cookie("l", "w")
        return answer

    async def nothing(request: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/plain?a=1", headers={"X-B": "2"})

    async def dated(request: web.Request) -> web.StreamResponse:
        return web.Response(text="é", headers={"Date": "then"}, charset="latin-1")

    async def closing(request: web.Request) -> web.StreamResponse:
        answer = web.Response(text="bye")
        answer.force_close()
        return answer

    routes = [
        web.get(f"/{handler.__name__}", handler)
        for handler in (plain, nothing, elsewhere, dated, closing)
    ]
    here = await site(application(*routes))

    async def of(path: str) -> tuple[bytes, list[bytes], bytes]:
        head, _, body = (await here.ask(get(path, LAST))).partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        return first, [line for line in lines if not line.lower().startswith(b"date")], body

    assert await of("/plain") == (
        b"HTTP/1.1 299 Fine",
        [
            b"X-A: 1",
            b"Server: mine",
            b"Set-Cookie: k=v; Max-Age=3; Path=/",
            b"Set-Cookie: l=w; Path=/",
            b"Content-Type: application/octet-stream",
            b"content-length: 1",
            b"connection: close",
        ],
        b"x",
    )
    first, lines, body = await of("/nothing")
    assert (first, body) == (b"HTTP/1.1 204 No Content", b"")
    assert not any(b"ontent-" in line for line in lines)
    first, lines, body = await of("/elsewhere")
    assert (first, body) == (b"HTTP/1.1 302 Found", b"302: Found")
    assert {b"X-B: 2", b"Location: /plain?a=1"} < set(lines)
    both = await here.ask(get("/dated") + get("/closing") + get("/never"))
    assert both.count(b"HTTP/1.1 200 OK") == both.lower().count(b"date: ") == 2
    assert b"Date: then\r\n" in both
    assert b"\r\n\r\n\xe9HTTP" in both
    assert both.endswith(b"connection: close\r\n\r\nbye")


async def test_a_head_has_no_body_and_says_how_long_it_would_be(site):
    """GET routes answer HEAD as well."""
    here = await site(application(web.get("/", hello)))
    answers = await here.ask(get("/").replace(b"GET", b"HEAD") + get("/", LAST))
    one, two = answers.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert one.endswith(b"\r\n\r\n")
    assert b"content-length: 16\r\n" in one.lower()
    assert two.endswith(b"\r\n\r\nHello, Anonymous")


async def test_a_client_of_http_1_0_is_answered(site):
    """A stream ends with the connection."""

    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"ab")
        await answer.write(b"cd")
        return answer

    here = await site(application(web.get("/", hello), web.get("/stream", stream)))
    whole = await here.ask(get("/", version=b"1.0"))
    assert whole.endswith(b"\r\n\r\nHello, Anonymous")
    streamed = await here.ask(get("/stream", version=b"1.0"))
    assert streamed.endswith(b"\r\n\r\nabcd")
    assert b"chunked" not in streamed


async def test_answers_are_compressed_when_the_client_takes_that(site):
    """A whole one and a stream; what is sent is what was compressed."""

    async def whole(request: web.Request) -> web.StreamResponse:
        answer = web.Response(text="text " * 10_000)
        answer.enable_compression()
        return answer

    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.enable_compression(web.ContentCoding.gzip)
        await answer.prepare(request)
        for _ in range(10):
            await answer.write(b"text " * 1000)
        return answer

    here = await site(application(web.get("/whole", whole), web.get("/stream", stream)))
    for path in ("/whole", "/stream"):
        async with here.session.get(path, headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            assert await answer.text() == "text " * 10_000
    async with here.session.get("/whole", headers={"Accept-Encoding": "x"}) as answer:
        assert "Content-Encoding" not in answer.headers
        assert await answer.text() == "text " * 10_000


async def test_a_stream_goes_out_as_it_is_written(site):
    """The head comes before the body, each chunk before the next one is made."""
    go_on = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"X-A": "1"}, reason="As it is written")
        answer.content_type = "text/plain"
        answer.enable_chunked_encoding()
        writer = await answer.prepare(request)
        assert answer.prepared
        assert writer is not None
        await answer.write(b"one")
        await go_on.wait()
        await answer.write(memoryview(b"two"))
        await answer.write_eof(b"three")
        return answer

    here = await site(application(web.get("/", stream)))
    async with here.session.get("/") as answer:
        assert (answer.status, answer.headers["X-A"]) == (200, "1")
        assert answer.reason == "As it is written"
        assert await answer.content.readany() == b"one"
        go_on.set()
        assert await answer.content.read() == b"twothree"


async def test_a_body_may_come_from_a_payload(site, tmp_path):
    """A file object and an asynchronous iterator are sent as they are read."""
    path = tmp_path / "file.txt"
    path.write_bytes(b"0123456789" * 30_000)

    async def file(request: web.Request) -> web.StreamResponse:
        return web.Response(body=path.open("rb"))

    async def numbers(request: web.Request) -> web.StreamResponse:
        async def count() -> AsyncIterator[bytes]:
            for number in range(5):
                yield str(number).encode()

        return web.Response(body=count(), content_type="text/plain")

    here = await site(application(web.get("/file", file), web.get("/numbers", numbers)))
    async with here.session.get("/file") as answer:
        assert await answer.read() == path.read_bytes()
    async with here.session.get("/numbers") as answer:
        assert await answer.read() == b"01234"


async def test_static_files_and_file_responses(site, tmp_path: Path):
    """With ranges, conditions and HEAD; on asyncio's loop, too, where a file could go by itself."""
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(range(256)) * 4000)
    (tmp_path / "small.txt").write_text("small")

    async def file(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(path, headers={"X-A": "1"})

    here = await site(
        application(web.get("/file", file), web.static("/static", tmp_path, show_index=True))
    )
    async with here.session.get("/file") as answer:
        assert (await answer.read(), answer.headers["X-A"]) == (path.read_bytes(), "1")
        etag, modified = answer.headers["ETag"], answer.headers["Last-Modified"]
    async with here.session.get("/static/big.bin", headers={"Range": "bytes=256-511"}) as answer:
        assert (answer.status, await answer.read()) == (206, bytes(range(256)))
        assert answer.headers["Content-Range"] == "bytes 256-511/1024000"
    async with here.session.get("/file", headers={"If-None-Match": etag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    async with here.session.get("/file", headers={"If-Modified-Since": modified}) as answer:
        assert answer.status == 304
    async with here.session.head("/static/big.bin") as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, "1024000")
    async with here.session.get("/static/small.txt") as answer:
        assert (answer.content_type, await answer.text()) == ("text/plain", "small")
    async with here.session.get("/static/") as answer:
        assert "small.txt" in await answer.text()
    async with here.session.get("/static/../conftest.py") as answer:
        assert answer.status == 404


async def test_middlewares_subapplications_and_signals(site):
    """In aiohttp's order, and the head as on_response_prepare leaves it."""

    def named(name: str) -> Any:
        @web.middleware
        async def middleware(request: web.Request, handler: Any) -> web.StreamResponse:
            request["trace"] = [*request.get("trace", []), name]
            answer: web.StreamResponse = await handler(request)
            return answer

        return middleware

    async def tell(request: web.Request) -> web.Response:
        return web.json_response({"trace": request["trace"], "key": request.config_dict["key"]})

    async def sign(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Signed"] = request.path
        del response.headers["Server"]

    admin = application(web.get("/tell", tell), middlewares=[named("inner")])
    admin["key"] = "admin"
    app = application(
        middlewares=[
            named("outer"),
            web.normalize_path_middleware(append_slash=False, remove_slash=True),
        ]
    )
    app["key"] = "app"
    app.add_subapp("/admin", admin)
    app.on_response_prepare.append(sign)
    here = await site(app)
    async with here.session.get("/admin/tell") as answer:
        assert await answer.json() == {"trace": ["outer", "inner"], "key": "admin"}
        assert answer.headers["X-Signed"] == "/admin/tell"
        assert "Server" not in answer.headers
    async with here.session.get("/admin/tell/") as answer:
        assert [one.status for one in answer.history] == [308]
    async with here.session.get("/none") as answer:
        assert (answer.status, answer.headers["X-Signed"]) == (404, "/none")


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def test_start_up_and_clean_up_run_in_aiohttps_order(site):
    """Once each, in one task, around the requests; context variables reach the handlers."""
    done: list[str] = []

    def noted(word: str) -> Any:
        async def note(app: web.Application) -> None:
            done.append(word)

        return note

    async def resource(app: web.Application) -> AsyncIterator[None]:
        VARIABLE.set("started")
        app["task"] = asyncio.create_task(asyncio.Event().wait())
        done.append("made")
        yield
        app["task"].cancel()
        with pytest.raises(asyncio.CancelledError):
            await app["task"]
        done.append("cleaned " + VARIABLE.get())

    async def tell(request: web.Request) -> web.Response:
        done.append("asked")
        text = VARIABLE.get()
        VARIABLE.set("asked")
        return web.Response(text=text)

    app = application(web.get("/", tell))
    app.on_startup.append(noted("startup"))
    app.cleanup_ctx.append(resource)
    app.on_shutdown.append(noted("shutdown"))
    app.on_cleanup.append(noted("cleanup"))
    here = await site(app)
    for _ in range(2):
        async with here.session.get("/") as answer:
            assert await answer.text() == "started"
    await here.retire(here.started)
    assert done == [
        "made", "startup", "asked", "asked", "shutdown", "cleaned started", "cleanup",
    ]  # fmt: skip


async def test_a_start_up_that_fails_is_cleaned_up_behind(site):
    """The contexts that were entered are left; on_shutdown has nothing to shut down."""
    done: list[str] = []

    async def first(app: web.Application) -> AsyncIterator[None]:
        yield
        done.append("cleaned")

    async def second(app: web.Application) -> AsyncIterator[None]:
        raise OSError("no database")
        yield

    async def shutdown(app: web.Application) -> None:
        done.append("shutdown")

    here = await site(application(web.get("/", hello)))
    app = application()
    app.cleanup_ctx.extend([first, second])
    app.on_shutdown.append(shutdown)
    with pytest.raises(OSError, match="no database"):
        await here.push(app)
    assert done == ["cleaned"]
    async with here.session.get("/") as answer:
        assert await answer.text() == "Hello, Anonymous"


@pytest.mark.parametrize("connection", [v1, v2])
async def test_every_version_of_the_connection_frames_it(site, connection):
    """A close that the application asks for, a phrase of its own, a file and a HEAD."""

    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(status=299, reason="Mine")
        answer.force_close()
        await answer.prepare(request)
        await answer.write(b"one")
        return answer

    async def file(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(__file__)

    here = await site(application(web.get("/", stream), web.get("/file", file)), connection)
    head, _, body = (await here.ask(get("/") + get("/never"))).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 299 Mine\r\n")
    assert head.lower().count(b"connection: close") == 1
    assert body == b"3\r\none\r\n0\r\n\r\n"
    head, _, body = (await here.ask(get("/file", LAST).replace(b"GET", b"HEAD"))).partition(
        b"\r\n\r\n"
    )
    size = Path(__file__).stat().st_size
    assert (b"content-length: %d" % size in head.lower(), body) == (True, b"")


@pytest.mark.parametrize("connection", [v1, v2])
async def test_whole_answers_keep_their_headers_in_every_version(site, connection):
    """Its type and what it says beside; 204 has no length."""

    async def whole(request: web.Request) -> web.Response:
        return web.Response(text="x", content_type="text/mine", headers={"X-A": "b"})

    async def nothing(request: web.Request) -> web.Response:
        return web.Response(status=204)

    here = await site(application(web.get("/", whole), web.get("/no", nothing)), connection)
    head, _, rest = (await here.ask(get("/") + get("/no", LAST))).lower().partition(b"\r\n\r\n")
    assert b"content-type: text/mine" in head
    assert b"x-a: b" in head
    assert head.count(b"content-length: 1") == 1
    assert rest.startswith(b"xhttp/1.1 204 ")
    assert b"content-length" not in rest


@pytest.mark.parametrize("accept", ["*/*", "text/html"])
async def test_a_handler_that_raises_is_a_500_and_a_fault(site, accept):
    """Signals see the answer, nothing of the inside is told, and the connection goes on."""

    async def fail(request: web.Request) -> web.Response:
        raise ValueError("secret")

    async def sign(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Signed"] = "yes"

    app = application(web.get("/", fail))
    app.on_response_prepare.append(sign)
    here = await site(app)
    async with here.session.get("/", headers={"Accept": accept}) as answer:
        text = await answer.text()
        assert (answer.status, answer.headers["X-Signed"]) == (500, "yes")
        assert ("<h1>" in text, "secret" in text) == (accept == "text/html", False)
    (fault,) = here.faults
    assert (fault["event"], fault["kind"]) == ("callback_failed", "http.app")
    assert "secret" in fault["error"]
    here.faults.clear()


@pytest.mark.parametrize(
    ("given", "status"), [(None, 500), ("text", 500), (TimeoutError(), 504), (KeyError("x"), 500)]
)
async def test_what_is_no_response_is_a_fault(site, given, status):
    """A forgotten return, a wrong one, and what is raised."""

    async def wrong(request: web.Request) -> Any:
        if isinstance(given, Exception):
            raise given
        return given

    here = await site(application(web.get("/", wrong)))
    async with here.session.get("/") as answer:
        assert answer.status == status
    assert here.faults.pop()["event"] == "callback_failed"


async def test_a_handler_that_fails_in_the_middle_cuts_its_answer_off(site):
    """The client sees that the rest is missing."""

    async def fail(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"some")
        raise ValueError("later")

    here = await site(application(web.get("/", fail)))
    with pytest.raises(aiohttp.ClientPayloadError):
        async with here.session.get("/") as answer:
            await answer.read()
    assert here.faults.pop()["event"] == "callback_failed"


async def test_a_handler_that_is_cancelled_closes_its_connection(site):
    """As under aiohttp's server; nobody waits for an answer that will not come."""

    async def cancel(request: web.Request) -> web.Response:
        task = request.task
        task.cancel()
        await asyncio.Event().wait()
        raise AssertionError

    here = await site(application(web.get("/", cancel)))
    assert await here.ask(get("/")) == b""


async def test_a_client_that_goes_is_noticed_by_who_writes(site):
    """A stream ends with ConnectionResetError, which is nobody's fault."""
    ended: list[BaseException] = []
    begun = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        begun.set()
        try:
            while True:
                await answer.write(b"x" * 10_000)
                await asyncio.sleep(0)
        except ConnectionResetError as error:
            ended.append(error)
            assert request.transport is None
            raise

    here = await site(application(web.get("/", stream)))
    client = await here.raw()
    await client.send(get("/"), read=False)
    await begun.wait()
    vanish(client)
    await until(lambda: ended)
    await until(lambda: not here.started.open)


async def test_a_client_that_goes_is_noticed_by_who_reads(site):
    """A reader gets ConnectionResetError; a handler that does neither runs to its end."""
    ended: list[str] = []

    async def read(request: web.Request) -> web.Response:
        try:
            await request.read()
        except ConnectionResetError:
            ended.append("reader")
            raise
        raise AssertionError

    async def work(request: web.Request) -> web.Response:
        await until(lambda: request.transport is None)
        ended.append("worker")
        return web.Response()

    here = await site(application(web.post("/", read), web.get("/", work)))
    for data in (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc", get("/")):
        client = await here.raw()
        await client.send(data)
        await until(lambda: here.started.open)
        vanish(client)
        await until(lambda: not here.started.open)
    assert ended == ["reader", "worker"]


async def test_a_handler_is_cancelled_with_its_client_where_that_is_asked_for(site):
    """handler_args, which aiohttp hands to its server."""
    ended: list[str] = []

    async def wait(request: web.Request) -> web.Response:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
        raise AssertionError

    here = await site(application(web.get("/", wait), handler_args={"handler_cancellation": True}))
    client = await here.raw()
    await client.send(get("/"))
    await until(lambda: here.started.open)
    vanish(client)
    await until(lambda: ended)


async def test_a_client_that_does_not_read_is_waited_for(site):
    """A stream stops when the client's buffers are full, and goes on when it reads."""
    written = 0
    chunk = b"x" * 65_536

    async def stream(request: web.Request) -> web.StreamResponse:
        nonlocal written
        answer = web.StreamResponse()
        answer.content_length = 200 * len(chunk)
        await answer.prepare(request)
        for _ in range(200):
            await answer.write(chunk)
            written += len(chunk)
        return answer

    here = await site(application(web.get("/", stream)))
    client = await here.raw(buffer=8192)
    await client.send(get("/", LAST), read=False)
    await until(lambda: client.entry.target is not None and client.entry.target.writing_paused)
    stopped = written
    for _ in range(100):
        await asyncio.sleep(0)
    assert written == stopped < 200 * len(chunk)
    answer = await client.read_all()
    assert len(answer.partition(b"\r\n\r\n")[2]) == written == 200 * len(chunk)


async def test_a_client_is_read_no_faster_than_the_application_reads(site):
    """Of a large body only some is taken while the handler waits."""
    go_on = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        await go_on.wait()
        total = 0
        async for piece in request.content.iter_any():
            total += len(piece)
        return web.Response(text=str(total))

    here = await site(application(web.post("/", slow)))
    size = 8_000_000
    client = await here.raw()
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n" % (size, LAST)
    sending = asyncio.ensure_future(client.send(head + b"z" * size, read=False))
    await until(lambda: client.entry.target.reading_paused)
    for _ in range(100):
        await asyncio.sleep(0)
    assert client.entry.target.state.wire.receiving.body.size < 1_000_000
    assert not sending.done()
    go_on.set()
    await sending
    assert (await client.read_all()).endswith(b"\r\n\r\n%d" % size)


async def test_what_was_not_read_of_a_body_does_not_stop_the_connection(site):
    """An answer before the body has come: the rest is thrown away, the next request is answered."""
    here = await site(application(web.post("/", hello), web.get("/", hello)))
    client = await here.raw()
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + b"y" * 1000)
    await until(lambda: not here.started.open)
    await client.send(b"y" * 299_000 + get("/", LAST))
    answers = await client.read_all()
    assert answers.count(b"Hello, Anonymous") == answers.count(b"HTTP/1.1 200 OK") == 2


async def test_requests_in_flight_end_in_the_old_application(site):
    """The next ones go to the new one; the old one is cleaned up after its last answer."""
    done: list[str] = []
    go_on = asyncio.Event()

    def version(name: str) -> web.Application:
        async def tell(request: web.Request) -> web.Response:
            return web.Response(text=name)

        async def slow(request: web.Request) -> web.StreamResponse:
            answer = web.StreamResponse()
            await answer.prepare(request)
            await answer.write(name.encode())
            await go_on.wait()
            await answer.write(b"-" + name.encode())
            done.append(f"{name} answered")
            return answer

        async def cleanup(app: web.Application) -> None:
            done.append(f"{name} cleaned up")

        app = application(web.get("/", tell), web.get("/slow", slow))
        app.on_cleanup.append(cleanup)
        return app

    here = await site(version("one"))
    old = here.started
    async with here.session.get("/slow") as answer:
        assert await answer.content.readany() == b"one"
        await here.push(version("two"))
        retiring = asyncio.ensure_future(here.retire(old))
        async with here.session.get("/") as other:
            assert await other.text() == "two"
        assert (old.open, done) == (1, [])
        go_on.set()
        assert await answer.content.read() == b"-one"
    await retiring
    assert done == ["one answered", "one cleaned up"]


async def test_a_stream_crosses_swaps_of_its_connection(site):
    """Both ways: what is written and what is read goes on with the new code in the middle."""

    async def echo(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        async for piece in request.content.iter_any():
            await answer.write(piece)
        return answer

    here = await site(application(web.post("/", echo)))
    client = await here.raw()
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n%b\r\n" % LAST)
    for number in range(5):
        await client.send(b"2\r\n%02d\r" % number)
        await here.server.swap(v2)
        await client.send(b"\n")
        await here.server.swap(v1)
    await client.send(b"0\r\n\r\n")
    *chunks, last, _, _ = (await client.read_all()).partition(b"\r\n\r\n")[2].split(b"\r\n")
    assert (b"".join(chunks[1::2]), last) == (b"0001020304", b"0")


async def test_the_body_can_not_be_read_after_the_answer(site):
    """A task that is left behind gets PayloadAccessError and does not wait for ever."""
    tasks: list[asyncio.Task[bytes]] = []

    async def leave(request: web.Request) -> web.Response:
        tasks.append(asyncio.create_task(request.read()))
        await asyncio.sleep(0)
        return web.Response()

    here = await site(application(web.post("/", leave)))
    client = await here.raw()
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n")
    await until(lambda: tasks and not here.started.open)
    await client.send(b"abc")
    with pytest.raises(web.PayloadAccessError):
        await tasks[0]


@pytest.mark.parametrize("value", ["1\r\nX-B: 2", "1\x01"])
async def test_a_header_that_would_be_two_is_not_sent(site, value):
    """aiohttp's check against injection stands in both ways out; it is as strict as ours."""

    async def inject(request: web.Request) -> web.StreamResponse:
        cls = web.StreamResponse if "stream" in request.query else web.Response
        return cls(headers={"X-A": value})

    here = await site(application(web.get("/", inject)))
    for query in ("", "?stream=1"):
        async with here.session.get("/" + query) as answer:
            assert (answer.status, "X-B" in answer.headers) == (500, False)
        assert "header injection" in here.faults.pop()["error"]


def test_a_class_of_the_applications_is_not_kept():
    """What is remembered of it goes with it: it would keep the code of its version."""

    def make() -> weakref.ref[type]:
        class Mine(web.Response):
            pass

        answer = whole(Mine(text="x"), "GET")
        assert answer is not None
        assert answer.body == b"x"
        return weakref.ref(Mine)

    made = make()
    gc.collect()
    assert made() is None
