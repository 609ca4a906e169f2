"""The wire: httptools' parser, and what it has said so far.

The parser calls bound methods, and can be neither copied nor encoded. So it calls this object,
which belongs to no version, and both move together by reference. The canonical form is a ``Place``
(``framing``), which is bounded whatever the length of a body, and the request whose body arrives.

The order of things: ``feed`` gives the requests whose heads came whole, in order. The last of them
may have a body that is still to come; it goes into the request's ``Body`` by later feeds.
After ``failure`` is set nothing more can be understood of this peer; after the last request that a
peer may send (``Connection: close``) nothing more is looked at. After an upgrade, ``rest`` has what
came behind the request, and goes on to collect it; ``resume`` takes it for requests after all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import httptools

from netswap.errors import HttpError
from netswap.http.framing import Place
from netswap.http.heads import LOOKED_AT, head_of
from netswap.http.known import METHODS, SIZE, WHOLE, recall, remember
from netswap.http.message import EMPTY, NO_PARAMS, Body, Request

__all__ = ["EXTRA_LIMIT", "HEAD_LIMIT", "Wire"]

HEAD_LIMIT: Final = 65_536
"""Bytes of a head, the request line included; so many raw bytes are kept at most, too."""
EXTRA_LIMIT: Final = 16_384
"""Bytes of chunk extensions and trailers of one message; up to ``LOOSE`` more may pass."""
LOOSE: Final = 1024

_TOKEN: Final = frozenset(
    b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)
_VERSIONS: Final = frozenset({"Pause on PRI/Upgrade", "Invalid HTTP version"})
"""What the parser says of a version that is not spoken here; the first of "PRI * HTTP/2.0"."""


class Wire:
    """Bytes in, requests out, for one connection.

    ``begun``: a message has begun and not ended; ``receiving``: the request whose body arrives.
    ``head_limit`` may be less than ``HEAD_LIMIT``, and more than a chunk that is known (``known``).
    """

    __slots__ = (
        "_again",
        "_found",
        "_headers",
        "_held",
        "_parser",
        "_place",
        "_since",
        "_target",
        "begun",
        "ended",
        "entry",
        "failure",
        "head_limit",
        "receiving",
        "rest",
    )

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpRequestParser(self)
        self._again = False
        self._found: list[Request] = []
        self._headers: list[tuple[bytes, bytes]] = []
        self._place = Place()
        self._since: list[bytes] = []
        self._held = 0
        self._target = b""
        self.begun = False
        self.ended = False
        self.entry: Any = None
        self.receiving: Request | None = None
        self.failure: HttpError | None = None
        self.head_limit = HEAD_LIMIT
        self.rest: bytes | None = None

    def begin(self, entry: Any, head_limit: int = HEAD_LIMIT) -> None:
        """The first bytes are about to come, over the connection of ``entry``."""
        self.entry, self.head_limit = entry, head_limit

    def feed(self, data: bytes) -> list[Request]:
        """Take bytes cut anywhere; the requests whose heads came whole."""
        if self.ended:
            return []
        if self.rest is not None:
            self.rest += data
            return []
        had_begun = self.begun
        if not had_begun:
            head = WHOLE.get(data) if len(data) <= SIZE else None
            if head is not None:  # the most usual chunk in the fewest steps
                return [Request(head, EMPTY, NO_PARAMS, None, self.entry)]
            known = recall(data, self.entry)
            if known is not None:
                return known
        found: list[Request] = []
        self._found = found
        self._held = held = self._held + len(data)
        if (held <= EXTRA_LIMIT and held <= self.head_limit) or self._goes_on(held, len(data)):
            self._parse(data)
            if self.begun:
                self._since.append(data)
        else:
            self._parse_closely(data)
        if self.begun:
            return found
        if had_begun:
            self._begin_anew()
        else:
            self._held = 0
            if found and not self._stops():
                remember(data, found)
        return found

    def _stops(self) -> bool:
        return self.ended or self.rest is not None

    def resume(self) -> list[Request]:
        """The upgrade is not made: what has come behind it are requests."""
        rest, self.rest = self.rest, None
        return self.feed(rest) if rest else []

    def cut(self) -> None:
        """The client sends no more: whoever reads a body that is not whole gets HttpError."""
        if self.receiving is not None:
            self.receiving.body.fail(HttpError(400, "the connection ended before the body did"))

    def close(self) -> None:
        """The connection is gone: let go of the parser, which holds this object."""
        self._parser = None
        self.ended = True

    def _goes_on(self, held: int, size: int) -> bool:
        """Whether it is a long head, not too long, of which a little has come: that is no work."""
        return self.receiving is None and size <= LOOSE and held <= self.head_limit

    def _parse_closely(self, data: bytes) -> None:
        """Only as many bytes at a time as nothing can be too long in, whatever they are."""
        self._walk()
        at, end = 0, len(data)
        while at < end and not self._stops():
            room = self._place.room(self.head_limit, EXTRA_LIMIT)
            if not room:
                self._fail(_long_head(self.head_limit), b"")
                return
            piece = data[at : at + max(room, LOOSE if self.receiving else 0)]
            at += len(piece)
            self._parse(piece)
            self._since.append(piece)
            self._walk()
            self._look_at_extra()
        if self.rest is not None:
            self.rest += data[at:]

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            behind = data[upgrade.args[0] :]
            if self._again:
                self._parse_body(behind)
            else:
                self.rest = behind
        except httptools.HttpParserCallbackError as error:
            self._fail(error.__context__ or error, data)
        except httptools.HttpParserError as error:
            self._fail(error, data)

    def _parse_body(self, data: bytes) -> None:
        """The parser skips the body of a request that asks for an upgrade; another one does not."""
        place = Place()
        rows = (b"%b: %b\r\n" % row for row in self.receiving.headers)  # type: ignore[union-attr]
        place.advance(b"".join((b"POST / HTTP/1.1\r\n", *rows, b"\r\n")))
        self._start(place, self.receiving)
        if data:
            self._parse(data)

    def _fail(self, error: BaseException, data: bytes) -> None:
        if self.ended:  # what comes behind the last request is nobody's
            return
        first = b"".join((self._place.raw, *self._since, data)).lstrip(b"\r\n")[:1]
        self.failure = failure = _failure(error, first)
        self.ended = True
        if self.receiving is not None:
            self.receiving.body.fail(failure)

    def _begin_anew(self) -> None:
        """The last byte was the last of a message."""
        self._since.clear()
        self._held = 0
        self._place = Place()

    def _walk(self) -> None:
        """Turn the bytes since the place into a place."""
        if not self.ended:
            self._place.advance(b"".join(self._since))
        self._since.clear()
        if not self.begun:  # blank lines are nobody's
            self._place = Place()
        self._held = len(self._place.raw) + self._place.extra

    def _look_at_extra(self) -> None:
        place = self._place
        if self.receiving is not None and place.extra + len(place.raw) > EXTRA_LIMIT:
            what = f"chunk extensions and trailers are longer than {EXTRA_LIMIT} bytes"
            self._fail(HttpError(400, what), b"")

    @staticmethod
    def to_canonical(wire: Wire) -> Any:
        """The place, the request whose body arrives, and how it has ended, if it has."""
        if not wire.ended:
            wire._walk()
        failure, receiving = wire.failure, wire.receiving
        return [
            wire._place.plain(),
            None if receiving is None else receiving.plain(),
            None if failure is None else [failure.status, failure.reason],
            wire.rest,
            wire.ended,
            wire.head_limit,
        ]

    @staticmethod
    def from_canonical(plain: Any) -> Wire:
        """A wire with a parser of its own, as far as the other one."""
        place, receiving, failure, rest, ended, head_limit = plain
        wire = Wire()
        request = None if receiving is None else Request.from_plain(receiving)
        wire._resume_at(Place(*place), request)
        wire.failure = None if failure is None else HttpError(*failure)
        wire.rest = rest
        wire.ended = ended
        wire.head_limit = head_limit
        return wire

    def keep(self) -> Callable[[], Wire]:
        """What makes this wire again as it is now, with a new parser."""
        if not self.ended:
            self._walk()
        place, receiving = self._place.plain(), self.receiving
        body = None if receiving is None else receiving.body.keep()
        now = (self.failure, self.rest, self.ended)

        def again() -> Wire:
            if body is not None:
                body()
            if self._parser is not None:
                self._resume_at(Place(*place), receiving)
            self.failure, self.rest, self.ended = now
            return self

        return again

    def _resume_at(self, place: Place, receiving: Request | None) -> None:
        self._since.clear()
        self._held = len(place.raw) + place.extra
        self._place = place
        self._start(place, receiving)

    def _start(self, place: Place, receiving: Request | None) -> None:
        """A new parser, brought to a place; what it says on the way is known."""
        self._parser = httptools.HttpRequestParser(self)
        self.begun, self.ended, self._again = False, False, False
        found, self._found, self.receiving = self._found, [], None
        self._headers, self._target = [], b""
        opening = place.opening(receiving is None or receiving.keep_alive)
        if opening:
            self._parser.feed_data(opening)
        self._found, self.receiving = found, receiving

    # what the parser calls

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if self.ended:  # of HTTP/1.0 with "close" beside "keep-alive", which the parser lets go on
            raise HttpError(400, "the request before was the last")
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
        method = parser.get_method()
        headers = self._headers
        keeps = parser.should_keep_alive()
        looked_at = [row for row in headers if row[0] in LOOKED_AT]
        plain = keeps and len(looked_at) == 1 and looked_at[0][0] == b"host"
        version = "1.1" if plain else parser.get_http_version()
        if version == "1.0" and keeps:  # RFC 9112 9.3: "close" comes first
            keeps = not any(n == b"connection" and b"close" in v.lower() for n, v in looked_at)
        head = head_of(
            (METHODS.get(method) or method.decode("ascii"), self._target, headers),
            version,
            looked_at,
            keeps,
            not plain and parser.should_upgrade(),
        )
        body = Body() if head.has_body else EMPTY
        self.receiving = request = Request(head, body, NO_PARAMS, None, self.entry)
        if head.has_body:
            self._again = not plain and parser.should_upgrade()
        self._found.append(request)

    def on_body(self, data: bytes) -> None:
        """Some bytes of the body."""
        self.receiving.body.feed(data)  # type: ignore[union-attr]  # a head came before

    def on_message_complete(self) -> None:
        """The body is whole."""
        request = self.receiving
        if self._again or request is None:
            return
        if not request.body.complete:
            request.body.end()
        self.begun = False
        self.ended = not request.head.keep_alive
        self.receiving = None


def _long_head(limit: int) -> HttpError:
    return HttpError(431, f"the head is longer than {limit} bytes")


def _failure(error: BaseException, first: bytes) -> HttpError:
    """What a peer is told of bytes that are no HTTP; ``first`` is where its message begins."""
    if isinstance(error, HttpError):
        return error
    text = str(error)
    if text in _VERSIONS:
        return HttpError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    if isinstance(error, httptools.HttpParserInvalidMethodError) and first and first[0] in _TOKEN:
        return HttpError(501, "no such method is known here")
    return HttpError(400, text)
