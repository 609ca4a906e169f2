"""Invariants: what an author says is always true of a state between two calls.

An invariant is a method of a State that looks at ``self`` alone and changes nothing. It is
*violated* when what it returns is not true, or when it raises. The rehearsal asks the invariants
of every live object's new state; nothing asks them in steady state.
"""

from __future__ import annotations

import inspect
import linecache
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from netswap.blame import author_file, blame, describe

if TYPE_CHECKING:
    from netswap.transfer.state import State

__all__ = ["Check", "Violation", "find_invariants", "invariant", "is_invariant", "violated"]

Check = Callable[[Any], Any]
F = TypeVar("F", bound=Check)

_MARK = "__netswap_invariant__"
_INNER = ("fget", "__func__", "func")
"""Where a property, a static or class method and a cached property keep the function."""


class Violation(NamedTuple):
    """The invariant ``name`` (``Talk.history_is_bounded``) does not hold, and ``why``.

    ``file`` and ``line`` are where it is written, or where it raised.
    """

    name: str
    why: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"the invariant {self.name} {self.why}"


def invariant(check: F) -> F:
    """Declare a method of a State that is true whenever no call is inside the object.

    Raises TypeError for what can't be asked: no plain function, or one that wants more than self.
    """
    if not inspect.isfunction(check) or inspect.iscoroutinefunction(check):
        raise TypeError(f"an invariant is a plain method, and {check!r} is none")
    wanted = [p for p in inspect.signature(check).parameters.values() if p.default is p.empty]
    if len(wanted) != 1:
        raise TypeError(f"the invariant {check.__name__} takes self and nothing else")
    setattr(check, _MARK, True)
    return check


def is_invariant(value: object) -> bool:
    """Whether a value of a class's namespace was declared with ``invariant``."""
    return inspect.isfunction(value) and hasattr(value, _MARK)


def find_invariants(cls: type) -> Mapping[str, Check]:
    """The invariants of a class and its bases by name; what overrides one takes its place.

    Raises TypeError for one that is hidden in a property or the like: nothing would ask it.
    """
    found: dict[str, Check] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if is_invariant(value):
                found[name] = value
            elif any(is_invariant(getattr(value, inner, None)) for inner in _INNER):
                raise TypeError(
                    f"{base.__name__}.{name} is a {type(value).__name__} around an invariant; "
                    "an invariant is a plain method"
                )
            else:
                found.pop(name, None)
    return found


def violated(state: State) -> Violation | None:
    """The first invariant of ``state`` that does not hold, or None.

    Lets DeadlinePassed through, as everything that runs an author's code does.
    """
    for name, check in state.__invariants__.items():
        try:
            outcome = check(state)
            if outcome:
                continue
            why, place = f"does not hold: it returned {outcome!r}", _place(check)
        except (Exception, SystemExit) as error:
            file, line = blame(error)
            place = (file, line or 1) if file else _place(check)
            why = f"raised {describe(error)}"
        return Violation(f"{type(state).__name__}.{name}", why, *place)
    return None


def _place(check: Check) -> tuple[str, int]:
    """Where the method is written: the line of its ``def``, not of its decorator."""
    code = check.__code__
    begin = re.compile(rf"\s*def\s+{code.co_name}\b")
    lines = enumerate(linecache.getlines(code.co_filename), 1)
    first = code.co_firstlineno
    line = next((n for n, text in lines if n >= first and begin.match(text)), first)
    return author_file(code.co_filename) or code.co_filename, line
