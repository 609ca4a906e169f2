"""counter: INCR of one key by all connections, RESP2; the values over all of them must be 1 to N.

The values are kept, from 0, and judged when all connections' are together (``findings.counter``).
On one connection they rise: the same again is *duplicated*, one between those that it has seen is
*reordered*, one below them all is of a counter that began anew, *not carried*. An answer carries no
number, so it ends the oldest open operation; one that is no integer does so, too, corrupted. Of an
operation that was asked when the one before it was answered nothing can be in the wrong order, and
its value says nothing about the connection.
"""

from __future__ import annotations

from array import array

from loadgen.continuity import Continuity, FaultName, Operation
from loadgen.dialects.conversation import Conversation, Opening

__all__ = ["SharedCounter"]

_DIGITS = 18
_GONE, _KEPT = b":0", b":1"
_KEPT_S = 3600  # others count on when this connection leaves: the key goes by itself, later


class SharedCounter(Conversation):
    """One connection's INCR."""

    __slots__ = (
        "_asked",
        "_farewell",
        "_first",
        "_incr",
        "_last",
        "_leaving",
        "_left",
        "_rest",
        "_values",
        "continuity",
    )

    def __init__(self, opening: Opening) -> None:
        self.continuity = Continuity(opening.connection, opening.tally)
        key = f"load:{opening.nonce}:shared"
        self._incr = f"*2\r\n$4\r\nINCR\r\n${len(key)}\r\n{key}\r\n".encode()
        self._farewell = (
            f"*3\r\n$6\r\nEXPIRE\r\n${len(key)}\r\n{key}\r\n${len(str(_KEPT_S))}\r\n{_KEPT_S}\r\n"
        ).encode()
        self._values: array[int] = opening.counted
        self._asked = 0  # how many were, when the last answer came
        self._first = 0
        self._last = 0
        self._rest = b""
        self._leaving = False
        self._left = False

    def request(self, intended: int, sent: int) -> bytes:
        """The next INCR, the same each time."""
        self.continuity.issue(intended, sent, b"")
        return self._incr

    def receive(self, data: bytes) -> list[Operation]:
        """Judge the answers that are whole."""
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        settled = [self._judge(line) for line in lines]
        return [operation for operation in settled if operation is not None]

    def expects(self) -> bool:
        """The answer to the last word."""
        return self._leaving and not self._left

    def leftover(self) -> bytes:
        """What is no whole answer yet."""
        return self._rest

    def farewell(self) -> bytes:
        """Let the key go in an hour."""
        self._leaving = True
        return self._farewell

    def _judge(self, line: bytes) -> Operation | None:
        pending, number = self.continuity.pending, line[1:]
        good = line[:1] == b":" and number.isdigit() and len(number) <= _DIGITS
        several = bool(pending) and (len(pending) > 1 or pending[0].sequence < self._asked)
        again = several and good and int(number) == self._last
        if again or not pending:
            self._judge_farewell(line)
            return None
        operation = self.continuity.settle(pending[0].sequence)
        self._asked = self.continuity.issued
        if good:
            self._take(int(number), self.continuity.answered - 1, several)
        else:
            self.continuity.fault("corrupted", self.continuity.answered - 1, f"{line[:40]!r}")
        return operation

    def _judge_farewell(self, line: bytes) -> None:
        """An error may answer it: that a server has EXPIRE is not asked of it."""
        bye = line in (_GONE, _KEPT) or line.startswith(b"-")
        if not bye or self._left or not self._leaving:
            self.continuity.fault("duplicated", -1, f"nothing was asked: {line[:40]!r}")
            return
        self._left = True
        if line == _GONE and self.continuity.answered:
            self.continuity.fault("not_carried", -1, "the counter's key is gone")

    def _take(self, value: int, sequence: int, several: bool) -> None:
        self._values.append(value - 1)
        if value < self._last and several:
            what: FaultName = "reordered" if value > self._first else "not_carried"
            detail = f"the counter says {value} after {self._last}"
            self.continuity.fault(what, sequence, detail)
            if what == "reordered":
                return
        self._first = min(self._first or value, value)
        self._last = value
