"""Hosting: how an application that knows nothing of netswap becomes the kind ``http.app``.

Theory. A pushed file or folder may define no implementation and still have something to answer
with: an ``aiohttp.web.Application``, an ASGI 3 callable, a function of one parameter, or a factory
of one of these. ``hosted`` makes a class of it that the mechanism can swap like any other. Its
state is netswap's own and empty (``Hosting``): what an application remembers is its own business,
in its own globals, and every load of the code has globals of its own.

An *adapter* speaks the application's language. It is made once for each load of the code, in the
push's first phase (``on_prepare``), and lives as long as that load::

    class Adapter:
        def __init__(self, application, host): ...
        async def start(self, limit) -> None    start-up hooks; raises what refuses the push
        def answer(self, request) -> Response | Coroutine[Any, Any, Response | None]
        open: int                               requests and sessions in flight
        async def stop(self) -> None            clean-up hooks; once, when ``open`` is 0 or never
        def resume(self, channel) -> Coroutine  goes on with a WebSocket of other code; optional

``start`` and ``stop`` run in one task, so cancel scopes and context variables that the one enters
the other leaves. When ``start`` raises or is cancelled, ``stop`` is called as well, to undo what
was begun. ``SORTS`` names the adapters; they are imported when an application of theirs is loaded.

What an application is, is seen by its signature, since nothing but aiohttp has a class for it.
What this does not know: sockets, how bundles are imported, when anything is flipped.

The names are imported when they are first asked for: who only wants to know whether a file looks
like an application, or is told of the kind, must not wait for all of HTTP.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from netswap.hosting.implementation import hosted
    from netswap.hosting.sorts import Adapter, Application, Sort, sort_of

__all__ = ["APP", "FACTORIES", "Adapter", "Application", "Sort", "hosted", "sort_of"]

APP: Final = "http.app"
"""The kind that an application becomes: that of ``netswap.http``."""
FACTORIES: Final = ("create_app", "make_app")
"""Names that are called for the application, at its start."""

_HOMES = dict.fromkeys(("Adapter", "Application", "Sort", "sort_of"), "netswap.hosting.sorts") | {
    "hosted": "netswap.hosting.implementation"
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value
