"""tally, version 1: adds up over all workers; its parts ask each other in words of its own."""

from __future__ import annotations

from typing import Any

from netswap import Connection, Service, State


class Total(State, kind="tally.store", version=1):
    total: int = 0
    known: int = 0


class Store(Service[Total], clustered=True):
    def ask(self, entry: Any, token: int, number: int) -> None:
        self.cluster.request(self.cluster.home, "plus", (number,), entry, "answered", token)

    def plus(self, number: int) -> int:
        self.state.total += number
        self.cluster.broadcast("heard", self.state.total)
        return self.state.total

    def heard(self, total: int) -> None:
        self.state.known = max(self.state.known, total)
        self.cluster.cast(self.cluster.home, "confirmed", self.state.known)

    def confirmed(self, total: int) -> None:
        if total > self.state.total:
            raise ValueError(f"{total} is more than {self.state.total}")


class Asked(State, kind="tally.connection", version=1):
    partial: bytes = b""


class Tally(Connection[Asked], uses={"store": "tally.store"}):
    def on_data(self, data: bytes) -> None:
        *lines, self.state.partial = (self.state.partial + data).split(b"\n")
        for line in lines:
            self.store.ask(self.entry, 0, int(line))

    def answered(self, _token: int, value: int | None, error: str | None) -> None:
        if error is not None:
            raise RuntimeError(error)
        self.write(b"v1 %d\n" % (value or 0))
