"""One of two files of a folder that both provide verify.connection: a copy left beside the new file."""

from netswap import Connection, State


class Account(State, kind="verify.connection", version=1):
    operations: int = 0
    hash: int = 0
    partial: bytes = b""


class First(Connection[Account]):
    def on_data(self, data: bytes) -> None:
        self.write(data)
