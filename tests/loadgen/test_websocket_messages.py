"""A message of WebSocket may come in several frames, and ends where it ended."""

from __future__ import annotations

import pytest

from tests.loadgen.test_dialects import HEAD_SIZE, converse, faults


def framed(first: int, payload: bytes) -> bytes:
    return bytes([first, len(payload)]) + payload


@pytest.mark.parametrize(
    ("said", "found"),
    [
        pytest.param([(0x02, 0, 9), (0x80, 9, 40)], {}, id="two frames"),
        pytest.param([(0x02, 0, 9), (0x00, 9, 9), (0x89, 0, 2), (0x80, 9, 40)], {}, id="a ping in"),
        pytest.param([(0x8A, 0, 2), (0x82, 0, 40)], {}, id="a pong that nobody asked for"),
        pytest.param([(0x82, 0, 9), (0x82, 9, 40)], {"corrupted": 1}, id="two messages"),
        pytest.param([(0x80, 0, 5), (0x82, 0, 40)], {"corrupted": 1}, id="the end of none"),
        pytest.param([(0x02, 0, 40)], {"lost": 1}, id="one without an end"),
    ],
)
def test_the_frames_of_a_message(said: list[tuple[int, int, int]], found: dict[str, int]) -> None:
    """RFC 6455, 5.4: frames of one message are put together, and messages are not."""
    talk, answers = converse("websocket", 2)
    talk.receive(answers[0])
    body = answers[1][2:]
    assert len(body) == 40
    for first, begin, end in said:
        talk.receive(framed(first, body[begin:end]))
    talk.continuity.close(dropped=False)
    assert faults(talk.continuity.tally) == found


def test_two_messages_made_one() -> None:
    """Both are answered, and yet that is not what was sent."""
    talk, answers = converse("websocket", 2)
    talk.receive(answers[0][:HEAD_SIZE])
    talk.receive(framed(0x82, answers[0][HEAD_SIZE + 2 :] + answers[1][2:]))
    talk.continuity.close(dropped=False)
    assert faults(talk.continuity.tally) == {"corrupted": 1}


def test_a_message_of_garbage_is_one_fault() -> None:
    """That it is too long as well is the same mistake."""
    talk, answers = converse("websocket", 3)
    talk.receive(answers[0] + framed(0x82, b"!" * 50) + answers[2])
    assert faults(talk.continuity.tally) == {"corrupted": 1}


def test_a_message_without_its_end_is_left_over() -> None:
    """Also when its frames are whole."""
    talk, answers = converse("websocket", 1)
    talk.receive(answers[0] + framed(0x02, b"x"))
    assert talk.leftover() == b"x"
