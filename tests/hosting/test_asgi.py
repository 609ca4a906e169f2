"""ASGI: the scope, what an application receives, and what becomes of what it sends."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import Any

import pytest

from netswap.hosting.asgi.adapter import _AFTER_ALL, _AT_FIRST, _STREAMING, _TRAILING, _WITH_HEAD
from protocols.http import v1, v2
from tests.hosting.site import Site, get, parsed, post, site_of
from tests.protocols.conftest import until

OK = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


def body(data: bytes = b"", more: bool = False) -> dict[str, Any]:
    """The message that sends it."""
    return {"type": "http.response.body", "body": data, "more_body": more}


def start(status: int = 200, *headers: Any) -> dict[str, Any]:
    """The message that begins an answer."""
    return {"type": "http.response.start", "status": status, "headers": headers}


def sending(*messages: dict[str, Any]) -> Any:
    """An application that sends these."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"  # it knows of no lifespan
        for message in messages:
            await send(message)

    return app


def fault(site: Site) -> str:
    """The one thing that was laid to the application."""
    (row,) = site.log.errors
    site.log.errors.clear()
    assert (row["event"], row["kind"], row["doing"]) == ("callback_failed", "http.app", "answer")
    error: str = row["error"]
    return error


async def test_the_scope_has_every_key_of_the_specification() -> None:
    """Path decoded and raw, ends of the connection, state of the lifespan, extensions."""
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        if scope["type"] == "lifespan":
            scope["state"]["pool"] = "pool"
            return
        await send(OK)
        await send(body())

    async with site_of(app) as site:
        client = await site.connect()
        await client.send(get("/a%20b%C3%A9?c=%20", "X-Y: z"))
        assert parsed(await client.read(80)).status == 200
        server = client.sock.getpeername()
        lifespan, found = scopes
        assert found == {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/a bé",
            "raw_path": b"/a%20b%C3%A9",
            "query_string": b"c=%20",
            "root_path": "",
            "headers": [(b"host", b"x"), (b"x-y", b"z")],
            "client": client.sock.getsockname(),
            "server": server,
            "state": {"pool": "pool"},
            "extensions": {
                "http.response.early_hint": {},
                "http.response.pathsend": {},
                "http.response.trailers": {},
            },
        }
        assert found["state"] is not lifespan["state"], "each request has its own copy"
        await site.ask(get("http://x/p%20q?r"))
        assert [scopes[-1][key] for key in ("path", "raw_path", "query_string")] == [
            "/p q",
            b"/p%20q",
            b"r",
        ]


TABLE = {
    "first": (_AT_FIRST, {"http.response.start", "http.response.early_hint"}),
    "with head": (_WITH_HEAD, {"http.response.body", "http.response.pathsend"}),
    "streaming": (_STREAMING, {"http.response.body"}),
    "trailing": (_TRAILING, {"http.response.trailers"}),
    "after all": (_AFTER_ALL, set()),
}
BEFORE = {
    "first": (),
    "with head": (OK,),
    "streaming": (OK, body(b"a", more=True)),
    "trailing": (OK | {"trailers": True}, body(b"a")),
    "after all": (OK, body(b"a")),
}
MESSAGES = {
    "http.response.start": OK,
    "http.response.body": body(b"b"),
    "http.response.early_hint": {"type": "http.response.early_hint", "links": [b"</x>"]},
    "http.response.trailers": {"type": "http.response.trailers", "headers": []},
    "http.response.pathsend": {"type": "http.response.pathsend", "path": __file__},
    "websocket.accept": {"type": "websocket.accept"},
}


THEN = {
    ("first", "http.response.start"): "with head",
    ("with head", "http.response.body"): "after all",
    ("with head", "http.response.pathsend"): "after all",
    ("streaming", "http.response.body"): "after all",
    ("trailing", "http.response.trailers"): "after all",
}
REST = {
    "first": (OK, body(b"c")),
    "with head": (body(b"c"),),
    "streaming": (body(b"c"),),
    "trailing": ({"type": "http.response.trailers", "headers": []},),
    "after all": (),
}


