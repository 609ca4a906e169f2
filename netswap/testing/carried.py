"""What states must have kept: round trips, the canonical form, invariants, and whose they are."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from netswap.mediator import mediator_of, present
from netswap.ott import Entry
from netswap.stack import Part
from netswap.testing.subject import NEW, OLD, Subject, other
from netswap.testing.world import World
from netswap.transfer import State, decode, encode, violated

__all__ = ["Snapshot", "differences", "shared", "snapshot", "unsound"]

_MUTABLE = (list, dict, set, deque, bytearray, msgspec.Struct)

NIL = msgspec.msgpack.encode(None)

Print = dict[str, bytes]
"""A state's fields in their canonical form."""


class Snapshot(NamedTuple):
    """A world between two events: every object's class and fields, what is present and waits."""

    rows: dict[str, tuple[type, Print]]
    present: list[dict[str, type]]
    tasks: int
    armed: int
    time: int


def snapshot(world: World) -> Snapshot:
    """How things are. Raises TypeError for a state that can't be encoded."""
    rows = {_name(entry): present(entry) for entry in world.entries()}
    return Snapshot(
        {name: (type(target), _print(target.state)) for name, target in rows.items()},
        [dict(host.present) for host in world.hosts],
        world.working,
        world.loop.armed,
        world.loop.clock.monotonic_ns(),
    )


def differences(world: World, before: Snapshot, version: str) -> list[str]:
    """What is not as it was when the world came from ``version``, went, and came back.

    Fields that may be forgotten (``_forgettable``) may have another value. When time has passed,
    objects have done what was due, and only their classes are compared.
    """
    after = snapshot(world)
    wrong = [f"{name} is gone" for name in before.rows.keys() - after.rows.keys()]
    wrong += [f"{name} was left over" for name in after.rows.keys() - before.rows.keys()]
    for name in before.rows.keys() & after.rows.keys():
        if before.rows[name][0] is not after.rows[name][0]:
            wrong.append(f"{name} is of other code than before")
    wrong += [f"calls of {_name(e)} are still held" for e in world.entries() if mediator_of(e)]
    if before.present != after.present:
        wrong.append("new objects are made by other code than before")
    return wrong if before.time != after.time else [*wrong, *_moved(world, before, after, version)]


def _moved(world: World, before: Snapshot, after: Snapshot, version: str) -> Iterator[str]:
    """What has another value while no time has passed."""
    for name in before.rows.keys() & after.rows.keys():
        (_, was), (_, now) = before.rows[name], after.rows[name]
        forgettable = _forgettable(world.subject, name.partition(" ")[0], version)
        for field in was:
            if was[field] != now.get(field) and field not in forgettable:
                shown = [_shown(value) for value in (was[field], now.get(field, NIL))]
                yield f"{name}: {field} was {shown[0]} and is {shown[1]}"
    if before.tasks != after.tasks:
        yield f"{after.tasks} tasks run where there were {before.tasks}"
    if before.armed < after.armed:  # what was cancelled may have gone by the way
        yield f"{after.armed} calls wait for the clock where there were {before.armed}"


def _forgettable(subject: Subject, kind: str, version: str) -> set[str]:
    """Fields that a round trip from ``version`` may forget: lossy ones, and hints.

    Also, on the way from new to old and again to new, those for which old has no place.
    """
    may = {hint.rpartition(".")[2] for hint in subject.hints if hint.rpartition(".")[0] == kind}
    if kind not in subject.common:
        return may
    there = subject.way(kind, version, other(version))
    back = subject.way(kind, other(version), version)
    return {*may, *there.lossy, *back.lossy, *_without_place(subject, kind, version)}


def _without_place(subject: Subject, kind: str, version: str) -> set[str]:
    old, new = (subject.of[one][kind].state_type for one in (OLD, NEW))
    renamed = set(new.__renamed__.values())
    fields = set(new.__struct_fields__) - set(old.__struct_fields__) - renamed
    return fields if version == NEW else set()


def _shown(packed: bytes) -> str:
    text = repr(msgspec.msgpack.decode(packed, strict=False))
    return text if len(text) <= 120 else f"{text[:120]}..."


def _name(entry: Entry) -> str:
    """What an object is called: a part, which may be made anew, by whose it is."""
    target = present(entry)
    if isinstance(target, Part):
        return f"{entry.kind} of {_name(target.owner.entry)}"
    return f"{entry.kind} {target.host.slot}.{entry.identity}"


def _print(state: State) -> Print:
    fields = msgspec.structs.asdict(state)
    for name, marker in state.__references__.items():
        fields[name] = marker.to_canonical(fields[name])
    return {name: _packed(value) for name, value in fields.items()}


def _packed(value: Any) -> bytes:
    try:
        return msgspec.msgpack.encode(value, order="deterministic")
    except TypeError:  # keys that can't be sorted
        return msgspec.msgpack.encode(value)


def unsound(world: World) -> list[str]:
    """States whose canonical form is not what they are, or whose invariants do not hold."""
    wrong = []
    for entry in world.entries():
        state = present(entry).state
        try:
            again = decode(encode(state), type(state))
        except Exception as error:
            wrong.append(f"{_name(entry)} has no canonical form: {type(error).__name__}: {error}")
            continue
        was, now = _print(state), _print(again)
        wrong += [
            f"{_name(entry)}: {field} is {_shown(was[field])}, and {_shown(now[field])} after a "
            "round trip through its canonical form"
            for field in was
            if was[field] != now[field]
        ]
        broken = violated(state)
        if broken is not None:
            wrong.append(f"{_name(entry)}: {broken} ({broken.file}:{broken.line})")
    return wrong


def shared(world: World) -> dict[int, str]:
    """Mutable values that two objects' states have in common: identity to a sentence."""
    owners: dict[int, str] = {}
    twice: dict[int, str] = {}
    for name, field, value in _values(world):
        place = f"{name}: {field}"
        for identity in _containers(value, set()):
            if owners.setdefault(identity, place).split(":")[0] != name:
                twice[identity] = f"{owners[identity]} and {place} are one object"
    return twice


def _values(world: World) -> Iterator[tuple[str, str, Any]]:
    """Each field of each object, with the object's name."""
    for entry in world.entries():
        for field, value in msgspec.structs.asdict(present(entry).state).items():
            yield _name(entry), field, value


def _containers(value: Any, seen: set[int]) -> set[int]:
    """The identities of the mutable containers that a value is made of."""
    if isinstance(value, _MUTABLE) and id(value) not in seen:
        seen.add(id(value))
    elif not isinstance(value, (tuple, frozenset)):
        return seen
    for item in _items(value):
        _containers(item, seen)
    return seen


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.astuple(value)
    if isinstance(value, dict):
        return value.values()
    return () if isinstance(value, bytearray) else value
