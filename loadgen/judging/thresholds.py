"""``--fail-on 'p99>5ms'``: a metric of the report, a comparison, a number; and who missed it.

A limit that is missed convicts the server only when nothing of ours explains it, and one that holds
acquits it only when nothing of ours can have hidden what would miss it. Either is a *finding* of
ours otherwise, which proves nothing. ``_OURS`` are the rules, of which the first gives the reason.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from loadgen.findings import PERCENTILES, Report
from loadgen.findings.wording import time_words
from loadgen.judging.metrics import METRICS, OF_LATENCY, SHARES, TIMES, why_nothing
from loadgen.judging.views import at_least, at_most, from_the_send, without_omission
from loadgen.lines import SCENARIOS
from loadgen.plan import PlanError

__all__ = ["METRICS", "Finding", "Threshold", "parse_threshold"]

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
}
_EXPRESSION = re.compile(
    r"(corrected\.)?([a-z_]\w*(?:\.(?:max|p?\d\w*))*)\s*(<=|>=|==|<|>)\s*(\d+(?:\.\d+)?)\s*(us|ms|s|)"
)
_BUSY = 0.95  # of a core
_WAITED = 0.25  # of the run without one
_WAITED_LEAST = 0.01  # less is in every run
_UNPLACED_US = 10_000.0  # a longer wait for one is among the pauses, with its time
_UNITS_US = {"us": 1.0, "": 1.0, "ms": 1e3, "s": 1e6}
_DIGITS = (3, 4, 5, 6, 7, 8, 9)
_ADVICE = "use a machine with time to spare, or more --processes"


class Finding(NamedTuple):
    """Why a run fails; ``ours``: it says nothing of the server."""

    reason: str
    ours: bool


class Threshold(msgspec.Struct, frozen=True):
    """The run fails when the comparison is true, and when there is nothing to compare.
    ``corrected``: it is about the latency with what a closed loop leaves out.
    """

    text: str
    metric: str
    comparison: str
    limit: float
    corrected: bool = False

    def judge(self, report: Report) -> Finding | None:
        """Why it fails the run, by whom; or None."""
        if self.corrected:
            report = without_omission(report)
        missed = self._missed(report)
        for rule in _OURS:
            if reason := rule(self, report, missed):
                return Finding(reason, ours=True)
        return Finding(missed, ours=False) if missed else None

    @property
    def _from_above(self) -> bool:
        """Whether it is missed by what is too much."""
        return self.comparison in (">", ">=")

    def _exceeds(self, value: float) -> bool:
        return _COMPARISONS[self.comparison](value, self.limit)

    def _value(self, report: Report) -> float | None:
        return METRICS[self.metric](report)

    def _missed(self, report: Report) -> str | None:
        """Why it fails the run, whoever it was."""
        if self._kept_waiting(report):
            return f"{self.text}: {report.unsent:,} that were due have waited until the end"
        value = self._value(report)
        if value is None:
            return f"{self.text}: nothing was measured{why_nothing(self.metric, report)}"
        return f"{self.text}: it is {self._words(value)}" if self._exceeds(value) else None

    def _words(self, value: float | None) -> str:
        """A time in the unit that suits it, in as many digits as tell it from the limit."""
        if self.metric not in TIMES or value is None:
            return f"{value:g}"
        told = (
            time_words(value, digits)
            for digits in _DIGITS
            if value == self.limit or time_words(value, digits) != time_words(self.limit, digits)
        )
        return next(told, f"{value} us")

    def _without_a_processor(self, report: Report, missed: str | None) -> str | None:
        """We have waited for a processor so much that we can't tell how fast the server is."""
        if missed is None or not self._is_uncertain(report):
            return None
        return (
            f"{missed}, and for {report.waited_share:.0%} of the run the generator "
            "had no processor, though it wanted one: use a machine with time to spare"
        )

    def _is_uncertain(self, report: Report) -> bool:
        """The limit holds without the pauses whose place is known and two waits that were too short
        for that, which one operation may have met when it was sent and when it was answered. Of a
        rate: there was no rest.
        """
        value = self._value(at_least(report, beside_nulls=self._is_beside_nulls))
        if value is None or report.waited_share < self._telling_wait(report):
            return False
        if self.metric not in TIMES:
            return self.metric == "rate" and report.wanted_share > _BUSY
        unrested = report.wanted_share > _BUSY
        wait_us = _UNPLACED_US if unrested else min(1e6 * report.paused_s, _UNPLACED_US)
        return not self._exceeds(value - 2 * wait_us if self._from_above else value)

    def _telling_wait(self, report: Report) -> float:
        """The share of the run without a processor that may be why it is missed. Where it is
        corrected a wait counts for all of its time, so what the percentile leaves out is enough.
        """
        if not (self.corrected and report.interval_ns):
            return _WAITED
        left_out = next(1 - share for name, share in PERCENTILES if self.metric.endswith(name))
        return min(_WAITED, max(_WAITED_LEAST, left_out))

    def _rate_of_ours(self, report: Report, missed: str | None) -> str | None:
        """A closed loop that never waits for the server shows how fast the generator is, and one
        that stood still asked for nothing meanwhile.
        """
        slow = self.metric == "rate" and self.comparison in ("<", "<=") and missed is not None
        if not slow or report.plan.rate is not None:
            return None
        if report.cpu_share > _BUSY:
            return (
                f"{self.text}: it is {report.rate.achieved:g}, with {report.cpu_share:.0%} of a "
                "core in the generator, which was the limit, not the server; use more --processes"
            )
        still = min(sum(report.stills_s) / report.plan.processes / report.seconds, 0.9)
        if self._exceeds(report.rate.achieved / (1 - still)):
            return None
        return f"{missed}, and for {still:.0%} of the run the generator stood still; {_ADVICE}"

    def _sent_late(self, report: Report, missed: str | None) -> str | None:
        """It holds from the send, and what comes before that is our own lateness. Not where
        operations wait for the server, too.
        """
        if missed is None or SCENARIOS[report.plan.way].waits:
            return None
        service = self._value_that_holds(from_the_send(report))
        if service is None:
            return None
        return (
            f"{missed}, but {self._words(service)} from the send: the generator "
            f"was late, not the server; {_ADVICE}"
        )

    def _stood_still(self, report: Report, missed: str | None) -> str | None:
        """It holds without our own pauses."""
        if missed is None or not report.stills_s:
            return None
        least = self._value_that_holds(at_least(report, beside_nulls=self._is_beside_nulls))
        if least is None:
            return None
        return (
            f"{missed}, but at least {self._words(least)} without {_still_words(report)} in which "
            f"the generator may have stood still; {_ADVICE}"
        )

    def _was_blind(self, report: Report, missed: str | None) -> str | None:
        """It holds, and in our own pauses may have been what would miss it."""
        if missed is not None or not (report.stills_s and self._from_above):
            return None
        most = self._value(at_most(report, beside_nulls=self._is_beside_nulls))
        if most is None or not self._exceeds(most):
            return None
        return (
            f"{self.text}: it is {self._words(self._value(report))}, but may have been "
            f"{self._words(most)} in {_still_words(report)} in which the generator stood still and "
            f"saw nothing; {_ADVICE}, or a --rate"
        )

    def _kept_waiting(self, report: Report) -> bool:
        """Whether the server kept more operations waiting until the end than this percentile of the
        latency leaves out: then it is above all that was measured.
        """
        share = SHARES.get(self.metric)
        if share is None or not (self._from_above and SCENARIOS[report.plan.way].waits):
            return False
        return report.unsent > round(report.due * (1 - share))

    def _value_that_holds(self, view: Report) -> float | None:
        """In this view, when the limit is one from above; else None."""
        if self._kept_waiting(view):
            return None
        value = self._value(view) if self._from_above and self.metric in TIMES else None
        return None if value is None or self._exceeds(value) else value

    @property
    def _is_beside_nulls(self) -> bool:
        return self.metric.startswith("excess.")


