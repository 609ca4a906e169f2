"""http.static: the files below a folder, and nothing else, exactly as they are."""

from __future__ import annotations

import email
import os
from typing import Any

import pytest

from netswap.http import Sending
from netswap.transfer import decode, encode
from protocols.cache import file as cached_file
from protocols.cache import lru
from protocols.http import limits
from protocols.http import v1 as http
from protocols.http import v2 as http_v2
from protocols.static import site, v1, v2
from tests.protocols.static.conftest import LARGE, Answers, ask, digest, get


async def test_a_small_file_is_answered_with_its_head(serve_folder):
    """Type, length, validators; nothing is guessed about its contents."""
    server = await serve_folder()
    [(status, headers, body)] = await ask(server, get("/hello.txt"))
    assert (status, body) == (200, b"hello, world\n")
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["content-length"] == "13"
    assert headers["accept-ranges"] == "bytes"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["etag"].startswith('"')
    assert headers["last-modified"].endswith("GMT")


async def test_a_large_file_is_sent_exactly_and_its_connection_goes_on(serve_folder, folder):
    """What is asked for behind it is answered behind it."""
    server = await serve_folder()
    large = (folder / "large.bin").read_bytes()
    found = await ask(server, get("/hello.txt"), get("/large.bin"), get("/docs/"))
    assert [status for status, _, _ in found] == [200, 200, 200]
    assert digest(found[1][2]) == digest(large)
    assert found[2][2] == b"<p>docs</p>"


FILES = pytest.mark.parametrize("files", [v1, v2], ids=["v1", "v2"])


@FILES
async def test_a_file_whose_name_is_no_text_is_reached_by_its_bytes(serve_folder, folder, files):
    """And crosses a swap, whose canonical form knows only text."""
    latin = folder / os.fsdecode(b"caf\xe9")
    latin.mkdir()
    (latin / os.fsdecode(b"\xff.txt")).write_bytes(b"no text")
    (latin / "index.html").write_bytes(b"<p>index")
    (folder / "caf\ufffd.txt").write_bytes(b"text")
    server = await serve_folder(limits, http_v2, files, cached_file, lru, site)
    asked = [
        get("/caf%E9/%ff.txt?x=%e9"),
        get("/caf%E9/"),
        get("/caf%E9"),
        get("/caf%EF%BF%BD.txt"),
    ]
    found = await ask(server, *asked, get("/caf%FF/"))
    assert [status for status, _, _ in found] == [200, 200, 308, 200, 404]
    assert [body for _, _, body in found[:2]] == [b"no text", b"<p>index"]
    assert found[2][1]["location"] == "./caf%E9/"
    for entry in server.host.table.of_kind("cache.file"):
        state = decode(encode(entry.target.state), cached_file.Seen)
        assert (state.path, state.name) == (entry.target.state.path, entry.target.state.name)
    await server.swap(cached_file)
    assert (await ask(server, get("/caf%E9/%ff.txt")))[0][2] == b"no text"


VERSIONS = pytest.mark.parametrize("connection", [http, http_v2], ids=["http v1", "http v2"])


@VERSIONS
async def test_a_large_file_goes_past_the_transport(serve_folder, monkeypatch, connection):
    """Every byte of it goes from the file to the socket within the kernel, on both loops."""
    sent = []
    sendfile = os.sendfile

    def counting(out, source, offset, size):
        count = sendfile(out, source, offset, size)
        sent.append(count)
        return count

    monkeypatch.setattr(os, "sendfile", counting)
    server = await serve_folder(limits, connection, v1, cached_file, lru, site)
    await ask(server, get("/large.bin"))
    assert sum(sent) == LARGE


async def test_a_large_file_is_written_where_there_is_no_way_past(
    serve_folder, folder, monkeypatch
):
    """As over TLS: the same bytes."""
    server = await serve_folder()
    monkeypatch.setattr(server.host.present["http.connection"], "way_past", lambda *_: None)
    [(_, _, body)] = await ask(server, get("/large.bin"))
    assert digest(body) == digest((folder / "large.bin").read_bytes())