@pytest.mark.parametrize(("state", "kind"), list(product(TABLE, MESSAGES)))
async def test_what_may_be_sent_is_what_the_table_says(state: str, kind: str) -> None:
    """Everything else raises and changes nothing: the answer can still be ended."""
    takes, expected = TABLE[state]
    assert set(takes) == expected
    raised: list[Exception] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        for message in BEFORE[state]:
            await send(message)
        try:
            await send(MESSAGES[kind])
        except RuntimeError as error:
            raised.append(error)
        for message in REST[THEN.get((state, kind), state)]:
            await send(message)

    async with site_of(app) as site:
        answer = await site.ask(get())
        assert bool(raised) is (kind not in expected)
        assert (answer.status, answer.whole) == (200, True)


@pytest.mark.parametrize("cut", [1, 70_000, 200_000])
async def test_a_body_is_received_in_parts_as_it_comes(cut: int) -> None:
    """Every byte once, and the last part says so."""
    data = bytes(range(256)) * 1000
    heard: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        while not heard or heard[-1]["more_body"]:
            heard.append(await receive())
        await send(OK)
        await send(body(b"%d" % sum(len(one["body"]) for one in heard)))

    async with site_of(app) as site:
        client = await site.connect()
        request = post("/", data)
        await client.send(request[:-cut], read=False)
        await until(lambda: heard)
        await client.send(request[-cut:], read=False)
        await client.finish()
        assert parsed(await client.read_all()).body == b"256000"
    assert b"".join(one["body"] for one in heard) == data


async def test_a_client_that_expects_it_is_told_to_go_on_when_the_body_is_wanted() -> None:
    """And not before."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        message = await receive()
        await send(OK)
        await send(body(message["body"]))

    async with site_of(app) as site:
        client = await site.connect()
        await client.send(post("/", b"", "Expect: 100-continue").replace(b": 0", b": 4"))
        assert await client.read(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"four")
        await client.finish()
        assert parsed(await client.read_all()).body == b"four"


@pytest.mark.parametrize("headers", [[], [(b"Content-Length", b"5")], [[b"x", b"y"]]])
@pytest.mark.parametrize("parts", [(b"hello",), (b"he", b"llo"), (b"", b"hello", b"")])
async def test_an_answer_arrives_however_it_is_sent(headers: Any, parts: Any) -> None:
    """Whole or in parts, with or without a length; header rows may be lists."""
    messages = [body(part, more=True) for part in parts]
    messages[-1]["more_body"] = False
    async with site_of(sending(start(201, *headers), *messages)) as site:
        answer = await site.ask(get())
        assert (answer.status, answer.body, answer.whole) == (201, b"hello", True)
        assert list(answer.headers).count("date") == 1
        if len(parts) == 1:  # a stream without a length is the connection's business
            again = await site.ask(get(method="HEAD"))
            assert (again.status, again.body, again.whole) == (201, b"", True)


async def test_what_an_application_says_of_date_and_connection_is_kept() -> None:
    """The date is there once; a connection that it closes is closed."""
    headers = [(b"date", b"today"), (b"connection", b"close")]
    async with site_of(sending(start(200, *headers), body(b"x"))) as site:
        client = await site.connect()
        await client.send(get())
        data = await client.read_all()
        assert data.lower().count(b"date:") == 1
        assert parsed(data).headers["date"] == "today"


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([start(200, (b"content-length", b"3")), body(b"four")], "has 4 bytes and says 3"),
        ([start(200, (b"content-length", b"-3")), body()], "not one number"),
        ([start(200, (b"a", b"b\r\nc: d")), body()], "is none that HTTP has"),
        ([start(200, (b"a b", b"c")), body()], "is none that HTTP has"),
        ([start(99), body()], "not the status of an answer"),
        ([], "its answer has not begun"),
        ([start()], "its answer has not begun"),
        ([body(b"x")], "was sent where"),
    ],
)
async def test_what_is_no_answer_is_a_500(messages: Any, said: str) -> None:
    """The client is told nothing of the reason; the application is to blame for it."""
    async with site_of(sending(*messages)) as site:
        answer = await site.ask(get())
        assert (answer.status, answer.body) == (500, b"500: Internal Server Error\n")
        assert said in fault(site)


@pytest.mark.parametrize("ends", ["raises", "returns", "exits"])
@pytest.mark.parametrize("began", [False, True])
async def test_an_application_that_fails_is_a_500_or_a_connection_that_breaks(
    ends: str, began: bool
) -> None:
    """An answer that has begun must not look whole."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        if began:
            await send(OK)
            await send(body(b"half", more=True))
        if ends == "raises":
            raise ValueError("no")
        if ends == "exits":
            raise SystemExit(3)

    async with site_of(app) as site:
        answer = await site.ask(get())
        assert answer.whole is not began
        assert answer.status in ((0, 200) if began else (500,))
        assert fault(site).startswith("ValueError: no" if ends == "raises" else "RuntimeError: ")


