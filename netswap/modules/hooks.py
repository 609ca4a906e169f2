"""Whether the methods of an implementation are what the stack will call.

A callback that takes other arguments, or that is a coroutine or a generator where nobody awaits it,
loads and swaps like any other and then fails each client, or answers none. No conversion of a state
shows that, so it is looked at when the class is there. Special methods that decide what an object
is are netswap's: an implementation is built around its state, compared by identity, and its
attributes are looked up by swaps at moments in which nothing may fail.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from netswap.stack import Implementation, Session

__all__ = ["Misfit", "first_misfit"]

_OURS: Final = "netswap."
_NOBODYS: Final = frozenset({"builtins", "typing"})
_BEGINS: Final = "an object is built around its state: begin in on_connect, run or on_start"
_LOOKS: Final = "swaps look attributes up at moments in which nothing may fail: use plain methods"
_SAME: Final = "an object is the same as itself alone: compare what is in the states"
_SPECIAL: Final = {
    "__init__": ("is never called", _BEGINS),
    "__new__": ("is never called", _BEGINS),
    "__getattribute__": ("would stand between netswap and the object", _LOOKS),
    "__getattr__": ("would stand between netswap and the object", _LOOKS),
    "__setattr__": ("would stand between netswap and the object", _LOOKS),
    "__delattr__": ("would stand between netswap and the object", _LOOKS),
    "__eq__": ("would make two objects one", _SAME),
    "__hash__": ("would make two objects one", _SAME),
}
"""Special methods that an implementation can't have: what each would do, and what to do instead."""


class Misfit(NamedTuple):
    """A method that the stack can't use as it is; ``member`` is what its class has there."""

    reason: str
    advice: str
    member: Any = None


def first_misfit(cls: type[Implementation[Any]]) -> Misfit | None:
    """The first reason why the stack can't call ``cls`` as it calls every object of its sort."""
    return next(_misfits(cls), None)


def _misfits(cls: type[Implementation[Any]]) -> Iterator[Misfit]:
    for base in cls.__mro__:
        if not base.__module__.startswith(_OURS) and base.__module__ not in _NOBODYS:
            for name, (what, advice) in _SPECIAL.items():
                if name not in vars(base):
                    continue
                yield Misfit(f"{cls.__name__}.{name} {what}", advice, vars(base)[name])
    for name, ours in _hooks(cls).items():
        found = inspect.getattr_static(cls, name)
        if found is not ours:
            yield from _unlike(cls, name, ours, found)
    if issubclass(cls, Session) and cls.run is Session.run:
        yield Misfit(f"{cls.__name__} has no run", "write `async def run(self)`")


def _hooks(cls: type) -> dict[str, Any]:
    """What netswap calls on an object of ``cls`` that its author may write, as netswap has it."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if base.__module__.startswith(_OURS):
            for name, member in vars(base).items():
                if name.startswith("on_") or name == "run":
                    found.setdefault(name, member)
    return found


def _unlike(cls: type, name: str, ours: Any, found: Any) -> Iterator[Misfit]:
    what = f"{cls.__name__}.{name}"
    called: Any = getattr(cls, name)
    sort = type(found)
    unbound = sort in (staticmethod, classmethod) and sort is not type(ours)
    if unbound or not callable(called):
        yield Misfit(f"{what} is a {sort.__name__}, not a method", f"write {_said(name, ours)}")
        return
    plain = inspect.unwrap(getattr(found, "__func__", found))
    for is_of, noun in _SORTS.items():
        if is_of(plain) and not is_of(inspect.unwrap(getattr(ours, "__func__", ours))):
            reason = f"{what} is {noun}, and nobody would run it"
            yield Misfit(reason, f"write {_said(name, ours)}; a Session awaits", found)
            return
    given = len(_parameters(ours)) + (not isinstance(found, classmethod))
    if not _takes(called, given):
        reason = f"{what} can't be called as {_said(name, ours).removeprefix('async ')}"
        yield Misfit(reason.replace(" def ", " "), f"write {_said(name, ours)}", found)


_SORTS: Final[dict[Callable[[Any], bool], str]] = {
    inspect.iscoroutinefunction: "async def",
    inspect.isgeneratorfunction: "a generator",
    inspect.isasyncgenfunction: "an asynchronous generator",
}


def _parameters(ours: Any) -> list[str]:
    """The names of the arguments of one of netswap's own hooks, without self or cls."""
    return list(inspect.signature(getattr(ours, "__func__", ours)).parameters)[1:]


def _said(name: str, ours: Any) -> str:
    """How an author writes a hook."""
    function = getattr(ours, "__func__", ours)
    first = "cls" if isinstance(ours, classmethod) else "self"
    word = "async def" if inspect.iscoroutinefunction(function) else "def"
    return f"{word} {name}({', '.join((first, *_parameters(ours)))})"


def _takes(called: Callable[..., Any], count: int) -> bool:
    """Whether ``called`` can be given so many arguments; what nobody can tell is let be."""
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True
