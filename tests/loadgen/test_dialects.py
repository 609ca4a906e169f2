"""The conversations: each answer is judged, however the stream is cut."""

from __future__ import annotations

import base64
import hashlib
import itertools
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.conductor import Observation
from loadgen.continuity import FAULTS, Operation, Tally
from loadgen.dialects import DIALECTS, Conversation, Opening
from loadgen.fanout import Heard, Member, unheard
from loadgen.findings import build_report
from loadgen.plan import Plan

Change = Callable[[list[bytes]], list[bytes]]
PLAN = Plan(protocol="chat", host="h", port=1, connections=5, duration_ns=10**9)


def faults(tally: Tally) -> dict[str, int]:
    counts = {name: getattr(tally, name) for name in FAULTS}
    return {name: count for name, count in counts.items() if count}


def converse(
    protocol: str, operations: int = 12, payload: int = 20
) -> tuple[Conversation, list[bytes]]:
    """A conversation with its questions asked, and the faithful answers."""
    talk = DIALECTS[protocol](Opening(3, payload, "n", Tally()))
    return talk, ANSWERS[protocol]([talk.request(number, number) for number in range(operations)])


def verify_answers(requests: list[bytes]) -> list[bytes]:
    answers, digest = [], 0
    for number, frame in enumerate(requests, 1):
        digest = zlib.crc32(frame[4:], digest)
        length = struct.pack(">I", len(frame) - 4 + 16)
        carried = struct.pack(">IQI", 1 + number // 7, number, digest)
        answers.append(length + frame[4:28] + carried + frame[28:])
    return answers


def kv_answers(requests: list[bytes]) -> list[bytes]:
    answers, value, count = [], b"", 0
    for number, frame in enumerate(requests):
        if number % 3 == 0:
            value = frame.split(b"\r\n", 6)[6][:-2]
        bulk = b"$%d\r\n%b\r\n" % (len(value), value)
        if frame.startswith(b"*3\r\n$6\r\nINCRBY"):
            count = int(frame.rsplit(b"\r\n", 2)[1])
        elif number % 3 == 2:
            count += 1
        answers.append((b"+OK\r\n", bulk, b":%d\r\n" % count)[number % 3])
    return answers


HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %b\r\n\r\n"
"""Whose words nobody counts on."""
HEAD_SIZE = len(HEAD) - 2 + 28


def websocket_answers(requests: list[bytes]) -> list[bytes]:
    """What a server says that unmasks each message and sends it back."""
    head, _, first = requests[0].partition(b"\r\n\r\n")
    key = head.rpartition(b": ")[2] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    answers = []
    for frame in [first, *requests[1:]]:
        mask, masked = frame[2:6], frame[6:]
        body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked))
        answers.append(bytes([0x82, len(body)]) + body)
    accept = base64.b64encode(hashlib.sha1(key).digest())
    return [HEAD % accept + answers[0], *answers[1:]]


def http_answers(requests: list[bytes]) -> list[bytes]:
    bodies = [request.partition(b"\r\n\r\n")[2] for request in requests]
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    return [head % len(body) + body for body in bodies]


def chat_answers(requests: list[bytes]) -> list[bytes]:
    return [b"<load-n-3> " + request for request in requests]


def counter_answers(requests: list[bytes]) -> list[bytes]:
    """As if other connections counted meanwhile."""
    return [b":%d\r\n" % (7 + 3 * number) for number, _ in enumerate(requests)]


ANSWERS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "chat": chat_answers,
    "counter": counter_answers,
    "echo": list,
    "http": http_answers,
    "kv": kv_answers,
    "verify": verify_answers,
    "websocket": websocket_answers,
}


NUMBERED = sorted(DIALECTS.keys() - {"counter"})
"""Those whose answers say what they answer."""


@given(st.sampled_from(sorted(DIALECTS)), st.integers(0, 90), st.data())
def test_the_cut_of_the_stream_does_not_matter(
    protocol: str, payload: int, data: st.DataObject
) -> None:
    """A faithful server is found faithful, with every operation settled, at any cut."""
    talk, answers = converse(protocol, payload=payload)
    stream = b"".join(answers)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    settled = [
        operation.sequence
        for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for operation in talk.receive(stream[begin:end])
    ]
    talk.continuity.close(dropped=False)
    assert settled == list(range(12))
    assert faults(talk.continuity.tally) == {}


