"""A run as JSON: what ``--json`` prints and ``--save`` keeps, one documented shape.

The structs below are the documentation; ``result.schema.json`` is made from them, and a test holds
the two and real runs together. Times end in ``_s`` (seconds of the run) or ``_us`` (microseconds);
a percentile is null when there was nothing to measure. Fields may be added; none changes meaning
under the same ``schema``.
"""

from __future__ import annotations

import json
import operator
from pathlib import Path
from typing import Any, Literal

import msgspec

from loadgen.conductor import Observation
from loadgen.continuity import CONNECTION_FAULTS, FAULTS
from loadgen.findings import EventReport, Rate, Report, Spread
from loadgen.findings.timeline import Buckets, curve, whole_run
from loadgen.findings.windows import Window
from loadgen.judging import Verdict
from loadgen.plan import PlanError

__all__ = ["SCHEMA", "EventResult", "Result", "build_result", "json_schema", "read_result"]

SCHEMA = "netswap/1"
_SECOND = 1_000_000_000


class WindowResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was open in a stretch of the run, its latency, the faults of each kind, and the service
    time, which is from the send.
    """

    opens_s: float
    closes_s: float
    operations: int
    latency_us: Spread
    faults: dict[str, int] = {}
    service_us: Spread = {}
    corrected_us: Spread = {}


class EventResult(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to the server: when, how it ended, and what was around it.

    ``answer`` is what the command printed: as data when it is JSON, else as text. ``exit_code`` is
    null when it had to be ended. ``over_s`` is when the last trace of it was seen: a connection
    that was dropped or refused, or an answer of old code. ``versions_before`` answered between the
    event before it and this one, ``versions_after`` from its end to the next one's start. ``stale``
    answers were asked after the end of a push that is done, and are of a version from before it;
    null when that can't be said. ``closed`` connections the server ended in order in the window.
    ``overlap_s`` is for how long versions from before the event answered beside those that it
    brought, until the next one; null when it brought none.
    """

    kind: Literal["push", "run"]
    at_s: float
    command: list[str]
    start_s: float
    end_s: float
    exit_code: int | None
    answer: Any
    stderr: str
    window_us: Spread
    rest_us: Spread
    window: WindowResult | None = None
    over_s: float | None = None
    versions_before: list[int] = []
    versions_after: list[int] = []
    stale: int | None = None
    closed: int = 0
    overlap_s: float | None = None


