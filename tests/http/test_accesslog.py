"""accesslog: a line for each answer, written off the way, in bounded memory."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from netswap.http import accesslog
from netswap.http.accesslog import FORMATS, AccessLog, Record
from netswap.http.message import Head

AT = 1_700_000_000.25
HEAD = Head(
    "GET",
    b"/a?b=c",
    "/a",
    b"b=c",
    "1.1",
    ((b"host", b"x"), (b"referer", b"http://x/"), (b"user-agent", b"curl/8")),
)
CONNECTION: Any = SimpleNamespace(
    version=1, peername=("127.0.0.1", 5000), app=SimpleNamespace(version=2)
)


@pytest.fixture
def said() -> list[dict[str, Any]]:
    """What the server's log was told."""
    return []


@pytest.fixture
async def log(tmp_path, said):
    made = AccessLog(
        asyncio.get_running_loop(),
        str(tmp_path / "access.log"),
        "combined",
        lambda event, **fields: said.append({"event": event, **fields}),
    )
    yield made
    await made.close()


def row(**changed: Any) -> Record:
    made = Record(
        AT, ("10.0.0.1", 5000), HEAD, 200, 12, 0.0125, (1, "v1"), (3, "netswap_bundle_4bbb1665a87f")
    )
    return made._replace(**changed)


def test_combined():
    """What tools read, and behind it the versions that have answered."""
    line = FORMATS["combined"](row()).decode()
    assert line == (
        '10.0.0.1 - - [14/Nov/2023:22:13:20 +0000] "GET /a?b=c HTTP/1.1" 200 12 "http://x/" '
        '"curl/8" http.connection/1 http.app/3@4bbb1665a87f\n'
    )


def test_json():
    """An object a line."""
    assert msgspec.json.decode(FORMATS["json"](row())) == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "peer": "10.0.0.1",
        "method": "GET",
        "target": "/a?b=c",
        "version": "1.1",
        "status": 200,
        "bytes": 12,
        "seconds": 0.0125,
        "referer": "http://x/",
        "agent": "curl/8",
        "connection": "1",
        "app": "3@4bbb1665a87f",
    }


@pytest.mark.parametrize("form", FORMATS)
def test_a_client_can_not_write_lines_of_its_own(form):
    """Quotes, ends of line and what is not ASCII are shown by their numbers."""
    agent = b'a"\n127.0.0.1 - - \\ \xff\x1b[2J'
    head = Head("GET", b'/"x', "/", b"", "1.1", ((b"user-agent", agent),))
    line = FORMATS[form](row(head=head, peer="unix:1000:22", app=None)).decode()
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert line.isascii()
    assert "\x1b" not in line
    assert "x22" in line
    assert 'a"' not in line


def test_what_could_not_be_understood():
    """It has no request line."""
    line = FORMATS["combined"](row(head=None, status=400, app=None)).decode()
    assert '"-" 400 12 "-" "-" http.connection/1 http.app/-' in line


async def test_lines_are_written_in_order_off_the_way(log, tmp_path, monkeypatch):
    """Nothing is formatted or written while a request is answered."""
    monkeypatch.setattr(accesslog, "FLUSH_S", 0)
    path = tmp_path / "access.log"
    for status in range(200, 200 + 2500):
        log.note(CONNECTION, HEAD, status, 0)
    assert not path.exists()
    await log.close()
    statuses = [int(line.split()[8]) for line in path.read_text().splitlines()]
    assert statuses == list(range(200, 2700))


async def test_a_file_that_was_moved_away_is_opened_again(log, tmp_path):
    """As logrotate does; each line is in one of the two."""
    path = tmp_path / "access.log"
    log.note(CONNECTION, HEAD, 201, 0)
    await log.close()
    log.note(CONNECTION, HEAD, 202, 0)
    log._flush()
    await asyncio.wait([log._writing])
    await asyncio.sleep(0)
    path.rename(tmp_path / "access.log.1")
    log.note(CONNECTION, HEAD, 203, 0)
    await log.close()
    assert [line.split()[8] for line in path.read_text().splitlines()] == ["203"]
    assert len((tmp_path / "access.log.1").read_text().splitlines()) == 2


async def test_a_disk_that_takes_nothing_costs_lines_and_no_memory(
    log, said, tmp_path, monkeypatch
):
    """What is dropped is counted, and told once for each time that it happens."""
    monkeypatch.setattr(accesslog, "MOST", 10)
    (tmp_path / "access.log").mkdir()
    for _ in range(13):
        log.note(CONNECTION, HEAD, 200, 0)
    await log.close()
    assert log.dropped == 13
    assert [(one["event"], one["lines"]) for one in said] == [("access_log_dropped", 13)]
    assert "directory" in said[0]["error"].lower()
    os.rmdir(tmp_path / "access.log")
    log.note(CONNECTION, HEAD, 200, 0)
    await log.close()
    assert len((tmp_path / "access.log").read_text().splitlines()) == 1
    assert len(said) == 1


async def test_while_a_write_hangs_it_is_told_what_is_dropped_and_the_end_waits_no_longer(
    log, said, tmp_path, monkeypatch
):
    """A pipe that nobody reads, as a disk that hangs: its opening does not return."""
    monkeypatch.setattr(accesslog, "MOST", 10)
    monkeypatch.setattr(accesslog, "HANGS_S", 0)
    path = tmp_path / "access.log"
    os.mkfifo(path)
    log.note(CONNECTION, HEAD, 200, 0)
    log._flush()
    for _ in range(13):
        log.note(CONNECTION, HEAD, 200, 0)
    log._alarm.cancel()  # that of the first of these: it comes in half a second
    log._alarm = None
    log.note(CONNECTION, HEAD, 200, 0)
    async with asyncio.timeout(20):
        while not said:
            await asyncio.sleep(0)
    assert (said[0]["lines"], said[0]["error"]) == (4, "a write has not ended yet")
    await log.close(0.01)
    assert (log.dropped, sum(one["lines"] for one in said)) == (15, 15)
    assert "has not ended within 0.01 s" in said[-1]["error"]
    with path.open("rb") as reader:  # the thread goes on, and nothing is told twice
        assert reader.readline().endswith(b"http.app/2\n")
    assert len(said) == 2
