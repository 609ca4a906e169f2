"""The way from one shape of a kind's state to another, found once and walked for each object.

Two ways, best first:

*by reference*: the shapes agree; a new struct is built around the same values.
*by steps*: the fields go through the single steps between the versions, then into the new class,
which takes what it knows, gives defaults to the rest and checks every type.

Between two neighbouring versions without a written step the automatic one applies: a field may be
added, dropped or renamed. A change of a type without a step is refused, never guessed. When a
step up is written and fields of the old shape are not in the new one, the step down has to be
written as well: what was transformed can't be brought back by a default.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import asdict

from netswap.blame import accuse
from netswap.events import Verdict
from netswap.transfer.canonical import fields_of
from netswap.transfer.migration import Migration, Step
from netswap.transfer.state import (
    Reference,
    State,
    holds_classes,
    holds_own,
    holds_texts,
    shape_of,
)

__all__ = ["Transfer", "plan_transfer"]

_BUILTIN = (
    bytes,
    bytearray,
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    uuid.UUID,
)


_NO_DICT = "the step {0.__name__} returned {1.__name__}, not a dict"


class Transfer(NamedTuple):
    """The way between two shapes; ``convert`` makes the new state, leaving the old one whole.

    ``convert`` raises what a step raises, or msgspec.ValidationError when the outcome has not the
    declared types; with verdict INCOMPATIBLE it must not be called. ``given_up`` are fields of the
    old shape whose values are not expected to come back, ``derived`` those of them that are made
    again, and ``last`` is the last written step.
    """

    kind: str
    source: int
    target: int
    verdict: Verdict
    reason: str
    lossy: tuple[str, ...]
    convert: Callable[[State], State]
    given_up: frozenset[str] = frozenset()
    derived: frozenset[str] = frozenset()
    last: Step | None = None


def plan_transfer(old: type[State], new: type[State], migrations: Iterable[Migration]) -> Transfer:
    """Find the best way from ``old`` to ``new``; never raises for a bad pair, it says so."""
    steps = {(m.source, m.target): m for m in migrations if m.kind == new.__kind__}
    build = _same_version if old.__version__ == new.__version__ else _by_steps
    return build(old, new, steps)


_Steps = dict[tuple[int, int], Migration]


def _transfer(
    pair: tuple[type[State], type[State]],
    verdict: Verdict,
    reason: str,
    convert: Callable[[State], State],
    lossy: tuple[str, ...] = (),
) -> Transfer:
    old, new = pair
    return Transfer(new.__kind__, old.__version__, new.__version__, verdict, reason, lossy, convert)


def _incompatible(old: type[State], new: type[State], reason: str) -> Transfer:
    def refuse(_state: State) -> State:
        raise TypeError(reason)

    return _transfer((old, new), Verdict.INCOMPATIBLE, reason, refuse)


def _same_version(old: type[State], new: type[State], _steps: _Steps) -> Transfer:
    before, after = shape_of(old), shape_of(new)
    if before != after:
        changed = sorted(
            name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
        )
        return _incompatible(
            old,
            new,
            f"the shape of version {new.__version__} changed ({', '.join(changed)}) and its "
            f"number did not: make it version={new.__version__ + 1}",
        )
    reason = f"same format, version {new.__version__}"
    return _transfer((old, new), Verdict.AS_IS, reason, _by_reference(old, new))


def _by_reference(old: type[State], new: type[State]) -> Callable[[State], State]:
    shapes = shape_of(new)
    foreign = [n for n, s in shapes.items() if n not in new.__references__ and holds_classes(s)]
    if old is not new and (foreign or _own_references(old)):
        return _Builder(old, new, ()).convert
    if old.__struct_fields__ == new.__struct_fields__:
        return lambda state: new(*msgspec.structs.astuple(state))
    return lambda state: new(**fields_of(state))


def _by_steps(old: type[State], new: type[State], steps: _Steps) -> Transfer:
    direction = 1 if new.__version__ > old.__version__ else -1
    hops = list(pairwise(range(old.__version__, new.__version__ + direction, direction)))
    written = [steps[hop] for hop in hops if hop in steps]
    lossy = tuple(name for row in written for name in row.lossy)
    reason = _obstacle(old, new, steps, hops)
    if reason is not None:
        return _incompatible(old, new, reason)
    convert = _Builder(old, new, tuple(row.step for row in written)).convert
    by_itself = len(written) < len(hops)
    names = _renames(old, new)
    gone = {n for n in shape_of(old) if names.get(n, n) not in shape_of(new)} if by_itself else ()
    derived = frozenset(name for row in written for name in row.derived)
    given_up = derived.union(lossy, gone)
    if not written:
        automatic = _transfer((old, new), Verdict.AUTOMATIC, _automatic_reason(old, new), convert)
        return automatic._replace(given_up=given_up)
    reason = ", ".join(f"{row.source} to {row.target}" for row in written)
    way = _transfer((old, new), Verdict.BY_MIGRATION, f"steps {reason}", convert, lossy)
    return way._replace(given_up=given_up, derived=derived, last=written[-1].step)


def _obstacle(
    old: type[State], new: type[State], steps: _Steps, hops: list[tuple[int, int]]
) -> str | None:
    """Why the automatic step may not be taken where none is written, or None."""
    missing = [hop for hop in hops if hop not in steps]
    if not missing:
        return None
    before, after = _renamed_shape(old, new), shape_of(new)
    hop = f'@migration("{new.__kind__}", {missing[0][0]}, {missing[0][1]})'
    if (clash := _clash(old, new)) is not None:
        return f"{clash}: write {hop}"
    if len(missing) == len(hops):
        for name in before.keys() & after.keys():
            if before[name] != after[name]:
                return f"the type of {name} changed and no step says how: write {hop}"
    lost = sorted(after.keys() - before.keys())
    one_way = [back for back in missing if back[::-1] in steps]
    if one_way and lost:
        return f"there is a step up and none down, and {', '.join(lost)} would be lost: write {hop}"
    if one_way and before == after:
        return f"there is a step up and none down, and it changes values alone: write {hop}"
    return None


def _clash(old: type[State], new: type[State]) -> str | None:
    """What nobody could tell of the new names: which of two values a field is to have."""
    names, held = _renames(old, new), shape_of(old)
    became: dict[str, str] = {}
    for name in held:
        then = names.get(name, name)
        if name != then and then in held and then in names:
            return f"{name} would become {then}, which gets another name itself"
        if then in became:
            return f"{became[then]} and {name} would both become {then}"
        became[then] = name
    return None


def _renames(old: type[State], new: type[State]) -> dict[str, str]:
    """Old field name to new field name; the later version declares them, for both directions.

    It tells of all versions before it, so what it says of others is left out: the way down begins
    only names that the older version has, and ends none that this one has, too.
    """
    if new.__version__ > old.__version__:
        return {name: _followed(new, name)[-1] for name in new.__renamed__}
    there = shape_of(new)
    return {
        later: first
        for first in old.__renamed__
        if first in there
        for later in _followed(old, first)
        if later not in there
    }


def _followed(cls: type[State], name: str) -> list[str]:
    """``name`` and the names that came after it, up to the one that ``cls`` has."""
    names, has = [name], shape_of(cls)
    while (then := cls.__renamed__.get(names[-1])) is not None and then not in names:
        names.append(then)
        if then in has:
            break
    return names


def _renamed_shape(old: type[State], new: type[State]) -> dict[str, Any]:
    names = _renames(old, new)
    return {names.get(name, name): shape for name, shape in shape_of(old).items()}


def _automatic_reason(old: type[State], new: type[State]) -> str:
    before, after = _renamed_shape(old, new), shape_of(new)
    changes = (
        ("adds", after.keys() - before.keys()),
        ("drops", before.keys() - after.keys()),
        ("renames", set(_renames(old, new)) & shape_of(old).keys()),
    )
    said = [f"{verb} {', '.join(sorted(names))}" for verb, names in changes if names]
    return "; ".join(said + _perhaps_renamed(before, after)) or "the fields agree"


def _perhaps_renamed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """A field that is gone and one of its type that is new may be one: then its values would go."""
    gone, new = before.keys() - after.keys(), after.keys() - before.keys()
    return [
        f'if {name} is {other} now, renamed={{"{name}": "{other}"}} would keep what is in it'
        for name in sorted(gone)
        for other in sorted(new)
        if before[name] == after[other]
    ][:1]


class _Builder:
    """Carries the fields of an old state through the steps into the new class."""

    __slots__ = ("_foreign", "_new", "_own", "_references", "_renames", "_steps", "_texts")

    def __init__(self, old: type[State], new: type[State], steps: tuple[Step, ...]) -> None:
        self._new = new
        self._steps = steps
        self._references = new.__references__
        self._texts = [
            name
            for name, shape in shape_of(new).items()
            if name not in self._references and holds_texts(shape)
        ]
        self._own = _own_references(old) if old is not new else {}
        self._renames = _renames(old, new) if old is not new else {}
        self._foreign = [
            name
            for name, shape in shape_of(old).items()
            if name not in old.__references__ and holds_classes(shape)
        ]

    def convert(self, state: State) -> State:
        """The new state; raises what a step raises, or msgspec.ValidationError."""
        fields = asdict(state)
        for name in self._foreign:
            fields[name] = msgspec.to_builtins(fields[name], builtin_types=_BUILTIN)
        for name, marker in self._own.items():
            fields[name] = marker.to_canonical(fields[name])
        for step in self._steps:
            fields = step(fields)
            if not isinstance(fields, dict):
                raise accuse(TypeError(_NO_DICT.format(step, type(fields))), step)
        if self._renames:
            _rename(fields, self._renames)
        try:
            return self._built(fields)
        except msgspec.ValidationError as error:
            if self._steps:
                accuse(error, self._steps[-1])
            raise

    def _built(self, fields: dict[str, Any]) -> State:
        return self._with_references(fields) if self._references else self._checked(fields)

    def _checked(self, fields: dict[str, Any]) -> State:
        """The fields as a new state, every type checked.

        msgspec reads text where bytes or a date belong, which would be a guess; telling it not to
        costs more than the rest, and is needed only where such a field holds anything else.
        """
        built: State
        for name in self._texts:
            value = fields.get(name)
            if value and type(value) is not bytes:
                built = msgspec.convert(fields, self._new, builtin_types=_BUILTIN)
                return built
        built = msgspec.convert(fields, self._new)
        return built

    def _with_references(self, fields: dict[str, Any]) -> State:
        """What moves by reference is not looked into, it is only set."""
        moved = {name: fields[name] for name in self._references if name in fields}
        plain = {name: value for name, value in fields.items() if name not in moved}
        built = self._checked(plain)
        for name, value in moved.items():
            known = self._references[name].from_canonical(value) if name in self._own else value
            setattr(built, name, known)
        return built


def _own_references(cls: type[State]) -> dict[str, Reference]:
    """References to objects of the bundle's own classes: they cross in their canonical form.

    A pointer would keep the old module alive and be no instance of the new one's class.
    """
    shapes = shape_of(cls)
    return {n: marker for n, marker in cls.__references__.items() if holds_own(shapes[n])}


def _rename(fields: dict[str, Any], names: dict[str, str]) -> None:
    for before, after in names.items():
        if before in fields and after not in fields:
            fields[after] = fields.pop(before)
