"""Whether a kind's new implementation may follow the present one, before anything is touched."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from netswap.blame import defined_at
from netswap.events import Refusal, Stage, Verdict, VerdictLine
from netswap.hosting import APP
from netswap.hotswap import Change
from netswap.stack import FACTORY, Connection, Implementation, Part
from netswap.transfer import Transfer, plan_transfer
from netswap.worker.likeness import alike
from netswap.worker.together import Together

__all__ = ["Judgement", "judge", "ordered", "unsplittable"]

INTERFACES: Mapping[str, tuple[str, ...]] = {
    "buffer.receive": ("feed", "size", "take", "take_line", "take_all", "peek"),
    "buffer.send": ("write", "flush", "size"),
    "timer.service": ("arm", "cancel", "cancel_all", "remaining"),
    "connection.factory": ("admit", "released"),
    "watch.policy": ("judge",),
    APP: ("answer",),
}
"""What the stack itself calls on a kind; other kinds keep what they had."""


class Judgement(NamedTuple):
    """A verdict on each change, and the first reason to refuse them all.

    ``together`` is what would ask what of another version, None where nobody has looked.
    """

    lines: list[VerdictLine]
    refusal: Refusal | None = None
    together: Together | None = None


def judge(
    changes: Iterable[Change],
    present: Mapping[str, type[Implementation[Any]]],
    live: Mapping[str, Iterable[type[Implementation[Any]]]],
    allow_lossy: bool,
    probation: bool = False,
) -> Judgement:
    """The verdict on each change, and the first reason to refuse them all if there is one.

    ``present`` is what new objects are made of now, ``live`` the classes of the live objects. On
    ``probation`` the way back must not lose either, unless that is allowed.
    """
    changes = list(changes)
    changed = {change.kind: change for change in changes}
    after = {**present, **{change.kind: change.new for change in changes}}
    refusals = [
        _structure(change, after, changed)
        or _each_way(change, live, allow_lossy)
        or (_lossy_back(change, live) if probation and not allow_lossy else None)
        for change in changes
    ]
    lines = [_line(*pair) for pair in zip(changes, refusals, strict=True)]
    return Judgement(lines, next(filter(None, refusals), None))


_ORDER = ("worker", "connection")


def ordered(changes: Iterable[Change]) -> list[Change]:
    """Timers and buffers, then other services, then what uses them."""

    def rank(change: Change) -> tuple[int, int, str]:
        own = change.kind.startswith(("timer.", "buffer.")) or change.kind == FACTORY
        return (0 if own else 1, _ORDER.index(change.new.scope), change.kind)

    return sorted(changes, key=rank)


def unsplittable(changes: Iterable[Change]) -> Refusal | None:
    """Why a canary can't be less than a whole worker: there is one object of some kind in it.

    One that is written as before does not have to be split; it follows with the rest.
    """
    for change in changes:
        before = change.before
        if before is not None and change.new.scope == "worker" and not alike(before, change.new):
            return _refuse(
                change,
                change.new,
                f"{change.kind} is one object a worker and can't be split between two versions",
                "use --canary worker=0 for a whole worker, or push the connections' module alone",
            )
    return None


def _refuse(change: Change, culprit: type, reason: str, advice: str) -> Refusal:
    """``culprit`` is the class of the author's that has to be mended."""
    file, line = defined_at(culprit)
    return Refusal(Stage.VERDICT, reason, file, line, change.kind, advice=advice)


def _structure(
    change: Change, after: Mapping[str, type[Implementation[Any]]], changed: Container[str]
) -> Refusal | None:
    """What does not depend on state: used kinds, scope, interface."""
    return (
        _unprovided(change, after)
        or _other_scope(change)
        or _deaf(change)
        or _lacking(change, _interface(change, after, changed))
    )


def _unprovided(change: Change, after: Mapping[str, type[Implementation[Any]]]) -> Refusal | None:
    new = change.new
    for name, kind in new.uses.items():
        if kind not in after:
            reason = f"{new.__name__} uses {kind} as {name}, and nothing provides it"
            advice = "push the module that provides it together with this one"
            return _refuse(change, new, reason, advice)
    return None


def _other_scope(change: Change) -> Refusal | None:
    new, before = change.new, change.before
    was, becomes = (None if cls is None else _belonging(cls) for cls in (before, new))
    if was in (None, becomes):
        return None
    reason = f"objects of {change.kind} belong to {was}, those of {new.__name__} to {becomes}"
    advice = "derive from the same base, or give the new thing a kind of its own"
    return _refuse(change, new, reason, advice)


def _belonging(cls: type[Implementation[Any]]) -> str:
    """Whose an object of the class is; what serves a transport is no part of what does."""
    return "another object" if issubclass(cls, Part) else f"a {cls.scope}"


def _deaf(change: Change) -> Refusal | None:
    """A connection that took bytes and would take none."""
    new, before = change.new, change.before
    if before is None or not issubclass(before, Connection) or not issubclass(new, Connection):
        return None
    if new.on_data is not Connection.on_data or before.on_data is Connection.on_data:
        return None
    reason = f"{new.__name__} has no on_data, and clients of {change.kind} send something"
    return _refuse(change, new, reason, "write def on_data(self, data)")


