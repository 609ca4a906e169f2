"""The HdrHistogram log: what the reference libraries write for the same values."""

from __future__ import annotations

import base64
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.findings.hdr import encode, log_lines
from loadgen.samples import Samples

MS = 1_000_000
HOUR = 3600 * 10**9


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], "HISTFAAAAB14nJNpmSzMgADMUJoRyHQz2LGAwf4DRAAATjkESw=="),
        (
            [1, 1, 5, 2048, 10**6, 10**9, 7 * 10**10],
            "HISTFAAAADN4nJNpmSzMwMAgxAABzFCaEch0M9ixgMH+A1SAhZXpszzT/j5GpoXzGZn2JjEBAMfTCTE=",
        ),
    ],
)
def test_the_encoding_is_the_reference_librarys(values: list[int], expected: str) -> None:
    """Byte for byte what HdrHistogram_py 0.10.3, (1, an hour, 3 digits), encodes, before zlib."""
    ours, theirs = base64.b64decode(encode(values)), base64.b64decode(expected)
    assert ours[:4] == theirs[:4]
    assert zlib.decompress(ours[8:]) == zlib.decompress(theirs[8:])


def decoded(text: str) -> dict[int, int]:
    """The counts by the lowest value of their bucket: a reader of its own, from the format."""
    payload = zlib.decompress(base64.b64decode(text)[8:])[struct.calcsize(">iiiiqqd") :]
    counts: dict[int, int] = {}
    index = at = 0
    while at < len(payload):
        word = shift = 0
        while True:
            byte = payload[at]
            at += 1
            word |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        number = (word >> 1) ^ -(word & 1)
        if number < 0:
            index -= number
            continue
        bucket = max(0, (index >> 10) - 1)
        counts[(index - (bucket << 10)) << bucket] = number
        index += 1
    return counts


@given(st.lists(st.integers(0, 2 * HOUR)))
def test_every_value_is_there_to_three_digits(values: list[int]) -> None:
    """None is lost, none moves by more than a thousandth; above an hour is an hour."""
    counts = decoded(encode(values))
    read = [low for low, count in sorted(counts.items()) for _ in range(count)]
    assert len(read) == len(values)
    for low, value in zip(read, sorted(min(value, HOUR) for value in values), strict=True):
        assert low <= value <= low + low // 1000


def test_a_log_has_a_line_a_second() -> None:
    """What was due in it, from the intended time and from the send; early is 0, not negative."""
    samples = Samples.empty()
    for due, sent, done in [(0, 1, 3), (2500, 2500, 2504), (100, 0, 99)]:
        for column, value in zip(samples, (due, sent, done), strict=False):
            column.append(5 * MS + value * MS)
    lines = list(log_lines(samples, 5 * MS, 1234.5))
    assert lines[1] == "#[StartTime: 1234.500 (seconds since epoch)]"
    assert [line.rpartition(",")[0] for line in lines[3:]] == [
        "0.000,1.000,3.000",
        "2.000,1.000,4.000",
        "Tag=service,0.000,1.000,99.000",
        "Tag=service,2.000,1.000,4.000",
    ]
    assert sorted(decoded(lines[3].rpartition(",")[2])) == [0, 3 * MS - 3 * MS % 2048]
