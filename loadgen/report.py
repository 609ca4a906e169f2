"""Everything that is derived from the raw times, after the run.

Latency is done minus intended, service time is done minus sent, lateness (ours) is sent minus
intended. All are told in microseconds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import msgspec

from loadgen.conductor import Observation
from loadgen.continuity import CONNECTION_FAULTS, FAULTS, Tally
from loadgen.events import EventRecord
from loadgen.plan import Plan
from loadgen.samples import Samples

__all__ = ["PERCENTILES", "EventReport", "Rate", "Report", "Spread", "build_report", "spread"]

PERCENTILES = (("p50", 0.50), ("p90", 0.90), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0))

_SECOND = 1_000_000_000
_BEFORE_EVENT = 100_000_000
_AFTER_EVENT = 500_000_000

Spread = dict[str, float | None]
"""Percentile name to microseconds; None when there was nothing to measure."""


class Rate(msgspec.Struct, frozen=True):
    """Operations a second: asked for (closed loop: None), sent, answered in the duration."""

    asked: float | None
    issued: float
    achieved: float


class EventReport(msgspec.Struct, frozen=True):
    """An event, and the latency of what was open around it beside all the rest.

    The window is from 0.1 s before its start to 0.5 s after its end; times are seconds of the run.
    """

    record: EventRecord
    start_s: float
    end_s: float
    window: Spread
    rest: Spread


class Report(msgspec.Struct, frozen=True):
    """A run, told. ``due`` is what an open loop had to send; ``cpu_s`` seconds by process."""

    plan: Plan
    started: bool
    tally: Tally
    latency: Spread
    service: Spread
    late: Spread
    rate: Rate
    due: int
    cpu_s: list[float]
    events: list[EventReport]
    trouble: list[str]

    @property
    def cpu_share(self) -> float:
        """The processor time of the busiest process, as a share of the duration."""
        return max(self.cpu_s, default=0.0) / (self.plan.duration_ns / _SECOND)

    def to_json(self) -> dict[str, Any]:
        """The plain data of ``--json``, without the verdict."""
        plan, tally = self.plan, self.tally
        counts = ("issued", "answered", *FAULTS)
        return {
            "protocol": plan.protocol,
            "target": plan.target,
            "loop": "closed" if plan.rate is None else "open",
            "duration_s": plan.duration_ns / _SECOND,
            "processes": plan.processes,
            "payload": plan.payload,
            "connections": {
                "asked": plan.connections,
                **{name: getattr(tally, name) for name in ("connected", *CONNECTION_FAULTS)},
            },
            "counts": {name: getattr(tally, name) for name in counts},
            "rate": msgspec.to_builtins(self.rate),
            "latency_us": self.latency,
            "service_us": self.service,
            "late_us": self.late,
            "by_version": {str(version): n for version, n in sorted(tally.by_version.items())},
            "events": [_event_json(event) for event in self.events],
            "cpu_s": self.cpu_s,
            "cpu_share": round(self.cpu_share, 3),
            "examples": msgspec.to_builtins(tally.examples),
        }


def build_report(seen: Observation) -> Report:
    """Derive all figures of a run."""
    samples, seconds = seen.samples, seen.plan.duration_ns / _SECOND
    start = seen.start or 0
    end = start + seen.plan.duration_ns
    return Report(
        plan=seen.plan,
        started=seen.start is not None,
        tally=seen.tally,
        latency=spread(_differences(samples.done, samples.intended)),
        service=spread(_differences(samples.done, samples.sent)),
        late=spread(_differences(samples.sent, samples.intended)),
        rate=Rate(
            seen.plan.rate,
            round(seen.tally.issued / seconds, 1),
            round(sum(done <= end for done in samples.done) / seconds, 1),
        ),
        due=seen.due,
        cpu_s=[round(busy / _SECOND, 3) for busy in seen.busy_ns],
        events=[_event_report(record, samples, start) for record in seen.events],
        trouble=seen.trouble,
    )


def spread(durations_ns: Iterable[int]) -> Spread:
    """Percentiles by nearest rank: each is a time that was really measured."""
    ordered = sorted(durations_ns)
    if not ordered:
        return {name: None for name, _ in PERCENTILES}
    last = len(ordered)
    return {
        name: round(ordered[max(0, math.ceil(last * share) - 1)] / 1000, 1)
        for name, share in PERCENTILES
    }


def _differences(later: Iterable[int], earlier: Iterable[int]) -> Iterable[int]:
    return (after - before for after, before in zip(later, earlier, strict=True))


def _event_report(record: EventRecord, samples: Samples, start: int) -> EventReport:
    opens, closes = record.start - _BEFORE_EVENT, record.end + _AFTER_EVENT
    window: list[int] = []
    rest: list[int] = []
    for intended, done in zip(samples.intended, samples.done, strict=True):
        (window if intended <= closes and done >= opens else rest).append(done - intended)
    began, ended = (round((at - start) / _SECOND, 3) for at in (record.start, record.end))
    return EventReport(record, began, ended, spread(window), spread(rest))


def _event_json(event: EventReport) -> dict[str, Any]:
    record = event.record
    return {
        "kind": record.event.kind,
        "at_s": record.event.at_ns / _SECOND,
        "command": record.command,
        "start_s": event.start_s,
        "end_s": event.end_s,
        "exit_code": record.exit_code,
        "answer": _parsed(record.stdout),
        "stderr": record.stderr,
        "window_us": event.window,
        "rest_us": event.rest,
    }


def _parsed(stdout: str) -> Any:
    """What a command said: as data when it is JSON, as text when it isn't."""
    try:
        return json.loads(stdout)
    except ValueError:
        return stdout