@pytest.mark.parametrize(
    "path",
    [
        *("/../outside.txt", "/docs/../../outside.txt", "/%2e%2e/outside.txt", "/..%2foutside.txt"),
        *("/out", "/up/outside.txt", "/.secret", "/to_secret", "/%2esecret", "//etc/passwd"),
        *("/hello.txt%00.html", "/hello.txt/", "/docs//index.html", "/nothing", "/" + "x" * 5000),
        *("/./hello.txt", "/docs/%2e%2e/hello.txt", "/..", "/docs/..", "/", "/%"),
    ],
)
async def test_nothing_else_is_shown(serve_folder, path):
    """Neither what is outside of the folder, by whatever way, nor what is hidden."""
    server = await serve_folder()
    [(status, _, body)] = await ask(server, get(path))
    assert (status, body) == (404, b"404: Not Found\n")


async def test_links_within_the_folder_are_followed(serve_folder):
    """They lead to what may be shown anyway."""
    server = await serve_folder()
    [(status, _, body)] = await ask(server, get("/in"))
    assert (status, body) == (200, b"hello, world\n")


async def test_a_folder_is_its_index(serve_folder):
    """Without the slash the client is sent to where relative links are right."""
    server = await serve_folder()
    found = await ask(server, get("/docs/"), get("/docs?a=b"))
    assert found[0][2] == b"<p>docs</p>"
    assert found[0][1]["content-type"] == "text/html; charset=utf-8"
    assert (found[1][0], found[1][1]["location"]) == (308, "./docs/?a=b")


async def test_a_fifo_is_no_file_and_holds_nobody(serve_folder, folder):
    """Opening one to read would wait for somebody who writes."""
    os.mkfifo(folder / "fifo")
    server = await serve_folder()
    [(status, _, _)] = await ask(server, get("/fifo"))
    assert status == 404


async def test_head_and_other_methods(serve_folder):
    """HEAD has the head of GET, of large files too; other methods are told what there is."""
    server = await serve_folder()
    found = await ask(server, get("/large.bin", method="DELETE"), get("/docs/", "If-Match: *"))
    assert found[0][:2] == (405, found[0][1])
    assert found[0][1]["allow"] == "GET, HEAD"
    client = await server.connect()
    await client.send(get("/large.bin", "Connection: close", method="HEAD"))
    data = await client.read_all()
    assert b"content-length: %d\r\n" % LARGE in data
    assert data.endswith(b"\r\n\r\n")


async def test_a_file_that_changes_is_seen_within_a_second(serve_folder, folder, monkeypatch):
    """What is kept is compared with the disk, at most so often."""
    server = await serve_folder()
    await ask(server, get("/hello.txt"))
    (folder / "hello.txt").write_bytes(b"changed")
    found = await ask(server, get("/hello.txt"))
    assert found[0][2] == b"hello, world\n"
    now = server.host.clock.monotonic_ns()
    monkeypatch.setattr(server.host, "clock", _Later(now + 1_100_000_000))
    found = await ask(server, get("/hello.txt"))
    assert found[0][2] == b"changed"
    (folder / "hello.txt").unlink()
    monkeypatch.setattr(server.host, "clock", _Later(now + 2_200_000_000))
    found = await ask(server, get("/hello.txt"))
    assert found[0][0] == 404


class _Later:
    """A clock that stands at another time."""

    def __init__(self, now: int) -> None:
        self._now = now

    def monotonic_ns(self) -> int:
        return self._now


async def _half_read(server):
    """A client that has read the beginning of the large file and then stops."""
    client = await server.connect(buffer=4096)
    await client.send(get("/large.bin"))
    head = await client.read(1000)
    assert head.startswith(b"HTTP/1.1 200 OK")
    return client, head


async def test_a_file_that_shrinks_while_it_is_sent_ends_the_connection(serve_folder, folder):
    """The client does not take what it has for whole."""
    server = await serve_folder()
    client, head = await _half_read(server)
    os.truncate(folder / "large.bin", 100)
    data = head + await client.read_all()
    assert len(data) < LARGE


