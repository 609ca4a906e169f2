"""Raw times, one row an answered operation, in three arrays of nanoseconds."""

from __future__ import annotations

from array import array
from typing import NamedTuple

__all__ = ["Samples"]


class Samples(NamedTuple):
    """Intended, sent and done times; nothing is derived while the run goes on."""

    intended: array[int]
    sent: array[int]
    done: array[int]

    @classmethod
    def empty(cls) -> Samples:
        """No rows yet."""
        return cls(array("q"), array("q"), array("q"))

    def to_bytes(self) -> tuple[bytes, bytes, bytes]:
        """For the way between processes of one machine."""
        return self.intended.tobytes(), self.sent.tobytes(), self.done.tobytes()

    def add_bytes(self, columns: tuple[bytes, bytes, bytes]) -> None:
        """Append what another process saw."""
        for mine, theirs in zip(self, columns, strict=True):
            mine.frombytes(theirs)
