"""How the file of an aiohttp response gets to its client: past the transport, where it can.

``FileResponse`` asks the loop of its request for ``sendfile``, and reads the file itself where the
loop has none. Neither loop's will do here, since a swap replaces what is in front of a transport;
so such a request's loop is one that sends by its exchange, as ``http.static`` does.
"""

from __future__ import annotations

import os
from typing import Any

from netswap.http import OpenFile, Sending

__all__ = ["PastTransports"]


class PastTransports:
    """The loop, but for ``sendfile``."""

    def __init__(self, asked: Any) -> None:
        self._asked = asked
        self._loop = asked._loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def sendfile(self, _transport: Any, file: Any, offset: int, count: int) -> None:
        """Send a part of an open file. Raises NotImplementedError where there is no way past."""
        writer = self._asked._payload_writer
        writer.send_headers()
        exchange = writer.exchange
        if exchange.way_past() is None:
            raise NotImplementedError("it is read and written: the connection encrypts")
        opened = OpenFile(os.dup(file.fileno()))
        await Sending(exchange.request, 200, (), opened, ((offset, count),)).body()
        writer.passed(count)
