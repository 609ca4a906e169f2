"""http: requests are answered in order, whatever is swapped meanwhile."""

from __future__ import annotations

import httptools
import pytest

from netswap.http import Exchange
from protocols.http import limits, v1, v2
from tests.protocols.conftest import until
from tests.protocols.http import answering

module = answering
"""What ``serve`` takes apart."""
KIND = "http.connection"


def get(path: bytes, more: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (path, more)


VERSIONS = pytest.mark.parametrize("version", [v1, v2], ids=["v1", "v2"])
pytestmark = VERSIONS


async def client_of(serve, version):
    server = await serve(version, limits, answering, kind=KIND)
    return server, await server.connect()


LAST = b"Connection: close\r\n"


def parsed(data: bytes) -> list[tuple[int, bytes]]:
    """Status and body of each answer."""
    found: list[tuple[int, bytes]] = []

    class Answers:
        body = b""

        def on_body(self, data: bytes) -> None:
            self.body += data

        def on_message_complete(self) -> None:
            found.append((parser.get_status_code(), self.body))
            self.body = b""

    parser = httptools.HttpResponseParser(Answers())
    parser.feed_data(data)
    return found


async def talk(client, *chunks: bytes) -> list[tuple[int, bytes]]:
    """All answers until the connection is closed."""
    for chunk in chunks:
        await client.send(chunk)
    return parsed(await client.read_all())


async def test_pipelined_requests_are_answered_in_order(serve, version):
    """Plain functions and coroutines mixed keep the order of the requests."""
    _, client = await client_of(serve, version)
    asked = get(b"/item/a") + get(b"/") + get(b"/item/b") + get(b"/item/c") + get(b"/", LAST)
    bodies = [body for _, body in await talk(client, asked)]
    assert bodies == [b"a", b"hello", b"b", b"c", b"hello"]


POSTED = (
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nfour" + get(b"/item/z", LAST)
)


@pytest.mark.parametrize("cut", range(1, len(POSTED), 3))
async def test_a_swap_at_a_cut_changes_nothing(serve, version, cut):
    """Half a head, inside a chunk, with a request in flight: the answers are the same."""
    server, client = await client_of(serve, version)
    await client.send(POSTED[:cut])
    await server.swap(v2 if version is v1 else v1)
    assert await talk(client, POSTED[cut:]) == [(200, b"abcde"), (200, b"4"), (200, b"z")]


async def test_a_failing_coroutine_is_a_500_and_the_connection_goes_on(serve, version):
    """The client is told, without a word of the server's inside."""
    server, client = await client_of(serve, version)
    found = await talk(client, get(b"/fails") + get(b"/", LAST))
    assert found == [(500, b"500: Internal Server Error\n"), (200, b"hello")]
    assert server.log.errors.pop()["event"] == "callback_failed"


async def test_what_a_function_returns_is_an_answer_or_is_told_to_be_none(serve, version):
    """Of a class of its own as well; whatever else it is, the log says what was expected."""
    server, client = await client_of(serve, version)
    asked = get(b"/own") + get(b"/text") + get(b"/text/later") + get(b"/", LAST)
    found = await talk(client, asked)
    failed = (500, b"500: Internal Server Error\n")
    assert found == [(200, b"own"), failed, failed, (200, b"hello")]
    told = [server.log.errors.pop()["error"] for _ in range(2)]
    assert told == ["TypeError: it has returned a str, which is no netswap.http.Response"] * 2


async def test_a_cancelled_coroutine_leaves_no_client_waiting(serve, version):
    """Whoever has cancelled it: 503 when nothing was said, and the connection goes on."""
    _, client = await client_of(serve, version)
    found = await talk(client, get(b"/cancelled") + get(b"/", LAST))
    assert found == [(503, b"503: Service Unavailable\n"), (200, b"hello")]


async def test_the_answer_of_a_cancelled_coroutine_ends_when_it_has_begun(serve, version):
    """The client sees that it is not whole."""
    _, client = await client_of(serve, version)
    await client.send(get(b"/cancelled/late"))
    head, _, body = (await client.read_all()).partition(b"\r\n\r\n")
    assert b"content-length: 9" in head
    assert body in {b"", b"begun"}


async def test_a_coroutine_that_is_cancelled_before_its_first_step_leaves_no_client_waiting(
    serve, version
):
    """An operator may come in between."""
    server, client = await client_of(serve, version)
    begin = Exchange.carry_out

    def begin_and_cancel(exchange, *words):
        begin(exchange, *words)
        exchange.cancel()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Exchange, "carry_out", begin_and_cancel)
        await client.send(get(b"/item/a"))
        await until(lambda: client.entry.target.state.current is None)
        patch.setattr(Exchange, "carry_out", begin)
        found = await talk(client, get(b"/", LAST))
    assert [status for status, _ in found] == [503, 200]


