"""Bytes at the end that belong to nothing that was asked are seen, in each protocol."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from loadgen.continuity import Tally
from loadgen.dialects import DIALECTS, Opening
from loadgen.lines.line import Crowd, Line
from loadgen.plan import Plan
from loadgen.samples import Rows
from tests.loadgen.test_dialects import ANSWERS, faults

CLOSED = Plan(protocol="echo", host="h", port=1, connections=1, duration_ns=1)


def lined(protocol: str, operations: int = 3) -> tuple[Line, list[bytes], Tally]:
    """A line without a transport, its answers, and where it counts."""
    tally = Tally()
    crowd = cast(Crowd, SimpleNamespace(
        plan=CLOSED, rows=Rows(), tally=tally, end=0,
        forget=lambda _: None, closed=lambda _: None,
    ))  # fmt: skip
    talk = DIALECTS[protocol](Opening(3, 20, "n", tally))
    requests = [talk.request(number, number) for number in range(operations)]
    return Line(crowd, 3, talk), ANSWERS[protocol](requests), tally


def settled_by(
    protocol: str, said: Callable[[list[bytes]], list[bytes]], *, leaves: bool = True
) -> dict[str, int]:
    """The faults of a line that heard what is made of its answers, and was then ended."""
    line, answers, tally = lined(protocol)
    for piece in said(answers):
        line.data_received(piece)
    line._leaving = leaves
    line.connection_lost(None)
    return faults(tally)


@pytest.mark.parametrize("protocol", sorted(DIALECTS))
def test_half_an_answer_too_many_at_the_end(protocol: str) -> None:
    """It is nobody's answer, whether we left or were dropped."""
    assert settled_by(protocol, list) == {}
    assert settled_by(protocol, lambda a: [*a, a[-1][:-1]]) == {"corrupted": 1}
    found = settled_by(protocol, lambda a: [b"".join([*a, a[-1][:-1]])], leaves=False)
    assert found == {"corrupted": 1, "dropped": 1}


@pytest.mark.parametrize("protocol", sorted(DIALECTS))
def test_half_an_answer_to_an_open_question_is_no_fault_besides(protocol: str) -> None:
    """Who was dropped in its middle doesn't know whether it was done, and that is all."""
    torn = settled_by(protocol, lambda a: [b"".join(a)[:-1]], leaves=False)
    assert torn == {"unknown": 1, "dropped": 1}
    assert settled_by(protocol, lambda a: [b"".join(a)[:-1]]) == {"lost": 1}


def test_half_of_what_we_did_not_wait_for_is_no_fault() -> None:
    """Over TLS a line hears on for the grace at most, and then it is we who cut."""
    line, answers, tally = lined("kv")
    line.data_received(b"".join([*answers, b":"]))
    line._leaving = line._cut = True
    line.connection_lost(None)
    assert faults(tally) == {}


@pytest.mark.parametrize("protocol", ["echo", "verify"])
def test_what_is_counted_as_garbage_is_not_counted_again_at_the_end(protocol: str) -> None:
    """One mistake is one fault."""
    assert settled_by(protocol, lambda a: [*a, b"!" * 200, b"!"]) == {"corrupted": 1}


@pytest.mark.parametrize(
    ("protocol", "bye", "found"),
    [
        ("kv", b":2\r\n", {"duplicated": 1}),
        ("counter", b":1\r\n", {"duplicated": 1}),
    ],
)
def test_the_last_word_is_answered_once(protocol: str, bye: bytes, found: dict[str, int]) -> None:
    """What is to be heard over TLS before the end is its answer; a second one nobody asked for."""
    line, answers, tally = lined(protocol)
    line.data_received(b"".join(answers))
    talk = line._conversation
    assert not talk.expects()
    talk.farewell()
    assert talk.expects()
    line.data_received(bye)
    assert not talk.expects()
    assert faults(tally) == {}
    line.data_received(bye)
    assert faults(tally) == found


def test_a_message_of_another_room_is_nobodys() -> None:
    """It is whole, and should not have been heard here."""
    line, answers, tally = lined("chat")
    stranger = DIALECTS["chat"](Opening(13, 20, "n", Tally()))
    leaked = b"<load-n-13> " + stranger.request(0, 0)
    line.data_received(b"".join([*answers, leaked]))
    assert faults(tally) == {"corrupted": 1}
    assert len(line._crowd.rows) == 3
