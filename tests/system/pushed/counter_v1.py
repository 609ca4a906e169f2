"""counter.connection, version 1: obeys lines, and says after each how many there were."""

from __future__ import annotations

import os
import sys

from netswap import Connection, ProtocolError, State


class Count(State, kind="counter.connection", version=1):
    lines: int = 0
    total: int = 0
    partial: bytes = b""
    flood: int = 0
    mark: str = ""
    seen: list[str] = []


class Counter(Connection[Count]):
    def on_data(self, data: bytes) -> None:
        *lines, self.state.partial = (self.state.partial + data).split(b"\n")
        for line in lines:
            self.state.lines += 1
            word, _, argument = line.decode().partition(" ")
            getattr(self, f"on_{word}", self.on_unknown)(argument)

    def on_add(self, number: str) -> None:
        self.state.total += int(number)
        self.say(f"{self.state.lines} lines, total {self.state.total}")

    def on_mark(self, mark: str) -> None:
        self.state.mark = mark
        self.say("marked")

    def on_raise(self, word: str) -> None:
        raise RuntimeError(word)

    def on_leave(self, _: str) -> None:
        sys.exit(3)

    def on_leave_later(self, _: str) -> None:
        self.timers.arm("on_leave_now", 0.01)

    def on_leave_now(self) -> None:
        sys.exit(4)

    def on_pid(self, _: str) -> None:
        self.say(str(os.getpid()), "")

    def on_loaded(self, _: str) -> None:
        loaded = [name for name in sys.modules if name.startswith("netswap_bundle_")]
        self.say(" ".join(sorted(name for name in loaded if "." not in name)), "")

    def on_later(self, seconds: str) -> None:
        self.timers.arm("due", float(seconds))
        self.say("armed")

    def on_remaining(self, _: str) -> None:
        self.say(repr(self.timers.remaining("due")), "")

    def due(self) -> None:
        self.say("due")

    def on_flood(self, count: str) -> None:
        self.state.flood = int(count)
        self.pour()

    def on_burst(self, count: str) -> None:
        self.write(b"".join(_row(1, number) for number in range(int(count))))

    def pour(self) -> None:
        while self.state.flood and not self.writing_paused:
            self.state.flood -= 1
            self.write(_row(1, self.state.flood))
        if self.half_closed and not self.state.flood:
            self.close()

    def on_unknown(self, _: str) -> None:
        raise ProtocolError("unknown word", reply=b"v1 ? unknown word\n")

    def on_resume_writing(self) -> None:
        self.pour()

    def on_eof(self) -> bool:
        self.state.mark = "eof"
        return self.state.flood > 0

    def say(self, text: str, prefix: str = "v1 ") -> None:
        self.write(f"{prefix}{text}\n".encode())


def _row(version: int, number: int) -> bytes:
    return b"v%d %08d " % (version, number) + b"." * 1000 + b"\n"