def _lacking(change: Change, interface: Iterable[str]) -> Refusal | None:
    new = change.new
    missing = [name for name in interface if not _has_method(new, name)]
    if missing:
        reason = f"{new.__name__} lacks {', '.join(missing)}, which clients of {change.kind} call"
        return _refuse(change, new, reason, "keep the methods that clients use")
    before = change.before
    for name in interface if before is not None else ():
        was, becomes = getattr(before, name, None), getattr(new, name)
        if inspect.isfunction(was) and inspect.isfunction(becomes) and not _takes(becomes, was):
            reason = (
                f"{new.__name__}.{name}{_parameters(becomes)} can't be called as clients of "
                f"{change.kind} call it: {name}{_parameters(was)}"
            )
            return _refuse(change, new, reason, "keep the parameters, and give new ones a default")
    return None


def _parameters(method: Callable[..., Any]) -> inspect.Signature:
    """The names of the parameters and which have a default."""
    signature = inspect.signature(method)
    bare = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
    return signature.replace(parameters=bare, return_annotation=signature.empty)


def _takes(becomes: Callable[..., Any], was: Callable[..., Any]) -> bool:
    """Whether what ``was`` has to be given may be given in its place, by order or by name."""
    needed = [
        name
        for name, one in inspect.signature(was).parameters.items()
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    signature = inspect.signature(becomes)
    for ordered, named in ((needed, ()), (needed[:1], needed[1:])):
        with suppress(TypeError):
            signature.bind(*ordered, **dict.fromkeys(named))
            return True
    return False


def _has_method(new: type[Implementation[Any]], name: str) -> bool:
    """Or a slot of its name, which netswap's own bases fill with one; a module's have no slots."""
    found = getattr(new, name, None)
    return callable(found) or inspect.ismemberdescriptor(found)


def _interface(
    change: Change, after: Mapping[str, type[Implementation[Any]]], changed: Container[str]
) -> tuple[str, ...]:
    """The methods that must stay: the stack's, or all, when a client of the kind stays as it is."""
    known = INTERFACES.get(change.kind)
    if known is not None:
        return known
    before = change.before
    stays = any(
        change.kind in client.uses.values() and kind not in changed
        for kind, client in after.items()
    )
    if before is None or issubclass(before, Connection) or not stays:
        return ()
    of_the_stack = next(base for base in before.__mro__ if base.__module__.startswith("netswap."))
    own = set(dir(before)) - set(dir(of_the_stack))
    return tuple(
        sorted(name for name in own if not name.startswith("_") and callable(getattr(before, name)))
    )


def _predecessors(
    change: Change, live: Mapping[str, Iterable[type[Implementation[Any]]]]
) -> set[type[Implementation[Any]]]:
    return set(live.get(change.kind, ())) | ({change.before} if change.before else set())


def _lossy_back(
    change: Change, live: Mapping[str, Iterable[type[Implementation[Any]]]]
) -> Refusal | None:
    """A watch that fails takes back by itself, so nobody could be asked then."""
    for old in _predecessors(change, live):
        back = _plan_back(change, old)
        if back.lossy:
            return _refuse(
                change,
                change.new.state_type,
                f"going back from version {back.source} to {back.target} loses "
                f"{', '.join(back.lossy)}, and a watch or a canary may go back",
                "add --allow-lossy if that may be lost, or push with neither",
            )
    return None


def _each_way(
    change: Change, live: Mapping[str, Iterable[type[Implementation[Any]]]], allow_lossy: bool
) -> Refusal | None:
    for old in _predecessors(change, live):
        refusal = _way(change, old, allow_lossy)
        if refusal is not None:
            return refusal
    return None


def _way(change: Change, old: type[Implementation[Any]], allow_lossy: bool) -> Refusal | None:
    """Both ways between two implementations have to be there; forward must not lose unasked."""
    way, back = _plan(change, old), _plan_back(change, old)
    if way.verdict is Verdict.INCOMPATIBLE:
        reason = f"version {way.source} can't become version {way.target}: {way.reason}"
        advice = "add the step, or raise the version; netswap check tries it offline"
    elif back.verdict is Verdict.INCOMPATIBLE:
        reason = f"there is no way back from version {back.source} to {back.target}: {back.reason}"
        advice = "write the step down as well, so that the change can be undone"
    elif way.lossy and not allow_lossy:
        reason = f"version {way.source} to {way.target} loses {', '.join(way.lossy)}"
        advice = "add --allow-lossy if that is what you want"
    else:
        return None
    return _refuse(change, change.new.state_type, reason, advice)


def _plan(change: Change, old: type[Implementation[Any]]) -> Transfer:
    return plan_transfer(old.state_type, change.new.state_type, change.migrations)


def _plan_back(change: Change, old: type[Implementation[Any]]) -> Transfer:
    return plan_transfer(change.new.state_type, old.state_type, change.migrations)


def _line(change: Change, refusal: Refusal | None) -> VerdictLine:
    new, before = change.new, change.before
    way = None if before is None else _plan(change, before)
    old = None if way is None else way.source
    if refusal is not None:
        return VerdictLine(change.kind, Verdict.INCOMPATIBLE, refusal.reason, old, new.version)
    if way is None:
        reason = getattr(new, "remark", "") or "a kind that was not there"
        return VerdictLine(change.kind, Verdict.NEW, reason, None, new.version)
    reason = getattr(new, "remark", "") or way.reason
    return VerdictLine(change.kind, way.verdict, reason, way.source, way.target, list(way.lossy))