@pytest.mark.parametrize("protocol", ["echo", "http", "websocket"])
def test_an_answer_that_was_kept_from_another_run_is_told(protocol: str) -> None:
    """The same connection and number of it: a cache, or two load generators that were mixed up."""
    here, answers = converse(protocol, 3)
    there = DIALECTS[protocol](Opening(3, 20, "m", Tally()))
    kept = ANSWERS[protocol]([there.request(number, number) for number in range(3)])
    here.receive(b"".join([answers[0], kept[1], answers[2]]))
    here.continuity.close(dropped=False)
    assert faults(here.continuity.tally)["corrupted"] >= 1


def spoil(frame: bytes, at: int) -> bytes:
    return frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]


@pytest.mark.parametrize("protocol", NUMBERED)
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda a: a[:4] + a[5:], {"lost": 1}, id="drop"),
        pytest.param(lambda a: a[:5] + a[4:], {"duplicated": 1}, id="duplicate"),
        pytest.param(lambda a: [*a[:4], a[5], a[4], *a[6:]], {"reordered": 1}, id="reorder"),
        pytest.param(
            lambda a: [*a[:4], spoil(a[4], len(a[4]) - 3), *a[5:]], {"corrupted": 1}, id="corrupt"
        ),
        pytest.param(lambda a: a[:-1], {"lost": 1}, id="last one missing"),
        pytest.param(lambda a: [*a, a[-1]], {"duplicated": 1}, id="last one twice"),
    ],
)
def test_each_fault_on_the_wire(protocol: str, change: Change, expected: dict[str, int]) -> None:
    """One fault of the server is one fault in the tally, in each protocol."""
    talk, answers = converse(protocol)
    talk.receive(b"".join(change(answers)))
    talk.continuity.close(dropped=False)
    assert faults(talk.continuity.tally) == expected


@given(st.sampled_from(NUMBERED), st.data())
def test_no_changed_byte_goes_unseen(protocol: str, data: st.DataObject) -> None:
    """Any byte of the stream that is changed, anywhere, ends in a fault."""
    talk, answers = converse(protocol)
    stream = b"".join(answers)
    at = data.draw(st.integers(0, len(stream) - 1))
    if protocol == "verify" and at % len(answers[0]) in range(28, 32):
        at += 4  # the version may be any
    elif protocol == "websocket":
        at = max(at, HEAD_SIZE)
    elif stream.startswith((b"OK\r\nC", b"K\r\nC"), at):
        at += 4  # a reason may be any
    elif stream.startswith(b"1 200 OK", at):
        at += 2  # HTTP/1.0 is another way to say that the connection ends
    talk.receive(spoil(stream, at))
    talk.continuity.close(dropped=False)
    assert talk.continuity.tally.faults() > 0


@given(st.sampled_from(sorted(DIALECTS)), st.lists(st.binary(max_size=80)))
def test_garbage_is_judged_not_raised(protocol: str, pieces: list[bytes]) -> None:
    """A server may send anything; each operation still has one outcome."""
    talk, _ = converse(protocol)
    for piece in pieces:
        talk.receive(piece)
    talk.continuity.close(dropped=False)
    tally = talk.continuity.tally
    assert tally.issued == 12 == tally.answered + tally.lost


@pytest.mark.parametrize("protocol", ["echo", "verify"])
def test_a_framed_stream_that_lost_bytes_is_found_again(protocol: str) -> None:
    """After missing bytes the next whole frames are judged as what they are."""
    talk, answers = converse(protocol)
    settled = talk.receive(b"".join([*answers[:4], answers[4][5:], *answers[5:]]))
    talk.continuity.close(dropped=False)
    assert [operation.sequence for operation in settled] == [*range(4), *range(5, 12)]
    assert faults(talk.continuity.tally) == {"corrupted": 1, "lost": 1}


def test_verify_sees_state_that_was_built_anew() -> None:
    """A server that begins to count and hash from nothing is caught once."""
    talk, _ = converse("verify", 0)
    requests = [talk.request(number, number) for number in range(12)]
    talk.receive(b"".join(verify_answers(requests[:6]) + verify_answers(requests[6:])))
    assert faults(talk.continuity.tally) == {"not_carried": 1}


@pytest.mark.parametrize("damage", [(32, 40), (40, 44)])
def test_verify_checks_count_and_hash_apart(damage: tuple[int, int]) -> None:
    """Either of the two carried values alone gives a wrong state away."""
    talk, answers = converse("verify")
    begin, end = damage
    answers[5] = answers[5][:begin] + bytes(end - begin) + answers[5][end:]
    talk.receive(b"".join(answers[:6]))
    assert faults(talk.continuity.tally) == {"not_carried": 1}


