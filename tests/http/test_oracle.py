"""h11 as the oracle: what is accepted here it understands in the same way, and our answers too."""

from __future__ import annotations

import h11
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from netswap.http import Request, Response
from netswap.http.answers import Outline
from netswap.http.exchange import NOWHERE, Exchange
from netswap.http.message import Head
from netswap.http.wire import Wire
from tests.http.test_wire_cuts import messages

Heard = list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes, bool]]

LINES = [
    b"Content-Length: 3",
    b"Content-Length: 0",
    b"Transfer-Encoding: chunked",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: x, Upgrade",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"Accept: a, b",
    b"X:",
    b"X: \t y ",
]
BODIES = [b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n", b"0\r\n\r\n"]


@st.composite
def requests(draw) -> bytes:
    """Something like a request; whether it is one nobody has looked."""
    method = draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"DELETE"]))
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.0"]))
    lines = draw(st.lists(st.sampled_from(LINES), max_size=3))
    head = b"%b /a?b HTTP/%b\r\nHost: x\r\n" % (method, version)
    return b"".join([head, *(line + b"\r\n" for line in lines), b"\r\n"]) + draw(
        st.sampled_from(BODIES)
    )


EVIL = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b" ", b"\t", b"\0", b":", b";", b"0", b"x", b"\x0b", b"\xff", b","]
)


@st.composite
def mutated(draw) -> bytes:
    """One or two requests in which a few bytes were put in, changed or left out."""
    stream = b"".join(draw(st.lists(requests(), min_size=1, max_size=2)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(stream)))
        gone = draw(st.integers(0, 2))
        stream = stream[:at] + draw(EVIL) + stream[at + gone :]
    return stream


def ours(stream: bytes) -> tuple[Heard, bool]:
    """What the wire says, and whether it refuses anything."""
    wire = Wire()
    taken: list[Request] = wire.feed(stream)
    while wire.rest is not None:
        taken += wire.resume()
    rows = [
        (r.method.encode(), r.target, list(r.headers), r.body.here(), r.body.complete)
        for r in taken
    ]
    return rows, wire.failure is not None


