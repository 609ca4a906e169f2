"""Whether the tools say the same, and whether it is so. No I/O.

Between tools: the ratio of their percentiles, beside the ratio between runs of one tool, which is
the noise. Within one: by Little's law the rate times the mean latency is the number of connections,
for every closed loop whatever the server does; and against the server's stamps of the same run,
operation by operation where they can be told apart.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from benchmarks.witness.recorder import Stamp
from benchmarks.witness.tools import SHARES, Run, percentiles
from loadgen.samples import Samples

__all__ = ["Exact", "apart", "exact", "little", "medians", "noise", "server_side"]


class Exact(NamedTuple):
    """Operations that both saw, those that only one saw, and those out of order in time.

    In order is: sent, received, answered, done. ``difference`` is how much longer an operation took
    for the client than for the server, percentiles in microseconds: two ways through the kernel and
    two processes' waking up. ``ours`` and ``theirs`` are the service times themselves.
    """

    both: int
    alone: int
    out_of_order: int
    difference: dict[str, float]
    ours: dict[str, float]
    theirs: dict[str, float]


def medians(runs: Sequence[Run]) -> Run:
    """Each figure's median over the rounds."""
    latency = {name: statistics.median(run.latency[name] for run in runs) for name in SHARES}
    rate, cpu_us, mean_us = (
        statistics.median(figure)
        for figure in zip(*((run.rate, run.cpu_us, run.mean_us) for run in runs), strict=True)
    )
    return Run(rate, cpu_us, latency, mean_us)


def little(runs: Sequence[Run], connections: int) -> float:
    """The rate times the mean latency to the number of connections, the median over the rounds."""
    return statistics.median(run.rate * run.mean_us / 1e6 for run in runs) / connections


def apart(run: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """The ratios of the percentiles."""
    return {name: run[name] / other[name] for name in SHARES}


def noise(runs: Iterable[Sequence[Run]]) -> dict[str, float]:
    """How far apart two runs of the same tool are at most, as a ratio above 1."""
    each = list(runs)
    return {name: max(_widest([run.latency[name] for run in runs]) for runs in each)
            for name in SHARES}  # fmt: skip


def server_side(stamps: Sequence[Stamp]) -> dict[str, float]:
    """How long the answers took, as the server has it."""
    return percentiles([stamp.answered - stamp.received for stamp in stamps])


def exact(samples: Samples, stamps: Sequence[Stamp]) -> Exact:
    """Two witnesses of the same operations. One at a time on a connection: rows are in order.

    A stamp without a name is of another client, whose last request was answered after its run.
    """
    theirs = {stamp.name: stamp for stamp in stamps if stamp.name}
    counts: dict[int, int] = {}
    pairs: list[tuple[int, int, Stamp]] = []
    for sent, done, connection in zip(samples.sent, samples.done, samples.connection, strict=True):
        number = counts[connection] = counts.get(connection, -1) + 1
        stamp = theirs.pop(f"{connection}:{number}", None)
        if stamp is not None:
            pairs.append((sent, done, stamp))
    return Exact(
        both=len(pairs),
        alone=len(samples.done) - len(pairs) + len(theirs),
        out_of_order=sum(not s <= t.received <= t.answered <= d for s, d, t in pairs),
        difference=percentiles([d - s - (t.answered - t.received) for s, d, t in pairs]),
        ours=percentiles([d - s for s, d, _ in pairs]),
        theirs=percentiles([t.answered - t.received for _, _, t in pairs]),
    )


def _widest(values: Sequence[float]) -> float:
    return max(values) / min(values)
