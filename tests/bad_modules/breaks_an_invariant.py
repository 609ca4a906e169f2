"""A conversion after which the module's own invariant does not hold."""

from netswap import Connection, State, invariant, migration


class Count(State, kind="counter.connection", version=2):
    lines: int = 0
    total: int = 0
    partial: bytes = b""
    seen: list[str] = []

    @invariant
    def lines_are_counted(self) -> bool:  # <<
        return self.lines < 0


@migration("counter.connection", 1, 2)
def up(old):
    return old


@migration("counter.connection", 2, 1)
def down(new):
    return new


class Counter(Connection[Count]):
    def on_data(self, data: bytes) -> None:
        self.state.partial += data
