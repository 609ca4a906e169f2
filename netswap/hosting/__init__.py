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
"""

from netswap.hosting.implementation import hosted
from netswap.hosting.sorts import FACTORIES, Adapter, Application, Sort, sort_of
from netswap.http.channel import APP

__all__ = ["APP", "FACTORIES", "Adapter", "Application", "Sort", "hosted", "sort_of"]
