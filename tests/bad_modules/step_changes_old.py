"""A step that changes the state that it was given, which the old version goes on with."""

from netswap import Connection, State, migration


class Count(State, kind="counter.connection", version=2):
    lines: int = 0
    total: int = 0
    partial: bytes = b""
    seen: list[str] = []


@migration("counter.connection", 1, 2)
def up(old):  # <<
    old["seen"].append("a swap")
    return old


@migration("counter.connection", 2, 1)
def down(new):
    return new


class Counter(Connection[Count]):
    def on_data(self, data: bytes) -> None:
        self.state.partial += data