@pytest.mark.parametrize("at", [35, 41])
def test_a_state_that_one_answer_alone_has_wrong_is_one_mistake(at: int) -> None:
    """The next answer goes on from the one before it; a wrong state later is another mistake."""
    talk, answers = converse("verify")
    talk.receive(b"".join([*answers[:3], spoil(answers[3], at), *answers[4:8]]))
    assert faults(talk.continuity.tally) == {"not_carried": 1}
    talk.receive(b"".join([spoil(answers[8], at), *answers[9:]]))
    assert faults(talk.continuity.tally) == {"not_carried": 2}


def test_verify_counts_the_versions_that_answered() -> None:
    """Each answer is counted under the version that it names."""
    talk, answers = converse("verify")
    talk.receive(b"".join(answers))
    assert talk.continuity.tally.by_version == {1: 6, 2: 6}


@pytest.mark.parametrize(
    ("at", "answer", "expected"),
    [
        pytest.param(4, b"$-1\r\n", "not_carried", id="a value that is gone"),
        pytest.param(5, b":1\r\n", "not_carried", id="a count that starts anew"),
        pytest.param(5, b":7000000003\r\n", "not_carried", id="an INCR done twice"),
        pytest.param(2, b":14000000002\r\n", "not_carried", id="the first one done twice"),
        pytest.param(5, b":-7000000002\r\n", "not_carried", id="a count that nobody has"),
        pytest.param(5, b":5000000002\r\n", "corrupted", id="the count of another connection"),
        pytest.param(5, b":x\r\n", "corrupted", id="no number"),
        pytest.param(3, b"-ERR no\r\n", "corrupted", id="an error"),
        pytest.param(3, b"+KO\r\n", "corrupted", id="a wrong word"),
        pytest.param(3, b"x+OK\r\n", "corrupted", id="a byte too many"),
        pytest.param(5, b"\xba7000000002\r\n", "corrupted", id="no shape"),
        pytest.param(4, b"xx$9\r\nabcdefghi\r\n", "corrupted", id="two lines of no shape"),
        pytest.param(4, b"$3\r\nabc\r\n", "corrupted", id="a foreign value"),
        pytest.param(4, b"$999999999\r\n", "corrupted", id="an impossible length"),
    ],
)
def test_kv_tells_forgotten_from_damaged(at: int, answer: bytes, expected: str) -> None:
    """A value or count of another time was not carried; anything else is corrupted."""
    talk, answers = converse("kv", 6)
    talk.receive(b"".join([*answers[:at], answer, *answers[at + 1 :]]))
    talk.continuity.close(dropped=False)
    assert faults(talk.continuity.tally) == {expected: 1}


def test_kv_knows_an_older_value_of_its_own() -> None:
    """A SET that was answered and not kept shows as the value before it."""
    talk, answers = converse("kv", 6)
    answers[4] = answers[1]
    talk.receive(b"".join(answers))
    assert faults(talk.continuity.tally) == {"not_carried": 1}


def test_kv_counts_on_from_what_the_server_says() -> None:
    """A count that began anew is one mistake, not one at each INCR that follows."""
    talk, answers = converse("kv", 12)
    answers[5::3] = [b":1\r\n", b":2\r\n", b":3\r\n"]
    talk.receive(b"".join(answers))
    assert faults(talk.continuity.tally) == {"not_carried": 1}


def test_kv_counts_on_from_its_own_when_it_was_told_anothers() -> None:
    """An answer of another connection says nothing of this one's count."""
    talk, answers = converse("kv", 12)
    answers[5] = b":9000000002\r\n"
    talk.receive(b"".join(answers))
    assert faults(talk.continuity.tally) == {"corrupted": 1}
    (example,) = talk.continuity.tally.examples
    assert example.detail.endswith("expected 7000000002: it is the count of connection 4")


def test_kv_takes_a_late_answer_for_a_missing_one_before_one_that_comes_twice() -> None:
    """The first GET is answered after the second one: in the wrong order, and neither twice."""
    talk, answers = converse("kv", 6)
    talk.receive(b"".join(answers[k] for k in (0, 2, 3, 4, 1, 5)))
    talk.continuity.close(dropped=False)
    assert faults(talk.continuity.tally) == {"reordered": 1}