def theirs(stream: bytes) -> tuple[Heard, bool]:
    """The same of h11, which is not given the blank lines in front of a request."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(stream.lstrip(b"\r\n"))
    heard: Heard = []
    stays = False
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                rows = [(name, value) for name, value in event.headers]
                # h11 ends with each request of HTTP/1.0, whatever that asks for
                said = [value for name, value in rows if name == b"connection"]
                asks = b"keep-alive" in said and b"close" not in said
                stays = event.http_version == b"1.0" and asks
                heard.append((event.method, event.target, rows, b"", False))
            elif isinstance(event, h11.Data):
                heard[-1] = (*heard[-1][:3], heard[-1][3] + bytes(event.data), False)
            elif isinstance(event, h11.EndOfMessage):
                heard[-1] = (*heard[-1][:4], True)
                answer(connection)
                if connection.our_state is not h11.DONE and not stays:
                    return heard, False
                rest, _ = connection.trailing_data
                connection = h11.Connection(h11.SERVER)
                connection.receive_data(rest.lstrip(b"\r\n"))
            else:
                return heard, False
    except h11.RemoteProtocolError:
        return heard, True


def answer(connection: h11.Connection) -> None:
    connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
    connection.send(h11.EndOfMessage())


@given(mutated())
@example(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
def test_what_is_accepted_here_h11_understands_in_the_same_way(stream):
    """Requests, headers and bodies are the same, up to where something is refused here."""
    taken, refused = ours(stream)
    # two spaces, or what makes a lenient line of a request, are no way to hide a request in another
    assume(b"  " not in stream and b"\xff" not in stream)
    heard, theirs_refused = theirs(stream)
    whole = [row for row in taken if row[4]]
    assert whole == heard[: len(whole)]
    if not refused:
        assert not theirs_refused or len(heard) > len(taken)
        assert [row[:3] for row in taken] == [row[:3] for row in heard]


@given(st.lists(messages(blank=False), min_size=1, max_size=4).map(b"".join))
def test_what_is_well_formed_is_accepted(stream):
    """By the grammar of requests, with bodies, extensions, trailers and upgrades.

    But for blank lines in front of a request, which RFC 9112 2.2 lets pass and h11 does not.
    """
    taken, refused = ours(stream)
    heard, theirs_refused = theirs(stream)
    assert not refused
    assert not theirs_refused
    assert [(row[:2], row[3:]) for row in taken] == [(row[:2], row[3:]) for row in heard]
    assert all(row[4] for row in taken)


HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"X-A", b"Content-Type", b"Date", b"Connection", b"Transfer-Encoding"]),
        st.sampled_from([b"a", b"close", b"chunked", b"\xe9"]),
    ),
    max_size=3,
)


@given(
    method=st.sampled_from(["GET", "HEAD"]),
    version=st.sampled_from(["1.1", "1.0"]),
    status=st.sampled_from([200, 204, 304, 404, 799]),
    headers=HEADERS,
    parts=st.lists(st.binary(max_size=20), max_size=4),
    says_length=st.booleans(),
)
def test_h11_reads_an_answer_in_parts(method, version, status, headers, parts, says_length):
    """However it is delimited, the client gets the status and the body and sees the end."""
    exchange = Exchange(Request(Head(method, b"/", "/", b"", version, ())), NOWHERE)
    body = b"".join(parts)
    if says_length:
        headers = [*headers, (b"content-length", b"%d" % len(body))]
    outline = Outline.start(exchange.request, status, headers)
    exchange.framing = outline.framing
    sent = b"".join([outline.lines + b"\r\n", *(Outline.part(exchange, part) for part in parts)])
    sent += Outline.end(exchange)
    empty = method == "HEAD" or status in (204, 304)
    assert read(method, version, sent) == (status, b"" if empty else body)


@given(
    method=st.sampled_from(["GET", "HEAD"]),
    status=st.sampled_from([200, 204, 304, 404]),
    headers=HEADERS,
    body=st.binary(max_size=20),
)
def test_h11_reads_a_whole_answer(method, status, headers, body):
    """With the headers of an application, whatever they are."""
    request = Request(Head(method, b"/", "/", b"", "1.1", ()))
    around = Outline.whole(request, Response(body, status, headers))
    empty = method == "HEAD" or status in (204, 304)
    sent = around.lines + b"\r\n" + (b"" if empty else body)
    assert read(method, "1.1", sent) == (status, b"" if empty else body)


def read(method: str, version: str, sent: bytes) -> tuple[int, bytes]:
    """What a client has of an answer behind which the connection is closed or goes on."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(sent)
    client.receive_data(b"")
    status, body = 0, b""
    while not isinstance(event := client.next_event(), (h11.EndOfMessage, h11.ConnectionClosed)):
        assert event is not h11.NEED_DATA
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
    return status, body


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x", b"a\r\nset-cookie: b")],
        [(b"x", b"a\nb")],
        [(b"x", b"a\rb")],
        [(b"x", b"a\0b")],
        [(b"x\r\ny", b"a")],
        [(b"x: y", b"a")],
        [(b"", b"a")],
        [(b"content-length", b"1"), (b"content-length", b"2")],
        [(b"content-length", b"1, 1")],
        [(b"content-length", b"-1")],
        [(b"content-length", b"9")],
    ],
)
def test_what_would_be_taken_for_something_else_is_not_sent(headers):
    """Line breaks, names that are none, lengths that are not the body's."""
    request = Request(Head("GET", b"/", "/", b"", "1.1", ()))
    with pytest.raises(ValueError, match="none that HTTP has|not one number|has 4 bytes"):
        Outline.whole(request, Response(b"body", 200, headers))


@pytest.mark.parametrize("status", [0, 99, 101, 1000])
def test_a_status_is_that_of_an_answer(status):
    """1xx come from ``inform``, 101 from an upgrade."""
    request = Request(Head("GET", b"/", "/", b"", "1.1", ()))
    with pytest.raises(ValueError, match="status"):
        Outline.start(request, status, [])
