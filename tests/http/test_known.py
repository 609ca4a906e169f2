"""What was parsed before is taken from memory, and is what the parser would say."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from netswap.http import Request, Wire, known
from netswap.http.message import Head

BLOCK = b"Host: x\r\nAccept: */*\r\n\r\n"
METHODS = st.sampled_from(
    [b"GET", b"HEAD", b"DELETE", b"POST", b"PUT", b"PATCH", b"CONNECT", b"get"]
)
LINES = [
    b"",
    b"",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: x\r\n",
]
BODIES = st.one_of(
    st.binary(max_size=12),
    st.just(b"\r\n\r\n"),
    st.just(b"GET /inner HTTP/1.1\r\n" + BLOCK),
    st.just(b"0\r\n\r\n"),
)
TARGETS = st.text(string.printable, max_size=20).map(lambda text: b"/" + text.encode())


def test_a_chunk_is_parsed_once():
    """The second time the very same heads come out."""
    chunk = b"GET /once HTTP/1.1\r\n" + BLOCK
    first, second = Wire().feed(chunk), Wire().feed(chunk)
    assert first[0].head is second[0].head
    assert first[0] is not second[0]


def forget() -> None:
    """As in a worker that has just begun."""
    for memory in (known.WHOLE, known._openings, known._chunks, known._blocks):
        memory.clear()


def recalled(data: bytes) -> list[Request] | None:
    """What is taken from memory; None for what is for the parser, which is not there."""
    wire = Wire()
    wire._parser = None
    try:
        return wire.feed(data)
    except AttributeError:
        return None


def taken(requests: list[Request]) -> list[tuple[Head, bytes, bool, int, int]]:
    """All that there is of them."""
    bodies = [request.body for request in requests]
    rows = [(body.here(), body.complete, body.seen, body.size) for body in bodies]
    return [(request.head, *row) for request, row in zip(requests, rows, strict=True)]


@given(method=METHODS, target=TARGETS)
def test_a_known_block_behind_another_line_is_what_the_parser_says(method, target):
    """Whatever stands in the target: from memory or by the parser, it is the same head."""
    forget()
    Wire().feed(b"GET / HTTP/1.1\r\n" + BLOCK)
    chunk = method + b" " + target + b" HTTP/1.1\r\n" + BLOCK
    known_as = recalled(chunk)
    if known_as is not None:
        forget()
        wire = Wire()
        assert taken(wire.feed(chunk)) == taken(known_as)
        assert wire.failure is None


@given(
    start=st.tuples(METHODS, TARGETS),
    said=st.integers(0, 9),
    first=st.binary(max_size=9),
    data=BODIES,
    lead=st.sampled_from([b"", b"", b"\r\n", b"\r\n\r\n"]),
    line=st.sampled_from(LINES),
)
def test_a_known_head_in_front_of_a_body_is_what_the_parser_says(
    start, said, first, data, lead, line
):
    """A body that is too short, too long or the next request is taken as the parser takes it."""
    forget()
    block = line + b"Content-Length: %d\r\n" % said + BLOCK
    Wire().feed(lead + b"POST / HTTP/1.1\r\n" + block + first)
    chunk = lead + b" ".join(start) + b" HTTP/1.1\r\n" + block + data
    fresh, wire = Wire(), Wire()
    known_as = recalled(chunk)
    found = taken(wire.feed(chunk))
    forget()
    assert found == taken(fresh.feed(chunk))
    assert (wire.begun, wire.ended, wire.rest) == (fresh.begun, fresh.ended, fresh.rest)
    if known_as is not None:
        assert taken(known_as) == found
    follows = b"GET /next HTTP/1.1\r\n" + BLOCK
    assert taken(wire.feed(follows)) == taken(fresh.feed(follows))


def test_a_body_behind_a_known_head_is_no_request():
    """Bytes that look like a request are those of the body when the head says so."""
    forget()
    inner = b"GET /inner HTTP/1.1\r\n" + BLOCK
    chunk = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n" % len(inner) + BLOCK + inner
    for _ in range(3):
        (request,) = Wire().feed(chunk)
        assert request.head.path == "/"
        assert (request.body.complete, request.body.here()) == (True, inner)
    first, second = recalled(chunk), recalled(chunk)
    assert first is not None
    assert second is not None
    assert first[0].head is second[0].head
    assert first[0].body is not second[0].body


def test_a_known_head_whose_body_is_still_to_come_goes_to_the_parser():
    """A message is taken from memory to its last byte or not at all."""
    forget()
    head = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n" + BLOCK
    Wire().feed(head + b"abc")
    for cut in range(1, len(head) + 3):
        assert recalled((head + b"abc")[:cut]) is None
    assert recalled(head + b"abcd") is None
    wire = Wire()
    (request,) = wire.feed(head)
    assert not request.body.complete
    assert wire.feed(b"xyz") == []
    assert (request.body.complete, request.body.here()) == (True, b"xyz")


def test_what_is_chunked_or_refused_is_not_remembered():
    """Nor what asks for an upgrade, or says that it is the last."""
    for chunk in (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + BLOCK + b"0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nConnection: close\r\n" + BLOCK + b"x",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nUpgrade: x\r\n" + BLOCK + b"x",
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n" + BLOCK,
        b"GET / HTTP/1.1\r\nHost: y\r\n" + BLOCK,
        b"GET /half HTTP/1.1\r\nHost: ",
    ):
        Wire().feed(chunk)
        assert recalled(chunk) is None


def test_memory_is_bounded():
    """Clients that never repeat themselves do not fill it."""
    for number in range(3 * known.LIMIT):
        Wire().feed(b"GET / HTTP/1.1\r\nX: %d\r\n" % number + BLOCK)
        Wire().feed(b"PUT / HTTP/1.1\r\nContent-Length: 1\r\nX: %d\r\n" % number + BLOCK + b"x")
        Wire().feed(2 * (b"GET / HTTP/1.1\r\nX: %d\r\n" % number + BLOCK))
    assert len(known._chunks) <= known.LIMIT
    assert len(known._blocks) <= known.LIMIT
    assert len(known._openings) <= known.LIMIT
    assert len(known.WHOLE) <= known.LIMIT


def test_a_broken_connection_recalls_nothing():
    """After a failure even good requests are not taken any more."""
    chunk = b"GET /good HTTP/1.1\r\n" + BLOCK
    wire = Wire()
    wire.feed(chunk)
    wire.feed(b"\0")
    assert wire.failure is not None
    assert wire.feed(chunk) == []
