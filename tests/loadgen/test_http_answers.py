"""Answers of http that are no 200: said in between, errors, and what stands behind them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.loadgen.test_dialects import converse, faults

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
ERRORS = {
    "length": b"HTTP/1.1 500 Oh\r\nContent-Length: 12\r\n\r\nno\r\n\r\nanswer",
    "chunks": b"HTTP/1.1 503 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nno!\r\n0\r\n\r\n",
    "bodiless": b"HTTP/1.1 204 No Content\r\n\r\n",
    "endless": b"HTTP/1.1 500 Oh\r\n\r\nwith a body\r\n\r\nthat tells no end",
    "bad chunks": b"HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\nno!\r\n\r\n",
}


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [stream[begin:end] for begin, end in zip(edges, edges[1:], strict=False)]


CUTS = st.lists(st.integers(0, 500), max_size=8)


@given(CUTS)
def test_what_is_said_in_between_answers_nothing(cuts: list[int]) -> None:
    """RFC 9110, 15.2: any number of interim answers may come before the one that counts."""
    talk, answers = converse("http", 3)
    stream = INTERIM + answers[0] + answers[1] + INTERIM * 2 + answers[2]
    settled = [each for piece in pieces(stream, cuts) for each in talk.receive(piece)]
    talk.continuity.close(dropped=False)
    assert [operation.sequence for operation in settled] == [0, 1, 2]
    assert faults(talk.continuity.tally) == {}


@pytest.mark.parametrize("size", [b"%x", b"%X", b"%012x", b"%x ;a=b", b"%x\t"])
def test_the_size_of_a_chunk_has_many_forms(size: bytes) -> None:
    """RFC 9112, 7.1: any number of digits of either case, and what an extension says."""
    talk, answers = converse("http", 1)
    body = answers[0].partition(b"\r\n\r\n")[2]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = size % len(body) + b"\r\n" + body + b"\r\n000\r\n\r\n"
    assert [operation.sequence for operation in talk.receive(head + chunks)] == [0]
    assert faults(talk.continuity.tally) == {}


def test_a_chunk_ends_where_its_size_says() -> None:
    """RFC 9112, 7.1: there the line ends, and whatever else stands there is no end."""
    talk, answers = converse("http", 1)
    body = answers[0].partition(b"\r\n\r\n")[2]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    talk.receive(b"%b%x\r\n%b!!0\r\n\r\n" % (head, len(body), body))
    assert faults(talk.continuity.tally) == {"corrupted": 1}


@pytest.mark.parametrize("said", [INTERIM, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"])
def test_nothing_is_to_be_said_in_between_when_nothing_is_open(said: bytes) -> None:
    """Nobody asked, and nobody asked for another protocol: each is a fault."""
    talk, answers = converse("http", 1)
    before = said if b" 101 " in said else b""
    talk.receive(before + answers[0] + (b"" if before else said))
    assert talk.continuity.tally.corrupted >= 1


@pytest.mark.parametrize(
    ("order", "found"), [((0, 1, 1), {"duplicated": 1}), ((1, 0), {"reordered": 1})]
)
def test_what_is_said_before_an_answer_is_no_fault_besides(
    order: tuple[int, ...], found: dict[str, int]
) -> None:
    """An answer that comes twice or late has its interim answers with it, and is one mistake."""
    talk, answers = converse("http", 2)
    for number in order:
        talk.receive(INTERIM + answers[number])
    assert faults(talk.continuity.tally) == found


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS.keys())
@given(cuts=CUTS)
def test_an_error_is_one_fault_however_it_is_cut(error: bytes, cuts: list[int]) -> None:
    """Its body is passed over, also when it comes later, and the next answer is judged as it is."""
    talk, answers = converse("http", 3)
    stream = answers[0] + error + answers[2]
    settled = [each for piece in pieces(stream, cuts) for each in talk.receive(piece)]
    assert [operation.sequence for operation in settled] == [0, 1, 2]
    assert faults(talk.continuity.tally) == {"corrupted": 1}
    assert talk.leftover() == b""


def test_the_rest_of_an_error_is_no_other_fault_and_the_next_mistake_is_one() -> None:
    """What tells no end is counted once, up to the next good answer."""
    talk, answers = converse("http", 4)
    said = (ERRORS["endless"], b"more of it", answers[1], b"garbage\r\n\r\n", answers[3])
    expected = (1, 1, 1, 2, 2)
    for piece, found in zip(said, expected, strict=True):
        talk.receive(piece)
        assert talk.continuity.tally.corrupted == found
    assert talk.continuity.answered == 4
    assert faults(talk.continuity.tally) == {"corrupted": 2}


def test_what_is_left_over_of_a_mistake_is_no_other_one() -> None:
    """Though it looks like the beginning of an answer."""
    talk, answers = converse("http", 2)
    talk.receive(answers[0] + b"garbage\r\n\r\nHTTP")
    assert faults(talk.continuity.tally) == {"corrupted": 1}
    assert talk.leftover() == b""


@pytest.mark.parametrize(("other", "found"), [(b"3", {"corrupted": 1}), (b"%d", {})])
def test_two_lengths_have_to_agree(other: bytes, found: dict[str, int]) -> None:
    """RFC 9110, 8.6: which one to believe nobody knows."""
    talk, (answer,) = converse("http", 1)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = other % len(body) if b"%" in other else other
    talk.receive(b"%b\r\nContent-Length: %b\r\n\r\n%b" % (head, length, body))
    assert faults(talk.continuity.tally) == found


@pytest.mark.parametrize("stray", [b"x", b"xx\r\n", b"\r\n"])
def test_stray_bytes_behind_an_answer_are_one_mistake(stray: bytes) -> None:
    """The answer behind them is that of its question, and no second one."""
    talk, answers = converse("http", 3)
    for answer in answers:
        talk.receive(answer + stray)
    assert faults(talk.continuity.tally) == {"corrupted": 2}
    assert talk.continuity.answered == 3
    assert talk.leftover() == stray


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "which a POST to --url has to get",
        ),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", "is no answer with status 200: b'HTTP"),
        (b"HTTP/1.0 200 OK\r\n\r\n", "does not tell in one way where its body ends"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
            "has a Content-Encoding, not asked for: b'gzip'",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "the body of a question: b'hi'"),
    ],
)
def test_what_is_wrong_with_an_answer_is_told(answer: bytes, said: str) -> None:
    """And where another --url may be all that it takes, that is said."""
    talk, _ = converse("http", 1)
    talk.receive(answer)
    (fault,) = talk.continuity.tally.examples
    assert said in fault.detail


def test_who_answers_in_other_words_is_shown() -> None:
    """What came may tell what the server speaks instead."""
    talk, _ = converse("http", 2)
    talk.receive(b"SSH-2.0-OpenSSH_9\r\n")
    talk.continuity.close(dropped=False, heard=talk.leftover())
    first, second = (fault.detail for fault in talk.continuity.tally.examples)
    assert first.endswith("that are no whole answer came: b'SSH-2.0-OpenSSH_9\\r\\n'")
    assert second == "no answer, and the connection lives"
