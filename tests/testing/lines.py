"""A pair that swaps well, as text: the bad ones of the tests differ from it in one place."""

from __future__ import annotations

from netswap.modules import Bundle
from netswap.testing import Do, Wait

__all__ = ["OLD", "STEPS", "V1", "V2", "changed", "module"]

V1 = '''
"""lines.connection, version 1: numbers the lines of a client."""
from netswap import Connection, State


class Talk(State, kind="lines.connection", version=1):
    count: int = 0
    partial: bytes = b""
    seen: list[bytes] = []
    backlog: list[bytes] = []


class Lines(Connection[Talk]):
    def on_data(self, data):
        self.timers.arm("too_quiet", 5)
        *lines, self.state.partial = (self.state.partial + data).split(b"\\n")
        for line in lines:
            self.answer(line)

    def answer(self, line):
        self.state.count += 1
        self.state.seen.append(line)
        reply = b"%d of %d: %s\\n" % (self.state.count, len(self.state.seen), line)
        if self.writing_paused:
            self.state.backlog.append(reply)
        else:
            self.write(reply)

    def on_resume_writing(self):
        backlog, self.state.backlog = self.state.backlog, []
        self.write(b"".join(backlog))

    def on_eof(self):
        self.write(b"bye after %s\\n" % self.state.partial)

    def too_quiet(self):
        self.write(b"still there?\\n")
'''

V2 = '''
"""lines.connection, version 2: keeps what is not a line yet in pieces."""
from netswap import Connection, State, invariant, migration


class Talk(State, kind="lines.connection", version=2):
    total: int = 0
    pieces: list[bytes] = []
    seen: list[bytes] = []
    backlog: list[bytes] = []

    @invariant
    def every_line_was_seen(self):
        return len(self.seen) == self.total


@migration("lines.connection", 1, 2)
def up(old):
    pieces = [old["partial"]] if old["partial"] else []
    return {"total": old["count"], "pieces": pieces, "seen": old["seen"], "backlog": old["backlog"]}


@migration("lines.connection", 2, 1)
def down(new):
    partial = b"".join(new["pieces"])
    return {
        "count": new["total"],
        "partial": partial,
        "seen": new["seen"],
        "backlog": new["backlog"],
    }


class Lines(Connection[Talk]):
    def on_data(self, data):
        self.timers.arm("too_quiet", 5)
        self.state.pieces.append(data)
        if b"\\n" in data:
            *lines, rest = b"".join(self.state.pieces).split(b"\\n")
            self.state.pieces = [rest] if rest else []
            for line in lines:
                self.answer(line)

    def answer(self, line):
        self.state.total += 1
        self.state.seen.append(line)
        reply = b"%d of %d: %s\\n" % (self.state.total, len(self.state.seen), line)
        if self.writing_paused:
            self.state.backlog.append(reply)
        else:
            self.write(reply)

    def on_resume_writing(self):
        backlog, self.state.backlog = self.state.backlog, []
        self.write(b"".join(backlog))

    def on_eof(self):
        self.write(b"bye after %s\\n" % b"".join(self.state.pieces))

    def too_quiet(self):
        self.write(b"still there?\\n")
'''

STEPS = [
    b"one\ntw",
    b"o\n",
    Wait(6),
    Do.STOP_READING,
    b"three\n",
    b"four\n",
    b"five\nsi",
    Do.READ_AGAIN,
    Wait(6),
    Do.END,
]


def module(source: str, name: str = "v2.py") -> Bundle:
    """A module from its text."""
    return Bundle(name, {name: source.encode()})


def changed(source: str, *changes: tuple[str, str]) -> Bundle:
    """A module like another one, with some lines changed."""
    for before, after in changes:
        assert before in source, f"{before!r} is not there to be changed"
        source = source.replace(before, after)
    return module(source)


OLD = module(V1, "v1.py")
