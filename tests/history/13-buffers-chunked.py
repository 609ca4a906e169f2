"""buffer.receive, version 2: the chunks as they came, in a deque.

Good for large inputs: a chunk that is taken whole is never copied, and a message over several
chunks is copied once, when they are joined. Version 1 copies everything twice.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any

from netswap import Part, ProtocolError, State, migration, reference


class Held(State, kind="buffer.receive", version=2):
    """The chunks. ``head`` bytes of the first are taken, ``total`` are left in all.

    The ``unsearched`` last chunks were not yet looked at for a line end; ``line`` is where the
    first one lies in the chunks before them, counted from the front of what is left, or -1.
    """

    chunks: deque[bytes] = reference(deque, list, deque)
    head: int = 0
    total: int = 0
    unsearched: int = 0
    line: int = -1


@migration("buffer.receive", 1, 2)
def into_chunks(old: dict[str, Any]) -> dict[str, Any]:
    """One chunk, if there is anything."""
    chunks = deque([bytes(old["data"])] if old["data"] else [])
    return {"chunks": chunks, "total": len(old["data"]), "unsearched": len(chunks)}


@migration("buffer.receive", 2, 1)
def into_one(new: dict[str, Any]) -> dict[str, Any]:
    """The chunks side by side."""
    return {"data": bytearray(b"".join(new["chunks"])[new["head"] :])}


class Chunked(Part[Held]):
    """A queue of chunks."""

    def feed(self, data: bytes) -> None:
        """Add what has come."""
        if data:
            state = self.state
            state.chunks.append(data)
            state.total += len(data)
            state.unsearched += 1

    def size(self) -> int:
        """Bytes held."""
        return self.state.total

    def peek(self, n: int) -> bytes:
        """The first ``n`` bytes, or what there is; nothing is taken."""
        state = self.state
        seen: list[bytes] = []
        wanted = n + state.head
        for chunk in state.chunks:
            seen.append(chunk)
            wanted -= len(chunk)
            if wanted <= 0:
                break
        return b"".join(seen)[state.head : state.head + n]

    def take(self, n: int) -> bytes | None:
        """Exactly ``n`` bytes, or None while there are fewer."""
        state = self.state
        if state.total < n:
            return None
        return self._take(n) if n else b""

    def take_all(self) -> bytes:
        """Everything, perhaps nothing."""
        state = self.state
        chunks = state.chunks
        taken = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if state.head:
            taken = taken[state.head :]
        chunks.clear()
        state.head = state.total = state.unsearched = 0
        state.line = -1
        return taken

    def take_line(self, limit: int) -> bytes | None:
        """A line without its LF or CRLF, or None while its end has not come.

        Raises ProtocolError, and takes nothing, when more than ``limit`` bytes stand before an LF.
        """
        state = self.state
        if state.line < 0 and state.unsearched:
            self._search()
        end = state.line
        if (state.total if end < 0 else end) > limit:
            raise ProtocolError(f"a line is longer than {limit} bytes")
        if end < 0:
            return None
        line = self._take(end + 1)
        return line[:-2] if line.endswith(b"\r\n") else line[:-1]

    def _search(self) -> None:
        """Find the first line end in the chunks that were not looked at."""
        state = self.state
        fresh = list(islice(reversed(state.chunks), state.unsearched))
        start = state.head if len(fresh) == len(state.chunks) else 0
        at = state.total - sum(map(len, fresh))
        for chunk in reversed(fresh):
            found = chunk.find(b"\n", start)
            if found >= 0:
                state.line = at + found
                return
            at += len(chunk)
            start = 0
            state.unsearched -= 1

    def _take(self, n: int) -> bytes:
        """``n`` bytes from the front, at least one; they are there."""
        state = self.state
        first, head = state.chunks[0], state.head
        state.total -= n
        state.line = state.line - n if state.line >= n else -1
        if head + n < len(first):
            state.head += n
            return first[head : head + n]
        taken = self._take_several(head + n)
        state.unsearched = min(state.unsearched, len(state.chunks))
        return taken[head:] if head else taken

    def _take_several(self, end: int) -> bytes:
        """Up to ``end`` bytes behind the start of the first chunk, which is no longer than that."""
        chunks = self.state.chunks
        parts: list[bytes] = []
        while end and end >= len(chunks[0]):
            parts.append(chunks.popleft())
            end -= len(parts[-1])
        if end:
            parts.append(chunks[0][:end])
        self.state.head = end
        return parts[0] if len(parts) == 1 else b"".join(parts)
