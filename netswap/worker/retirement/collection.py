"""A collection of the garbage collector's that looks at one bundle's objects only.

The modules, functions and classes of a bundle refer to each other in circles, so they are not
freed when the last other reference goes, but by the next full collection. That comes seldom in a
worker that is at rest, and takes longer the more connections there are: 13 to 30 ms at 8,000,
which would be the longest stall of all.

But the collector of CPython has generations: ``gc.collect(0)`` looks at the youngest objects only,
and an object that is taken out of its hands and given back becomes one of them. So the bundle's
objects are found, in slices between which the loop turns, made young, and a collection of the
young follows: 0.1 to 0.7 ms in one piece for the bundled protocols. Nothing is freed that is still
referred to: what the collector finds is decided by counting references, whatever the age.

``PyObject_GC_UnTrack`` and ``PyObject_GC_Track`` are of Python's stable C interface. Where they
can't be had, old code waits for the full collection.
"""

from __future__ import annotations

import asyncio
import builtins
import gc
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

from netswap.worker.retirement.references import Owned

__all__ = ["collect_owned"]

MOST = 20_000
"""So many objects are made young; a bundle that reaches more waits for the full collection."""

SLICE = 200
"""Objects looked at between two turns of the loop: about a quarter of a millisecond."""

_Renew = Callable[[Any], None]


def _renewer() -> _Renew | None:
    try:
        import ctypes
    except ImportError:  # a Python that was built without it
        return None
    untrack, track = ctypes.pythonapi.PyObject_GC_UnTrack, ctypes.pythonapi.PyObject_GC_Track
    for function in (untrack, track):
        function.argtypes, function.restype = [ctypes.py_object], None

    def renew(item: object) -> None:
        if gc.is_tracked(item):
            untrack(item)
            track(item)

    return renew


_renew = _renewer()


async def collect_owned(living: Iterable[object], owned: Owned) -> None:
    """Free what is garbage of ``living`` and of what it reaches; the rest is as it was.

    ``living`` is an iterator, so that nobody else holds what it gives.
    """
    if _renew is None:
        return
    found = await _reachable([*living], owned)
    if len(found) > MOST:
        return
    enabled = gc.isenabled()
    gc.disable()  # a collection in between would make some of them old again
    while found:
        _renew(found.pop())
    gc.collect(0)
    if enabled:
        gc.enable()


async def _reachable(todo: list[object], owned: Owned) -> list[object]:
    """What these objects reach without leaving the bundle's code by another's."""
    seen: set[int] = {id(builtins.__dict__)}
    found: list[object] = []
    while todo and len(found) <= MOST:
        for _ in range(min(SLICE, len(todo))):
            item = todo.pop()
            if id(item) in seen or _is_anothers(item, owned) or not gc.is_tracked(item):
                continue
            seen.add(id(item))
            found.append(item)
            todo += _referents(item, owned)
        item = None
        await asyncio.sleep(0)
    return found


def _is_anothers(item: object, owned: Owned) -> bool:
    """Whether it is a module, class or function of somebody else's, from which all is reached.

    A closure is not, nor a class that was made while the program ran: a framework makes them for
    each function of an application that it decorates.
    """
    if not isinstance(item, _CODE) or item in owned:
        return False
    if isinstance(item, types.FunctionType):
        return item.__closure__ is None
    return not isinstance(item, type) or _is_found(item)


def _is_found(cls: type) -> bool:
    """Whether a class is what an import finds under its name."""
    found: Any = sys.modules.get(getattr(cls, "__module__", ""))
    for part in cls.__qualname__.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found is cls


def _referents(item: object, owned: Owned) -> list[Any]:
    """What an object refers to; of somebody else's closure not the globals of its module."""
    if isinstance(item, types.FunctionType) and item not in owned:
        return [item.__closure__, item.__defaults__, item.__kwdefaults__, vars(item)]
    return gc.get_referents(item)


_CODE = (type, types.ModuleType, types.FunctionType)
