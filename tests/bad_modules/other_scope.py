"""The right kind, but one for the whole worker and no longer one a connection."""

from netswap import Service, State, migration


class Ledger(State, kind="verify.connection", version=2):
    answered: int = 0
    hash: int = 0
    partial: bytes = b""


@migration("verify.connection", 1, 2)
def up(old):
    return {"answered": old["operations"], "hash": old["hash"], "partial": old["partial"]}


@migration("verify.connection", 2, 1)
def down(new):
    return {"operations": new["answered"], "hash": new["hash"], "partial": new["partial"]}


class Verify(Service[Ledger]):  # <<
    pass
