"""The trial of live objects: each state goes there, through the canonical form, and back.

It has to come back as it was, except for what a step says that it gives up, and to keep the
invariants of its new class. In a rehearsal's child the new object is built as well. What fails is
noted and the next object is tried, so that the operator learns of all of them at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from time import perf_counter_ns
from typing import Any, NamedTuple

import msgspec

from netswap.blame import accuse, blame, describe, to_mend
from netswap.confine import leave_room
from netswap.errors import DeadlinePassed
from netswap.events import Refusal, Rehearsal, Stage
from netswap.hotswap import Change
from netswap.mediator import present
from netswap.ott import Entry
from netswap.stack.hands import timers_of
from netswap.transfer import State, Transfer, decode, encode, plan_transfer, violated
from netswap.worker.deadline import Deadline
from netswap.worker.gauges import Stopwatch

__all__ = [
    "BLOCKED_S",
    "NAMED",
    "Altered",
    "Blocks",
    "Trial",
    "Trials",
    "Violated",
    "refusal_of",
]

LARGE = 200_000
"""A state with a container of more items is not encoded: a million keys take seconds."""

BLOCKED_S = 0.1
"""Seconds that one object may stand still: a swap holds the loop for as long."""

NAMED = 10
"""So many objects that failed are named, the others are counted."""

_SHOWN = 60


class Violated(Exception):  # noqa: N818 - what happened to a state, not an error of ours
    """An invariant does not hold for a converted state."""

    def __init__(self, sentence: str, file: str, line: int) -> None:
        super().__init__(sentence)
        self.file = file
        self.line = line


class Altered(Exception):  # noqa: N818
    """A state that went there and back is not as it was, and no step says so."""


class OneWay(Exception):  # noqa: N818
    """What an older version makes of a state can't come up again; a rollback may want it anyway."""


class Blocks(Exception):  # noqa: N818
    """It stood still for so many ``seconds``, which would be the loop's and all its clients'."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"it stood still for at least {seconds:.2f} s without computing, and would hold the "
            f"loop for as long; at most {BLOCKED_S:g} s are allowed"
        )


_ONE_WAY = "--allow-lossy goes there all the same, and then nothing leads back"
FINAL = (DeadlinePassed, MemoryError, KeyboardInterrupt, Blocks)
"""What ends all trials: the next object would take as long."""


class Passed(NamedTuple):
    """One object's trial: how long the way there took, and the fields that come back another."""

    took_ns: int
    large: bool = False
    altered: tuple[str, ...] = ()


