"""pair, version 2, in other words again: the connection is a session."""

from __future__ import annotations

from netswap import Service, Session, State, migration


class Total(State, kind="pair.store", version=2):
    total: int = 0


class Store(Service[Total]):
    def more(self, *numbers: int) -> tuple[int, ...]:
        self.state.total += sum(numbers)
        return (self.state.total,)


class Asked(State, kind="pair.connection", version=2):
    asked: int = 0


@migration("pair.connection", 1, 2, lossy=["partial"])
def up(_old: dict[str, bytes]) -> dict[str, int]:
    return {"asked": 0}


@migration("pair.connection", 2, 1, lossy=["asked"])
def down(_new: dict[str, int]) -> dict[str, bytes]:
    return {"partial": b""}


class Pair(Session[Asked], uses={"store": "pair.store"}):
    async def run(self) -> None:
        while line := await self.swap_point(self.read_line()):
            self.state.asked += 1
            (total,) = self.store.more(int(line))
            self.write(b"v2 %d\n" % total)
