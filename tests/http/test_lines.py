"""What an application says in the head of an answer is judged in one place."""

from __future__ import annotations

import pytest

from netswap.http import Exchange, Request
from netswap.http.exchange import NOWHERE
from netswap.http.lines import final_line, header_lines, length_of, status_line
from netswap.http.message import Head

CONTROLS = [*(one for one in range(32) if one != 9), 127]


@pytest.mark.parametrize("code", CONTROLS)
def test_no_control_character_goes_out(code: int) -> None:
    """In a value or a name, in whichever row; RFC 9110 section 5.5."""
    one = bytes([code])
    for row in ((b"x", b"a" + one), (b"x", one), (b"x" + one, b"a")):
        with pytest.raises(ValueError, match="none that HTTP has") as caught:
            header_lines([(b"first", b"good"), row, (b"last", b"good")])
        assert repr(row[0]) in str(caught.value)


def test_whatever_else_has_eight_bits_does() -> None:
    """A tab, and what is not ASCII."""
    value = bytes(one for one in range(256) if one not in CONTROLS)
    assert header_lines([(b"X-Any", value), (b"empty", b"")]) == (
        b"X-Any: %b\r\nempty: \r\n" % value
    )
    assert header_lines([]) == b""


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"(a)", b"\xe9"])
def test_a_name_is_a_token(name: bytes) -> None:
    """RFC 9110 section 5.1."""
    with pytest.raises(ValueError, match="none that HTTP has"):
        header_lines([(name, b"value")])


def test_a_status_is_that_of_an_answer() -> None:
    """An interim one is none, and neither is what has not three digits."""
    assert final_line(404) == status_line(404) == b"HTTP/1.1 404 Not Found\r\n"
    assert final_line(999) == b"HTTP/1.1 999 \r\n"
    for status in (-1, 0, 99, 100, 199, 1000):
        with pytest.raises(ValueError, match="not the status of an answer"):
            final_line(status)


def test_a_length_is_one_number() -> None:
    """Whatever the case of its name."""
    assert length_of([(b"a", b"1")]) is None
    assert length_of([(b"Content-Length", b"017"), (b"a", b"1")]) == 17
    for said in ([b"-1"], [b""], [b"1, 1"], [b"1", b"1"], [b"1", b"2"]):
        with pytest.raises(ValueError, match="not one number"):
            length_of([(b"content-length", value) for value in said])


def test_an_interim_answer_is_judged_whatever_the_connection_would_do() -> None:
    """Also by one that sends what it is given, and where nobody is there any more."""
    exchange = Exchange(Request(Head("GET", b"/", "/", b"", "1.1", ())), NOWHERE)
    with pytest.raises(ValueError, match="none that HTTP has"):
        exchange.inform(103, [(b"link", b"a\r\nb: c")])