class Trial:
    """Tries objects of the changed kinds; ``now`` gives nanoseconds, best of processor time: the
    child gives way to the workers that serve.

    With ``allow_lossy`` a state need not come back as it was; with ``build`` the new object is
    built too and given up again, which only a child may do. On ``probation`` nobody could be asked
    before the way back: what is in a field that the new version drops has to come back, too.
    """

    def __init__(
        self,
        changes: list[Change],
        now: Callable[[], int],
        allow_lossy: bool = False,
        build: bool = False,
        probation: bool = False,
    ) -> None:
        self._probation = probation
        self._changes = {change.kind: change for change in changes}
        self._now = now
        self._allow_lossy = allow_lossy
        self._build = build
        self._plan = cache(self._plan_once)
        self._lost: Callable[[Any, Any], tuple[str, ...]] = cache(_lost_methods)

    def run(self, entry: Entry) -> Passed:
        """Convert one object's state there and back.

        Raises what a step raises, TypeError when a step changed what it was given, Violated,
        Altered, Blocks.
        """
        old: Any = present(entry)
        state: State = old.state
        new_class = self._changes[entry.kind].new
        large = _is_large(state)
        before = None if large else encode(state)
        forward = self._plan(type(state), new_class.state_type)
        new, took = self._taken(forward, old, new_class)
        self.keeps(old, new, new_class)
        back = self._plan(new_class.state_type, type(state))
        crossed = new if large else decode(encode(new), new_class.state_type)
        returned = self._returned(forward, back, crossed)
        if returned is None:
            return Passed(took, large, state.__struct_fields__)
        if large:
            if self._probation and (dropped := forward.given_up - forward.derived):
                self._altered(state, returned, forward, back, sorted(dropped))
            return Passed(took, large=True)
        after = encode(state)
        if after != before:
            raise _accused(TypeError(_changed(forward, entry.kind)), forward)
        if encode(returned) == after:
            return Passed(took)
        names = state.__struct_fields__
        return Passed(took, altered=self._altered(state, returned, forward, back, names))

    def _returned(self, forward: Transfer, back: Transfer, new: State) -> State | None:
        """The state once more; None where a rollback goes on without it, as was asked for."""
        try:
            return back.convert(new)
        except FINAL:
            raise
        except Exception as error:
            if self._probation or forward.target > forward.source:
                raise
            if self._allow_lossy:
                return None
            text = f"from version {forward.target} it can't come back: {describe(error)}"
            raise OneWay(text).with_traceback(error.__traceback__) from None

    def _taken(self, forward: Transfer, old: Any, new_class: Any) -> tuple[State, int]:
        """The new state, and the nanoseconds of a processor that the way there took."""
        started, began = self._now(), perf_counter_ns()
        new = forward.convert(old.state)
        if self._build and new_class.scope == "connection":
            new_class.successor(old, new).undo_building()
        took = self._now() - started
        if self._build and perf_counter_ns() - began - took > BLOCKED_S * 1e9:
            _stands_still(forward, old.state)
        return new, took

    def keeps(self, old: Any, new: State, new_class: Any) -> None:
        """The invariants hold, and every armed timer finds its method."""
        violation = violated(new)
        if violation is not None:
            sentence = f"after the conversion {violation}"
            raise Violated(sentence, violation.file, violation.line)
        timers = timers_of(old)
        if timers is None or self._allow_lossy or new_class.version < old.version:
            return  # a version from before a timer was thought of lets it pass
        for name in self._lost(type(old), new_class):
            if timers.remaining(name) is not None:
                text = f"its timer {name} is armed, and {new_class.__name__} has no method {name}"
                raise accuse(AttributeError(text), new_class)

    def _altered(
        self,
        state: State,
        returned: State,
        forward: Transfer,
        back: Transfer,
        fields: Iterable[str],
    ) -> tuple[str, ...]:
        """Those of the fields that come back another; raises Altered for one that should not.

        On the way to an older version that is only said: it can't keep what it does not know, and
        a rollback is wanted most when there is no time to argue.
        """
        names = [name for name in fields if _differs(name, state, returned)]
        may_go = forward.derived if self._probation else forward.given_up
        unexpected = [name for name in names if name not in may_go]
        excused = back.lossy or self._allow_lossy or forward.target < forward.source
        if unexpected and not excused:
            name = unexpected[0]
            text = f"{name} was {_shown(state, name)} and comes back as {_shown(returned, name)} "
            text += f"from version {forward.target}{_to_keep(name, forward)}"
            raise _accused(Altered(text), back if back.last else forward)
        return tuple(name for name in names if name not in forward.derived)

    def _plan_once(self, old: type[State], new: type[State]) -> Transfer:
        return plan_transfer(old, new, self._changes[new.__kind__].migrations)


def _changed(way: Transfer, kind: str) -> str:
    return (
        f"the steps of {kind} from version {way.source} to {way.target} changed the old state; "
        "a step returns a new dict and leaves what it was given"
    )


def _to_keep(name: str, way: Transfer) -> str:
    """What is to be written that a field comes back, or need not."""
    if name in way.given_up:  # by itself: it is not there in the new version
        return (
            f", which drops it, and a watch or a canary may go back: write "
            f'renamed={{"{name}": "..."}} if it has another name now, a step with '
            f'derived=["{name}"] if it can be made again, or add --allow-lossy'
        )
    return (
        f'; a step from version {way.source} that gives it up says lossy=["{name}"], or '
        f'derived=["{name}"] if it can be made again'
    )


def _stands_still(way: Transfer, state: State) -> None:
    """Raise Blocks if the way there does so again; it may have waited for a processor before."""
    watch = Stopwatch()
    try:
        with Deadline(BLOCKED_S):
            way.convert(state)
    except DeadlinePassed as error:
        blocked = watch.blocked_s()
        if blocked > BLOCKED_S / 2:
            raise Blocks(blocked).with_traceback(error.__traceback__) from None


def _accused(error: Exception, way: Transfer) -> Exception:
    return error if way.last is None else accuse(error, way.last)


def _is_large(state: State) -> bool:
    values = (getattr(state, name) for name in state.__struct_fields__)
    return any(hasattr(value, "__len__") and len(value) > LARGE for value in values)


def _canonical(state: State, name: str) -> Any:
    value = getattr(state, name)
    marker = state.__references__.get(name)
    return value if marker is None else marker.to_canonical(value)


