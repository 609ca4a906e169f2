"""Sleeps for two seconds in every request: a guard that fired for each would never end."""

import time
from struct import pack, unpack_from
from zlib import crc32

from netswap import Connection, State, migration


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


class Verify(Connection[Ledger]):
    def on_data(self, data: bytes) -> None:
        state = self.state
        state.partial += data
        while (rest := state.partial) and len(rest) >= 4 + (size := _size(rest)):
            body, state.partial = rest[4 : 4 + size], rest[4 + size :]
            state.answered += 1
            time.sleep(2)  # <<
            state.hash = crc32(body, state.hash)
            head = pack("!I24sIQI", size + 16, body[:24], 2, state.answered, state.hash)
            self.write(head + body[24:])


def _size(rest: bytes) -> int:
    return unpack_from("!I", rest)[0] if len(rest) >= 4 else len(rest)
