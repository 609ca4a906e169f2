"""HTTP: what both versions of a web application and of its connections have in common.

Nothing here is ever swapped. ``Wire`` turns bytes into ``Request`` objects, an ``Exchange`` is one
request and its answer, ``App`` is the base of what answers. A ``Channel`` is one WebSocket, and
``Frames`` turn its bytes into messages. The connections themselves, which decide what goes over the
wire and when, are the modules ``protocols/http`` and ``protocols/websocket`` and can be pushed like
any other. How an application that knows nothing of netswap answers here is ``netswap/hosting``;
``kept`` is for what such a one hands to its successor.
"""

from netswap.errors import HttpError, WebSocketClosedError
from netswap.http.answers import Outline
from netswap.http.app import App, route
from netswap.http.channel import Channel
from netswap.http.exchange import Exchange
from netswap.http.frames import Arrival, Frames
from netswap.http.limits import Limits
from netswap.http.lines import status_line
from netswap.http.message import (
    Body,
    Request,
    Response,
    Upgrade,
    date_line,
    refusal,
)
from netswap.http.sending import OpenFile, Sending
from netswap.http.sockets import websocket
from netswap.http.wire import Wire
from netswap.keeping import kept

__all__ = [
    "App",
    "Arrival",
    "Body",
    "Channel",
    "Exchange",
    "Frames",
    "HttpError",
    "Limits",
    "OpenFile",
    "Outline",
    "Request",
    "Response",
    "Sending",
    "Upgrade",
    "WebSocketClosedError",
    "Wire",
    "date_line",
    "kept",
    "refusal",
    "route",
    "status_line",
    "websocket",
]
