"""http.static, version 1: answers GET and HEAD with the files below a folder.

An application uses it: ``uses={"files": "http.static"}``, and in a route for ``/files/{rest:path}``
``return self.files.answer(request, rest)``. The folder is that of the setting ``static``, or what
the state says.

What is sent is a ``cache.file`` object of each file: the contents of a small one, a ``Sending`` of
a larger one. They take so much memory at most; which of them goes is decided by ``cache.policy``.

Conditions and ranges are those of RFC 9110, sections 13 and 14. Of several ranges none is given
out, but the whole file.

Known bug, mended in version 2: a range is given to whoever has, by ``If-Range``, a version that is
as old as the file or newer, and not only to who has this one. When an older file is put back, a
client glues two versions together.
"""

from __future__ import annotations

import os
import re
from email.utils import mktime_tz, parsedate_tz
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from netswap import Service, State, reference
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
_RANGE: Final = re.compile(rb"([0-9]*)-([0-9]*)")
_TAG: Final = re.compile(rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')

Range = tuple[int, int]
"""Offset and size."""


def _nothing(_derived: Any) -> None:
    """The stand-in of what can be read again."""


class Files(State, kind="http.static", version=1):
    """``known`` has each file's entry and its bytes in memory by its path, ``held`` their sum."""

    root: str = ""
    known: dict[str, Any] = reference(dict, _nothing, lambda _: {})
    held: int = reference(int, _nothing, lambda _: 0)
    most: int = MOST


class Validators(NamedTuple):
    """What a file is known by: its entity tag, and its time of change in seconds."""

    etag: bytes
    changed: int


class StaticFiles(Service[Files], uses={"policy": "cache.policy"}):
    """The files below one folder."""

    policy: Any

    def on_start(self) -> None:
        """Take the folder of the settings, if they have one."""
        settings = self.host.settings.get("static", {})
        self.state.root = settings.get("main", self.state.root)

    def clear(self) -> None:
        """Forget every file."""
        for key in tuple(self.state.known):
            self._forget(key)

    def answer(self, request: Request, path: str, root: str = "main") -> Response | Sending:
        """The file at ``path`` below the folder, a part of it, or why there is none."""
        if request.method not in METHODS:
            return Response("405: Method Not Allowed\n", 405, [(b"allow", b"GET, HEAD")])
        path = OpenFile.name_of(request, path)
        key = _safe(path) if root == "main" else None  # there is no other
        file = None if key is None else self._found(key)
        if file is not None:
            return self._of_file(request, file)
        if key is not None and not path.endswith("/") and self._found(f"{key}/{INDEX}"):
            return _moved(key, request.query)
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
        if not state.root or not file.begin(os.path.realpath(state.root), key):
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

    def _of_file(self, request: Request, file: Any) -> Response | Sending:
        content = file.state.content
        opened = file.open() if content is None else None
        if content is None and opened is None:
            return Response("404: Not Found\n", 404)
        status, headers, part = _outcome(request, file)
        if content is not None and part is not None:
            start, size = part
            body = content if size == len(content) else content[start : start + size]
            return Response(body, status, headers)
        if part is not None and request.method == "GET":
            return Sending(request, status, [*headers, _length(part)], opened, [part])
        if opened is not None:
            opened.close()
        if part is None:
            return Response(b"", status, headers)
        return Sending(request, status, [*headers, _length(part)])


def _outcome(request: Request, file: Any) -> tuple[int, list[tuple[bytes, bytes]], Range | None]:
    """Status, headers, and which part of the file goes out, if one does."""
    known = Validators(file.state.etag, file.state.changed // 1_000_000_000)
    size = file.state.size
    headers = [(b"etag", known.etag), (b"last-modified", file.state.modified)]
    conditional = any(name in CONDITIONS for name, _ in request.headers)
    status = precondition(request, known) if conditional else None
    if status is not None:
        return status, headers, None
    headers += (b"accept-ranges", b"bytes"), (b"x-content-type-options", b"nosniff")
    wanted = ranges_of(request, known, size) if conditional else None
    if wanted == []:
        return 416, [*headers, (b"content-range", b"bytes */%d" % size)], None
    headers.append((b"content-type", file.state.content_type))
    if wanted is None:
        return 200, headers, (0, size)
    start, length = wanted[0]
    headers.append((b"content-range", b"bytes %d-%d/%d" % (start, start + length - 1, size)))
    return 206, headers, wanted[0]


def _length(part: Range) -> tuple[bytes, bytes]:
    return (b"content-length", b"%d" % part[1])


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
    """The one range that is asked for; [] if the file has no such bytes; None for the whole."""
    value = request.header(b"range")
    if value is None or request.method != "GET" or not _if_range(request, known):
        return None
    found = parsed_ranges(value, size)
    return None if found is not None and len(found) > 1 else found


def _if_range(request: Request, known: Validators) -> bool:
    value = request.header(b"if-range")
    if value is None:
        return True
    if value.startswith((b'"', b"W/")):
        return value == known.etag
    date = _date(value)
    return date is not None and known.changed <= date


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