async def test_the_fault_of_what_runs_after_the_answer_is_told() -> None:
    """The answer is whole and the connection goes on."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send(OK)
        await send(body(b"x"))
        assert (await receive())["type"] == "http.disconnect"
        raise ValueError("in the background")

    async with site_of(app) as site:
        client = await site.connect()
        await client.send(get() + get("/", "Connection: close"))
        assert (await client.read_all()).count(b"HTTP/1.1 200 OK") == 2
        await until(lambda: not site.started[0].open)
        assert [row["error"] for row in site.log.errors] == ["ValueError: in the background"] * 2
        site.log.errors.clear()


@pytest.mark.parametrize("by", ["receive", "send"])
async def test_an_application_learns_that_the_client_is_gone(by: str) -> None:
    """From then on what it raises is no fault of it."""
    began, heard = asyncio.Event(), list[Any]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await receive()
        began.set()
        if by == "receive":
            heard.append((await receive())["type"])
            raise ValueError("nobody listens")
        await send(OK)
        while True:
            await send(body(b"x" * 65536, more=True))

    async with site_of(app) as site:
        client = await site.connect()
        await client.send(get())
        await began.wait()
        client.sock.close()
        await until(lambda: any(row["event"] == "request_abandoned" for row in site.log.infos))
        assert heard == (["http.disconnect"] if by == "receive" else [])


async def test_a_client_that_has_ended_its_side_still_gets_its_answer() -> None:
    """Though the application is told that it is gone, as with most it is."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        await send(OK)
        await send(body(b"all the same"))

    async with site_of(app) as site:
        client = await site.connect()
        await client.send(get())
        await client.finish()
        assert parsed(await client.read_all()).body == b"all the same"


async def test_a_client_that_goes_while_its_body_is_wanted() -> None:
    """Who waits for more of it hears that."""
    heard: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        while not heard or heard[-1]["type"] != "http.disconnect":
            heard.append(await receive())

    async with site_of(app) as site:
        client = await site.connect()
        await client.send(post("/", b"0123456789")[:-5])
        await until(lambda: heard)
        client.sock.close()
        await until(lambda: heard[-1]["type"] == "http.disconnect")


async def test_a_client_that_does_not_read_holds_its_application_back() -> None:
    """What is sent waits for it, and all of it arrives."""
    sent: list[int] = []
    part = bytes(65536)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send(OK)
        for number in range(200):
            await send(body(part, more=True))
            sent.append(number)
        await send(body())

    async with site_of(app) as site:
        client = await site.connect(buffer=4096)
        await client.send(get())
        await until(lambda: client.entry.target.writing_paused)
        assert len(sent) < 200
        await client.finish()
        answer = parsed(await client.read_all())
        assert (len(answer.body), answer.whole) == (200 * 65536, True)


async def test_early_hints_go_out_before_the_answer() -> None:
    """As 103."""
    hint = {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]}
    async with site_of(sending(hint, OK, body(b"x"))) as site:
        client = await site.connect()
        await client.send(get("/", "Connection: close"))
        data = await client.read_all()
        assert data.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n")
        assert parsed(data).body == b"x"


