"""The raw times as an HdrHistogram log, which the tools of that family read, merge and draw.

Values are nanoseconds, to three digits: a value is at most a thousandth off. The log has a line for
each second of the run with the latencies of what was due in it, from the intended time; and one
with the tag ``service`` from the send. Format: histogram log 1.3, encoding V2, as the Java library
writes it (https://github.com/HdrHistogram/HdrHistogram). What was answered before it was due, as a
timer's answer may be by less than a millisecond, counts as 0.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator

from loadgen.samples import Samples

__all__ = ["encode", "log_lines"]

_SECOND = 1_000_000_000
_DIGITS = 3
_HALF_MAGNITUDE = 10  # 1,024 buckets and as many again tell 2,000 values apart: three digits
_HALF = 1 << _HALF_MAGNITUDE
_MASK = 2 * _HALF - 1
_HIGHEST = 3600 * _SECOND
_HEAD = struct.Struct(">iiiiqqd")
_COMPRESSED_HEAD = struct.Struct(">ii")
_COOKIE = 0x1C849313  # V2, words of any length
_COMPRESSED_COOKIE = 0x1C849314


def log_lines(samples: Samples, start: int, began: float) -> Iterator[str]:
    """The log of a run that began at ``start`` (ns, CLOCK_MONOTONIC), ``began`` (Unix time)."""
    yield "#[Histogram log format version 1.3]"
    yield f"#[StartTime: {began:.3f} (seconds since epoch)]"
    yield '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"'
    for tag, since in (("", samples.intended), ("Tag=service,", samples.sent)):
        seconds: dict[int, list[int]] = {}
        for due, begun, done in zip(samples.intended, since, samples.done, strict=True):
            seconds.setdefault((due - start) // _SECOND, []).append(max(0, done - begun))
        for second, values in sorted(seconds.items()):
            most = max(values) / 1_000_000
            yield f"{tag}{second:.3f},1.000,{most:.3f},{encode(values)}"


def encode(values: Iterable[int]) -> str:
    """A histogram of these values (ns) in base64; above an hour counts as an hour."""
    counts = Counter(_index(min(value, _HIGHEST)) for value in values)
    payload = b"".join(_words(counts))
    head = _HEAD.pack(_COOKIE, len(payload), 0, _DIGITS, 1, _HIGHEST, 1.0)
    packed = zlib.compress(head + payload)
    return base64.b64encode(
        _COMPRESSED_HEAD.pack(_COMPRESSED_COOKIE, len(packed)) + packed
    ).decode()


def _index(value: int) -> int:
    """In which bucket a value counts: linear up to 2,048, then 1,024 to each power of two."""
    bucket = (value | _MASK).bit_length() - (_HALF_MAGNITUDE + 1)
    return (bucket << _HALF_MAGNITUDE) + (value >> bucket)


def _words(counts: Counter[int]) -> Iterator[bytes]:
    """Each count, and runs of empty buckets as one negative number."""
    following = 0
    for index in sorted(counts):
        if index > following:
            yield _zigzag(following - index)
        yield _zigzag(counts[index])
        following = index + 1


def _zigzag(number: int) -> bytes:
    """LEB128 of the number with its sign at the lowest bit, nine bytes at most."""
    rest = (number << 1) ^ (number >> 63)
    word = bytearray()
    while rest >= 0x80 and len(word) < 8:
        word.append(rest & 0x7F | 0x80)
        rest >>= 7
    word.append(rest)
    return bytes(word)
