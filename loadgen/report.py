"""Everything that is derived from the raw times, after the run.

Latency is done minus intended, service time is done minus sent, lateness (ours) is sent minus
intended. All are told in microseconds. ``windows`` says what stands around an event.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable
from typing import Any

import msgspec

from loadgen.conductor import Observation
from loadgen.continuity import CONNECTION_FAULTS, FAULTS, Tally
from loadgen.counter import miscounted
from loadgen.events import EventRecord
from loadgen.fanout import unheard
from loadgen.plan import Plan
from loadgen.samples import Samples
from loadgen.spread import PERCENTILES, Spread, spread
from loadgen.versions import changes, unexcused
from loadgen.windows import Span, Window, Windows, event_spans, sort_out

__all__ = ["PERCENTILES", "EventReport", "Rate", "Report", "Spread", "build_report", "spread"]

_SECOND = 1_000_000_000


class Rate(msgspec.Struct, frozen=True):
    """Operations a second: asked for (closed loop: None), sent, answered in the duration."""

    asked: float | None
    issued: float
    achieved: float


class EventReport(msgspec.Struct, frozen=True):
    """An event, and the latency of what was open around it beside all that was near no event.

    Times are seconds of the run. ``around`` is the window itself: from when to when, and how many
    operations; ``window`` is its latency.
    """

    record: EventRecord
    start_s: float
    end_s: float
    window: Spread
    rest: Spread
    around: Window | None = None


class Report(msgspec.Struct, frozen=True):
    """A run, told. ``due`` is what an open loop had to send; ``cpu_s`` seconds by process;
    ``paused_s`` the longest that one of them stood still.
    """

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
    nulls: list[Window] = []
    paused_s: float = 0.0

    @property
    def worst_event(self) -> EventReport | None:
        """The event whose window has the highest p99, by the maximum where two are equal."""
        measured = [event for event in self.events if event.window["max"] is not None]
        return max(measured, key=lambda event: _badness(event.window), default=None)

    @property
    def worst_null(self) -> Window | None:
        """The worst null window, in the same order."""
        measured = [null for null in self.nulls if null.operations]
        return max(measured, key=lambda null: _badness(null.latency), default=None)

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
            "scenario": plan.way,
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
            "null_windows": [_window_json(null) for null in self.nulls],
            "cpu_s": self.cpu_s,
            "cpu_share": round(self.cpu_share, 3),
            "paused_s": self.paused_s,
            "examples": msgspec.to_builtins(tally.examples),
        }


def build_report(seen: Observation) -> Report:
    """Derive all figures of a run."""
    samples, seconds = seen.samples, seen.plan.duration_ns / _SECOND
    start = seen.start or 0
    end = start + seen.plan.duration_ns
    records = sorted(seen.events, key=lambda record: record.start)
    windows = _windows(records, samples, Span(start, end))
    return Report(
        plan=seen.plan,
        started=seen.start is not None,
        tally=_tally(seen, records),
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
        events=[
            _event_report(record, window, windows.rest, start)
            for record, window in zip(records, windows.events, strict=True)
        ],
        trouble=seen.trouble,
        nulls=windows.nulls,
        paused_s=round(seen.paused_ns / _SECOND, 3),
    )


def _tally(seen: Observation, records: list[EventRecord]) -> Tally:
    """The counts of the connections, and what only all of them and the events together show."""
    tally = Tally()
    tally.add(seen.tally)
    events = [(record.start, record.end, record.failed) for record in records]
    for change in unexcused(changes(seen.samples), events):
        detail = f"from version {change.old} to {change.new}, and no event is a reason for it"
        tally.now = change.before
        tally.fault("not_monotone", change.connection, -1, detail)
    tally.now = 0
    for value, why in miscounted(seen.counted, tally.unknown + tally.lost + tally.corrupted):
        tally.fault("miscounted", -1, value, f"value {value} of the shared counter {why}")
    for hearer, sequence, why in unheard(seen.members):
        tally.fault("lost", hearer, sequence, why)
    return tally


def _badness(latency: Spread) -> tuple[float, float]:
    return latency["p99"] or 0.0, latency["max"] or 0.0


def _differences(later: Iterable[int], earlier: Iterable[int]) -> Iterable[int]:
    return map(operator.sub, later, earlier)


def _windows(records: list[EventRecord], samples: Samples, run: Span) -> Windows:
    if not records:
        return Windows([], [], {})
    deeds = [Span(record.start, record.end) for record in records]
    return sort_out(samples, event_spans(deeds), run)


def _event_report(record: EventRecord, window: Window, rest: Spread, start: int) -> EventReport:
    began, ended = (round((at - start) / _SECOND, 3) for at in (record.start, record.end))
    return EventReport(record, began, ended, window.latency, rest, window)


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
        **({"window": _window_json(event.around)} if event.around else {}),
    }


def _window_json(window: Window) -> dict[str, Any]:
    return {
        "opens_s": window.opens_s,
        "closes_s": window.closes_s,
        "operations": window.operations,
        "latency_us": window.latency,
    }


def _parsed(stdout: str) -> Any:
    """What a command said: as data when it is JSON, as text when it isn't."""
    try:
        return json.loads(stdout)
    except ValueError:
        return stdout
