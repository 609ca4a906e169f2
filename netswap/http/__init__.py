"""HTTP: what both versions of a web application and of its connections have in common.

Nothing here is ever swapped. ``Wire`` turns bytes into ``Request`` objects, an ``Exchange`` is one
request and its answer, ``App`` is the base of what answers; ``hosting`` makes one of an application
that knows nothing of netswap, and ``kept`` is for what that hands to its successor. The connection
itself, which decides what goes over the wire and when, is the module ``protocols/http`` and can be
pushed like any other.
"""

from netswap.errors import HttpError
from netswap.http.app import App, route
from netswap.http.exchange import Exchange
from netswap.http.keeping import kept
from netswap.http.message import Body, Request, Response, date_line, status_line
from netswap.http.sending import OpenFile, Sending
from netswap.http.wire import Wire

__all__ = [
    "App",
    "Body",
    "Exchange",
    "HttpError",
    "OpenFile",
    "Request",
    "Response",
    "Sending",
    "Wire",
    "date_line",
    "kept",
    "route",
    "status_line",
]
