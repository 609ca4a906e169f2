"""What was parsed before is taken from memory, and is what the parser would say."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from netswap.http import Wire, known

BLOCK = b"Host: x\r\nAccept: */*\r\n\r\n"
TARGETS = st.text(string.printable, max_size=20).map(lambda text: b"/" + text.encode())


def test_a_chunk_is_parsed_once():
    """The second time the very same heads come out."""
    chunk = b"GET /once HTTP/1.1\r\n" + BLOCK
    first, second = Wire().feed(chunk), Wire().feed(chunk)
    assert first[0].head is second[0].head
    assert first[0] is not second[0]


@given(method=st.sampled_from([b"GET", b"HEAD", b"DELETE", b"POST", b"get"]), target=TARGETS)
def test_a_known_block_behind_another_line_is_what_the_parser_says(method, target):
    """Whatever stands in the target: from memory or by the parser, it is the same head."""
    Wire().feed(b"GET / HTTP/1.1\r\n" + BLOCK)
    chunk = method + b" " + target + b" HTTP/1.1\r\n" + BLOCK
    heads = known.recall(chunk)
    wire = Wire()
    if heads is not None:
        known._chunks.clear()
        known._blocks.clear()
        assert tuple(request.head for request in wire.feed(chunk)) == heads
        assert wire.failure is None


def test_what_has_a_body_or_is_refused_is_not_remembered():
    """Only whole requests without a body are."""
    for chunk in (
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\n" + BLOCK + b"x",
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n" + BLOCK,
        b"GET / HTTP/1.1\r\nHost: y\r\n" + BLOCK,
        b"GET /half HTTP/1.1\r\nHost: ",
    ):
        Wire().feed(chunk)
        assert known.recall(chunk) is None


def test_memory_is_bounded():
    """Clients that never repeat themselves do not fill it."""
    for number in range(3 * known.LIMIT):
        Wire().feed(b"GET / HTTP/1.1\r\nX: %d\r\n" % number + BLOCK)
    assert len(known._chunks) <= known.LIMIT
    assert len(known._blocks) <= known.LIMIT


def test_a_broken_connection_recalls_nothing():
    """After a failure even good requests are not taken any more."""
    chunk = b"GET /good HTTP/1.1\r\n" + BLOCK
    wire = Wire()
    wire.feed(chunk)
    wire.feed(b"\0")
    assert wire.failure is not None
    assert wire.feed(chunk) == []
