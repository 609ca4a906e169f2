"""http.static, version 2: several folders, several ranges, and files that are compressed already.

An application uses it: ``uses={"files": "http.static"}``, and in a route for ``/files/{rest:path}``
``return self.files.answer(request, rest)``; a folder other than ``main`` is named as the third
argument. The folders are those of the setting ``static``, or what the state says.

What is sent is a ``cache.file`` object of each file: the contents of a small one, a ``Sending`` of
a larger one. They take so much memory at most; which of them goes is decided by ``cache.policy``.
``page.html.br`` or ``page.html.gz`` beside ``page.html`` is sent in its place to who accepts that,
unless it is older.

Conditions and ranges are those of RFC 9110, sections 13 and 14. Several ranges go out as
``multipart/byteranges``; more than ``MANY``, or more bytes than the file has, are answered with the
whole of it. A range is given to whoever has exactly this version (``If-Range``).
"""

from __future__ import annotations

import os
import re
from email.utils import mktime_tz, parsedate_tz
from secrets import token_hex
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from netswap import Service, State, migration, reference
from netswap.http import OpenFile, Request, Response, Sending

CONDITIONS: Final = frozenset(
    {
        *(b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"),
        *(b"if-range", b"range"),
    }
)
"""Headers without which the whole file is sent."""
METHODS: Final = frozenset({"GET", "HEAD"})
INDEX: Final = "index.html"
SHOWN: Final = ".well-known"
"""The one name with a dot in front that is not hidden, RFC 8615."""
MOST: Final = 33_554_432
"""Bytes of memory that a worker's files may take."""
LONGEST_RANGE: Final = 1000
MANY: Final = 16
ENCODINGS: Final = MappingProxyType({b"br": ".br", b"gzip": ".gz"})
"""The better one first."""
LOOK_NS: Final = 1_000_000_000
"""So long it is believed that a file is not there."""
MOST_ABSENT: Final = 10_000
_RANGE: Final = re.compile(rb"([0-9]*)-([0-9]*)")
_QUALITY: Final = re.compile(rb"[qQ]=([01](?:\.[0-9]{0,3})?)")
_TAG: Final = re.compile(rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')

Range = tuple[int, int]
"""Offset and size."""


def _nothing(_derived: Any) -> None:
    """The stand-in of what can be read again."""


class Files(State, kind="http.static", version=2):
    """``known`` has each file's entry and its bytes in memory by its key, ``held`` their sum.

    A key is the path in the folder ``main``, and elsewhere the folder's name, a null and the path.
    """

    roots: dict[str, str] = {}
    known: dict[str, Any] = reference(dict, _nothing, lambda _: {})
    held: int = reference(int, _nothing, lambda _: 0)
    most: int = MOST
    absent: dict[str, int] = reference(dict, _nothing, lambda _: {})
    """When it was seen (ns) that a file is not compressed."""


@migration("http.static", 1, 2)
def to_many(old: dict[str, Any]) -> dict[str, Any]:
    """The one folder is the main one."""
    rest = {name: value for name, value in old.items() if name != "root"}
    return rest | {"roots": {"main": old["root"]} if old["root"] else {}}


@migration("http.static", 2, 1, derived=["roots"])
def to_one(new: dict[str, Any]) -> dict[str, Any]:
    """Only the main folder; the others come back with the setting."""
    rest = {name: value for name, value in new.items() if name not in {"roots", "absent"}}
    return rest | {"root": new["roots"].get("main", "")}


class Outcome(NamedTuple):
    """What goes out; the parts of a body are bytes, or offset and size in the file."""

    status: int
    headers: list[tuple[bytes, bytes]]
    parts: tuple[bytes | Range, ...] | None = None

    @property
    def length(self) -> tuple[bytes, bytes]:
        """The header."""
        sizes = (len(part) if isinstance(part, bytes) else part[1] for part in self.parts or ())
        return b"content-length", b"%d" % sum(sizes)

    def body(self, content: bytes) -> bytes:
        """Cut out of the contents."""
        rows = self.parts or ()
        if rows == ((0, len(content)),):
            return content
        cut = (row if isinstance(row, bytes) else content[row[0] : sum(row)] for row in rows)
        return b"".join(cut)


class Validators(NamedTuple):
    """What a file is known by: its entity tag, and its time of change in seconds."""

    etag: bytes
    changed: int


class StaticFiles(Service[Files], uses={"policy": "cache.policy"}):
    """The files below some folders."""

    policy: Any

    def on_start(self) -> None:
        """Take the folders of the settings, if they have any."""
        self.state.roots = dict(self.host.settings.get("static", {})) or self.state.roots

    def clear(self) -> None:
        """Forget every file."""
        for key in tuple(self.state.known):
            self._forget(key)

    def answer(self, request: Request, path: str, root: str = "main") -> Response | Sending:
        """The file at ``path`` below a folder, a part of it, or why there is none."""
        if request.method not in METHODS:
            return Response("405: Method Not Allowed\n", 405, [(b"allow", b"GET, HEAD")])
        path = _safe(OpenFile.name_of(request, path)) or ""
        key = path if root == "main" else f"{root}\0{path}"
        file = self._found(key) if path else None
        if file is not None:
            return self._of_file(request, key, file)
        if path and not request.path.endswith("/") and self._found(f"{key}/{INDEX}"):
            return _moved(path, request.query)
        return Response("404: Not Found\n", 404)

    # the files

    def _found(self, key: str) -> Any:
        """The object of a file, or None without one."""
        state = self.state
        entry, _ = state.known.get(key, (None, 0))
        if entry is not None and not entry.target.is_fresh():
            self._forget(key)
            entry = None
        if entry is None:
            return self._entered(key)
        self.policy.used(key)
        return entry.target

    def _entered(self, key: str) -> Any:
        state = self.state
        maker: Any = self.host.maker("cache.file")
        if maker is None:
            raise LookupError("nothing provides cache.file: push protocols/cache/file.py")
        entry = self.host.table.create("cache.file")
        file = entry.target = maker.born_for(self.host, entry, self.entry)
        name, _, path = key.rpartition("\0")
        root = state.roots.get(name or "main")
        if not root or not file.begin(os.path.realpath(root), path):
            self.host.table.remove(entry)
            return None
        self.host.entered(entry)
        state.known[key] = entry, file.cost
        state.held += file.cost
        self._make_room()
        self.policy.entered(key)
        return file

    def _make_room(self) -> None:
        """Keep the bound; a policy may know less than what is here, or more."""
        state = self.state
        while state.held > state.most and len(state.known) > 1:
            victim = self.policy.victim()
            if victim is None or victim in state.known:
                self._forget(next(iter(state.known)) if victim is None else victim)
            else:
                self.policy.left(victim)

    def _forget(self, key: str) -> None:
        entry, cost = self.state.known.pop(key)
        self.state.held -= cost
        self.policy.left(key)
        self.host.table.remove(entry)

    # the answer

    def _of_file(self, request: Request, key: str, plain: Any) -> Response | Sending:
        encoding, file = self._compressed(request, key, plain)
        content = file.state.content
        opened = file.open() if content is None else None
        if content is None and opened is None:
            return Response("404: Not Found\n", 404)
        headers = _encoded(encoding, plain.state.content_type)
        outcome = _outcome(request, file, headers, encoding or b"")
        status, headers, parts = outcome
        if content is not None and parts is not None:
            return Response(outcome.body(content), status, headers)
        if parts is not None and request.method == "GET":
            return Sending(request, status, [*headers, outcome.length], opened, parts)
        if opened is not None:
            opened.close()
        if parts is None:
            return Response(b"", status, headers)
        return Sending(request, status, [*headers, outcome.length])

    def _compressed(self, request: Request, key: str, plain: Any) -> tuple[bytes | None, Any]:
        """What is sent for a file, and how it is encoded: b"" if not, None if it never is."""
        found = {
            name: file
            for name, suffix in ENCODINGS.items()
            if (file := self._beside(key + suffix, plain)) is not None
        }
        if not found:
            return None, plain
        accepted = request.header(b"accept-encoding") or b""
        best = max(found, key=lambda name: quality(name, accepted))
        return (best, found[best]) if quality(best, accepted) > 0 else (b"", plain)

    def _beside(self, key: str, plain: Any) -> Any:
        """A compressed file that is no older than the plain one, or None."""
        absent = self.state.absent
        now = self.host.clock.monotonic_ns()
        if now - absent.get(key, now - LOOK_NS) < LOOK_NS:
            return None
        file = self._found(key)
        if file is not None and file.state.changed >= plain.state.changed:
            return file
        if len(absent) >= MOST_ABSENT:
            absent.clear()
        absent[key] = now
        return None


def _encoded(encoding: bytes | None, content_type: bytes) -> list[tuple[bytes, bytes]]:
    """What is said of a file's contents, whichever part of them goes out."""
    headers = [(b"content-type", content_type)]
    if encoding is not None:
        headers.append((b"vary", b"accept-encoding"))
    if encoding:
        headers.append((b"content-encoding", encoding))
    return headers


def _outcome(
    request: Request, file: Any, about: list[tuple[bytes, bytes]], encoding: bytes
) -> Outcome:
    """What a request for this file gets."""
    etag = file.state.etag if not encoding else file.state.etag[:-1] + b'-%b"' % encoding
    known = Validators(etag, file.state.changed // 1_000_000_000)
    size = file.state.size
    headers = [(b"etag", etag), (b"last-modified", file.state.modified)]
    headers += [row for row in about if row[0] == b"vary"]
    conditional = any(name in CONDITIONS for name, _ in request.headers)
    status = precondition(request, known) if conditional else None
    if status is not None:
        return Outcome(status, headers)
    headers += (b"accept-ranges", b"bytes"), (b"x-content-type-options", b"nosniff")
    wanted = ranges_of(request, known, size) if conditional else None
    if wanted == []:
        return Outcome(416, [*headers, (b"content-range", b"bytes */%d" % size)])
    about = [row for row in about if row[0] != b"vary"]
    if wanted is None:
        return Outcome(200, headers + about, ((0, size),))
    if len(wanted) == 1:
        return Outcome(206, [*headers, *about, _content_range(wanted[0], size)], (wanted[0],))
    return _in_parts(wanted, size, headers, about)


def _content_range(part: Range, size: int) -> tuple[bytes, bytes]:
    return b"content-range", b"bytes %d-%d/%d" % (part[0], sum(part) - 1, size)


def _in_parts(
    wanted: list[Range],
    size: int,
    headers: list[tuple[bytes, bytes]],
    about: list[tuple[bytes, bytes]],
) -> Outcome:
    """Several ranges, RFC 9110 section 14.6."""
    boundary = token_hex(16).encode()
    parts: list[bytes | Range] = []
    for part in wanted:
        rows = (about[0], _content_range(part, size))
        lines = b"".join(b"%b: %b\r\n" % row for row in rows)
        parts += b"\r\n--%b\r\n%b\r\n" % (boundary, lines), part
    parts.append(b"\r\n--%b--\r\n" % boundary)
    kind = (b"content-type", b"multipart/byteranges; boundary=" + boundary)
    return Outcome(206, [*headers, kind, *about[1:]], tuple(parts))


def quality(encoding: bytes, accepted: bytes) -> float:
    """How much a client wants an encoding, from 0 to 1, RFC 9110 section 12.5.3."""
    wanted: dict[bytes, float] = {}
    for row in accepted.split(b","):
        name, _, rest = row.partition(b";")
        match = _QUALITY.fullmatch(rest.strip())
        wanted[name.strip().lower()] = float(match[1]) if match else 1.0
    return wanted.get(encoding, wanted.get(b"*", 0.0))


def _safe(path: str) -> str | None:
    """``path`` without its last slash, or of the index of a folder; None if it leads elsewhere."""
    names = path.split("/")
    if names[-1] == "":
        names[-1] = INDEX
    for name in names:
        if not name or "\0" in name or (name.startswith(".") and name != SHOWN):
            return None
    return "/".join(names)


def _moved(key: str, query: bytes) -> Response:
    """To the same name with a slash behind it, seen from where it is: no host can be in that."""
    name = quote(os.fsencode(key.rpartition("/")[2]))
    place = f"./{name}/".encode() + (b"?" + query if query else b"")
    return Response(b"", 308, [(b"location", place)])


def precondition(request: Request, known: Validators) -> int | None:
    """412 or 304 when a condition says so, RFC 9110 section 13.2.2."""
    header = request.header
    match, since = header(b"if-match"), header(b"if-unmodified-since")
    if match is not None:
        if not _is_among(known.etag, match, strong=True):
            return 412
    elif since is not None:
        date = _date(since)
        if date is not None and known.changed > date:
            return 412
    none, newer = header(b"if-none-match"), header(b"if-modified-since")
    if none is not None:
        return 304 if _is_among(known.etag, none, strong=False) else None
    date = None if newer is None else _date(newer)
    return 304 if date is not None and known.changed <= date else None


def ranges_of(request: Request, known: Validators, size: int) -> list[Range] | None:
    """What is asked for; [] if the file has no such bytes; None for the whole."""
    value = request.header(b"range")
    if value is None or request.method != "GET" or not _if_range(request, known):
        return None
    found = parsed_ranges(value, size)
    if found and (len(found) > MANY or (len(found) > 1 and sum(row[1] for row in found) > size)):
        return None
    return found


def _if_range(request: Request, known: Validators) -> bool:
    value = request.header(b"if-range")
    if value is None:
        return True
    if value.startswith((b'"', b"W/")):
        return value == known.etag
    return known.changed == _date(value)


def parsed_ranges(value: bytes, size: int) -> list[Range] | None:
    """Offset and size of each range that a file of ``size`` bytes has; None if it is nonsense."""
    unit, equals, rows = value.partition(b"=")
    if not equals or unit.strip().lower() != b"bytes" or len(value) > LONGEST_RANGE:
        return None
    found: list[Range] = []
    seen = 0
    for row in rows.split(b","):
        text = row.strip(b" \t")
        if not text:
            continue
        match = _RANGE.fullmatch(text)
        if match is None or text == b"-":
            return None
        seen += 1
        first, last = match.groups()
        if first and last and int(last) < int(first):
            return None
        start = int(first) if first else max(size - int(last), 0)
        end = min(int(last), size - 1) if first and last else size - 1
        if start <= end:
            found.append((start, end - start + 1))
    return found if seen else None


def _is_among(etag: bytes, value: bytes, *, strong: bool) -> bool:
    """Whether a list of entity tags has this strong one; a weak one is not strongly equal."""
    if value.strip() == b"*":
        return True
    tags = _TAG.findall(value)
    return etag in tags or (not strong and b"W/" + etag in tags)


def _date(value: bytes) -> int | None:
    """Seconds of a date of HTTP, or None if it is none."""
    found = parsedate_tz(value.decode("latin-1"))
    try:
        return None if found is None else int(mktime_tz(found))
    except (OverflowError, ValueError):
        return None
