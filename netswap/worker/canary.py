"""The canary in one worker: which live objects go first, and which new connections join them.

Connections are what is chosen; the parts of a connection go with it. A worker's one object of a
kind can't be on both sides at once, so a split canary has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from netswap.canary import WHOLE, Canary
from netswap.mediator import present
from netswap.ott import Entry, Selector
from netswap.stack import Connection, Host, Implementation, Part

if TYPE_CHECKING:
    import asyncio

__all__ = ["Flock", "connections_of"]


def connections_of(entries: Iterable[Entry]) -> list[Entry]:
    """The connections that ``entries`` are, or are parts of; oldest first."""
    found = {unit.identity: unit for entry in entries if (unit := _connection_of(entry))}
    return [found[identity] for identity in sorted(found)]


def _connection_of(entry: Entry) -> Entry | None:
    target = present(entry)
    if isinstance(target, Part):
        owner: Entry = target.owner.entry
        return owner if isinstance(present(owner), Connection) else None
    return entry if isinstance(target, Connection) else None


class Flock:
    """Chooses what goes first by ``canary``; ``carry`` is what its sum begins with.

    ``news`` are the implementations on probation, by kind. It is what ``Host.canary`` asks.
    """

    def __init__(
        self, host: Host, canary: Canary, carry: int, news: Mapping[str, type[Implementation[Any]]]
    ) -> None:
        self._host = host
        self._news = news
        self._share = canary.share
        self._sum = carry
        self._selector = None if canary.selector is None else Selector(canary.selector)

    def choose(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those that go first, in the same order: the chosen connections and their parts."""
        entries = list(entries)
        chosen = {unit.identity for unit in connections_of(entries) if self._takes(unit)}
        units = ((entry, _connection_of(entry)) for entry in entries)
        return [entry for entry, unit in units if unit is not None and unit.identity in chosen]

    def admit(self, connection: Connection[Any], transport: asyncio.BaseTransport) -> None:
        """A connection is accepted: bring it to life in new code or in old."""
        connection.transport = cast("asyncio.Transport", transport)
        if connection.peername is None:
            connection.peername = transport.get_extra_info("peername")
        kinds = {connection.kind, *connection.uses.values()}
        row = Entry(0, connection.kind, connection)
        if kinds & self._news.keys() and self._takes(row):
            with self.favouring():
                connection.begin_as_present(transport)
        else:
            connection.begin_as_present(transport)

    @contextmanager
    def favouring(self) -> Iterator[None]:
        """What is made inside is made of the new code."""
        self._host.favoured = self._news
        try:
            yield
        finally:
            self._host.favoured = {}

    def _takes(self, connection: Entry) -> bool:
        if self._selector is not None and not self._selector.matches(connection):
            return False
        self._sum += self._share
        if self._sum < WHOLE:
            return False
        self._sum -= WHOLE
        return True
