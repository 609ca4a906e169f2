"""What keeps old code alive: the shortest chain of references from a root to it.

Theory. A search from the old code *up*: first what refers to it, then what refers to that, a
level at a time, so that the first root met has the shortest chain. ``gc.get_referrers`` looks at
every object of the process for each level, which takes about a tenth of a second for a million:
too long for a loop, and the reason why this runs in a forked child.

A *root* lives by itself: a module, an entry of the table, a task that has not ended, the loop.
The search stops there, so it does not walk through the whole process.

What a search up can't see is a reference that no Python object has: that of C code, such as
atexit's list or a thread's own stack. When no root was found, the objects met are counted as the
collector does it: one that has more references than the others explain is held from outside.

Nor does the collector look at everything: a state whose values are all numbers, texts and bytes is
not tracked, though it refers to its class. So a class looks held to the collector when only
garbage has such an instance, and a search up from the class does not come to the holder of one
that lives. Both begin with those instances here, which are found among what all objects refer to.

The child is free to change what it likes: it asks atexit by taking a function out.

Rejected: a search from the roots down, or one pass that notes every reference: memory for millions
of references, in a copy of a process that serves.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import gc
import signal
import sys
import threading
import types
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from netswap.ott import Entry
from netswap.quiescence import suspended_at
from netswap.stack import Host
from netswap.worker.retirement.references import Owned, describe_object, in_words, place

__all__ = ["Ground", "find_holders"]

MOST = 3
"""So many chains are told of; mending the first ones often ends the others."""

NODES = 20_000
"""So many objects are looked at before the search gives up."""

CHUNK = 1_000
"""So many objects are asked at once what they refer to."""

WIDEST = 300
"""So many of one level are followed: the collector compares every reference with each of them."""

_UNKNOWN = "C code"

_TEMPORARY = 2
"""References that counting itself makes: a loop's variable and an argument."""


