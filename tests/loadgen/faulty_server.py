"""A small server of several protocols that is wrong on purpose; nothing of netswap in it.

Run as a program: ``faulty_server.py PROTOCOL FAULT``. It prints its port, and serves until its
standard input ends. The fault strikes each connection once, at its 20th answer.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import zlib
from collections.abc import Callable
from typing import ClassVar, cast

import uvloop

STRIKE = 20
STALL_S = 0.3
LATER_S = 0.1
ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 5\r\n\r\nnope\n"
FROM_THE_START = {"early", "late", "punctual", "refuse", "twice"}


class Verify:
    """Frames with a length in front; counts and hashes what it answers."""

    def __init__(self) -> None:
        self.rest = b""
        self.forget()

    def forget(self) -> None:
        self.operations = 0
        self.hash = 0

    def feed(self, data: bytes) -> list[bytes]:
        stream, at, answers = self.rest + data, 0, []
        while len(stream) - at >= 4:
            end = at + 4 + int.from_bytes(stream[at : at + 4], "big")
            if len(stream) < end:
                break
            answers.append(self.answer(stream[at:end]))
            at = end
        self.rest = stream[at:]
        return answers

    def answer(self, frame: bytes) -> bytes:
        self.operations += 1
        self.hash = zlib.crc32(frame[4:], self.hash)
        length = len(frame) - 4 + 16
        carried = struct.pack(">IQI", 1, self.operations, self.hash)
        return length.to_bytes(4, "big") + frame[4:28] + carried + frame[28:]


class Echo(Verify):
    """The same frames, unchanged."""

    def answer(self, frame: bytes) -> bytes:
        return frame


class KeyValue:
    """Arrays of bulk strings: SET, GET, INCR, INCRBY, DEL."""

    def __init__(self) -> None:
        self.rest = b""
        self.forget()

    def forget(self) -> None:
        self.values: dict[bytes, bytes] = {}

    def feed(self, data: bytes) -> list[bytes]:
        self.rest += data
        answers = []
        while (command := self.take()) is not None:
            answers.append(self.answer(*command))
        return answers

    def take(self) -> list[bytes] | None:
        head, newline, rest = self.rest.partition(b"\r\n")
        words: list[bytes] = []
        for _ in range(int(head[1:] or 0) if newline else 0):
            size, newline, rest = rest.partition(b"\r\n")
            if not newline or len(rest) < int(size[1:]) + 2:
                return None
            words.append(rest[: int(size[1:])])
            rest = rest[int(size[1:]) + 2 :]
        if words:
            self.rest = rest
        return words or None

    def answer(self, verb: bytes, key: bytes, *more: bytes) -> bytes:
        if verb == b"SET":
            self.values[key] = more[0]
            return b"+OK\r\n"
        if verb == b"DEL":
            return b":%d\r\n" % sum(
                self.values.pop(name, None) is not None for name in (key, *more)
            )
        if verb in (b"INCR", b"INCRBY"):
            step = int(more[0]) if more else 1
            self.values[key] = b"%d" % (int(self.values.get(key, b"0")) + step)
            return b":%b\r\n" % self.values[key]
        value = self.values.get(key)
        return b"$-1\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


class Http(Verify):
    """POST with a body of known length, which goes back with the version in a header."""

    def feed(self, data: bytes) -> list[bytes]:
        self.rest += data
        answers = []
        while (body := self.take()) is not None:
            answers.append(self.answer(body))
        return answers

    def take(self) -> bytes | None:
        head, end, rest = self.rest.partition(b"\r\n\r\n")
        size = int(head.rpartition(b": ")[2] or 0) if end else 0
        if not end or len(rest) < size:
            return None
        self.rest = rest[size:]
        return rest[:size]

    def answer(self, frame: bytes) -> bytes:
        head = b"HTTP/1.1 200 OK\r\nX-Version: 1\r\nContent-Length: %d\r\n\r\n"
        return head % len(frame) + frame


class Counter(KeyValue):
    """One store for all connections, for as long as ``shared`` is not emptied."""

    shared: ClassVar[dict[bytes, bytes]] = {}

    def forget(self) -> None:
        self.values = self.shared

    def answer(self, verb: bytes, key: bytes, *more: bytes) -> bytes:
        return b":1\r\n" if verb == b"EXPIRE" else super().answer(verb, key, *more)


class Server(asyncio.Protocol):
    """Answers, with one fault."""

    waiting: ClassVar[list[Server]] = []

    def __init__(self, protocol: Callable[[], Verify | KeyValue], fault: str) -> None:
        self.inner = protocol()
        self.fault = fault
        self.answered = STRIKE if fault in FROM_THE_START else 0
        self.held: list[bytes] = []
        self.stalled = False
        self.last = b""

    def eof_received(self) -> None:
        """The client has said its last words; what comes now was not asked for."""
        if self.fault == "exceed":
            self.transport.write(self.last[: len(self.last) // 2])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's derives from nothing
        self.strike = getattr(self, self.fault)

    def data_received(self, data: bytes) -> None:
        out = []
        for answer in self.inner.feed(data):
            self.answered += 1
            out.extend(self.strike(answer) if self.answered >= STRIKE else [answer])
        if self.stalled:
            self.held.extend(out)
        elif not self.transport.is_closing():
            self.transport.write(b"".join(out))

    def none(self, answer: bytes) -> list[bytes]:
        return [answer]

    def once(self) -> bool:
        return self.answered == STRIKE

    def drop(self, answer: bytes) -> list[bytes]:
        return [] if self.once() else [answer]

    def duplicate(self, answer: bytes) -> list[bytes]:
        return [answer, answer] if self.once() else [answer]

    def reorder(self, answer: bytes) -> list[bytes]:
        if self.once():
            self.held = [answer]
            return []
        answers, self.held = [answer, *self.held], []
        return answers

    def flap(self, answer: bytes) -> list[bytes]:
        """New code from now on, but for one answer."""
        version = 1 if self.answered == STRIKE + 5 else 2
        return [answer[:28] + struct.pack(">I", version) + answer[32:]]

    def stay(self, answer: bytes) -> list[bytes]:
        """New code from now on, but for connections with an odd number."""
        return [answer] if answer[11] % 2 else self.newest(answer)

    def newest(self, answer: bytes) -> list[bytes]:
        """The highest version that the protocol can tell: no fault."""
        return [answer[:28] + struct.pack(">I", 2**32 - 1) + answer[32:]]

    def mix(self, answer: bytes) -> list[bytes]:
        """Two versions' headers on one answer."""
        mark = b"\r\nContent-Length"
        return [answer.replace(mark, b"\r\nX-Version: 2" + mark) if self.once() else answer]

    def recount(self, answer: bytes) -> list[bytes]:
        """A step of the counter is taken back: its next value comes twice."""
        if self.once():
            for key, value in Counter.shared.items():
                Counter.shared[key] = b"%d" % (int(value) - 1)
        return [answer]

    def skip(self, answer: bytes) -> list[bytes]:
        """A step of the counter that is nobody's."""
        if self.once():
            for key, value in Counter.shared.items():
                Counter.shared[key] = b"%d" % (int(value) + 1)
        return [answer]

    def punctual(self, answer: bytes) -> list[bytes]:
        """Each answer 0.1 s after its question."""
        asyncio.get_running_loop().call_later(LATER_S, self.transport.write, answer)
        return []

    def early(self, answer: bytes) -> list[bytes]:
        """All but one of them are."""
        return [answer] if self.answered == STRIKE + 2 else self.punctual(answer)

    def refuse(self, answer: bytes) -> list[bytes]:
        """All are on time but one, which is an error at once."""
        return [ERROR] if self.answered == STRIKE + 2 else self.punctual(answer)

    def late(self, answer: bytes) -> list[bytes]:
        """All but one of them are, and that one comes 0.15 s after its time."""
        wait_s = LATER_S + (STALL_S / 2 if self.answered == STRIKE + 2 else 0)
        asyncio.get_running_loop().call_later(wait_s, self.transport.write, answer)
        return []

    def twice(self, answer: bytes) -> list[bytes]:
        """One of their timers fires again, at once."""
        return self.punctual(answer * 2 if self.answered == STRIKE + 2 else answer)

    def corrupt(self, answer: bytes) -> list[bytes]:
        if not self.once():
            return [answer]
        at = len(answer) - 3  # the last byte of payload in each of the protocols' answers
        return [answer[:at] + bytes([answer[at] ^ 0x20]) + answer[at + 1 :]]

    def forget(self, answer: bytes) -> list[bytes]:
        if self.once():
            self.inner.forget()
        return [answer]

    def exchange(self, answer: bytes) -> list[bytes]:
        """The next answer goes to the connection that got there before or after, and its to us."""
        if self.answered != STRIKE + 1:
            return [answer]
        if not self.waiting:
            self.waiting.append(self)
            self.stalled = True
            return [answer]
        other = self.waiting.pop()
        ago = STRIKE - other.answered  # before and after it there may be others of the same piece
        other.held[ago], answer = answer, other.held[ago]
        other.resume()
        return [answer]

    def exceed(self, answer: bytes) -> list[bytes]:
        """At the end half of the last one comes again."""
        self.last = answer
        return [answer]

    def tear(self, answer: bytes) -> list[bytes]:
        """The connection ends in the middle of an answer."""
        if self.once():
            self.transport.write(answer[: len(answer) // 2])
            self.transport.close()
            return []
        return [answer]

    def disconnect(self, answer: bytes) -> list[bytes]:
        if self.once():
            self.transport.abort()
            return []
        return [answer]

    def stall(self, answer: bytes) -> list[bytes]:
        if self.once():
            self.stalled = True
            asyncio.get_running_loop().call_later(STALL_S, self.resume)
        return [answer]

    def resume(self) -> None:
        self.stalled = False
        self.transport.write(b"".join(self.held))


PROTOCOLS: dict[str, Callable[[], Verify | KeyValue]] = {
    "counter": Counter,
    "echo": Echo,
    "http": Http,
    "kv": KeyValue,
    "verify": Verify,
}


async def serve(protocol: str, fault: str) -> None:
    loop = asyncio.get_running_loop()
    make = PROTOCOLS[protocol]
    server = await loop.create_server(lambda: Server(make, fault), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(serve(*sys.argv[1:]))
