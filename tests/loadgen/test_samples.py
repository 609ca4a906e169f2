"""Rows are written in one piece and read in columns."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadgen.samples import Rows, pack_row

NS = st.integers(-(2**62), 2**62)
ROW = st.tuples(NS, NS, NS, st.integers(-1, 2**32), st.integers(0, 2**31 - 1))


@given(st.lists(ROW))
def test_what_was_written_is_in_the_columns(written: list[tuple[int, int, int, int, int]]) -> None:
    """Each value in its own, in the order of the rows."""
    rows = Rows()
    for row in written:
        rows.add(pack_row(*row))
    assert len(rows) == len(written)
    assert [*zip(*rows.columns(), strict=True)] == written


@given(st.lists(ROW), st.integers(0, 20))
def test_latencies_count_from_when_it_was_due(
    written: list[tuple[int, int, int, int, int]], first: int
) -> None:
    """Of the rows from one on."""
    rows = Rows()
    for row in written:
        rows.add(pack_row(*row))
    assert rows.latencies(first) == [done - intended for intended, _, done, _, _ in written[first:]]