def test_kv_finds_an_answer_behind_two_that_are_lost() -> None:
    """An integer answers the INCR, so the SET and the GET before it have no answer."""
    talk, answers = converse("kv", 6)
    talk.receive(b"".join(answers[2:]))
    talk.continuity.close(dropped=False)
    assert faults(talk.continuity.tally) == {"lost": 2}


def test_kv_does_not_wait_for_a_value_that_is_longer_than_any() -> None:
    """Its length alone is wrong."""
    talk, answers = converse("kv", 2)
    talk.receive(answers[0] + b"$9999999\r\n")
    assert faults(talk.continuity.tally) == {"corrupted": 1}


def test_kv_leaves_no_key_behind() -> None:
    """The last words delete the keys, and their answer is no operation."""
    talk, answers = converse("kv", 6)
    talk.receive(b"".join(answers))
    assert (
        talk.farewell() == b"*3\r\n$3\r\nDEL\r\n$14\r\nload:n:3:value\r\n$14\r\nload:n:3:count\r\n"
    )
    assert talk.receive(b":2\r\n") == []
    assert faults(talk.continuity.tally) == {}


def unmasked(frame: bytes) -> bytes:
    """A short frame of a client, as one of a server."""
    mask, body = frame[2:6], frame[6:]
    return frame[:1] + bytes([len(body)]) + bytes(b ^ mask[k % 4] for k, b in enumerate(body))


def test_a_websocket_answers_pings_at_once_and_says_farewell() -> None:
    """Between two messages, whether another one is asked or not; nothing after the farewell."""
    silent, _ = converse("websocket", 2)
    assert (silent.farewell(), silent.expects()) == (b"", False)
    talk, answers = converse("websocket", 2)
    said: list[bytes] = []
    talk.opened(said.append)
    settled = talk.receive(answers[0] + b"\x89\x02hi" + answers[1])
    assert [row.sequence for row in settled] == [0, 1]
    assert [unmasked(frame) for frame in said] == [b"\x8a\x02hi"]
    assert unmasked(talk.farewell()) == b"\x88\x02\x03\xe8"
    assert talk.receive(b"\x89\x02hi" + b"\x88\x02\x03\xe8") == []
    assert len(said) == 1
    assert faults(talk.continuity.tally) == {}


def test_a_websocket_closes_when_the_server_wants_it() -> None:
    """A server that waits for that can end the connection, which is counted as a drop."""
    talk, answers = converse("websocket", 2)
    said: list[bytes] = []
    talk.opened(said.append)
    talk.receive(b"".join(answers) + b"\x88\x02\x03\xf4" + b"\x89\x00")
    assert [unmasked(frame) for frame in said] == [b"\x88\x02\x03\xf4"]
    assert talk.farewell() == b""


def test_a_websocket_of_frames_with_a_mask_is_wrong() -> None:
    """RFC 6455, 5.1: a server masks nothing; the frames after it are judged."""
    talk, answers = converse("websocket", 2)
    talk.receive(answers[0] + b"\x82\x83abcdxyz" + answers[1])
    talk.continuity.close(dropped=False)
    assert faults(talk.continuity.tally) == {"corrupted": 1}


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        pytest.param(b"Accept: ", b"Accept:", 0, id="no space"),
        pytest.param(b"Accept: ", b"ACCEPT: \t ", 0, id="more of it"),
        pytest.param(b"\r\n\r\n", b" \r\n\r\n", 0, id="behind it"),
        pytest.param(b"=\r\n\r\n", b"x\r\n\r\n", 1, id="another key"),
        pytest.param(b"Upgrade", b"Sec-WebSocket-Extensions: x\r\nUpgrade", 1, id="an extension"),
    ],
)
def test_the_handshake_of_a_websocket(old: bytes, new: bytes, found: int) -> None:
    """White space round a field's value means nothing; the value is what was asked for."""
    talk, answers = converse("websocket", 1)
    assert len(talk.receive(answers[0].replace(old, new, 1))) == 1 - found
    assert faults(talk.continuity.tally) == ({"corrupted": 1} if found else {})


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 404 Not Found\r\n\r\n", HEAD % b"x" * 28, b"x" * 20_000]
)
def test_a_websocket_that_is_none_is_told(head: bytes) -> None:
    """By the first line of what was said instead, once."""
    talk, _ = converse("websocket", 2)
    assert talk.receive(head) == []
    assert faults(talk.continuity.tally) == {"corrupted": 1}


