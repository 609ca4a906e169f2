"""kv: SET, GET and INCR in turn, RESP2, on two keys that no other connection touches.

The answers carry no number, so which question one answers is inferred from its shape: the three
verbs answer in three shapes (``+OK``, a bulk string, an integer), so an answer that was lost or
doubled shows at the next one. What is tried, in order: the oldest open operation; a missing one;
the last settled one again (duplicated); the two after the oldest (those before are missing).
An error, or what has none of these shapes, answers the oldest open operation, corrupted; what has
none of them behind that is of the same mistake.

GET must return what the SET before it wrote. INCR must count on by one: when it doesn't, state was
not carried; that is counted once and the count goes on from what the server says. The last word
deletes the keys, and its answer tells whether they were still there.

Every answer with something in it names its connection, so that one which is given to another
connection is seen: values hold its number, and counts are so far apart that none is in two
connections' reach. A count gets there with its first step, an INCRBY: one command, as any other.
Each begins at an odd multiple of the distance, so one that took this step twice is nobody's
count, and not another connection's. One that began anew is below them all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

from loadgen.continuity import Continuity, FaultName, Operation, pattern
from loadgen.dialects.conversation import Conversation, Opening

__all__ = ["KeyValue"]

_CRLF = b"\r\n"
_DONE = b"+OK\r\n"
_SHAPES = (b"+", b"$", b":")  # of the answers to SET, GET and INCR, by sequence modulo 3
_ANSWERS = (*_SHAPES, b"-")
_SET, _INCR = 0, 2  # of sequence modulo 3
_APART = 1_000_000_000  # between two counts; 64 bits are enough for four thousand million of them
_LOOK_AHEAD = 2
_INTEGER = re.compile(rb"-?\d{1,20}")
_LINE_LIMIT = 512


class _Answer(NamedTuple):
    """One RESP answer: its first byte, what it holds (None: nil), and where the next one starts."""

    shape: bytes
    value: bytes | None
    after: int


class KeyValue(Conversation):
    """One connection's SET, GET, INCR."""

    __slots__ = (
        "_astray",
        "_count_from",
        "_first_step",
        "_keys",
        "_last",
        "_leaving",
        "_left",
        "_limit",
        "_payload",
        "_pending",
        "_rest",
        "_set",
        "_verbs",
        "continuity",
    )

    def __init__(self, opening: Opening) -> None:
        self.continuity = Continuity(opening.connection, opening.tally)
        stem = f"load:{opening.nonce}:{opening.connection}"
        self._keys = (f"{stem}:value".encode(), f"{stem}:count".encode())
        value, count = self._keys
        self._verbs = (_command(3, b"SET", value), _command(2, b"GET", value),
                       _command(2, b"INCR", count))  # fmt: skip
        self._pending = self.continuity.pending
        self._payload = opening.payload
        self._limit = opening.payload + 64
        self._set = b""  # the bulk string that was written last
        start = _start(opening.connection)
        self._first_step = _command(3, b"INCRBY", count, b"%d" % (start + 1))
        self._count_from = start  # what the server's count is ahead of ours
        self._last: int | None = None
        self._astray = -1  # how many were answered when something came that is no answer
        self._rest = b""
        self._leaving = False
        self._left = False

    def request(self, intended: int, sent: int) -> bytes:
        """The next command; the answer that it must get is remembered as the operation's body."""
        line = self.continuity
        sequence = line.issued
        verb = sequence % 3
        if verb == _SET:
            self._set = _bulk(_value(line.connection, sequence, self._payload))
            line.issue(intended, sent, _DONE)
            return self._verbs[verb] + self._set
        count = sequence // 3 + 1 + self._count_from
        line.issue(intended, sent, b":%d\r\n" % count if verb == _INCR else self._set)
        return self._first_step if sequence == _INCR else self._verbs[verb]

    def receive(self, data: bytes) -> Sequence[Operation]:
        """Judge the answers that are whole; one that is to the last byte what it must be, the usual
        case, is not parsed.
        """
        pending = self._pending
        if pending and data == pending[0].body and not self._rest:
            return (self._settle_usual(),)
        return self._receive_any(self._rest + data)

    def _receive_any(self, data: bytes) -> list[Operation]:
        pending = self._pending
        settled: list[Operation] = []
        at = 0
        while at < len(data):
            if pending and data.startswith(pending[0].body, at):
                settled.append(self._settle_usual())
                at += len(settled[-1].body)
                continue
            answer = self._cut(data, at)
            if answer is None:
                break
            at = answer.after
            operation = self._judge(answer)
            if operation is not None:
                settled.append(operation)
        self._rest = data[at:]
        return settled

    def _settle_usual(self) -> Operation:
        operation = self.continuity.settle_oldest()
        self._last = operation.sequence
        return operation

    def expects(self) -> bool:
        """The answer to the last word."""
        return self._leaving and not self._left

    def leftover(self) -> bytes:
        """What is no whole answer yet."""
        return self._rest

    def farewell(self) -> bytes:
        """Delete the two keys."""
        self._leaving = True
        return _command(3, b"DEL", *self._keys)

    def _cut(self, data: bytes, at: int) -> _Answer | None:
        end = data.find(_CRLF, at)
        if end < 0:
            if len(data) - at > _LINE_LIMIT:  # no answer of ours is so long
                return _Answer(b"?", data[at : at + 64], len(data))
            return None
        shape, text, after = data[at : at + 1], data[at + 1 : end], end + 2
        if shape != b"$":
            return _Answer(shape, text, after)
        return self._cut_bulk(data, text, after)

    def _cut_bulk(self, data: bytes, text: bytes, after: int) -> _Answer | None:
        if text == b"-1":
            return _Answer(b"$", None, after)
        if not text.isdigit() or len(text) > 9 or int(text) > self._limit:
            return _Answer(b"?", b"$" + text, after)
        stop = after + int(text)
        if len(data) < stop + 2:
            return None
        whole = data[stop : stop + 2] == _CRLF
        return _Answer(b"$" if whole else b"?", data[after:stop], stop + 2)

    def _judge(self, answer: _Answer) -> Operation | None:
        line = self.continuity
        if self._leaving and not line.pending:
            self._judge_farewell(answer)
            return None
        none = answer.shape not in _ANSWERS
        if none and self._astray == line.answered:
            return None
        sequence = self._infer(answer)
        operation = None if sequence is None else line.settle(sequence)
        self._astray = line.answered if none else -1
        if sequence is None:
            line.fault("corrupted", -1, f"answers nothing that was asked: {_show(answer)}")
        if sequence is None or operation is None:
            return None
        self._last = sequence
        if answer.shape != _SHAPES[sequence % 3]:
            line.fault("corrupted", sequence, f"is no answer to it: {_show(answer)}")
        else:
            _JUDGES[sequence % 3](self, operation, answer)
        return operation

    def _infer(self, answer: _Answer) -> int | None:
        line, shape = self.continuity, answer.shape
        oldest = line.pending[0].sequence if line.pending else None
        if oldest is not None and (shape not in _SHAPES or shape == _SHAPES[oldest % 3]):
            return oldest
        again = () if self._last is None else (self._last,)
        ahead = (operation.sequence for operation in islice(line.pending, 1, 1 + _LOOK_AHEAD))
        return _first_of_shape(shape, (*line.missing, *again, *ahead))

    def _judge_set(self, operation: Operation, answer: _Answer) -> None:
        if answer.value != b"OK":
            self.continuity.fault("corrupted", operation.sequence, f"SET answers {_show(answer)}")

    def _judge_get(self, operation: Operation, answer: _Answer) -> None:
        if answer.value is not None and _bulk(answer.value) == operation.body:
            return
        what: FaultName = "not_carried" if self._was_ours(answer.value) else "corrupted"
        detail = f"GET answers {_show(answer)}, {operation.body.partition(_CRLF)[2][:40]!r} was set"
        self.continuity.fault(what, operation.sequence, detail)

    def _was_ours(self, value: bytes | None) -> bool:
        """Whether it is nil, or whole and from another time: so the store forgot, not the wire."""
        if value is None:
            return True
        number = value.split(b":", 2)[1:2]
        if not number or _INTEGER.fullmatch(number[0]) is None:
            return False
        return value == _value(self.continuity.connection, int(number[0]), self._payload)

    def _judge_incr(self, operation: Operation, answer: _Answer) -> None:
        value = answer.value or b""
        if _INTEGER.fullmatch(value) is None:
            self.continuity.fault("corrupted", operation.sequence, f"INCR answers {_show(answer)}")
            return
        ahead = int(value) - (operation.sequence // 3 + 1 + self._count_from)
        detail = f"INCR answers {int(value)}, expected {int(value) - ahead}"
        owner = _owner(int(value))
        if owner not in (None, self.continuity.connection):
            detail += f": it is the count of connection {owner}"
            self.continuity.fault("corrupted", operation.sequence, detail)
        elif ahead:
            self.continuity.fault("not_carried", operation.sequence, detail)
            self._count_from += ahead

    def _judge_farewell(self, answer: _Answer) -> None:
        again, self._left = self._left, True
        if again or answer.shape != b":":
            self.continuity.fault("duplicated", -1, f"after the last answer: {_show(answer)}")
            return
        kept = (self.continuity.issued > _SET) + (self.continuity.issued > _INCR)
        if answer.value != b"%d" % kept:
            detail = f"DEL answers {_show(answer)}, there were {kept} keys"
            self.continuity.fault("not_carried", -1, detail)


_JUDGES = (KeyValue._judge_set, KeyValue._judge_get, KeyValue._judge_incr)


def _start(connection: int) -> int:
    """What the count of a connection begins at, before its first step."""
    return (2 * connection + 1) * _APART


def _owner(count: int) -> int | None:
    """Whose it is, or None: nobody's."""
    twice, odd = divmod(count // _APART, 2)
    return twice if odd and count > 0 else None


def _command(count: int, *words: bytes) -> bytes:
    return b"*%d\r\n" % count + b"".join(map(_bulk, words))


def _bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def _value(connection: int, sequence: int, size: int) -> bytes:
    return b"%d:%d:%b" % (connection, sequence, pattern(connection, sequence, size))


def _first_of_shape(shape: bytes, sequences: Iterable[int]) -> int | None:
    return next((number for number in sequences if _SHAPES[number % 3] == shape), None)


def _show(answer: _Answer) -> str:
    return "nil" if answer.value is None else repr(answer.shape + answer.value[:40])
