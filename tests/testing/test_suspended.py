"""Calls and conversations that suspend: held by a swap, answered after it, or named."""

from __future__ import annotations

import pytest

from netswap.testing import NotSwappable, Wait, check_swappable

from .lines import changed, module

DESK1 = '''
"""desk: a service that takes its time, and the conversation that waits for it, version 1."""
import asyncio

from netswap import Service, Session, State


class Ledger(State, kind="desk.service", version=1):
    asked: int = 0


class Desk(Service[Ledger]):
    async def answer(self, question):
        self.state.asked += 1
        number = self.state.asked
        await asyncio.sleep(0.3)
        return b"%d: %s\\n" % (number, question.upper())

    def on_start(self):
        pass


class Talk(State, kind="desk.connection", version=1):
    lines: int = 0


class Conversation(Session[Talk], uses={"desk": "desk.service"}):
    async def run(self):
        while not self.at_end:
            line = await self.swap_point(self.read_line())
            if not line and self.at_end:
                break
            self.state.lines += 1
            self.write(await self.desk.answer(line))
'''
DESK2 = (
    DESK1.replace("version=1", "version=2")
    .replace("lines: int", "answered: int")
    .replace("state.lines", "state.answered")
    .replace("asked: int = 0", "asked: int = 0\n    last: bytes = b''")
    .replace(
        "version=2):\n    answered", 'version=2, renamed={"lines": "answered"}):\n    answered'
    )
)
STEPS = [
    ("ann", b"one\ntw"),
    Wait(0.1),
    ("bob", b"three\n"),
    Wait(1),
    ("ann", b"o\n"),
    ("bob", b"four\nfive\n"),
    Wait(2),
]
OLD = module(DESK1, "v1.py")


def test_calls_that_suspend_are_held_and_answered_by_somebody() -> None:
    """A swap waits for those that are inside; whoever answers, each question has its answer."""
    report = check_swappable(OLD, module(DESK2), STEPS, limit=30)
    assert not report.failures
    assert report.plays["asyncio"] == report.plays["uvloop"] > 200


MISTAKES = {
    "waits for its client at no swap point": (
        [("await self.swap_point(self.read_line())", "await self.read_line()")],
        "the swap was refused at swap: not quiescent in time: desk.connection",
    ),
    "begins again with what it has done already": (
        [("        while not self.at_end", "        self.state.answered += 1\n"
          "        while not self.at_end")],
        "lines was 0 and is 1",
    ),
    "asks once more for what was asked": (
        [("        while not self.at_end", "        if self.state.answered:\n"
          '            self.write(await self.desk.answer(b"?"))\n        while not self.at_end')],
        ": ?\\n",
    ),
    "leaves a task behind when it has stopped": (
        [("        pass\n", "        self.host.spawn(asyncio.sleep(1e9))\n")],
        "left over at the end: a task",
    ),
    "waits for the clock each time that it starts": (
        [("        pass\n", "        self.host.loop.call_later(1e9, print)\n")],
        "calls wait for the clock where there were",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_new_version_that(mistake: str) -> None:
    """It is found on both loops."""
    changes, what = MISTAKES[mistake]
    bad = changed(DESK2, *changes)
    for loop in ("asyncio", "uvloop"):
        with pytest.raises(NotSwappable) as failed:
            check_swappable(OLD, bad, STEPS, loops=[loop], limit=20)
        print(failed.value)
        assert what in str(failed.value)
