"""An answer that comes alone, the usual case, is judged in fewer steps, and no differently."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.loadgen.test_dialects import converse, faults

FRAMED = ["echo", "kv", "verify", "websocket"]
"""Those whose judgement does not depend on the cut, whatever was spoilt."""


def spoilt_one(answers: list[bytes], data: st.DataObject) -> list[bytes]:
    """Bytes taken out, put in or changed in one of them, but the first."""
    number = data.draw(st.integers(1, len(answers) - 1), "answer")
    answer = answers[number]
    at = data.draw(st.integers(0, len(answer)), "at")
    after = data.draw(st.integers(at, min(len(answer), at + 2)), "after")
    spoilt = answer[:at] + data.draw(st.binary(max_size=2), "instead") + answer[after:]
    return [*answers[:number], spoilt, *answers[number + 1 :]]


def outcome(protocol: str, pieces: Iterable[bytes]) -> tuple[list[int], dict[str, int]]:
    """What is settled, in order, and the faults."""
    talk, _ = converse(protocol)
    settled = [operation.sequence for piece in pieces for operation in talk.receive(piece)]
    talk.continuity.close(dropped=False)
    return settled, faults(talk.continuity.tally)


@given(st.sampled_from(FRAMED), st.data())
def test_a_spoilt_answer_is_judged_alike_alone_and_in_pieces(
    protocol: str, data: st.DataObject
) -> None:
    """The same operations are settled and the same faults counted."""
    answers = spoilt_one(converse(protocol)[1], data)
    pieces = [piece for answer in answers for piece in (answer[:-1], answer[-1:])]
    assert outcome(protocol, answers) == outcome(protocol, pieces)


@given(st.data())
def test_a_spoilt_answer_is_judged_alike_behind_a_head_that_was_seen(data: st.DataObject) -> None:
    """Whether the head is the one of the answer before or another one proves nothing of the body,
    nor where it ends.
    """
    answers = [
        answer.replace(b"\r\n", b"\r\nX-Number: 00\r\n", 1) for answer in converse("http")[1]
    ]
    answers = spoilt_one(answers, data)
    other_heads = [
        answer.replace(b"X-Number: 00\r\n", b"X-Number: %02d\r\n" % number, 1)
        for number, answer in enumerate(answers)
    ]
    assert outcome("http", answers) == outcome("http", other_heads)
    assert outcome("http", [b"".join(answers)]) == outcome("http", [b"".join(other_heads)])


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        pytest.param(lambda body: body + b"x", {"corrupted": 1}, id="a byte too many"),
        pytest.param(lambda body: body[:-1], {"corrupted": 2}, id="a byte too few"),
        pytest.param(lambda body: body[:-1] + b"x", {"corrupted": 1}, id="another byte"),
    ],
)
def test_the_body_behind_a_head_that_was_seen_is_looked_at(
    spoil: Callable[[bytes], bytes], found: dict[str, int]
) -> None:
    """Its length, which the head has said, and each byte."""
    _, answers = converse("http", 12)
    head, end, body = answers[4].partition(b"\r\n\r\n")
    assert outcome("http", [*answers[:4], head + end + spoil(body), *answers[5:]])[1] == found
