"""A step that allocates without end: a loop that ends only for a list that it never gets."""

from netswap import Connection, State, migration


class Count(State, kind="counter.connection", version=2):
    lines: int = 0
    total: int = 0
    partial: bytes = b""
    seen: list[str] = []


@migration("counter.connection", 1, 2)
def up(old):
    held = []
    while old["lines"] >= 0:
        held.append(bytes(1 << 20))  # <<
    return old


@migration("counter.connection", 2, 1)
def down(new):
    return new


class Counter(Connection[Count]):
    def on_data(self, data: bytes) -> None:
        self.state.partial += data
