"""aiohttp: an ``aiohttp.web.Application`` behind ``http.connection``, its files and WebSockets too.

``requests`` gives aiohttp's code a request in its terms, ``answers`` takes what it says, ``line``
stands where its protocol and transport would, ``sockets`` where its WebSocket's writer and reader
would. What of aiohttp's inside that needs is named in ``private``, and nowhere else.
"""

from netswap.hosting.aiohttp.adapter import AiohttpAdapter

__all__ = ["AiohttpAdapter"]
