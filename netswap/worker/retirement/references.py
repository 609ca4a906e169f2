"""How one object holds another, in words: the links of a chain that keeps old code alive.

A chain leads from a *root*, which lives by itself (a module's global, a task, an entry of the
table, the loop), to something that is made of the old code. ``in_words`` tells it from the root
on and ends at the first object that the old code owns: what that holds in turn says nothing new.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

from netswap.blame import author_file
from netswap.quiescence import suspended_at

__all__ = ["Owned", "describe_object", "in_words", "place"]

_LONGEST = 60
_SUSPENDED = "suspended at"
_FRAMES = ("cr_frame", "gi_frame", "ag_frame", "tb_frame")
_COROUTINES = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)


class Owned:
    """What belongs to one bundle's code: its modules, and whatever has their globals.

    ``package`` is the name of the bundle's package, ``spaces`` are the numbers (``id``) of its
    modules' globals.
    """

    def __init__(self, package: str, spaces: Iterable[int]) -> None:
        self._package = package
        self._below = f"{package}."
        self.spaces = frozenset(spaces)

    def __contains__(self, item: object) -> bool:
        if id(item) in self.spaces or self._is_named(type(item)):
            return True
        if isinstance(item, types.MethodType):
            return item.__func__ in self or self._is_named(type(item.__self__))
        if isinstance(item, type):
            return self._is_named(item)
        if isinstance(item, types.ModuleType):
            return self._is_ours(item.__name__)
        return id(_globals_of(item)) in self.spaces

    def _is_named(self, cls: type) -> bool:
        return self._is_ours(getattr(cls, "__module__", None))

    def _is_ours(self, module: object) -> bool:
        return isinstance(module, str) and (
            module == self._package or module.startswith(self._below)
        )


def _globals_of(item: object) -> object:
    """The namespace that code runs in, if ``item`` is code that runs or can run."""
    if isinstance(item, types.FunctionType):
        return item.__globals__
    frame = item if isinstance(item, types.FrameType) else _frame_of(item)
    return None if frame is None else frame.f_globals


def _frame_of(item: object) -> Any:
    """The frame of a coroutine, a generator or a traceback."""
    name = next((name for name in _FRAMES if hasattr(type(item), name)), None)
    return None if name is None else getattr(item, name)


def place(where: str) -> str:
    """``file:line`` as the author knows it; of other code the end of the path says enough."""
    file, _, line = where.rpartition(":")
    short = author_file(file) or "/".join(file.split("/")[-2:])
    return f"{short}:{line}"


# links


def in_words(root: str, path: Sequence[object], owned: Owned) -> str:
    """The chain ``path``, whose first object is called ``root``, as one line."""
    if path[0] in owned and not isinstance(path[0], asyncio.Task):
        return f"{root} → {describe_object(path[0])}"
    text = root
    before: object = None
    shown = [
        item for item, above in zip(path, [None, *path], strict=False) if _is_shown(item, above)
    ]
    for holder, held in pairwise(shown):
        link = _link(before, holder, held)
        if held in owned:
            return f"{text}{link or ''}{_last(text, held)}"
        if _is_handle(held):
            of_loop = isinstance(path[0], asyncio.AbstractEventLoop)
            text, link = root if of_loop else text, f", {_called_handle(held)}"
        text += f" → {type(held).__name__}" if link is None else link
        before = holder
    return text


def _is_shown(item: object, above: object) -> bool:
    """Whether a reader wants to know of it: not of a context's tree, nor of a tuple of cells."""
    of_context = type(item).__name__.startswith("hamt")
    return not (of_context or getattr(above, "__closure__", None) is item is not None)


def _last(text: str, held: object) -> str:
    """The end of a chain; a task's coroutine was told of with the task."""
    told = isinstance(held, _COROUTINES) and _SUSPENDED in text
    return "" if told else f" → {describe_object(held)}"


def _link(before: object, holder: object, held: object) -> str | None:
    """How ``holder`` holds ``held``, an empty text where that goes unsaid, or None."""
    if isinstance(holder, dict):
        return _of_dict(holder, held, _is_namespace(before, holder))
    for kind, say in _SAY.items():
        if isinstance(holder, kind):
            return say(holder, held)
    return _of_attributes(holder, held)


def _is_namespace(before: object, holder: dict[Any, Any]) -> bool:
    own = isinstance(before, type) or getattr(before, "__dict__", None) is holder
    return own or "__name__" in holder


def _of_dict(holder: dict[Any, Any], held: object, names: bool) -> str:
    for key, value in holder.items():
        if value is held:
            return f".{key}" if names else f"[{_short(key)}]"
    return " (a key)"


def _of_attributes(holder: object, held: object) -> str | None:
    """``.name`` when ``held`` is the value of an attribute, slot or field of ``holder``."""
    if getattr(holder, "__dict__", None) is held:
        return ""
    for name in _names(holder):
        try:
            value = object.__getattribute__(holder, name)
        except Exception:  # noqa: S112 - an empty slot, or a property of an author's
            continue
        if value is held:
            return f".{name}"
    return None