def test_a_websocket_answers_in_text_are_not_what_was_sent() -> None:
    """Bytes have to come back as bytes."""
    talk, answers = converse("websocket", 2)
    talk.receive(answers[0] + b"\x81" + answers[1][1:])
    talk.continuity.close(dropped=False)
    assert faults(talk.continuity.tally) == {"corrupted": 1, "lost": 1}


def test_http_counts_the_versions_that_an_application_names() -> None:
    """By the header x-version, where it is a number."""
    talk, answers = converse("http", 3)
    marked = [a.replace(b"\r\n\r\n", b"\r\nX-Version: 2\r\n\r\n", 1) for a in answers[:2]]
    talk.receive(b"".join([*marked, answers[2]]))
    assert talk.continuity.tally.by_version == {2: 2}


@pytest.mark.parametrize("status", [b"500 Internal Server Error", b"404 Not Found", b"503 x"])
def test_http_takes_nothing_but_200(status: bytes) -> None:
    """An answer of another status is a fault of that operation, and the next ones are judged."""
    talk, answers = converse("http", 3)
    wrong = b"HTTP/1.1 %b\r\nContent-Length: 3\r\n\r\nno\n" % status
    settled = talk.receive(b"".join([answers[0], wrong, answers[2]]))
    talk.continuity.close(dropped=False)
    assert [operation.sequence for operation in settled] == [0, 1, 2]
    assert faults(talk.continuity.tally) == {"corrupted": 1}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda a: a[:-1], {"lost": 1}, id="last one missing"),
        pytest.param(lambda a: a[:5] + a[4:], {"duplicated": 1}, id="duplicate"),
        pytest.param(lambda a: [*a, a[-1]], {"duplicated": 1}, id="last one twice"),
        pytest.param(lambda a: [*a[:4], a[5], a[4], *a[6:]], {"reordered": 1}, id="reorder"),
        pytest.param(lambda a: [*a[:-2], a[-1], a[-2]], {"reordered": 1}, id="reorder the last"),
        pytest.param(lambda a: [*a[:-1], a[-2]], {"duplicated": 1, "lost": 1}, id="last again"),
        pytest.param(lambda a: [*a[:4], b":1\r\n", *a[5:]], {"not_carried": 1}, id="anew"),
        pytest.param(lambda a: a[:6] * 2, {"not_carried": 1}, id="anew from its first value"),
        pytest.param(lambda a: [*a[:4], *a[5:7], a[4], *a[7:]], {"reordered": 1}, id="late"),
        pytest.param(lambda a: [*a[:4], a[6], *a[4:6], *a[7:]], {"reordered": 2}, id="too soon"),
        pytest.param(lambda a: [*a[:4], b"-ERR\r\n", *a[5:]], {"corrupted": 1}, id="an error"),
    ],
)
def test_the_counter_of_one_connection(change: Change, expected: dict[str, int]) -> None:
    """Its values rise; more is seen when all connections' are together."""
    talk, answers = converse("counter")
    talk.receive(b"".join(change(answers)))
    talk.continuity.close(dropped=False)
    assert faults(talk.continuity.tally) == expected


def test_the_values_of_a_counter_are_kept_from_zero() -> None:
    """For who has those of all connections; the farewell's answer is none of them."""
    opening = Opening(3, 0, "n", Tally())
    talk = DIALECTS["counter"](opening)
    requests = [talk.request(number, number) for number in range(3)]
    assert requests[0] == b"*2\r\n$4\r\nINCR\r\n$13\r\nload:n:shared\r\n"
    talk.receive(b":1\r\n:2\r\n:9\r\n")
    assert b"EXPIRE" in talk.farewell()
    talk.receive(b":1\r\n")
    assert list(opening.counted) == [0, 1, 8]
    assert faults(opening.tally) == {}


@pytest.mark.parametrize(
    ("operations", "last", "found"),
    [
        (1, b":1\r\n", {}),
        (1, b":0\r\n", {"not_carried": 1}),
        (0, b":0\r\n", {}),
        (1, b"-ERR unknown command\r\n", {}),
        (1, b":1\r\n:1\r\n", {"duplicated": 1}),
        (1, b":7\r\n", {"duplicated": 1}),
    ],
)
def test_the_last_word_to_a_counter(operations: int, last: bytes, found: dict[str, int]) -> None:
    """Its answer says whether the key is still there, if it was; a server need not know it."""
    talk, answers = converse("counter", operations)
    talk.receive(b"".join(answers))
    talk.farewell()
    talk.receive(last)
    assert faults(talk.continuity.tally) == found