async def test_a_file_that_is_written_to_while_it_is_sent_ends_the_connection(serve_folder, folder):
    """Nobody gets one file that was two."""
    server = await serve_folder()
    client, head = await _half_read(server)
    with (folder / "large.bin").open("r+b") as file:
        file.seek(LARGE - 10)
        file.write(b"0123456789")
    data = head + await client.read_all()
    assert len(data) < LARGE


@pytest.mark.parametrize("how", ["vanishes", "is replaced", "grows"])
async def test_a_file_that_goes_while_it_is_sent_is_sent_to_its_end(serve_folder, folder, how):
    """What was opened is what is sent, whatever has that name by now; a log is sent as it was."""
    before = (folder / "large.bin").read_bytes()
    server = await serve_folder()
    client, head = await _half_read(server)
    if how == "grows":
        with (folder / "large.bin").open("ab") as file:
            file.write(b"more")
    else:
        (folder / "large.bin").unlink()
    if how == "is replaced":
        (folder / "large.bin").write_bytes(b"another")
    end = head.index(b"\r\n\r\n") + 4
    body = head[end:] + await client.read(LARGE + end - len(head))
    assert digest(body) == digest(before)


async def test_a_client_that_goes_away_leaves_nothing_open(serve_folder):
    """The file and the second descriptor of the socket are closed (the fixtures look)."""
    server = await serve_folder()
    client, _ = await _half_read(server)
    client.sock.close()


async def test_what_was_never_sent_is_closed(folder):
    """An answer that nobody wants holds no descriptor."""
    from netswap.http import OpenFile, Request

    file = OpenFile(os.open(folder / "hello.txt", os.O_RDONLY))
    Sending(Request(None), 200, [], file)  # type: ignore[arg-type]
    number = file.number
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


async def test_several_ranges_of_a_large_file(serve_folder, folder):
    """What stands between them is written, they go past the transport, in the order asked for."""
    server = await serve_folder(http, v2, cached_file, lru, site)
    large = (folder / "large.bin").read_bytes()
    wanted = [(LARGE - 1_000_000, LARGE - 1), (5, 2_000_000), (7, 7)]
    rows = ",".join(f"{first}-{last}" for first, last in wanted)
    answers = await ask(server, get("/large.bin", f"Range: bytes={rows}"), get("/hello.txt"))
    assert [status for status, _, _ in answers] == [206, 200]
    _, headers, body = answers[0]
    message = b"Content-Type: " + headers["content-type"].encode() + b"\r\n" + body
    parts: Any = email.message_from_bytes(message).get_payload()
    found = [part.get_payload(decode=True) for part in parts]
    assert [digest(piece) for piece in found] == [
        digest(large[first : last + 1]) for first, last in wanted
    ]
    assert [part["content-range"] for part in parts] == [
        f"bytes {first}-{last}/{LARGE}" for first, last in wanted
    ]


async def test_a_large_file_that_is_compressed(serve_folder, folder):
    """It is sent as it is, with the name of its encoding."""
    (folder / "large.bin.gz").write_bytes((folder / "large.bin").read_bytes()[::-1])
    server = await serve_folder(http, v2, cached_file, lru, site)
    [(_, headers, body)] = await ask(server, get("/large.bin", "Accept-Encoding: gzip"))
    assert headers["content-encoding"] == "gzip"
    assert headers["content-type"] == "application/octet-stream"
    assert digest(body) == digest((folder / "large.bin.gz").read_bytes())


@VERSIONS
async def test_a_drain_lets_a_download_end(serve_folder, folder, connection):
    """What is owed is sent to its end; an idle connection closes at once."""
    server = await serve_folder(limits, connection, v1, cached_file, lru, site)
    idle = await server.connect()
    client, head = await _half_read(server)
    for one in (client, idle):
        server.host.guarded(one.entry, "on_drain")
    assert await idle.read_all() == b""
    data = head + await client.read(LARGE + head.index(b"\r\n\r\n") + 4 - len(head))
    [(status, _, body)] = Answers(data).all
    assert (status, digest(body)) == (200, digest((folder / "large.bin").read_bytes()))
