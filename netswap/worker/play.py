"""What is tried before a swap: every object in the rehearsal's child, or a sample without one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from time import thread_time_ns

import msgspec

from netswap.blame import Place, defined_at, describe
from netswap.channel import messages
from netswap.errors import DeadlinePassed
from netswap.events import Refusal, Stage
from netswap.hotswap import Change
from netswap.modules.effects import difference, look
from netswap.ott import Entry
from netswap.stack import Host
from netswap.worker.beginning import Beginnings
from netswap.worker.deadline import Deadline
from netswap.worker.rehearsal import Rehearsed
from netswap.worker.trial import Trial, Trials

__all__ = ["SAMPLE", "try_all", "try_sample"]

REHEARSED_S = 0.4
"""The part of the time-out that converting may take; an object may take as long again."""

SAMPLE = 16
"""Objects of a kind that are converted when there is no rehearsal."""


def try_all(
    changes: list[Change], entries: Iterable[Entry], host: Host, ask: messages.Prepare
) -> Rehearsed:
    """In the child: convert all of them, build what follows them, and look at what that left."""
    now = host.clock.monotonic_ns
    until = now() + int(ask.timeout * REHEARSED_S * 1e9)
    trial = Trial(changes, thread_time_ns, ask.allow_lossy, build=True, probation=ask.probation)
    trials = Trials(trial, changes, host.slot)
    beginnings = Beginnings(trials, host)
    rows = list(entries)
    for change in changes:  # the child's own copy: new objects find their new parts
        host.present[change.kind] = change.new
    refusal = None
    try:
        with Deadline(ask.timeout * 2 * REHEARSED_S):
            before = look()
            trials.run(rows, now, until)
            beginnings.fresh(row.kind for row in rows if row.target is not None)
            refusal = _effect(difference(before), changes) or _too_long(trials, ask.timeout)
            if not (trials.failures or refusal):
                beginnings.start(ask.timeout * REHEARSED_S)
    except DeadlinePassed as error:
        refusal = Refusal(Stage.PREPARE, f"the rehearsal hangs: {describe(error)}")
    return Rehearsed(trials.refusal() or refusal, trials.report())


def _effect(found: tuple[str, str] | None, changes: list[Change]) -> Refusal | None:
    """Conversions are pure: what they did to the process would be done once an object."""
    if found is None:
        return None
    what, advice = found
    file, line = _place_of_steps(changes)
    kinds = ", ".join(change.kind for change in changes)
    reason = f"converting {kinds} {what}: a step returns a new state and does nothing else"
    return Refusal(Stage.PREPARE, reason, file, line, changes[0].kind, advice=advice)


def _too_long(trials: Trials, timeout: float) -> Refusal | None:
    """The swap would not end in its time: it is known before it begins."""
    report = trials.report()
    count = report.objects + report.untried
    seconds = report.us_per_object * count / 1e6
    if seconds <= timeout:
        return None
    each = f"{report.us_per_object / 1e6:.4f} s each, {report.slowest_us / 1e6:.4f} s the slowest"
    reason = f"converting {count} objects takes {seconds:.1f} s ({each}), and it has {timeout:g} s"
    advice = "make the step cheaper, or give it a longer --timeout: nobody is served meanwhile"
    file, line = _place_of_steps(trials.changes)
    return Refusal(Stage.PREPARE, reason, file, line, trials.changes[0].kind, advice=advice)


def _place_of_steps(changes: list[Change]) -> Place:
    """The first step of the authors', or else their first state."""
    steps = [row.step for change in changes for row in change.migrations]
    places = (defined_at(thing) for thing in [*steps, *(c.new.state_type for c in changes)])
    return next((place for place in places if place[0]), (None, None))


def try_sample(
    changes: list[Change], entries: Iterable[Entry], host: Host, ask: messages.Prepare, limit: float
) -> Rehearsed:
    """In the worker itself, on its loop: convert a few objects of each kind there and back.

    ``limit`` is how long that may hold the loop, in seconds.
    """
    chosen = _sample([entry for entry in entries if entry.target is not None])
    now = host.clock.monotonic_ns
    trial = Trial(changes, thread_time_ns, ask.allow_lossy, probation=ask.probation)
    trials = Trials(trial, changes, host.slot)
    try:
        with Deadline(limit):
            trials.run(chosen, now, now() + int(limit * 1e9))
    except DeadlinePassed as error:
        reason = f"converting a sample hangs: {describe(error)}"
        return Rehearsed(Refusal(Stage.PREPARE, reason), trials.report())
    report = msgspec.structs.replace(trials.report(), sample=True)
    return Rehearsed(trials.refusal(), report)


def _sample(entries: list[Entry]) -> list[Entry]:
    """At most SAMPLE of each kind, from one end of the list to the other."""
    counts = Counter(entry.kind for entry in entries)
    strides = {kind: max(1, -(-count // SAMPLE)) for kind, count in counts.items()}
    seen: Counter[str] = Counter()
    chosen = []
    for entry in entries:
        if seen[entry.kind] % strides[entry.kind] == 0:
            chosen.append(entry)
        seen[entry.kind] += 1
    return chosen