HEARD: dict[str, tuple[Change, dict[str, int]]] = {
    "faithful": (list, {}),
    "from the middle": (lambda a: a[4:], {}),
    "drop": (lambda a: a[:4] + a[5:], {"lost": 1}),
    "the last ones": (lambda a: a[:-2], {"lost": 2}),
    "duplicate": (lambda a: a[:5] + a[4:], {"duplicated": 1}),
    "reorder": (lambda a: [*a[:4], a[5], a[4], *a[6:]], {"reordered": 1}),
    "corrupt": (lambda a: [*a[:4], spoil(a[4], 30), *a[5:]], {"corrupted": 1}),
    "the last corrupt": (lambda a: [*a[:-1], spoil(a[-1], 30)], {"corrupted": 1}),
    "the last torn, which is judged at the end": (lambda a: [*a[:-1], a[-1][:-5]], {}),
    "another run's": (
        lambda a: [*a[:4], a[4].replace(b"load-n-", b"load-m-"), *a[5:]],
        {"corrupted": 1},
    ),
    "another name": (lambda a: [*a[:4], spoil(a[4], 8), *a[5:]], {"corrupted": 1}),
    "corrupt and drop": (
        lambda a: [*a[:4], spoil(a[4], 30), a[5], *a[7:]],
        {"corrupted": 1, "lost": 1},
    ),
}


def in_a_room(change: Change, lost_on_the_way: int = 0) -> tuple[list[Operation], Tally]:
    """Connection 3 says twelve and hears itself but for the first so many after the fourth; what
    connection 4 has heard then, and the tally of that.
    """
    members: list[Member] = []
    speaker, hearer = (
        DIALECTS["chat"](Opening(number, 20, "n", Tally(), members=members)) for number in (3, 4)
    )
    answers = chat_answers([speaker.request(k, k) for k in range(12)])
    answers = answers[:4] + answers[4 + lost_on_the_way :]
    speaker.continuity.tally.now = 20
    speaker.receive(b"".join(answers))
    heard = hearer.receive(b"".join([b"* load-n-3 joined\n", *change(answers)]))
    hearer.continuity.tally.now = 21
    hearer.farewell()
    hearer.leftover()
    report = build_report(Observation(PLAN, 0, hearer.continuity.tally, members=members))
    return [*heard], report.tally


@pytest.mark.parametrize(("change", "expected"), HEARD.values(), ids=HEARD.keys())
def test_chat_hears_the_others(change: Change, expected: dict[str, int]) -> None:
    """What another member said is followed by its numbers, and is a row with its own times."""
    heard, tally = in_a_room(change)
    assert faults(tally) == expected
    assert all(row.intended == row.sequence for row in heard)
    assert len(heard) >= 8


def test_what_its_sender_did_not_hear_is_not_lost_at_each_hearer_besides() -> None:
    """One mistake of the server is counted once, where the operation is open."""
    assert faults(in_a_room(list, lost_on_the_way=2)[1]) == {}


def room(*members: dict[str, Any]) -> list[tuple[int, int]]:
    """Who has lost which, where these members are of one room."""
    built = [Member(number, 0, **said) for number, said in enumerate(members)]
    return [(hearer, sequence) for hearer, sequence, _ in unheard(built)]


SPEAKER: dict[str, Any] = {"sent": 50, "done": 60, "heard": {0: Heard(5)}}


@pytest.mark.parametrize(
    ("hearer", "lost"),
    [
        pytest.param({"since": 10, "until": 60}, [(1, 4)], id="never heard"),
        pytest.param({"since": 50, "until": 60}, [], id="perhaps not in the room yet"),
        pytest.param({"until": 60}, [], id="perhaps never in the room"),
        pytest.param({"since": 10, "until": 59}, [], id="left before it was said"),
        pytest.param({"until": 59, "heard": {0: Heard(3, {1})}}, [(1, 1)], id="a gap counts"),
        pytest.param({"heard": {0: Heard(3)}}, [], id="dropped, and so excused of the rest"),
        pytest.param({"until": 60, "heard": {0: Heard(3)}}, [(1, 3), (1, 4)], id="the rest"),
    ],
)
def test_chat_judges_only_what_was_due(hearer: dict[str, Any], lost: list[tuple[int, int]]) -> None:
    """Who came late or left early is not blamed on the server."""
    assert room(SPEAKER, hearer) == lost


