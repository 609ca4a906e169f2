"""verify.connection, version 1: the load generator's witness.

Every reply says how many requests of this connection were answered and what their rolling hash
is, so a client can prove that the state was carried by a swap and not rebuilt, and that no
request was lost, done twice or out of order.

Request (big endian): u32 length of what follows, u64 connection, u64 sequence, u64 intended time
in ns, payload. Reply: u32 length of what follows, the same 24 bytes, u32 version of the code that
answered, u64 requests answered with this one, u32 hash, the payload. The hash is the CRC-32 of
the request bodies (what follows the length) one after the other. A length under 24 or over the
limit closes the connection, after what came before it was answered.

Limit, raised in version 2: a body has at most 65,536 bytes.
"""

from __future__ import annotations

from struct import Struct
from typing import Final
from zlib import crc32

from netswap import Connection, State

VERSION: Final = 1
LIMIT: Final = 65_536
LENGTH: Final = Struct("!I")
HEAD: Final = Struct("!I24sIQI")
OWN: Final = 16
"""Bytes that a reply's body has more than its request's."""


class Account(State, kind="verify.connection", version=VERSION):
    """What was answered, and the beginning of the next request."""

    operations: int = 0
    hash: int = 0
    partial: bytes = b""


class Verify(Connection[Account]):
    """One client."""

    def on_data(self, data: bytes) -> None:
        """Answer every request that is complete, in one write."""
        state = self.state
        if state.partial:
            data = state.partial + data
        replies, end = self._answers(data)
        state.partial = data[end:]
        if replies:
            self.write(b"".join(replies))
        if len(state.partial) >= 4 and not _is_sound(state.partial):
            self._refuse(state.partial)

    def on_pause_writing(self) -> None:
        """Take no more from a client that does not read."""
        self.pause_reading()

    def on_resume_writing(self) -> None:
        """Go on."""
        self.resume_reading()

    def _answers(self, data: bytes) -> tuple[list[bytes], int]:
        """The replies, in pieces, to what is complete and sound in ``data``; where that ends."""
        state = self.state
        operations, rolling = state.operations, state.hash
        replies: list[bytes] = []
        at, size = 0, len(data)
        while size - at >= 4:
            (length,) = LENGTH.unpack_from(data, at)
            start, end = at + 4, at + 4 + length
            if end > size or not 24 <= length <= LIMIT:
                break
            operations += 1
            rolling = crc32(data[start:end], rolling)
            head = data[start : start + 24]
            replies.append(HEAD.pack(length + OWN, head, VERSION, operations, rolling))
            replies.append(data[start + 24 : end])
            at = end
        state.operations, state.hash = operations, rolling
        return replies, at

    def _refuse(self, rest: bytes) -> None:
        length = LENGTH.unpack_from(rest)[0]
        self.host.log.info("frame_refused", peer=self.peer, length=length, limit=LIMIT)
        self.state.partial = b""
        self.close()


def _is_sound(rest: bytes) -> bool:
    length: int = LENGTH.unpack_from(rest)[0]
    return 24 <= length <= LIMIT
