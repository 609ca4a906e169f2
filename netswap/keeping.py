"""What an application hands to the version that follows instead of closing it.

Theory. A pool, a cache or a model is dear to make and belongs to no version. An author names it
(``__netswap_keep__ = ["pool"]``) or asks for it by ``kept("pool", make_pool)``; the worker has one
for each name, and counts the loads of code that keep it:

* a version that starts finds what its predecessor has under a name that both keep: as the global
  (of another module than the application's: ``"db.pool"``), and as ``app["pool"]`` or
  ``app.state.pool`` if the predecessor had it there; ``kept`` gives it;
* when a version stops, what another one keeps is out of its reach: in its place stands a *shield*
  that passes everything on but what would close it, so an unchanged clean-up does no harm;
* the last version that keeps it closes it in its clean-up, as its author wrote it; what ``kept``
  has made is closed here, by the first of ``CLOSERS`` that it has, so its author need not.

A version that is given up cleans up what it made itself, and lets go of what it took.

What it can't reach is a local variable: the clean-up of ``async with create_pool() as pool`` closes
what it opened. Such a resource is made by ``kept``, which then closes it itself.
An object of a class that was pushed keeps that version's code in the worker, and the audit of
retired code says so.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from netswap.blame import describe
from netswap.firsterror import FirstError

__all__ = ["INSTALLATION", "Keeper", "abandon", "kept"]

INSTALLATION = "__netswap_installation__"
"""In the builtins of a bundle's modules: what tells one load of it from another."""

CLOSERS = ("aclose", "close", "disconnect", "dispose", "stop", "shutdown", "terminate")
"""Methods that end a resource; the first that is there is called."""
_SHIELDED = frozenset((*CLOSERS, "wait_closed", "__aexit__", "__exit__"))

_registry: dict[str, _Kept] = {}
_keepers: dict[object, Keeper] = {}
_installing: ContextVar[Keeper | None] = ContextVar("netswap_installing", default=None)
_closing: set[asyncio.Task[None]] = set()
_ABSENT = object()


class _Kept:
    """An object and who keeps it; what ``kept`` has made is closed here, the rest by its author."""

    __slots__ = ("is_ours", "keepers", "value")

    def __init__(self, value: Any, is_ours: bool) -> None:
        self.value = value
        self.is_ours = is_ours
        self.keepers: set[Keeper] = set()


def kept(name: str, factory: Callable[[], Any]) -> Any:
    """What the worker keeps under ``name``, made by ``factory`` if nobody has made it.

    With an ``async def`` factory it has to be awaited. Outside of netswap each process has its
    own, which nobody closes.
    """
    keeper = _caller(sys._getframe(1))
    if inspect.iscoroutinefunction(factory):
        return _kept_later(name, factory, keeper)
    row = _registry.get(name)
    if row is None:
        row = _registry[name] = _Kept(factory(), True)
    return _keep(row, keeper)


async def _kept_later(name: str, factory: Callable[[], Any], keeper: Keeper | None) -> Any:
    row = _registry.get(name)
    if row is None:
        value = await factory()
        row = _registry.get(name)  # another may have been quicker
        if row is not None:
            await _close(value)
        else:
            row = _registry[name] = _Kept(value, True)
    return _keep(row, keeper)


def _keep(row: _Kept, keeper: Keeper | None) -> Any:
    if keeper is not None:
        row.keepers.add(keeper)
    return row.value


def _caller(frame: Any) -> Keeper | None:
    """Whose code asks: that in which it is written, else that which is being started."""
    while frame is not None:
        mark = frame.f_builtins.get(INSTALLATION)
        if mark is not None:
            keeper = _keepers.get(mark)
            if keeper is None:
                keeper = _keepers[mark] = Keeper((), {}, mark)
            return keeper
        frame = frame.f_back
    return _installing.get()


def abandon(mark: object) -> None:
    """A load of code is gone that was perhaps never started: it keeps nothing any more."""
    keeper = _keepers.pop(mark, None)
    for value in () if keeper is None else keeper.orphans():
        closing = _close(value)
        try:
            task = asyncio.get_running_loop().create_task(closing)
        except RuntimeError:  # it was imported in a thread: what can be closed at once is
            _close_now(closing)
        else:
            _closing.add(task)
            task.add_done_callback(_closing.discard)


def _close_now(closing: Coroutine[Any, Any, None]) -> None:
    """As far as it goes without a loop; a failure is told as the loop tells one of a task."""
    try:
        closing.send(None)
    except StopIteration:
        return
    except Exception as error:
        # a tenth of a second, and most that import this never come here
        from netswap.logs import get_logger

        message = "what an application has kept was not closed"
        get_logger().error("loop_exception", message=message, error=describe(error))
    finally:
        closing.close()