def test_http_sees_two_versions_in_one_answer() -> None:
    """Header fields of the parts that made it have to agree."""
    talk, answers = converse("http", 3)
    fields = (b"X-Version: 2", b"X-Version: 2\r\nx-version: 1", b"X-Version: 1, 1")
    marked = [
        answer.replace(b"\r\n\r\n", b"\r\n%b\r\n\r\n" % field, 1)
        for answer, field in zip(answers, fields, strict=True)
    ]
    talk.receive(b"".join(marked))
    assert faults(talk.continuity.tally) == {"mixed_version": 1}
    assert talk.continuity.tally.by_version == {2: 2, 1: 1}


def chunked(answers: list[bytes], begun: int, ended: int) -> list[bytes]:
    """The same in two chunks, with a version in front and one behind."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nX-Version: %d\r\n\r\n" % begun
    bodies = [answer.partition(b"\r\n\r\n")[2] for answer in answers]
    return [
        b"%b3;x=y\r\n%b\r\n%x\r\n%b\r\n0\r\nX-Other: 7\r\nx-version: %d\r\n\r\n"
        % (head, body[:3], len(body) - 3, body[3:], ended)
        for body in bodies
    ]


@given(st.lists(st.integers(0, 900)))
def test_http_reads_chunks_cut_anywhere(cuts: list[int]) -> None:
    """A chunked answer is as good as another, and its trailer names the version that ended it."""
    talk, answers = converse("http", 4)
    same, mixed = chunked(answers[:2], 2, 2), chunked(answers[2:3], 1, 2)
    stream = b"".join([*same, *mixed, answers[3]])
    for begin, end in itertools.pairwise([0, *sorted(cuts), len(stream)]):
        talk.receive(stream[begin:end])
    talk.continuity.close(dropped=False)
    assert talk.continuity.answered == 4
    assert faults(talk.continuity.tally) == {"mixed_version": 1}


@pytest.mark.parametrize("spoilt", [b"\r\n3;", b"\r\n0\r\n"])
def test_http_finds_the_next_answer_behind_bad_chunks(spoilt: bytes) -> None:
    """What is no chunk is one corrupted answer."""
    talk, answers = converse("http", 2)
    (bad,) = chunked(answers[:1], 1, 1)
    talk.receive(bad.replace(spoilt, b"\r\n!" + spoilt[2:], 1) + answers[1])
    assert talk.continuity.answered == 2
    assert faults(talk.continuity.tally) == {"corrupted": 1}


def test_http_posts_where_it_is_told() -> None:
    """Any URL, per cent signs included."""
    talk = DIALECTS["http"](Opening(0, 0, "n", Tally(), url="/a%20b?ms=5"))
    assert talk.request(0, 0).startswith(b"POST /a%20b?ms=5 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"HTTP/1.1 200 ", {}),
        (b"HTTP/1.1 200", {}),
        (b"HTTP/1.1 200 Fine", {}),
        (b"HTTP/1.1 2000", {"corrupted": 1}),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", {"corrupted": 1}),
    ],
)
def test_http_judges_the_head_by_its_meaning(head: bytes, found: dict[str, int]) -> None:
    """The reason is nobody's business; two ways to tell the end of one body are."""
    talk, (answer,) = converse("http", 1)
    talk.receive(answer.replace(b"HTTP/1.1 200 OK", head, 1))
    talk.continuity.close(dropped=False)
    assert faults(talk.continuity.tally) == found


@pytest.mark.parametrize(
    ("operations", "deleted", "found"),
    [
        (3, b":2\r\n", {}),
        (1, b":1\r\n", {}),
        (0, b":0\r\n", {}),
        (3, b":1\r\n", {"not_carried": 1}),
        (1, b":0\r\n", {"not_carried": 1}),
    ],
)
def test_keys_that_are_gone_at_the_end_were_not_carried(
    operations: int, deleted: bytes, found: dict[str, int]
) -> None:
    """The last word deletes what was set: nobody asked for it since, and it has to be there."""
    talk, answers = converse("kv", operations)
    talk.receive(b"".join(answers))
    talk.farewell()
    talk.receive(deleted)
    talk.continuity.close(dropped=False)
    assert faults(talk.continuity.tally) == found