async def test_what_is_no_http_is_refused_behind_the_answers_that_are_owed(serve, version):
    """A good request before the bad one is answered first."""
    _, client = await client_of(serve, version)
    found = await talk(client, get(b"/item/a") + b"GET / HTTP/1.1\r\nno header\r\n\r\n")
    assert [status for status, _ in found] == [200, 400]


async def test_a_body_that_ends_too_early_is_refused(serve, version):
    """Nobody waits for the rest of it for ever."""
    server, client = await client_of(serve, version)
    await client.send(b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nfour")
    await client.finish()
    assert [status for status, _ in parsed(await client.read_all())] == [400]
    assert not server.log.errors


PIPELINED = {
    "coroutines": [b"/item/a", b"/item/b", b"/item/c"],
    "mixed": [b"/item/a", b"/", b"/item/b", b"/"],
    "in parts": [b"/long", b"/item/a", b"/"],
}


@pytest.mark.parametrize("swapped", [False, True], ids=["", "swapped"])
@pytest.mark.parametrize("paths", PIPELINED.values(), ids=list(PIPELINED))
async def test_who_ends_its_side_behind_pipelined_requests_gets_every_answer(
    serve, version, paths, swapped
):
    """And the end of the stream behind the last; of what has come by halves, nothing."""
    server, client = await client_of(serve, version)
    asked = b"".join(map(get, paths))
    await client.send(asked * 14 + b"GET /half HTT", read=False)
    await client.finish()
    if swapped:
        entry = client.entry
        await until(lambda: entry.target is None or entry.target.half_closed)
        await server.swap(v2 if version is v1 else v1)
    found = parsed(await client.read_all())
    assert [status for status, _ in found] == [200] * 14 * len(paths)
    assert found == found[: len(paths)] * 14


async def test_who_ends_its_side_behind_an_upgrade_that_nobody_makes_gets_every_answer(
    serve, version
):
    """What came behind it are requests after all."""
    _, client = await client_of(serve, version)
    asks = b"Connection: upgrade\r\nUpgrade: x\r\n"
    await client.send(get(b"/item/a", asks) + get(b"/item/b") + get(b"/item/c"), read=False)
    await client.finish()
    assert [body for _, body in parsed(await client.read_all())] == [b"a", b"b", b"c"]


async def test_what_comes_before_the_queue_has_its_turn_is_answered_behind_it(
    serve, version, monkeypatch
):
    """Between the end of an answer and the turn of the next, the loop may have read more."""
    server, client = await client_of(serve, version)
    call_soon = server.host.call_soon

    def late(entry, method, *args):
        if method == "proceed":
            monkeypatch.undo()
            entry.target.on_data(get(b"/", LAST))
        call_soon(entry, method, *args)

    monkeypatch.setattr(type(server.host), "call_soon", staticmethod(late))
    bodies = [body for _, body in await talk(client, get(b"/item/a") + get(b"/item/b"))]
    assert bodies == [b"a", b"b", b"hello"]


async def test_who_sends_whole_requests_while_one_is_answered_is_not_read_for_ever(serve, version):
    """The queue is bounded, however the requests are cut."""
    _, client = await client_of(serve, version)
    await client.send(get(b"/slow/60"))
    connection = client.entry.target
    for _ in range(200):
        if connection.reading_paused:
            break
        await client.send(get(b"/") * 4)
    assert connection.reading_paused
    assert len(connection.state.queue) < 200
    connection.state.current.cancel()
    await until(lambda: not connection.state.queue)


@pytest.mark.parametrize("how", [b"exit", b"interrupt", b"base", b"generator"])
async def test_a_coroutine_that_would_end_the_process_fails_alone(serve, version, how):
    """Out of a task these end the loop, and with it every other client; and this one waited."""
    server, client = await client_of(serve, version)
    found = await talk(client, get(b"/exits/" + how) + get(b"/", LAST))
    assert found == [(500, b"500: Internal Server Error\n"), (200, b"hello")]
    assert server.log.errors.pop()["event"] == "callback_failed"
    late = await server.connect()
    await late.send(get(b"/exits/late/" + how))
    head, _, body = (await late.read_all()).partition(b"\r\n\r\n")
    assert b"content-length: 9" in head
    assert body in {b"", b"begun"}
    assert server.log.errors.pop()["event"] == "callback_failed"
