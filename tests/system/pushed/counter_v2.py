"""counter.connection, version 2: the rest is kept in pieces, sums have names."""

from __future__ import annotations

import os
import sys
from typing import Any

from netswap import Connection, ProtocolError, State, migration


class Count(State, kind="counter.connection", version=2):
    lines: int = 0
    sums: dict[str, int] = {}
    pieces: list[bytes] = []
    rows_left: int = 0
    mark: str = ""
    seen: list[str] = []


@migration("counter.connection", 1, 2)
def up(old: dict[str, Any]) -> dict[str, Any]:
    pieces = [old["partial"]] if old["partial"] else []
    return old | {"sums": {"total": old["total"]}, "pieces": pieces, "rows_left": old["flood"]}


@migration("counter.connection", 2, 1)
def down(new: dict[str, Any]) -> dict[str, Any]:
    total = new["sums"].get("total", 0)
    return new | {"total": total, "partial": b"".join(new["pieces"]), "flood": new["rows_left"]}


class Counter(Connection[Count]):
    def on_data(self, data: bytes) -> None:
        self.state.pieces.append(data)
        if b"\n" not in data:
            return
        *lines, rest = b"".join(self.state.pieces).split(b"\n")
        self.state.pieces = [rest] if rest else []
        for line in lines:
            self.state.lines += 1
            word, _, argument = line.decode().partition(" ")
            getattr(self, f"on_{word}", self.on_unknown)(argument)

    def on_add(self, number: str) -> None:
        sums = self.state.sums
        sums["total"] = sums.get("total", 0) + int(number)
        self.say(f"{self.state.lines} lines, total {sums['total']}")

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
        self.state.rows_left = int(count)
        self.pour()

    def on_burst(self, count: str) -> None:
        self.write(b"".join(_row(2, number) for number in range(int(count))))

    def pour(self) -> None:
        while self.state.rows_left and not self.writing_paused:
            self.state.rows_left -= 1
            self.write(_row(2, self.state.rows_left))
        if self.half_closed and not self.state.rows_left:
            self.close()

    def on_unknown(self, _: str) -> None:
        raise ProtocolError("unknown word", reply=b"v2 ? unknown word\n")

    def on_resume_writing(self) -> None:
        self.pour()

    def on_eof(self) -> bool:
        self.state.mark = "eof"
        return self.state.rows_left > 0

    def say(self, text: str, prefix: str = "v2 ") -> None:
        self.write(f"{prefix}{text}\n".encode())


def _row(version: int, number: int) -> bytes:
    return b"v%d %08d " % (version, number) + b"." * 1000 + b"\n"