def _differs(name: str, one: State, other: State) -> bool:
    """By value, or else by bytes: a NaN is not itself, and a tuple may come back as a list."""
    before, after = _canonical(one, name), _canonical(other, name)
    pack = msgspec.msgpack.encode
    return bool(before != after) and pack(before) != pack(after)


def _shown(state: State, name: str) -> str:
    text = repr(_canonical(state, name))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _lost_methods(old: type, new: type) -> tuple[str, ...]:
    """Methods that a timer of the old class may name and the new one has not."""
    return tuple(
        name
        for name in dir(old)
        if not name.startswith("_") and callable(getattr(old, name)) and not hasattr(new, name)
    )


@dataclass
class Trials:
    """The trials of many objects in one worker, added up; ``slot`` names the objects."""

    trial: Trial
    changes: list[Change]
    slot: int
    tried: int = 0
    spent_ns: int = 0
    slowest: tuple[int, str] = (0, "")
    large: int = 0
    altered: Counter[str] = field(default_factory=Counter)
    untried: int = 0
    failed: int = 0
    failures: list[Refusal] = field(default_factory=list)

    def run(self, entries: Iterable[Entry], now: Callable[[], int], until: int) -> None:
        """Try each object that still lives; from ``until`` (ns) on they are only counted.

        Ends early when time or memory is over. Never raises what an author's code raises.
        """
        for entry in entries:
            if entry.target is None:
                continue
            if now() > until:
                self.untried += 1
                continue
            try:
                self._passed(entry, self.trial.run(entry))
            except BaseException as error:  # authors' code, which may call sys.exit()
                if isinstance(error, MemoryError):
                    leave_room()
                self.fail(error, entry)
                if isinstance(error, FINAL):
                    return

    def fail(self, error: BaseException, entry: Entry) -> None:
        """Count a failure; the first ones are named."""
        self.note(refusal_of(error, entry, self.changes, self.slot))

    def note(self, refusal: Refusal) -> None:
        """The same, of a failure in words."""
        self.failed += 1
        if len(self.failures) < NAMED:
            self.failures.append(refusal)

    def took(self, nanoseconds: int, name: str) -> None:
        """Something that is no conversion takes so long; the slowest of all is told."""
        self.slowest = max(self.slowest, (nanoseconds, name))

    def _passed(self, entry: Entry, passed: Passed) -> None:
        self.tried += 1
        self.spent_ns += passed.took_ns
        self.large += passed.large
        self.altered.update(f"{entry.kind} {name}" for name in passed.altered)
        if passed.took_ns > self.slowest[0]:
            self.slowest = (passed.took_ns, f"{self.slot}.{entry.identity}")

    def refusal(self) -> Refusal | None:
        """The first failure, which says how many others there are; None when all passed."""
        if not self.failures:
            return None
        first, *others = self.failures
        if not others:
            return first
        named = ", ".join(str(other.entry) for other in others)
        more = f" (and {self.failed - 1} more objects: {named}{', …' * (self.failed > NAMED)})"
        return Refusal(
            first.stage, first.reason + more, first.file, first.line, first.kind,
            entry=first.entry, advice=first.advice,
        )  # fmt: skip

    def report(self) -> Rehearsal:
        """What is known so far; the times of the child as a whole are its parent's to measure."""
        return Rehearsal(
            worker=self.slot,
            objects=self.tried,
            us_per_object=self.spent_ns / 1e3 / self.tried if self.tried else 0.0,
            slowest=self.slowest[1],
            slowest_us=self.slowest[0] / 1e3,
            large=self.large,
            untried=self.untried,
            altered=dict(self.altered),
            failed=self.failed,
            failures=self.failures,
        )


def refusal_of(
    error: BaseException, entry: Entry | None, changes: Iterable[Change], slot: int | None = None
) -> Refusal:
    """What went wrong with one object's trial, at which line of the author's file."""
    kind = entry.kind if entry is not None else None
    new = next((change.new for change in changes if change.kind == kind), None)
    file, line = blame(error, None if new is None else new.state_type)
    what = describe(error)
    if isinstance(error, Violated):
        file, line, what = error.file, error.line, str(error)
    elif isinstance(error, (Altered, Blocks, OneWay)):
        what = str(error)
    name = None if entry is None else f"{entry.identity}"
    return Refusal(
        Stage.PREPARE,
        f"converting {kind} failed in the rehearsal: {what}",
        file,
        line,
        kind,
        entry=name if slot is None or name is None else f"{slot}.{name}",
        advice=f"{_ONE_WAY if isinstance(error, OneWay) else to_mend(error)}; nothing was touched",
    )
