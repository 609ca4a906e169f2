"""The table of exit codes. The first rule, from the top, that finds a reason gives the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from loadgen.continuity import FAULTS
from loadgen.findings import Report
from loadgen.judging.thresholds import Finding, Threshold

__all__ = ["PASS", "RULES", "USAGE", "Case", "Rule", "Verdict", "judge"]

_VIOLATIONS = tuple(name for name in FAULTS if name != "unknown")  # those hang on a drop
_SENT_AT_LEAST = 0.95
_LATE_US = 50_000.0
_OWN_US = 100_000.0  # late like that, and most of the latency is ours: it begins at the due time
_OWN_PART = 0.5
_CPU_SHARE = 0.95
_PAUSE_S = 0.25  # longer may be heard as silence; of shorter ones each limit is judged by itself
_OF_SILENCE = {"lost", "dropped", "refused"}  # who does not listen may have missed the answer


class Case(NamedTuple):
    """What is judged, and by what wishes."""

    report: Report
    thresholds: Sequence[Threshold]


class Rule(NamedTuple):
    """A verdict, its exit code, and what finds reasons for it."""

    name: str
    exit_code: int
    find: Callable[[Case], Iterable[str]] | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What a run comes to; ``reasons`` are those of every rule that found some."""

    name: str
    exit_code: int
    reasons: list[str]


def judge(report: Report, thresholds: Sequence[Threshold] = ()) -> Verdict:
    """Walk the table."""
    case = Case(report, thresholds)
    found = [(rule, list(rule.find(case))) for rule in RULES if rule.find is not None]
    first = next((rule for rule, reasons in found if reasons), PASS)
    return Verdict(first.name, first.exit_code, [each for _, reasons in found for each in reasons])


def _find_violations(case: Case) -> Iterator[str]:
    if not case.report.tally.connected:
        return  # nobody answered at all: there is nothing to be right or wrong about
    for name in _VIOLATIONS:
        if name in _OF_SILENCE and case.report.paused_s >= _PAUSE_S:
            continue
        if count := getattr(case.report.tally, name):
            yield f"{count:,} {name.replace('_', ' ')}"


def _find_failed_pushes(case: Case) -> Iterator[str]:
    for event in case.report.events:
        record = event.record
        if record.event.kind == "push" and record.failed:
            code = record.exit_code
            how = "had to be ended" if code is None else f"ended with {code}"
            yield f"push of {record.event.words[0]} {how}: {record.reason}"


def _find_our_own(case: Case) -> Iterator[str]:
    for find in _OUR_OWN:
        yield from find(case)


def _find_trouble(case: Case) -> Iterator[str]:
    yield from case.report.trouble


def _find_pause(case: Case) -> Iterator[str]:
    if case.report.paused_s >= _PAUSE_S:
        yield (
            f"the generator stood still for {case.report.paused_s:.2f} s: what it measured then is "
            "not the server's; run it on a machine with time to spare"
        )


def _find_shortage(case: Case) -> Iterator[str]:
    for want, count in case.report.tally.short.items():
        yield (
            f"{count:,} connections were not made, which is no fault of the server: {want}; raise "
            "the limit (ulimit -n, local ports), use more --processes or connect less often"
        )


def _find_nothing_done(case: Case) -> Iterator[str]:
    tally, target = case.report.tally, case.report.plan.target
    why = next((f" ({each.detail})" for each in tally.examples), "")
    if not tally.connected and not tally.short:
        yield f"no connection to {target} could be made{why}"
    elif not tally.answered and tally.connected:
        yield f"no operation was answered{why}"


def _find_lateness(case: Case) -> Iterator[str]:
    report, issued = case.report, case.report.tally.issued
    late, cpu = report.late["p99"] or 0.0, report.cpu_share
    behind = issued < report.due * _SENT_AT_LEAST
    if behind and (cpu > _CPU_SHARE or late > _LATE_US):
        yield (
            f"the generator is saturated: {issued:,} of {report.due:,} sent, p99 "
            f"{late / 1000:.1f} ms late, {cpu:.0%} of a core; more --processes or a lower --rate"
        )
    elif late > max(_OWN_US, (report.latency["p99"] or 0.0) * _OWN_PART):
        yield (
            f"the generator was late, p99 {late / 1000:.1f} ms: most of the latency is its own; "
            "more --processes, a lower --rate or a machine with time to spare"
        )


def _find_unproved(case: Case) -> Iterator[str]:
    yield from (found.reason for found in _findings(case) if found.ours)


def _find_missed(case: Case) -> Iterator[str]:
    yield from (found.reason for found in _findings(case) if not found.ours)


def _findings(case: Case) -> Iterator[Finding]:
    found = (threshold.judge(case.report) for threshold in case.thresholds)
    yield from (each for each in found if each is not None)


_OUR_OWN: Final = (
    _find_trouble,
    _find_pause,
    _find_shortage,
    _find_nothing_done,
    _find_lateness,
    _find_unproved,
)
PASS: Final = Rule("pass", 0)
USAGE: Final = Rule("usage", 2)  # found before a run begins
RULES: Final = (
    USAGE,
    Rule("correctness violated", 10, _find_violations),
    Rule("swap failed", 13, _find_failed_pushes),
    Rule("invalid run", 12, _find_our_own),
    Rule("threshold missed", 11, _find_missed),
)
