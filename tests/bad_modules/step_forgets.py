"""A step that forgets a field which nothing says is given up: a rollback would lose it."""

from netswap import Connection, State, migration


class Count(State, kind="counter.connection", version=2):
    lines: int = 0
    total: int = 0
    partial: bytes = b""
    seen: list[str] = []


@migration("counter.connection", 1, 2)
def up(old):
    return old | {"seen": []}


@migration("counter.connection", 2, 1)
def down(new):  # <<
    return new | {"seen": new["seen"], "lines": 0}


class Counter(Connection[Count]):
    def on_data(self, data: bytes) -> None:
        self.state.partial += data
