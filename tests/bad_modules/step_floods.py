"""A step that was debugged with print and prints without end."""

import os

from netswap import Connection, State, migration


class Count(State, kind="counter.connection", version=2):
    lines: int = 0
    total: int = 0
    partial: bytes = b""
    seen: list[str] = []


@migration("counter.connection", 1, 2)
def up(old):
    while old["lines"] >= 0:
        os.write(2, b"converting " * 100)  # <<
    return old


@migration("counter.connection", 2, 1)
def down(new):
    return new


class Counter(Connection[Count]):
    def on_data(self, data: bytes) -> None:
        self.state.partial += data
