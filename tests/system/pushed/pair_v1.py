"""pair, version 1: a connection and the service that it asks, in words of their own."""

from __future__ import annotations

from netswap import Connection, Service, State


class Total(State, kind="pair.store", version=1):
    total: int = 0


class Store(Service[Total]):
    def plus(self, number: int) -> int:
        self.state.total += number
        return self.state.total


class Asked(State, kind="pair.connection", version=1):
    partial: bytes = b""


class Pair(Connection[Asked], uses={"store": "pair.store"}):
    def on_data(self, data: bytes) -> None:
        *lines, self.state.partial = (self.state.partial + data).split(b"\n")
        for line in lines:
            self.write(b"v1 %d\n" % self.store.plus(int(line)))
