"""pair, version 2: the same, and every word between the two is another one."""

from __future__ import annotations

from netswap import Connection, Service, State


class Total(State, kind="pair.store", version=2):
    total: int = 0


class Store(Service[Total]):
    def increase(self, what: dict[str, int]) -> dict[str, int]:
        self.state.total += what["by"]
        return {"total": self.state.total}


class Asked(State, kind="pair.connection", version=2):
    partial: bytes = b""


class Pair(Connection[Asked], uses={"store": "pair.store"}):
    def on_data(self, data: bytes) -> None:
        *lines, self.state.partial = (self.state.partial + data).split(b"\n")
        for line in lines:
            self.write(b"v2 %d\n" % self.store.increase({"by": int(line)})["total"])
