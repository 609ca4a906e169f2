"""Everything that is derived from the raw times, after the run.

Latency is done minus intended, service time is done minus sent, lateness (ours) is sent minus
when it was to be sent. All are told in microseconds. ``windows`` says what stands around an event.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from loadgen.conductor import Observation
from loadgen.continuity import CONNECTION_FAULTS, Tally
from loadgen.events import EventRecord
from loadgen.fanout import unheard
from loadgen.findings.counter import miscounted
from loadgen.findings.doubt import Doubt, OwnPauses
from loadgen.findings.effects import last_traces
from loadgen.findings.omission import corrected, expected_interval
from loadgen.findings.staleness import Settled, settle
from loadgen.findings.versions import changes, unexcused
from loadgen.findings.windows import Span, Window, event_spans, sort_out
from loadgen.lines import SCENARIOS
from loadgen.plan import Plan
from loadgen.spread import PERCENTILES, Spread, spread

__all__ = ["PERCENTILES", "EventReport", "Rate", "Report", "Spread", "build_report", "spread"]

_SECOND = 1_000_000_000


class Rate(msgspec.Struct, frozen=True):
    """Operations a second: asked for (closed loop: None), sent, answered in the duration."""

    asked: float | None
    issued: float
    achieved: float


class EventReport(msgspec.Struct, frozen=True):
    """An event, and the latency of what was open around it beside all that was near no event.

    Times are seconds of the run; ``over_s`` is that of its last trace. ``around`` is the window
    itself: from when to when, how many operations, and faults; ``window`` is its latency.
    ``settled`` says which versions answered before it and after it, ``closed`` how many connections
    the server ended in order in its window.
    """

    record: EventRecord
    start_s: float
    end_s: float
    window: Spread
    rest: Spread
    around: Window | None = None
    over_s: float = 0.0
    settled: Settled = Settled()
    closed: int = 0

    @property
    def faults(self) -> dict[str, int]:
        """What went wrong in its window, by kind."""
        return self.around.faults if self.around else {}

    @property
    def corrected(self) -> Spread:
        """Its window with what a closed loop leaves out; of an open loop the window."""
        return self.around.corrected if self.around else self.window

    @property
    def badness(self) -> tuple[int, float, float]:
        """Which of two is worse: by the faults in the window, then its p99, then its maximum."""
        return sum(self.faults.values()), *_badness(self.corrected)


class Report(msgspec.Struct, frozen=True):
    """A run, told. ``due`` is what an open loop had to send; ``cpu_s`` seconds by process;
    ``paused_s`` the longest that one of them stood still; ``elsewhere`` the faults in no event's
    window, when there are events; ``asked_s`` the time before which the run was ended, else 0;
    ``waited_s`` for how long each process had no processor. ``corrected`` is the latency with what
    a closed loop leaves out, which expects an operation each ``interval_ns``; of an open loop it is
    the latency. The doubts are what our own pauses make of each; ``stills_s`` is how long each of
    these may have been.
    """

    plan: Plan
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
    elsewhere: dict[str, int] = {}
    asked_s: float = 0.0
    waited_s: list[float] = []
    doubt: Doubt | None = None
    service_doubt: Doubt | None = None
    stills_s: list[float] = []
    corrected: Spread = {}
    corrected_doubt: Doubt | None = None
    interval_ns: int = 0

    @property
    def unsent(self) -> int:
        """What was due and could not be sent until the end: nobody was there to ask, or the server
        kept all connections busy. It would have waited longer than all that was measured.
        """
        return max(0, self.due - self.tally.issued)

    @property
    def worst_event(self) -> EventReport | None:
        """The event whose window has most faults; of equal ones the highest p99, and maximum."""
        measured = [event for event in self.events if event.window["max"] is not None]
        return max(measured, key=lambda event: event.badness, default=None)

    @property
    def worst_null(self) -> Window | None:
        """The null window with the highest p99, and of equal ones the highest maximum."""
        measured = [null for null in self.nulls if null.operations]
        return max(measured, key=lambda null: _badness(null.corrected), default=None)

    @property
    def seconds(self) -> float:
        """The duration."""
        return self.plan.duration_ns / _SECOND

    @property
    def cpu_share(self) -> float:
        """The processor time of the busiest process, as a share of the duration."""
        return max(self.cpu_s, default=0.0) / self.seconds

    @property
    def waited_share(self) -> float:
        """For how long one of them had no processor at most, as a share of the duration."""
        return max(self.waited_s, default=0.0) / self.seconds

    @property
    def wanted_share(self) -> float:
        """For how long one of them had or wanted a processor at most."""
        wanted = map(operator.add, self.cpu_s, self.waited_s)
        return max(wanted, default=0.0) / self.seconds


def build_report(seen: Observation) -> Report:
    """Derive all figures of a run."""
    samples, records = seen.samples, sorted(seen.events, key=lambda record: record.start)
    took = sorted(_differences(samples.done, samples.intended))
    interval = _interval(seen.plan, took)
    tally, own = _tally(seen, records), _own_pauses(seen, interval)
    rows, whole = range(len(samples.done)), [_whole(seen)]
    return Report(
        plan=seen.plan,
        tally=tally,
        latency=spread(took),
        service=spread(_differences(samples.done, samples.sent)),
        late=spread(_lateness(seen)),
        rate=_rate(seen),
        due=seen.due,
        cpu_s=[round(busy / _SECOND, 3) for busy in seen.busy_ns],
        waited_s=[round(waited / _SECOND, 3) for waited in seen.waited_ns],
        trouble=seen.trouble,
        paused_s=round(seen.paused_ns / _SECOND, 3),
        asked_s=seen.asked_ns / _SECOND,
        doubt=own.latency(rows, whole),
        service_doubt=own.service(rows, whole),
        stills_s=[(b - a) / _SECOND for each in seen.pauses for a, b in _pairs(each)],
        corrected=spread(corrected(took, interval)),
        corrected_doubt=own.corrected(rows, whole),
        interval_ns=interval,
        **_around(seen, records, tally, own, interval),
    )


def _interval(plan: Plan, took: Sequence[int]) -> int:
    """What a closed loop of these latencies expects (ns); an open loop leaves nothing out."""
    if plan.rate is not None:
        return 0
    return expected_interval(took, plan.hold_ns if SCENARIOS[plan.way].line.holds else 0)


def _whole(seen: Observation) -> Span:
    start = seen.start or 0
    return Span(start, start + seen.plan.duration_ns)


def _own_pauses(seen: Observation, interval: int) -> OwnPauses:
    plan, line = seen.plan, SCENARIOS[seen.plan.way].line
    return OwnPauses(
        seen.samples, [_pairs(each) for each in seen.pauses],
        asks_on=plan.rate is not None, ahead=plan.hold_ns if line.ahead else 0,
        interval=interval,
    )  # fmt: skip


def _pairs(times: Sequence[int]) -> Iterator[tuple[int, int]]:
    return zip(times[::2], times[1::2], strict=True)


def _rate(seen: Observation) -> Rate:
    """What was sent and what was answered, in the time that was asked for."""
    seconds = seen.plan.duration_ns / _SECOND
    end = (seen.start or 0) + seen.plan.duration_ns
    in_time = sum(done <= end for done in seen.samples.done)
    return Rate(seen.plan.rate, round(seen.tally.issued / seconds, 1), round(in_time / seconds, 1))


def _around(
    seen: Observation, records: list[EventRecord], tally: Tally, own: OwnPauses, interval: int
) -> dict[str, Any]:
    """Events with their windows, the null windows, and what is in neither."""
    if not records:
        return {"events": []}
    start = seen.start or 0
    deeds = [Span(record.start, record.end) for record in records]
    faults = [(at, what) for at, what in tally.timed() if at]
    gone = [at for at, what in faults if what in CONNECTION_FAULTS]
    traces = last_traces(deeds, seen.samples, gone + _caused(tally.closed_times, deeds[0].opens))
    spans = event_spans(deeds, traces, seen.plan.settle_ns)
    windows = sort_out(seen.samples, spans, _whole(seen), faults, own, interval)
    each = zip(records, windows.events, traces, _settled(seen, records), strict=True)
    return {
        "events": [
            msgspec.structs.replace(
                _event_report(record, window, windows.rest, (start, over), settled),
                closed=sum(span.opens <= at <= span.closes for at in tally.closed_times),
            )
            for (record, window, over, settled), span in zip(each, spans, strict=True)
        ],
        "nulls": windows.nulls,
        "elsewhere": windows.elsewhere,
    }


def _caused(closed: list[int], first_event: int) -> list[int]:
    """The times of closes in order, unless the server makes them without any event, too."""
    return closed if closed and min(closed) >= first_event else []


def _settled(seen: Observation, records: list[EventRecord]) -> list[Settled]:
    events = [(record.start, record.end, record.promises) for record in records]
    return settle(events, seen.samples, _held(seen))


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


def _lateness(seen: Observation) -> Iterable[int]:
    """How late we were with each: for what can wait for the server, that is kept apart; what is to
    be answered later is to be sent before it is due.
    """
    scenario = SCENARIOS[seen.plan.way]
    if scenario.waits:
        return seen.late
    ahead = seen.plan.hold_ns if scenario.line.ahead else 0
    late = _differences(seen.samples.sent, seen.samples.intended)
    return (ahead + each for each in late) if ahead else late


def _held(seen: Observation) -> int:
    """How long before the time when it was sent, which is that of its last byte, a question may
    have begun (ns).
    """
    line = SCENARIOS[seen.plan.way].line
    return seen.plan.hold_ns + seen.paused_ns if line.holds and not line.ahead else 0


def _event_report(
    record: EventRecord, window: Window, rest: Spread, times: tuple[int, int], settled: Settled
) -> EventReport:
    """``times`` (ns): of the start of the run, and of the event's last trace."""
    start, over = times
    began, ended, seen = (
        round((at - start) / _SECOND, 3) for at in (record.start, record.end, over)
    )
    return EventReport(record, began, ended, window.latency, rest, window, seen, settled)