class Keeper:
    """What one load of an application keeps; ``names`` are those that it says it keeps.

    ``space`` are the globals of its module.
    """

    def __init__(
        self, names: tuple[str, ...], space: MutableMapping[str, Any], mark: object = None
    ) -> None:
        self._names = names
        self._space = space
        self._application: Any = None
        builtins = space.get("__builtins__")
        own = builtins.get(INSTALLATION) if isinstance(builtins, dict) else None
        self._mark = mark if mark is not None else own
        earlier = _keepers.get(self._mark) if self._mark is not None else None
        if self._mark is not None and mark is None:
            _keepers[self._mark] = self
        if earlier is not None:  # it asked for something when it was imported
            for row in _registry.values():
                if earlier in row.keepers:
                    row.keepers.add(self)
                    row.keepers.discard(earlier)

    @contextmanager
    def installing(self) -> Iterator[None]:
        """While this application starts, what asks for a kept object does so for it."""
        token = _installing.set(self)
        try:
            yield
        finally:
            _installing.reset(token)

    def hand_over(self, application: Any) -> None:
        """Give ``application`` what its predecessor has, under the names that it keeps."""
        self._application = application
        for name in self._names:
            row = _registry.get(name)
            if row is not None:
                row.keepers.add(self)
                self._put(name, row.value)

    def note(self) -> None:
        """It has started: what it has made under its names is what its successor will get."""
        for name in self._names:
            value = self._find(name)
            if value is _ABSENT or value is None:
                continue
            row = _registry.get(name)
            if row is None or row.value is not value:  # made again: the new one is the present one
                if row is not None:
                    row.keepers.discard(self)
                row = _registry[name] = _Kept(value, False)
            row.keepers.add(self)

    def shield(self) -> None:
        """It is about to clean up: what others keep is out of its reach."""
        for name in self._names:
            row = _registry.get(name)
            if row is None or row.value is not self._find(name):
                continue
            if row.is_ours or row.keepers - {self}:
                self._put(name, _Shield(row.value))

    async def release(self) -> None:
        """It keeps nothing any more; what nobody keeps is closed.

        Raises the first error of those that can't be, when the others are.
        """
        if self._mark is not None:
            _keepers.pop(self._mark, None)
        self._application = None
        first = FirstError()
        for value in self.orphans():
            with first:
                await _close(value)
        first.throw()

    def orphans(self) -> list[Any]:
        """It keeps nothing any more; what nobody else keeps and is closed here."""
        mine = [(name, row) for name, row in _registry.items() if self in row.keepers]
        for _, row in mine:
            row.keepers.discard(self)
        alone = [(name, row) for name, row in mine if not row.keepers]
        for name, _ in alone:
            del _registry[name]
        return [row.value for _, row in alone if row.is_ours]

    def _places(self, name: str) -> Iterator[tuple[MutableMapping[Any, Any], Any]]:
        """Where an application may have ``name``, each with the key that it has there."""
        of_aiohttp = getattr(self._application, "_state", None)
        if isinstance(of_aiohttp, MutableMapping):
            yield of_aiohttp, self._app_key(of_aiohttp, name)
        of_starlette = getattr(getattr(self._application, "state", None), "_state", None)
        if isinstance(of_starlette, MutableMapping):
            yield of_starlette, name
        module, _, short = name.rpartition(".")
        for space in self._spaces():
            if not module or str(space.get("__name__")).endswith(f".{module}"):
                yield space, short
                return

    def _spaces(self) -> Iterator[MutableMapping[str, Any]]:
        """The globals of this load's modules, those of the application's own first."""
        yield self._space
        builtins = self._space.get("__builtins__")
        for module in list(sys.modules.values()):
            space = getattr(module, "__dict__", {})
            if space.get("__builtins__") is builtins and space is not self._space:
                yield space

    def _app_key(self, place: Iterable[Any], name: str) -> Any:
        """The ``web.AppKey`` of that name, of this version's own; else the name."""
        values = (value for space in self._spaces() for value in space.values())
        known = [*place, *(value for value in values if type(value).__name__ == "AppKey")]
        named = (key for key in known if getattr(key, "_name", "").rpartition(".")[2] == name)
        return next(named, name)

    def _find(self, name: str) -> Any:
        for place, key in self._places(name):
            if place.get(key) is not None:
                return place[key]
        return _ABSENT

    def _put(self, name: str, value: Any) -> None:
        for place, key in self._places(name):
            place[key] = value


class _Shield:
    """Passes everything on to what it stands for, but what would close that."""

    __slots__ = ("_shielded",)

    def __init__(self, shielded: Any) -> None:
        self._shielded = shielded

    def __getattr__(self, name: str) -> Any:
        return _nothing if name in _SHIELDED else getattr(self._shielded, name)


class _Done:
    """What a call that does nothing gives: it may be awaited, or not."""

    def __await__(self) -> Iterator[Any]:
        return iter(())


def _nothing(*_: Any, **__: Any) -> _Done:
    return _Done()


async def _close(value: Any) -> None:
    for name in CLOSERS:
        closer = getattr(value, name, None)
        if callable(closer):
            ended = closer()
            if inspect.isawaitable(ended):
                await ended
            return
