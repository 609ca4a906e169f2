"""ASGI: an application of three parameters behind ``http.connection``.

``adapter`` answers requests, ``sockets`` carries on WebSockets, ``lifespan`` starts and stops.
"""

from netswap.hosting.asgi.adapter import AsgiAdapter

__all__ = ["AsgiAdapter"]
