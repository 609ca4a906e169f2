"""Raw facts, one row an answered operation, in parallel arrays; the data model of a run.

A row is written once, when its answer was judged, and nothing is derived while the run goes on:

========== ======= ==============================================================================
column     type    what
========== ======= ==============================================================================
intended   int64   when it was due, ns on CLOCK_MONOTONIC: a closed loop's is when it was sent
sent       int64   when its last byte was given to the kernel
done       int64   when its whole answer was there
version    int64   which version of the server's code answered; -1: the answer names none
connection int32   the number of its connection; rows of one connection stand in order of arrival
========== ======= ==============================================================================

All else is derived afterwards: latency (done - intended), service time (done - sent), lateness of
our own (sent - intended; what is to be answered ``hold_ns`` later is to be sent so long before
it is due; where operations wait for the server, too, ours is kept apart), windows around events
(``windows``), changes of version (``versions``), histograms.
Times are comparable with every other process of the machine, the server's too.

Processes are merged by appending their rows: exact, because no row was ever rounded. Between
processes the order of rows means nothing; a connection is of one process only.

The last two columns are as long as the others, or both empty: then nobody said.
"""

from __future__ import annotations

import operator
from array import array
from struct import Struct
from typing import Final, NamedTuple

__all__ = ["UNVERSIONED", "Columns", "Rows", "Samples", "pack_row"]

UNVERSIONED = -1
_INT64 = "l" if array("l").itemsize == 8 else "q"  # "l" is faster, to append and to pack

_ROW: Final = Struct(f"5{_INT64}")
_WIDTH: Final = 5

Columns = tuple[bytes, bytes, bytes, bytes, bytes]

pack_row = _ROW.pack
"""A row, in the order of the columns."""


class Samples(NamedTuple):
    """The columns; see above."""

    intended: array[int]
    sent: array[int]
    done: array[int]
    version: array[int]
    connection: array[int]

    @classmethod
    def empty(cls) -> Samples:
        """No rows yet."""
        return cls(array(_INT64), array(_INT64), array(_INT64), array(_INT64), array("i"))

    def to_bytes(self) -> Columns:
        """For the way between processes of one machine."""
        intended, sent, done, version, connection = (column.tobytes() for column in self)
        return intended, sent, done, version, connection

    def add_bytes(self, columns: Columns) -> None:
        """Append what another process saw."""
        for mine, theirs in zip(self, columns, strict=True):
            mine.frombytes(theirs)


class Rows:
    """What a run goes on to write, in one array, row by row: that takes half the time of an append
    to each of five, and columns are cut from it afterwards.
    """

    def __init__(self) -> None:
        self._cells = array(_INT64)
        self.add = self._cells.frombytes
        """Takes a row that was packed."""

    def __len__(self) -> int:
        return len(self._cells) // _WIDTH

    def columns(self) -> Samples:
        """All of it."""
        intended, sent, done, version, connection = (
            self._cells[column::_WIDTH] for column in range(_WIDTH)
        )
        return Samples(intended, sent, done, version, array("i", connection))

    def latencies(self, first: int) -> list[int]:
        """Those of the rows from this one on (ns)."""
        begin = first * _WIDTH
        return [*map(operator.sub, self._cells[begin + 2 :: _WIDTH], self._cells[begin::_WIDTH])]
