"""Smuggling: bytes that two readers could take for different requests are refused.

Each line names where it comes from. What stands behind a refused request is never looked at.
"""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import pytest

from netswap.http import Wire

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
HIDDEN = b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"

REFUSED = {
    # length and coding
    "CL.TE, RFC 9112 6.3": (HEAD + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", 400),
    "TE.CL, RFC 9112 6.3": (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n", 400),
    "two lengths, RFC 9112 6.3": (HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    "the same length twice, RFC 9110 8.6": (HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    "a list of lengths, RFC 9110 8.6": (HEAD + b"Content-Length: 3, 3\r\n\r\nabc", 400),
    "+ before a length, CVE-2018-7159": (HEAD + b"Content-Length: +3\r\n\r\nabc", 400),
    "a negative length": (HEAD + b"Content-Length: -1\r\n\r\n", 400),
    "a space in a length, CVE-2018-7159": (HEAD + b"Content-Length: 1 3\r\n\r\nabc", 400),
    "a hexadecimal length": (HEAD + b"Content-Length: 0x3\r\n\r\nabc", 400),
    "an underscore in a length, CVE-2023-47627": (HEAD + b"Content-Length: 1_0\r\n\r\n0123456789", 400),
    "no length": (HEAD + b"Content-Length:\r\n\r\n", 400),
    "a length beyond 64 bits": (HEAD + b"Content-Length: 18446744073709551616\r\n\r\n", 400),
    # codings
    "xchunked, portswigger.net TE.TE": (HEAD + b"Transfer-Encoding: xchunked\r\n\r\n", 501),
    "chunked, identity, CVE-2022-32215": (HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n", 400),
    "chunked twice, RFC 9112 6.1": (HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "chunked and another, portswigger.net TE.TE": (HEAD + b"Transfer-Encoding: chunked\r\nTransfer-encoding: x\r\n\r\n", 400),
    "identity, RFC 9112 7": (HEAD + b"Transfer-Encoding: identity\r\n\r\n", 501),
    "gzip, chunked, RFC 9112 6.1": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "a vertical tab, CVE-2019-18277": (HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n", 400),
    "a folded coding, CVE-2022-32213": (HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n", 400),
    "quoted, portswigger.net TE.TE": (HEAD + b'Transfer-Encoding: "chunked"\r\n\r\n', 501),
    "in HTTP/1.0, RFC 9112 6.1": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    # header lines
    "a space before the colon, CVE-2019-16276": (HEAD + b"Transfer-Encoding : chunked\r\n\r\n", 400),
    "a space before the first name, CVE-2019-16785": (b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400),
    "a folded line, RFC 9112 5.2": (HEAD + b"X: a\r\n b\r\n\r\n", 400),
    "a bare LF, CVE-2022-32214": (b"GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", 400),
    "bare LFs only, RFC 9112 2.2": (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    "a bare CR, RFC 9112 2.2": (b"GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", 400),
    "CR CR LF, CVE-2023-30589": (HEAD + b"\r\r\n", 400),
    "NUL in a value, RFC 9110 5.5": (HEAD + b"X: a\0b\r\n\r\n", 400),
    "no name, CVE-2019-16789": (HEAD + b": chunked\r\n\r\n", 400),
    "no colon": (HEAD + b"Transfer-Encoding\r\n\r\n", 400),
    "a bracket in a name, RFC 9110 5.1": (HEAD + b"X[: a\r\n\r\n", 400),
    # chunks
    "a chunk size beyond 64 bits, CVE-2013-2028": (CHUNKED + b"fffffffffffffffff\r\n", 400),
    "0x before a chunk size, CVE-2020-10719": (CHUNKED + b"0x3\r\nabc\r\n", 400),
    "- before a chunk size": (CHUNKED + b"-1\r\n", 400),
    "_ in a chunk size, CVE-2023-37276": (CHUNKED + b"1_0\r\n", 400),
    "a space before a chunk size": (CHUNKED + b" 3\r\nabc\r\n", 400),
    "a space behind a chunk size": (CHUNKED + b"3 \r\nabc\r\n", 400),
    "no chunk size": (CHUNKED + b"\r\n", 400),
    "a bare LF behind a chunk size, CVE-2023-30589": (CHUNKED + b"3\nabc\r\n", 400),
    "a bare LF in an extension, CVE-2025-22871": (CHUNKED + b"3;\nabc\r\n", 400),
    "a bare CR behind a chunk size, CVE-2022-32214": (CHUNKED + b"3\rabc\r\n", 400),
    "a chunk longer than it says, RFC 9112 7.1": (CHUNKED + b"3\r\nabcd\r\n", 400),
    "a bare LF behind a chunk": (CHUNKED + b"3\r\nabc\n0\r\n\r\n", 400),
    "a length in a trailer, RFC 9110 6.5.1": (CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n", 400),
    "a coding in a trailer, RFC 9110 6.5.1": (CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    # hosts and targets
    "no host, RFC 9112 3.2": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts, RFC 9112 3.2": (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    "a host with a path, RFC 9112 3.2": (b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n", 400),
    "a host with a user, RFC 9110 4.2.4": (b"GET / HTTP/1.1\r\nHost: a@x\r\n\r\n", 400),
    "a target with a user, RFC 9110 4.2.4": (b"GET http://a@x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a target without a host, RFC 9110 4.2.1": (b"GET http:///a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a target of another scheme": (b"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a target that is no path": (b"GET a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "* of GET, RFC 9112 3.2.4": (b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a space in a target, RFC 9112 3.2": (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "CONNECT, RFC 9110 9.3.6": (b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 501),
    # lines and versions
    "HTTP/0.9, RFC 9112 2.3": (b"GET /\r\n\r\n", 505),
    "HTTP/0.9 with headers": (b"GET /\r\nHost: x\r\n\r\n", 505),
    "HTTP/2.0, RFC 9113 3.4": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", 505),
    "another protocol": (b"GET / ICAP/1.0\r\nHost: x\r\n\r\n", 400),
    "a version in lower case": (b"GET / http/1.1\r\nHost: x\r\n\r\n", 400),
    "a tab in the line, RFC 9112 3": (b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    "a space behind the version": (b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400),
    "a method that nobody knows, RFC 9110 9.1": (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    "a method in lower case": (b"get / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),
    "an expectation, RFC 9110 10.1.1": (HEAD + b"Expect: miracles\r\n\r\n", 417),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("size", [1, 1 << 20], ids=["byte by byte", "at once"])
def test_it_is_refused(name, size):
    """With a status that says why, however it is cut, and the request behind it is not seen."""
    stream, status = REFUSED[name]
    wire, taken = Wire(), []
    for at in range(0, len(stream + HIDDEN), size):
        taken += wire.feed((stream + HIDDEN)[at : at + size])
    assert wire.failure is not None
    assert wire.failure.status == status
    assert all(request.path != "/admin" for request in taken)
    assert all(not request.body.complete or not request.head.has_body for request in taken)


ACCEPTED = {
    "blank lines before a request, RFC 9112 2.2": (b"\r\n\r\n" + HEAD + b"\r\n", [b"/"]),
    "a tab before a value, RFC 9112 5": (HEAD + b"Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n", [b"/"]),
    "leading zeros of a chunk size": (CHUNKED + b"003\r\nabc\r\n0\r\n\r\n", [b"/"]),
    "an address for a target, RFC 9112 3.2.2": (b"GET http://x:8/y HTTP/1.1\r\nHost: z\r\n\r\n", [b"http://x:8/y"]),
    "* of OPTIONS, RFC 9112 3.2.4": (b"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n", [b"*"]),
    "a body of GET, RFC 9110 9.3.1": (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", [b"/"]),
    "two spaces in the line, RFC 9112 3": (b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", [b"/"]),
    "an upgrade with a body, RFC 9110 7.8": (HEAD + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc", [b"/"]),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_leaves_no_doubt_is_accepted(name):
    """And the next request begins where it ends."""
    stream, targets = ACCEPTED[name]
    wire = Wire()
    taken = wire.feed(stream + HIDDEN)
    assert wire.failure is None
    assert [request.target for request in taken] == [*targets, b"/admin"]


def test_the_host_of_a_target_counts():
    """RFC 9112 3.2.2: whatever the header says."""
    request = Wire().feed(b"GET http://real:8/y?z HTTP/1.1\r\nHost: other\r\n\r\n")[0]
    assert (request.path, request.query, request.header(b"host")) == ("/y", b"z", b"real:8")
