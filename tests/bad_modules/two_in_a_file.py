"""Two classes provide one kind: the old one was to be deleted."""

from netswap import Connection, State


class Account(State, kind="verify.connection", version=1):
    operations: int = 0
    hash: int = 0
    partial: bytes = b""


class Verify(Connection[Account]):
    pass


class Other(Connection[Account]):  # <<
    pass