class ExampleResult(msgspec.Struct, frozen=True, kw_only=True):
    """One fault of those that were counted; ``sequence`` is -1 when it is about no operation."""

    what: str
    connection: int
    sequence: int
    detail: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run.

    ``connections`` has those asked, connected, refused, dropped, and closed in order, as the server
    had announced; ``counts`` the operations issued and answered, and every fault by name. Latency
    counts from the intended time, service time from the send; late is how late we sent; corrected
    is the latency with what a closed loop leaves out of a stall, of an open loop the latency.
    ``latency_curve`` has pairs of a share and the us that they were within. ``null_windows`` are
    stretches in which nothing happened, as long as those of events. ``timeline`` has columns, one
    value a bucket. ``paused_s`` is the longest time that the generator stood still.
    ``faults_elsewhere`` came in no event's window, in a run that has events. ``asked_s`` is the
    duration before which a run was ended, else null. ``unsent`` operations were due, and nobody
    could ask them until the end. ``waited_s`` is for how long each process of the generator had no
    processor.
    """

    schema: Literal["netswap/1"]
    verdict: str
    exit_code: int
    reasons: list[str]
    protocol: str
    target: str
    loop: Literal["open", "closed"]
    scenario: str
    duration_s: float
    processes: int
    payload: int
    connections: dict[str, int]
    counts: dict[str, int]
    rate: Rate
    latency_us: Spread
    service_us: Spread
    late_us: Spread
    by_version: dict[str, int]
    events: list[EventResult]
    null_windows: list[WindowResult]
    cpu_s: list[float]
    cpu_share: float
    examples: list[ExampleResult]
    timeline: Buckets
    latency_curve: list[list[float]]
    service_curve: list[list[float]]
    paused_s: float = 0.0
    unsent: int = 0
    faults_elsewhere: dict[str, int] = {}
    asked_s: float | None = None
    waited_s: list[float] = []
    corrected_us: Spread = {}


def build_result(seen: Observation, report: Report, verdict: Verdict) -> dict[str, Any]:
    """The plain data of a run, in the shape of ``Result``."""
    samples = seen.samples
    parts = (
        {"schema": SCHEMA, "verdict": verdict.name, "exit_code": verdict.exit_code},
        {"reasons": verdict.reasons},
        _asked(report),
        _counted(report),
        _measured(report),
        {
            "timeline": whole_run(seen, report.tally)[1],
            "latency_curve": curve(map(operator.sub, samples.done, samples.intended)),
            "service_curve": curve(map(operator.sub, samples.done, samples.sent)),
        },
    )
    plain: dict[str, Any] = msgspec.to_builtins({k: v for part in parts for k, v in part.items()})
    return plain


def _asked(report: Report) -> dict[str, Any]:
    plan = report.plan
    return {
        "protocol": plan.protocol,
        "target": plan.target,
        "scenario": plan.way,
        "loop": "closed" if plan.rate is None else "open",
        "duration_s": plan.duration_ns / _SECOND,
        "asked_s": report.asked_s or None,
        "processes": plan.processes,
        "payload": plan.payload,
    }


def _counted(report: Report) -> dict[str, Any]:
    tally = report.tally
    lines = {name: getattr(tally, name) for name in ("connected", *CONNECTION_FAULTS, "closed")}
    return {
        "connections": {"asked": report.plan.connections, **lines},
        "counts": {name: getattr(tally, name) for name in ("issued", "answered", *FAULTS)},
        "by_version": {str(version): n for version, n in sorted(tally.by_version.items())},
        "examples": tally.examples,
        "faults_elsewhere": report.elsewhere,
    }


def _measured(report: Report) -> dict[str, Any]:
    return {
        "rate": report.rate,
        "latency_us": report.latency,
        "service_us": report.service,
        "corrected_us": report.corrected,
        "late_us": report.late,
        "events": [_event(event) for event in report.events],
        "null_windows": [_window(null) for null in report.nulls],
        "cpu_s": report.cpu_s,
        "cpu_share": round(report.cpu_share, 3),
        "paused_s": report.paused_s,
        "waited_s": report.waited_s,
        "unsent": report.unsent,
    }


def _event(event: EventReport) -> dict[str, Any]:
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
        "over_s": event.over_s,
        "versions_before": [*event.settled.before],
        "versions_after": [*event.settled.after],
        "stale": event.settled.stale,
        "closed": event.closed,
        "overlap_s": None if (both := event.settled.overlap) is None else both / _SECOND,
        **({"window": _window(event.around)} if event.around else {}),
    }


def _window(window: Window) -> dict[str, Any]:
    return {
        "opens_s": window.opens_s,
        "closes_s": window.closes_s,
        "operations": window.operations,
        "latency_us": window.latency,
        "faults": window.faults,
        "service_us": window.service,
        "corrected_us": window.corrected,
    }


def _parsed(stdout: str) -> Any:
    """What a command said: as data when it is JSON, as text when it isn't."""
    try:
        return json.loads(stdout)
    except ValueError:
        return stdout


def json_schema() -> str:
    """The JSON Schema of a result, for ``result.schema.json``."""
    schema = msgspec.json.schema(Result)
    return (
        msgspec.json.format(msgspec.json.encode(schema, order="sorted"), indent=1).decode() + "\n"
    )


def read_result(path: Path) -> Result:
    """A result that was saved. Raises PlanError, with what is wrong in the file."""
    try:
        read = path.read_bytes()
    except OSError as error:
        raise PlanError(f"{path} can't be read: {error.strerror}") from error
    try:
        return msgspec.json.decode(read, type=Result)
    except msgspec.DecodeError as error:
        raise PlanError(f"{path} is no saved run: {_why_not(read, error)}") from error


class _Head(msgspec.Struct):
    """What every JSON of this program begins with."""

    schema: str = ""
    verdict: str | None = None


def _why_not(read: bytes, error: msgspec.DecodeError) -> str:
    """In the words of who has the file, not of who reads it."""
    try:
        head = msgspec.json.decode(read, type=_Head)
    except msgspec.DecodeError:
        return f"{error}; write one with --save"
    if head.schema not in {"", SCHEMA}:
        return f"its schema is {head.schema}, and this program reads {SCHEMA}: use one of its age"
    if head.verdict is None:
        return "it is JSON of something else; write one with --save"
    return f"{error}; compare it with what the command schema prints"