def _names(holder: object) -> list[str]:
    names = list(getattr(holder, "__dict__", None) or ())
    for cls in type(holder).__mro__:
        names += [name for name, value in vars(cls).items() if isinstance(value, _DESCRIPTORS)]
    return names


_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)


def _of_type(holder: type, held: object) -> str | None:
    """A class: its namespace can't be had as such, and what it holds is named from there."""
    return "" if isinstance(held, dict) else _of_dict(dict(vars(holder)), held, True)


def _of_sequence(holder: Sequence[object], held: object) -> str:
    return f"[{next((n for n, item in enumerate(holder) if item is held), '?')}]"


def _of_function(holder: types.FunctionType, held: object) -> str:
    cells = zip(holder.__closure__ or (), holder.__code__.co_freevars, strict=True)
    name = next((name for cell, name in cells if cell is held), None)
    variable = "" if name is None else f", variable {name}"
    return f" → {describe_object(holder)}{variable}"


def _of_frame(holder: types.FrameType, held: object) -> str:
    return f", {describe_object(holder)}{_local(holder, held)}"


def _of_coroutine(holder: Any, held: object) -> str:
    frame = _frame_of(holder)
    return "" if frame is None else _local(frame, held)


def _local(frame: types.FrameType, held: object) -> str:
    name = next((name for name, value in frame.f_locals.items() if value is held), None)
    return "" if name is None else f", variable {name}"


def _of_cache(_holder: object, held: object) -> str:
    return " → lru_cache" if isinstance(held, types.FunctionType) else " → an entry of lru_cache"


def _of_context(holder: contextvars.Context, held: object) -> str:
    name = next((variable.name for variable, value in holder.items() if value is held), None)
    return " → context" if name is None else f", context variable {name}"


def _silent(_holder: object, _held: object) -> str:
    return ""


_SAY: dict[type[Any], Callable[[Any, Any], str | None]] = {
    type: _of_type,
    list: _of_sequence,
    tuple: _of_sequence,
    deque: _of_sequence,
    types.FunctionType: _of_function,
    types.CellType: _silent,
    types.FrameType: _of_frame,
    types.CoroutineType: _of_coroutine,
    types.GeneratorType: _of_coroutine,
    types.AsyncGeneratorType: _of_coroutine,
    types.TracebackType: _silent,
    asyncio.Task: _silent,
    asyncio.Handle: _silent,
    weakref.ref: lambda _holder, _held: " → callback of a weak reference",
    functools.partial: lambda _holder, _held: " → partial",
    functools._lru_cache_wrapper: _of_cache,
    contextvars.Context: _of_context,
}


def _is_handle(item: object) -> bool:
    """Whether ``item`` is what a loop keeps of a callback; uvloop has classes of its own."""
    cls = type(item)
    return isinstance(item, asyncio.Handle) or (
        cls.__module__ == "uvloop.loop" and cls.__name__ in {"Handle", "TimerHandle"}
    )


def _called_handle(item: Any) -> str:
    return "a timer" if hasattr(item, "when") else "a callback"


# names


def _called_function(item: types.FunctionType) -> str:
    code = item.__code__
    return f"function {item.__qualname__} ({place(f'{code.co_filename}:{code.co_firstlineno}')})"


def _called_method(item: types.MethodType) -> str:
    return describe_object(item.__func__)


def _called_frame(item: types.FrameType) -> str:
    return f"frame of {item.f_code.co_name} ({place(f'{item.f_code.co_filename}:{item.f_lineno}')})"


def _called_traceback(item: types.TracebackType) -> str:
    return f"traceback at {place(f'{item.tb_frame.f_code.co_filename}:{item.tb_lineno}')}"


def _called_coroutine(item: Any) -> str:
    where = suspended_at(item)
    return f"{item.__qualname__}, " + (f"{_SUSPENDED} {place(where)}" if where else "at its end")


_CALLED: dict[type[Any], Callable[[Any], str]] = {
    types.FunctionType: _called_function,
    types.MethodType: _called_method,
    type: lambda item: f"class {item.__qualname__}",
    types.ModuleType: lambda item: f"module {item.__name__.partition('.')[2] or item.__name__}",
    types.FrameType: _called_frame,
    types.TracebackType: _called_traceback,
    types.CoroutineType: _called_coroutine,
    types.GeneratorType: _called_coroutine,
    types.AsyncGeneratorType: _called_coroutine,
    dict: lambda _item: "its globals",
}


def describe_object(item: object) -> str:
    """What an object is to whoever reads the chain; of code, where it stands."""
    for kind, say in _CALLED.items():
        if isinstance(item, kind):
            return say(item)
    return f"an instance of {type(item).__qualname__}"


def _short(key: object) -> str:
    try:
        text = repr(key)
    except Exception as error:  # made by an author's code
        text = f"{type(error).__name__} for its repr"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
