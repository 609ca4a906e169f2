"""The wire: requests come out the same however the bytes are cut, and whichever parser goes on."""

from __future__ import annotations

import pytest

from netswap.http import Wire

TWO = (
    b"POST /a%20b?c=d HTTP/1.1\r\nHost: x\r\nX-Y:  z \r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n1;e=f\r\nd\r\n0\r\nT: u\r\n\r\n"
    b"PUT /2 HTTP/1.1\r\nHost: y\r\nContent-Length: 5\r\n\r\nhello"
    b"GET /3 HTTP/1.0\r\n\r\n"
)


def taken(chunks, at: int | None = None) -> list[tuple]:
    """Everything that comes out; before chunk ``at`` another wire goes on from the plain form."""
    wire, found = Wire(), []
    for number, chunk in enumerate(chunks):
        if number == at:
            wire = Wire.from_canonical(Wire.to_canonical(wire))
            if wire.receiving is not None:
                found[-1] = wire.receiving
        found += wire.feed(chunk)
    assert wire.failure is None
    return [
        (r.method, r.path, r.query, list(r.headers), r.version, r.body.take_nowait()) for r in found
    ]


WHOLE = taken([TWO])


def test_a_chunk_of_requests_gives_each():
    """Method, path, query, headers, version and body of each arrive."""
    assert [row[0] for row in WHOLE] == ["POST", "PUT", "GET"]
    assert WHOLE[0][1:4] == (
        "/a b",
        b"c=d",
        [(b"host", b"x"), (b"x-y", b"z"), (b"transfer-encoding", b"chunked")],
    )
    assert [row[-1] for row in WHOLE] == [b"abcd", b"hello", b""]


@pytest.mark.parametrize("cut", range(1, len(TWO)))
def test_a_cut_changes_nothing(cut):
    """Whatever byte a chunk ends at, the same requests come out."""
    assert taken([TWO[:cut], TWO[cut:]]) == WHOLE


@pytest.mark.parametrize("cut", range(1, len(TWO)))
def test_another_wire_goes_on_from_the_canonical_form(cut):
    """At every byte the plain form is enough for a new parser."""
    assert taken([TWO[:cut], TWO[cut:]], at=1) == WHOLE


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (
            b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70_000, 431),
    ],
)
def test_what_is_no_http_is_refused(text, status):
    """With the status that the client is to be told."""
    wire = Wire()
    wire.feed(text)
    assert wire.failure is not None
    assert wire.failure.status == status