_OURS: tuple[Callable[[Threshold, Report, str | None], str | None], ...] = (
    Threshold._without_a_processor,
    Threshold._rate_of_ours,
    Threshold._sent_late,
    Threshold._stood_still,
    Threshold._was_blind,
)


def parse_threshold(text: str) -> Threshold:
    """A time has a unit (us, ms, s): a number alone is seconds elsewhere, here nobody knew."""
    match = _EXPRESSION.fullmatch(text.strip())
    if match is None:
        raise PlanError(f"{text!r} is not a threshold: write 'lost>0' or 'p99>5ms'")
    prefix, metric, comparison, number, unit = match.groups()
    if metric not in METRICS:
        raise PlanError(f"{metric!r} is no metric; there are {', '.join(METRICS)}")
    if prefix and metric not in OF_LATENCY:
        raise PlanError(f"{metric!r} can't be corrected: {', '.join(OF_LATENCY)} can")
    if unit and metric not in TIMES:
        raise PlanError(f"{metric} is no time: write {metric}{comparison}{number}")
    if not unit and metric in TIMES and float(number):
        raise PlanError(f"{metric} is a time: write {metric}{comparison}{number}ms, or us, or s")
    limit = float(number) * _UNITS_US[unit]
    return Threshold(text, metric, comparison, limit, corrected=bool(prefix))


def _still_words(report: Report) -> str:
    """How many pauses, and the longest."""
    longest = time_words(1e6 * max(report.stills_s))
    number = len(report.stills_s)
    return f"{longest}" if number == 1 else f"{number:,} pauses, the longest {longest},"
