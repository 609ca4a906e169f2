"""tally, version 2: the same, and every word between its parts is another one."""

from __future__ import annotations

from typing import Any

from netswap import Connection, Service, State


class Total(State, kind="tally.store", version=2):
    total: int = 0
    known: int = 0


class Store(Service[Total], clustered=True):
    def question(self, entry: Any, token: int, what: dict[str, int]) -> None:
        self.cluster.request(self.cluster.home, "increase", (what,), entry, "replied", token)

    def increase(self, what: dict[str, int]) -> dict[str, int]:
        self.state.total += what["by"]
        self.cluster.broadcast("told", {"total": self.state.total})
        return {"total": self.state.total}

    def told(self, what: dict[str, int]) -> None:
        self.state.known = max(self.state.known, what["total"])
        self.cluster.cast(self.cluster.home, "acknowledged", {"known": self.state.known})

    def acknowledged(self, what: dict[str, int]) -> None:
        if what["known"] > self.state.total:
            raise ValueError(f"{what} is more than {self.state.total}")


class Asked(State, kind="tally.connection", version=2):
    partial: bytes = b""


class Tally(Connection[Asked], uses={"store": "tally.store"}):
    def on_data(self, data: bytes) -> None:
        *lines, self.state.partial = (self.state.partial + data).split(b"\n")
        for line in lines:
            self.store.question(self.entry, 0, {"by": int(line)})

    def replied(self, _token: int, value: dict[str, int] | None, error: str | None) -> None:
        if error is not None:
            raise RuntimeError(error)
        self.write(b"v2 %d\n" % (value or {})["total"])
