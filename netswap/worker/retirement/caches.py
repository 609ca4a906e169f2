"""Caches of libraries that still hold old code, and are emptied of it.

A framework remembers what it has found out about an application's functions and classes, by
``functools.lru_cache``: FastAPI whether a route is a generator, typing what ``Optional[Item]`` is.
Such a cache belongs to the library, lives as long as the process, and would keep each version that
was ever pushed, up to its size. It is only a cache, so one in which something of the old code is
found is cleared; the next call works it out again.

Looked through are the globals of all modules and what their classes define, a slice at a time.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
import time
import types
from collections.abc import Iterator
from typing import Any

from netswap.worker.retirement.references import Owned

__all__ = ["forget_cached"]

SLICE_S = 0.0005
"""Seconds of looking between two turns of the loop."""

MOST = 4_000
"""So many objects of one cache are looked at."""

_Cache = functools._lru_cache_wrapper
_CODE = (type, types.ModuleType, types.FunctionType)


async def forget_cached(owned: Owned) -> list[str]:
    """Clear each library's cache that holds something of ``owned``; their names."""
    cleared: list[str] = []
    until = time.perf_counter() + SLICE_S
    for module in list(sys.modules.values()):
        for name, cache in list(_caches(module)):
            if _holds(cache, owned):
                cache.cache_clear()
                cleared.append(name)
            if time.perf_counter() > until:
                await asyncio.sleep(0)
                until = time.perf_counter() + SLICE_S
    return cleared


def _caches(module: types.ModuleType) -> Iterator[tuple[str, Any]]:
    """The caches of a module and of its classes, with names."""
    home = getattr(module, "__name__", "")
    for name, value in list(getattr(module, "__dict__", {}).items()):
        if isinstance(value, _Cache):
            yield f"{home}.{name}", value
        elif isinstance(value, type) and value.__module__ == home:
            for inner, member in list(vars(value).items()):
                function = getattr(member, "__func__", member)
                if isinstance(function, _Cache):
                    yield f"{home}.{name}.{inner}", function


def _holds(cache: Any, owned: Owned) -> bool:
    """Whether something of the old code is reached from a cache by nobody else's code."""
    seen: set[int] = set()
    own = (id(cache.__wrapped__), id(vars(cache)))
    todo = [item for item in gc.get_referents(cache) if id(item) not in own]
    while todo and len(seen) < MOST:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if item in owned:
            return True
        if not isinstance(item, _CODE) and gc.is_tracked(item):
            todo += gc.get_referents(item)
    return False
