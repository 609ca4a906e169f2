"""Answers in parts: a head that was said before is not looked at again, and says the same."""

from __future__ import annotations

import pytest

from netswap.http import answers
from netswap.http.answers import Outline
from netswap.http.lines import status_of
from netswap.http.message import Head, Request

PLAIN = [(b"content-type", b"text/plain"), (b"Connection", b"keep-alive")]


@pytest.fixture(autouse=True)
def _nothing_is_known(monkeypatch):
    """What other tests have said is not known here."""
    monkeypatch.setattr(answers, "_starts", {})
    monkeypatch.setattr(answers, "date_line", lambda: b"date: now\r\n")


def asking(method: str = "GET", version: str = "1.1") -> Request:
    """A request."""
    return Request(Head(method, b"/", "/", b"", version, ()))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("status", [200, 204, 304])
@pytest.mark.parametrize(
    "more", [(), ((b"content-length", b"5"),), ((b"Date", b"then"),), ((b"connection", b"close"),)]
)
def test_the_second_of_equal_heads_is_as_the_first(method, version, status, more):
    """Also when others were said between, which differ in each of what a head depends on."""
    request, rows = asking(method, version), [*PLAIN, *more]
    first = Outline.start(request, status, rows)
    for other in (asking("GET"), asking("HEAD"), asking("GET", "1.0"), asking("HEAD", "1.0")):
        for number in (200, 204, 404):
            Outline.start(other, number, rows)
            Outline.start(other, number, PLAIN)
    assert Outline.start(request, status, rows) == first
    assert len(answers._starts) > 1


def test_the_date_is_that_of_now(monkeypatch):
    """Unless the application has said one."""
    assert b"date: now\r\n" in Outline.start(asking(), 200, PLAIN).lines
    monkeypatch.setattr(answers, "date_line", lambda: b"date: later\r\n")
    assert b"date: later\r\n" in Outline.start(asking(), 200, PLAIN).lines
    dated = [*PLAIN, (b"Date", b"then")]
    for _ in range(2):
        assert Outline.start(asking(), 200, dated).lines.lower().count(b"date: ") == 1


def test_how_far_one_body_is_is_not_how_far_the_next_is():
    """What is noted of the framing belongs to one answer."""
    rows = [*PLAIN, (b"content-length", b"5")]
    Outline.start(asking(), 200, rows).framing["left"] -= 5
    assert Outline.start(asking(), 200, rows).framing["left"] == 5


def test_a_phrase_of_its_own_is_not_that_of_another():
    """A status with a phrase is equal to one without."""
    assert Outline.start(asking(), 200, PLAIN).lines.startswith(b"HTTP/1.1 200 OK\r\n")
    own = status_of(200, b"Fine")
    assert Outline.start(asking(), own, PLAIN).lines.startswith(b"HTTP/1.1 200 Fine\r\n")
    assert Outline.start(asking(), 200, PLAIN).lines.startswith(b"HTTP/1.1 200 OK\r\n")


def test_what_is_wrong_is_wrong_each_time():
    """It is never remembered."""
    for _ in range(2):
        with pytest.raises(ValueError, match="none that HTTP has"):
            Outline.start(asking(), 200, [(b"x", b"a\r\nb: c")])
        with pytest.raises(ValueError, match="length"):
            Outline.start(asking(), 200, [(b"content-length", b"x")])
    assert answers._starts == {}


def test_rows_that_are_no_keys_are_said_all_the_same():
    """An application may give any bytes-like value."""
    rows = [(b"x-any", bytearray(b"value"))]
    for _ in range(2):
        assert b"x-any: value\r\n" in Outline.start(asking(), 200, rows).lines


def test_what_is_remembered_is_bounded():
    """In number, and each in size."""
    for number in range(answers.KNOWN * 2):
        Outline.start(asking(), 200, [(b"etag", b"%d" % number)])
    Outline.start(asking(), 200, [(b"long", b"x" * answers.KNOWN_SIZE)])
    assert 0 < len(answers._starts) <= answers.KNOWN
    assert all(len(known.lines) <= answers.KNOWN_SIZE for known in answers._starts.values())
