"""The wire: httptools' parser, and what it has said so far.

The parser calls bound methods, and can be neither copied nor encoded. So it calls this object,
which belongs to no version, and both move together by reference. The canonical form is the raw
bytes since the last message boundary, and how many whole messages at their beginning were already
taken; a new parser is fed with them.

The order of things: ``feed`` gives the requests whose heads came whole, in order. The last of them
may have a body that is still to come; it goes into the request's ``Body`` by later feeds.
After ``failure`` is set nothing more can be understood of this peer. After an upgrade, ``rest``
has what came behind the request.
"""

from __future__ import annotations

from typing import Any, Final

import httptools

from netswap.errors import HttpError
from netswap.http.message import Body, Request

__all__ = ["HEAD_LIMIT", "Wire"]

HEAD_LIMIT: Final = 65_536
"""Bytes of a head, the request line included."""

_OTHER_VERSIONS: Final = (b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9")


class Wire:
    """Bytes in, requests out, for one connection.

    ``begun``: a message has begun and not ended; ``receiving``: the request whose body arrives.
    """

    __slots__ = (
        "_found",
        "_headers",
        "_old",
        "_parser",
        "_since",
        "_skip",
        "_target",
        "begun",
        "failure",
        "receiving",
        "rest",
    )

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpRequestParser(self)
        self.begun = False
        self._found: list[Request] = []
        self._headers: list[tuple[bytes, bytes]] = []
        self._old = False
        self.receiving: Request | None = None
        self._since: list[bytes] = []
        self._skip = 0
        self._target = b""
        self.failure: HttpError | None = None
        self.rest: bytes | None = None

    def feed(self, data: bytes) -> list[Request]:
        """Take bytes cut anywhere; the requests whose heads came whole."""
        found: list[Request] = []
        self._found = found
        self._old = self.begun or any(version in data for version in _OTHER_VERSIONS)
        self._since.append(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.rest = data[upgrade.args[0] :]
        except httptools.HttpParserCallbackError as error:
            self.failure = _failure(error.__context__ or error)
        except httptools.HttpParserError as error:
            self.failure = _failure(error)
        if not self.begun:
            self._since.clear()
            self._skip = 0
        elif self.receiving is None and sum(map(len, self._since)) > HEAD_LIMIT:
            self.failure = HttpError(431, f"the head is longer than {HEAD_LIMIT} bytes")
        return found

    def close(self) -> None:
        """The connection is gone: let go of the parser, which holds this object."""
        self._parser = None

    @staticmethod
    def to_canonical(wire: Wire) -> Any:
        """Raw bytes since the last boundary, and how many messages of them were taken."""
        return [b"".join(wire._since), wire._skip]

    @staticmethod
    def from_canonical(plain: Any) -> Wire:
        """A wire with a parser of its own, as far as the other one."""
        wire = Wire()
        wire.feed(plain[0])
        return wire

    # what the parser calls

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self.begun = True
        self._headers = []
        self._target = b""

    def on_url(self, target: bytes) -> None:
        """The target, or a part of it."""
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header of the head, or a trailer, which is dropped."""
        if self.receiving is None:
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        parser = self._parser
        request = Request(
            parser.get_method().decode("ascii"),
            self._target,
            parser.get_http_version() if self._old else "1.1",
            self._headers,
            parser.should_keep_alive(),
        )
        request.upgrade = parser.should_upgrade()
        _check(request)
        self.receiving = request
        self._found.append(request)

    def on_body(self, data: bytes) -> None:
        """Some bytes of the body."""
        request = self.receiving
        assert request is not None
        if request.body.complete:
            request.body = Body()
        request.body.feed(data)

    def on_message_complete(self) -> None:
        """The body is whole."""
        request = self.receiving
        assert request is not None
        if not request.body.complete:
            request.body.end()
        self.begun = False
        self.receiving = None
        self._skip += 1


def _failure(error: BaseException) -> HttpError:
    if isinstance(error, HttpError):
        return error
    return HttpError(400, str(error))


def _check(request: Request) -> None:
    """What RFC 9112 wants and the parser does not. Raises HttpError."""
    if request.version not in ("1.0", "1.1"):
        raise HttpError(505, f"HTTP/{request.version} is not spoken here")
    hosts = sum(name == b"host" for name, _ in request.headers)
    if hosts > 1 or (hosts == 0 and request.version == "1.1"):
        raise HttpError(400, "a request of HTTP/1.1 has exactly one Host header")
    waits = False
    for name, value in request.headers:
        if name == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise HttpError(501, "no transfer coding but chunked is understood")
            if request.version == "1.0":
                raise HttpError(400, "HTTP/1.0 has no Transfer-Encoding")
            waits = True
        elif name == b"content-length":
            waits = value != b"0"
    if waits:
        request.body = Body()
