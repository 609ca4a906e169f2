"""The trial of one object in the rehearsal: its state goes there, through the canonical form,
and back, and has to be as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from netswap.blame import blame, describe
from netswap.events import Refusal, Stage
from netswap.hotswap import Change
from netswap.mediator import present
from netswap.ott import Entry
from netswap.transfer import State, Transfer, decode, encode, plan_transfer

__all__ = ["Trial", "refusal_of"]

LARGE = 200_000
"""A state with a container of more items is not encoded: a million keys take seconds."""


class Trial:
    """Tries objects of the changed kinds; ``now`` gives nanoseconds."""

    def __init__(self, changes: list[Change], now: Callable[[], int]) -> None:
        self._changes = {change.kind: change for change in changes}
        self._now = now
        self._plan = cache(self._plan_once)

    def run(self, entry: Entry) -> int:
        """Convert one object's state there and back; how long the way there took.

        Raises what a step raises, and TypeError when a step changed what it was given.
        """
        state: State = present(entry).state
        new_type = self._changes[entry.kind].new.state_type
        large = _is_large(state)
        before = None if large else encode(state)
        forward = self._plan(type(state), new_type)
        started = self._now()
        new = forward.convert(state)
        took = self._now() - started
        back = self._plan(new_type, type(state))
        back.convert(new if large else decode(encode(new), new_type))
        if before is not None and encode(state) != before:
            raise TypeError(
                f"the steps of {entry.kind} from version {forward.source} to {forward.target} "
                "changed the old state; a step returns a new dict and leaves what it was given"
            )
        return took

    def _plan_once(self, old: type[State], new: type[State]) -> Transfer:
        return plan_transfer(old, new, self._changes[new.__kind__].migrations)


def _is_large(state: State) -> bool:
    values = (getattr(state, name) for name in state.__struct_fields__)
    return any(hasattr(value, "__len__") and len(value) > LARGE for value in values)


def refusal_of(error: BaseException, entry: Entry | None, changes: Iterable[Change]) -> Refusal:
    """What went wrong with one object's trial, at which line of the author's file."""
    kind = entry.kind if entry is not None else None
    new = next((change.new for change in changes if change.kind == kind), None)
    file, line = blame(error, None if new is None else new.state_type)
    return Refusal(
        Stage.PREPARE,
        f"converting {kind} failed in the rehearsal: {describe(error)}",
        file,
        line,
        kind,
        entry=str(entry.identity) if entry is not None else None,
        advice="mend the step and push again; nothing was touched",
    )