async def test_whoever_waits_to_receive_is_woken_by_the_end_of_the_answer() -> None:
    """Two at a time, for a body that does not come to an end, and behind its end."""
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"

        async def listen() -> None:
            while (message := await receive())["type"] != "http.disconnect":
                pass
            heard.append(message["type"])

        tasks = [asyncio.ensure_future(listen()) for _ in range(2)]
        await asyncio.sleep(0)
        await send(OK)
        await send(body(b"x"))
        await asyncio.gather(*tasks)

    async with site_of(app) as site:
        for request in (post("/", b"12345")[:-2], get()):
            client = await site.connect()
            await client.send(request)
            await until(lambda: len(heard) == 2)
            heard.clear()


async def test_requests_in_flight_end_on_the_application_in_which_they_began() -> None:
    """The next one of the same connection is answered by the new one."""
    gate = asyncio.Event()

    def version(name: bytes) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert scope["type"] == "http"
            await send(OK)
            await send(body(name, more=True))
            if name == b"old":
                await gate.wait()
            await send(body(name))

        return app

    async with site_of(version(b"old")) as site:
        client = await site.connect()
        await client.send(get())
        old = site.started[0]
        await until(lambda: old.open)
        await site.push(version(b"new"))
        assert old.open == 1
        gate.set()
        await client.send(get("/", "Connection: close"))
        data = await client.read_all()
        assert data.count(b"3\r\nold\r\n") == data.count(b"3\r\nnew\r\n") == 2
        assert data.index(b"new") > data.rindex(b"old")
        assert old.open == 0


def trailers(*headers: Any, more: bool = False) -> dict[str, Any]:
    """The message that sends them."""
    return {"type": "http.response.trailers", "headers": headers, "more_trailers": more}


LATER = OK | {"trailers": True}


@pytest.mark.parametrize("connection", [v1, v2], ids=["v1", "v2"])
async def test_trailers_stand_behind_a_chunked_body(connection: Any) -> None:
    """In one message or in several; the connection goes on."""
    app = sending(
        LATER,
        body(b"a", True),
        body(b"b"),
        trailers((b"X-A", b"1"), more=True),
        trailers((b"b", b"2")),
    )
    async with site_of(app, connection) as site:
        client = await site.connect()
        await client.send(get() + get("/", "Connection: close"))
        first, second = (await client.read_all()).split(b"HTTP/1.1 200 OK")[1:]
    for answer in (first, second):
        assert answer.endswith(b"\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\nx-a: 1\r\nb: 2\r\n\r\n")


@pytest.mark.parametrize("length", [(), ((b"content-length", b"1"),)], ids=["1.0", "length"])
async def test_where_they_can_t_stand_they_go_nowhere(length: Any) -> None:
    """Behind a length, and in HTTP/1.0."""
    message = start(200, *length) | {"trailers": True}
    asked = get().replace(b"HTTP/1.1", b"HTTP/1.1" if length else b"HTTP/1.0")
    async with site_of(sending(message, body(b"a"), trailers((b"x", b"1")))) as site:
        client = await site.connect()
        await client.send(asked.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert (await client.read_all()).endswith(b"\r\n\r\na")


BAD_TRAILERS = [(b"Content-Length", b"5"), (b"x", b"a\r\nb: c")]


@pytest.mark.parametrize("bad", BAD_TRAILERS, ids=["may not", "two"])
async def test_trailers_that_may_not_be_sent_break_the_answer(bad: Any) -> None:
    """A client must not take for whole what its application has not ended."""
    async with site_of(sending(LATER, body(b"a"), trailers(bad))) as site:
        answer = await site.ask(get())
        assert (answer.status, answer.whole) == (200, False)
        assert "ValueError" in fault(site)


async def test_an_answer_whose_trailers_never_come_is_not_whole() -> None:
    """It has said that there would be some."""
    async with site_of(sending(LATER, body(b"a"))) as site:
        answer = await site.ask(get())
        assert (answer.status, answer.whole) == (200, False)
        assert "has not ended" in fault(site)
