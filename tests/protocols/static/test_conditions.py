"""http.static: conditions and ranges are those of RFC 9110, for any headers, against a model.

The model knows nothing of offsets: it cuts the contents with Python's own slices.
"""

from __future__ import annotations

import email
import os
import re
from email.utils import formatdate
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netswap.http import Request
from netswap.http.message import Head
from netswap.stack import Host
from protocols.cache import file as cached_file
from protocols.cache import lru
from protocols.static import v1, v2
from tests.protocols.conftest import Log, implementations

DATA = bytes(range(97, 117))
CHANGED = 1_700_000_000
ETAG = f'"{CHANGED * 1_000_000_000:x}-{len(DATA):x}"'


def hosted(module: ModuleType, root: str) -> Any:
    """The service, in a host without a loop."""
    host = Host(None, Log())  # type: ignore[arg-type]  # what is small is answered without
    host.settings = {"static": {"main": root}}
    for one in (lru, cached_file, module):
        for cls in implementations(one).values():
            host.install(cls)
    return host.services["http.static"].target


@pytest.fixture(scope="module", params=[v1, v2], ids=["v1", "v2"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("files")
    (folder / "data.txt").write_bytes(DATA)
    os.utime(folder / "data.txt", (CHANGED, CHANGED))
    return hosted(request.param, str(folder))


def ask(files: Any, headers: dict[str, str], method: str = "GET", path: str = "data.txt") -> Any:
    rows = tuple((name.encode(), value.encode()) for name, value in headers.items())
    head = Head(method, b"/" + path.encode(), "/" + path, b"", "1.1", rows)
    return files.answer(Request(head), path)


tags = st.sampled_from(
    [
        ETAG,
        f"W/{ETAG}",
        '"other"',
        "*",
        f'"other", {ETAG}',
        f'W/"other",W/{ETAG}',
        '"a,b"',
        "nonsense",
    ]
)
dates = st.sampled_from(
    [formatdate(CHANGED + by, usegmt=True) for by in (-3600, -1, 0, 1, 3600)] + ["nonsense", ""]
)
numbers = st.integers(0, 30).map(str) | st.sampled_from(["", "0009", "9" * 30])
specs = st.builds("{}-{}".format, numbers, numbers) | st.sampled_from(["", "x-y", "1-2-3", " 1-2 "])
ranges = st.builds(
    "{}={}".format,
    st.sampled_from(["bytes", "Bytes", "pages"]),
    st.lists(specs, min_size=1, max_size=4).map(",".join),
)
conditions = st.fixed_dictionaries(
    {},
    optional={
        "if-match": tags,
        "if-none-match": tags,
        "if-modified-since": dates,
        "if-unmodified-since": dates,
        "range": ranges,
        "if-range": st.sampled_from([ETAG, f"W/{ETAG}", '"other"']) | dates,
    },
)


def when(text: str | None) -> int | None:
    found = (
        None if text is None else email.utils.parsedate_to_datetime(text) if "GMT" in text else None
    )
    return None if found is None else int(found.timestamp())


def model(headers: dict[str, str], method: str, version: int) -> tuple[int, list[bytes]]:
    """Status, and the pieces of the body."""
    match, none = headers.get("if-match"), headers.get("if-none-match")
    before, after = when(headers.get("if-unmodified-since")), when(headers.get("if-modified-since"))
    strong = [] if match is None else re.findall(r'(?:W/)?"[^"]*"', match)
    if match is not None and match != "*" and ETAG not in strong:
        return 412, [b""]
    if match is None and before is not None and before < CHANGED:
        return 412, [b""]
    if none is not None:
        if none == "*" or ETAG in [
            tag.removeprefix("W/") for tag in re.findall(r'(?:W/)?"[^"]*"', none)
        ]:
            return 304, [b""]
    elif after is not None and after >= CHANGED:
        return 304, [b""]
    return partly(headers, method, version)


def partly(headers: dict[str, str], method: str, version: int) -> tuple[int, list[bytes]]:
    condition = headers.get("if-range", ETAG)
    date = when(condition)
    holds = condition == ETAG or date == CHANGED or (version == 1 and (date or 0) >= CHANGED)
    unit, _, text = headers.get("range", "").partition("=")
    if unit.lower() != "bytes" or not holds or method != "GET":
        return 200, [DATA]
    rows = [row.strip() for row in text.split(",") if row.strip()]
    pieces = []
    for row in rows:
        found = re.fullmatch("([0-9]*)-([0-9]*)", row)
        if found is None or row == "-" or (all(found.groups()) and int(found[1]) > int(found[2])):
            return 200, [DATA]
        first, last = found.groups()
        if first:
            pieces.append(DATA[int(first) :][: int(last) - int(first) + 1 if last else None])
        else:
            pieces.append(DATA[-int(last) :] if int(last) else b"")
    pieces = [piece for piece in pieces if piece]
    if not rows or (len(pieces) > 1 and (version == 1 or len(b"".join(pieces)) > len(DATA))):
        return 200, [DATA]
    return (206, pieces) if pieces else (416, [b""])


def pieces_of(answer: Any) -> list[bytes]:
    """The pieces that a body has, by an implementation of MIME that is not ours."""
    headers = dict(answer.headers)
    kind = headers.get(b"content-type", b"")
    if not kind.startswith(b"multipart/byteranges"):
        return [answer.body]
    parts: Any = email.message_from_bytes(
        b"Content-Type: " + kind + b"\r\n" + answer.body
    ).get_payload()
    found = [part.get_payload(decode=True) for part in parts]
    for part, piece in zip(parts, found, strict=True):
        _, first, last, size = re.split("[ /-]", part["content-range"])
        assert DATA[int(first) : int(last) + 1] == piece
        assert int(size) == len(DATA)
    return found


@given(conditions, st.sampled_from(["GET", "GET", "HEAD"]))
@example({"range": "bytes=0-0,-1"}, "GET")
@example({"range": "bytes=-0"}, "GET")
@example({"range": "bytes=1-2", "if-range": formatdate(CHANGED + 1, usegmt=True)}, "GET")
def test_any_conditions_and_ranges(files, headers, method):
    """Status and bytes are the model's; a range is told with its place."""
    answer = ask(files, headers, method)
    status, pieces = model(headers, method, files.version)
    assert (answer.status, pieces_of(answer)) == (status, pieces)
    said = dict(answer.headers)
    assert said[b"etag"].decode() == ETAG
    if status == 416:
        assert said[b"content-range"] == b"bytes */%d" % len(DATA)
    if status == 206 and len(pieces) == 1:
        _, first, last, size = re.split(b"[ /-]", said[b"content-range"])
        assert DATA[int(first) : int(last) + 1] == pieces[0]
        assert int(size) == len(DATA)


def test_version_2_gives_no_range_to_who_has_a_newer_file(tmp_path):
    """An older file was put back: with version 1 the client would glue two files together."""
    (tmp_path / "data.txt").write_bytes(DATA)
    os.utime(tmp_path / "data.txt", (CHANGED, CHANGED))
    headers = {"range": "bytes=5-", "if-range": formatdate(CHANGED + 60, usegmt=True)}
    assert [ask(hosted(one, str(tmp_path)), headers).status for one in (v1, v2)] == [206, 200]


def test_more_ranges_than_many_are_the_whole(tmp_path):
    """Nobody makes the server send a file many times over."""
    (tmp_path / "data.txt").write_bytes(DATA)
    files = hosted(v2, str(tmp_path))
    few, many = (",".join(["0-0"] * count) for count in (v2.MANY, v2.MANY + 1))
    assert [ask(files, {"range": f"bytes={rows}"}).status for rows in (few, many)] == [206, 200]


@pytest.mark.parametrize(
    ("accepted", "sent"),
    [
        ("", None),
        ("gzip", b"gzip"),
        ("gzip, deflate, br", b"br"),
        ("br;q=0.5, gzip;q=0.8", b"gzip"),
        ("br;q=0, *", b"gzip"),
        ("identity", None),
        ("gzip;q=0, br;q=0.0", None),
    ],
)
def test_a_compressed_file_is_sent_to_who_accepts_it(tmp_path, accepted, sent):
    """With the type of the plain one, a tag of its own, and a word to caches."""
    for name, data in (("a.html", b"plain"), ("a.html.br", b"br"), ("a.html.gz", b"gzip")):
        (tmp_path / name).write_bytes(data)
        os.utime(tmp_path / name, (CHANGED, CHANGED))
    files = hosted(v2, str(tmp_path))
    answer = ask(files, {"accept-encoding": accepted}, path="a.html")
    headers = dict(answer.headers)
    assert headers.get(b"content-encoding") == sent
    assert answer.body == (sent or b"plain")
    assert headers[b"vary"] == b"accept-encoding"
    assert headers[b"content-type"].startswith(b"text/html")
    again = {"accept-encoding": accepted, "if-none-match": headers[b"etag"].decode()}
    assert ask(files, again, path="a.html").status == 304


def test_a_compressed_file_that_is_older_is_not_sent(tmp_path):
    """It is of another version of the file."""
    (tmp_path / "a.txt").write_bytes(b"plain")
    (tmp_path / "a.txt.gz").write_bytes(b"gzip")
    os.utime(tmp_path / "a.txt.gz", (CHANGED, CHANGED))
    answer = ask(hosted(v2, str(tmp_path)), {"accept-encoding": "gzip"}, path="a.txt")
    assert answer.body == b"plain"
    assert b"vary" not in dict(answer.headers)


def test_several_folders(tmp_path):
    """One is named by who asks; each sees its own files."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.txt").write_bytes(name.encode())
    files = hosted(v2, str(tmp_path / "one"))
    files.state.roots["more"] = str(tmp_path / "two")
    head = Head("GET", b"/data.txt", "/data.txt", b"", "1.1", ())
    bodies = [files.answer(Request(head), "data.txt", root).body for root in ("main", "more")]
    assert bodies == [b"one", b"two"]
    assert files.answer(Request(head), "data.txt", "another").status == 404
