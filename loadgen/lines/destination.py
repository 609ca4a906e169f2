"""Where the server is. A name is looked up once: who asked again for each connect would tell the
resolver's time, and a wait for a thread of ours, as the server's.

Of several addresses the first that takes a connection is asked from then on; where it refuses one,
the others are tried behind it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, TypeVar

from loadgen.plan import Plan

__all__ = ["Destination"]

P = TypeVar("P", bound=asyncio.Protocol)


class Destination:
    """Of all connections of a process; ``secure`` when they are of TLS."""

    def __init__(self, plan: Plan, secure: ssl.SSLContext | None) -> None:
        self._plan = plan
        self._secure = secure
        self._name = (plan.server_name or plan.host) if secure else None
        self._looking: asyncio.Task[list[str]] | None = None

    async def connect(self, factory: Callable[[], P]) -> P:
        """A new connection. OSError: what the last address that was tried has said."""
        if self._plan.path:
            _, protocol = await asyncio.get_running_loop().create_unix_connection(
                factory, self._plan.path, ssl=self._secure, server_hostname=self._name
            )
            return protocol
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_up())
        return await self._connect_any(await asyncio.shield(self._looking), factory)

    async def _connect_any(self, addresses: list[str], factory: Callable[[], P]) -> P:
        loop, failed = asyncio.get_running_loop(), OSError("the name has no address")
        for address in [*addresses]:
            try:
                _, protocol = await loop.create_connection(
                    factory, address, self._plan.port, ssl=self._secure, server_hostname=self._name
                )
            except OSError as error:
                failed = error
            else:
                addresses.remove(address)
                addresses.insert(0, address)
                return protocol
        raise failed

    async def _look_up(self) -> list[str]:
        loop, plan = asyncio.get_running_loop(), self._plan
        rows = await loop.getaddrinfo(plan.host, plan.port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(_address(row[4]) for row in rows))


def _address(place: Any) -> str:
    """Numeric; a local one of IPv6 with the number of its link."""
    scope = place[3] if len(place) == 4 else 0
    return f"{place[0]}%{scope}" if scope else place[0]
