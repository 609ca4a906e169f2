"""Snapshots: an object as it was before a call, in the canonical form of its state.

A value that others point to as well (``reference(keep=...)``) is not copied: it is told to be again
as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netswap.mediator import present
from netswap.stack import Service
from netswap.stack.hands import parts_of
from netswap.transfer import State, decode, encode

if TYPE_CHECKING:
    from netswap.ott import Entry
    from netswap.stack import Implementation

__all__ = ["Snapshot", "snapshots_of"]

FLAGS = ("half_closed", "reading_paused", "writing_paused")


class Snapshot:
    """The state of one object, and what its transport has told it."""

    __slots__ = ("_encoded", "_flags", "_kept", "_type")

    def __init__(self, target: Implementation[Any]) -> None:
        """Raises what ``encode`` raises."""
        self._type: type[State] = type(target.state)
        self._kept = {
            name: marker.keep(getattr(target.state, name))
            for name, marker in self._type.__references__.items()
            if marker.keep is not None
        }
        self._encoded = encode(target.state, self._kept)
        self._flags = {name: getattr(target, name) for name in FLAGS if hasattr(target, name)}

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self._encoded.payload)

    def restore(self, target: Any) -> State:
        """Give ``target``, of the same version, its state and flags of then; the state."""
        state: State = decode(self._encoded, self._type)
        for name, again in self._kept.items():
            setattr(state, name, again())
        is_service = isinstance(target, Service)
        if is_service:
            target.on_stop()
        target.state = state
        target.state_replaced()
        for name, value in self._flags.items():
            setattr(target, name, value)
        if is_service:
            target.on_start()
        return state


def snapshots_of(entry: Entry) -> dict[Entry, Snapshot]:
    """Of a live object and, for a connection, of its parts."""
    return {row: Snapshot(present(row)) for row in (entry, *parts_of(present(entry)))}