class Ground:
    """What lives by itself in a worker; made in the parent, since threads do not cross a fork.

    Of threads it keeps numbers and words only: their frames must not live longer for being seen.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self.threads = list(_running_threads())

    def name(self, item: object) -> str | None:
        """What a root is called, or None for any other object."""
        if isinstance(item, Entry):
            return f"{item.kind} {self._host.slot}.{item.identity}"
        if isinstance(item, asyncio.Task):
            return None if item.done() else self._task(item)
        if item is self._host.loop:
            return "the event loop"
        return _global_name(item)

    def _task(self, task: asyncio.Task[Any]) -> str:
        where = place(suspended_at(task.get_coro()) or "its end:0")
        frame = getattr(task.get_coro(), "cr_frame", None)
        row = None if frame is None else getattr(frame.f_locals.get("self"), "entry", None)
        whose = f"task {task.get_name()}" if row is None else f"task of {self.name(row)}"
        return f"{whose}, suspended at {where}"


def _global_name(item: object) -> str | None:
    """``module.name`` of what an import finds, a module or its namespace, a class or a function.

    Its namespace: every function of a module refers to that, and none of them is the reason.
    """
    if isinstance(item, dict):
        module = sys.modules.get(str(item.get("__name__")))
        return module.__name__ if module is not None and vars(module) is item else None
    if isinstance(item, types.ModuleType):
        return item.__name__ if sys.modules.get(item.__name__) is item else None
    if not isinstance(item, type | types.FunctionType):
        return None
    found: Any = sys.modules.get(item.__module__)
    for part in item.__qualname__.split("."):
        found = getattr(found, part, None)
    return f"{item.__module__}.{item.__qualname__}" if found is item else None


def _running_threads() -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """Each other thread's name, and of each of its frames the namespace's number and the place."""
    own = threading.get_ident()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for number, top in sys._current_frames().items():
        frame: types.FrameType | None = top
        frames = []
        while frame is not None and number != own:
            where = place(f"{frame.f_code.co_filename}:{frame.f_lineno}")
            frames.append((id(frame.f_globals), where))
            frame = frame.f_back
        yield f"thread {names.get(number, number)}", frames


def find_holders(
    living: Iterable[object], owned: Owned, ground: Ground, garbage: Sequence[object] = ()
) -> list[str]:
    """What holds ``living``, which is ``owned`` old code, as chains in words; the shortest first.

    ``garbage`` is what the collector has found and kept. Empty when nothing lives, or when only
    garbage holds it; else what can't be found is said to be so. Only for a child: old code is
    taken out of atexit's list.
    """
    start = [*living]
    if not start:
        return []
    start += _untracked_instances({item for item in start if isinstance(item, type)})
    search = _Search(start, owned, ground, garbage)
    found = [*_threads(owned, ground), *_handlers(owned), *search.climb()]
    return list(dict.fromkeys(found or search.held_from_outside()))[:MOST]


def _untracked_instances(classes: set[type]) -> list[object]:
    """Instances that the collector does not look at, and so no search from their class finds."""
    known = gc.get_objects()
    found: dict[int, object] = {}
    for begin in range(0, len(known), CHUNK):
        for item in gc.get_referents(*known[begin : begin + CHUNK]):
            if type(item) in classes and not gc.is_tracked(item):
                found[id(item)] = item
    return [*found.values()]


def _threads(owned: Owned, ground: Ground) -> list[str]:
    """Threads that run old code."""
    return [
        f"{name}, running at {where}"
        for name, frames in ground.threads
        for where in [next((where for space, where in frames if space in owned.spaces), None)]
        if where is not None
    ]


def _handlers(owned: Owned) -> list[str]:
    """Handlers of signals, which C code holds, that are old code."""
    handlers = [(number, signal.getsignal(number)) for number in signal.valid_signals()]
    return [
        f"handler of {signal.Signals(number).name} → {describe_object(handler)}"
        for number, handler in handlers
        if handler in owned
    ]


class _Search:
    """One search. No generator here: one that runs is itself seen as a holder of its variables."""

    def __init__(
        self, start: list[object], owned: Owned, ground: Ground, garbage: Sequence[object]
    ) -> None:
        self.start = start
        self._owned = owned
        self._ground = ground
        self._garbage = garbage
        self._met = [*start]
        self._toward: dict[int, object] = dict.fromkeys(map(id, start))
        own = (start, self._met, self._toward, garbage)
        self._ignored = {*map(id, own), *map(id, garbage)}
        self.cut = False

    def climb(self) -> list[str]:
        """The chains to the nearest roots."""
        chains: list[str] = []
        frontier = [*self.start]
        while frontier and len(chains) < MOST:
            self._ignored.add(id(frontier))
            roots, following = self._level(frontier)
            chains += roots
            self.cut |= len(following) > WIDEST or len(self._met) > NODES
            frontier = following[:WIDEST] if len(self._met) <= NODES else []
            del following  # or it would be a holder of the next level
        return chains

    def _level(self, frontier: list[object]) -> tuple[list[str], list[object]]:
        """The roots that hold one of these, as chains, and the other holders."""
        below = set(map(id, frontier))
        roots: list[str] = []
        following: list[object] = []
        for holder in gc.get_referrers(*frontier):
            if id(holder) in self._ignored or id(holder) in self._toward:
                continue
            self._toward[id(holder)] = _one_of(gc.get_referents(holder), below)
            self._met.append(holder)
            name = self._ground.name(holder)
            if name is None:
                following.append(holder)
            else:
                roots.append(in_words(name, self._path(holder), self._owned))
        return roots, following

    def _path(self, root: object) -> list[object]:
        path = [root]
        while (held := self._toward[id(path[-1])]) is not None:
            path.append(held)
        return path

    def held_from_outside(self) -> list[str]:
        """What has more references than Python objects explain, when no root was found.

        Nothing when garbage explains them: the collector could not see that.
        """
        if self.cut:
            return [f"too many objects to follow: {len(self._met)} were looked at"]
        inside = Counter(map(id, gc.get_referents(*self._garbage)))
        in_garbage = any(inside[id(item)] for item in self._met)
        # all at once: the last one that a loop had would have one reference more
        inside.update(map(id, gc.get_referents(*self._met)))
        own = Counter(map(id, (*self._met, *self._toward.values(), *self.start)))
        outside = []
        for item in self._met:
            if sys.getrefcount(item) - inside[id(item)] - own[id(item)] > _TEMPORARY:
                outside.append(item)
        if not outside:
            return [] if in_garbage else ["something that was not found"]
        named = [(_outsider(item), item) for item in outside]
        known = [row for row in named if row[0] != _UNKNOWN] or named
        return [self._told(name, item) for name, item in known[:MOST]]

    def _told(self, name: str, item: object) -> str:
        """The chain from something that only C code holds; what that is shows whose it may be."""
        shown = name if item in self._owned else f"{name} → {describe_object(item)}"
        return in_words(shown, self._path(item), self._owned)


def _one_of(items: list[object], numbers: set[int]) -> object:
    for item in items:
        if id(item) in numbers:
            return item
    return None


def _outsider(item: object) -> str:
    """What outside of Python's objects holds ``item``."""
    if isinstance(item, contextvars.Context):
        return "the context of a thread"
    if callable(item):
        known = sys.getrefcount(item)
        atexit.unregister(item)
        if sys.getrefcount(item) < known:
            return "atexit"
    return _UNKNOWN
