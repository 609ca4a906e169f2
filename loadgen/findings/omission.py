"""What a closed loop leaves out, put in: the correction of *coordinated omission*.

A closed loop asks the next operation when the last one is answered. So while a server stalls it
asks nothing more: a stall of 0.1 s is one slow operation of each connection among thousands of
quick ones, and a percentile leaves it out. Who had come at any other moment of the stall would
have waited for the rest of it.

So an operation that took longer than the *expected interval*, in which a connection asks the next
one else, counts again and again, each time for an interval less, while at least one is left. That
is what HdrHistogram does in ``recordValueWithExpectedInterval``. The interval is the median latency
of the run, and what the scenario holds back; at least half of the mean, so that what is put in is
never more than twice what was measured.

It can't tell a stall from an operation that is slow by its nature: that is put in, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

__all__ = ["corrected", "expected_interval"]


def expected_interval(took: Sequence[int], hold: int = 0) -> int:
    """Of these latencies, in order (ns), and what is held back between two operations (ns)."""
    if not took:
        return 0
    half_mean = -(-sum(took) // (2 * len(took)))  # upwards, or it is no bound
    return max(1, took[len(took) // 2], half_mean) + hold


def corrected(took: Iterable[int], interval: int) -> Iterable[int]:
    """The latencies with what they hide (ns); an interval of 0: they hide nothing."""
    return _with_hidden(took, interval) if interval else took


def _with_hidden(took: Iterable[int], interval: int) -> Iterator[int]:
    for each in took:
        yield each
        yield from range(each - interval, interval - 1, -interval)
