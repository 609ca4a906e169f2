"""Every class of connection is swapped: plain and over TLS, on both loops, up and down.

By default at every boundary of the transcripts and at some bytes; ``make every-byte`` has a swap at
every byte of them, and over TLS at every byte of the wire.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Container
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from netswap.testing import Difference, Report, Transcript, check_swappable
from netswap.testing.cases import Case
from netswap.testing.loops import LOOPS as LOOPS_OF_THE_KIT
from netswap.testing.play import Play
from netswap.testing.sealed import Keys, make_keys
from netswap.testing.subject import Subject, load_subject

from .classes import CLASSES, TRANSCRIPTS, WEBSOCKET, Census, replies_of

ROOT = Path(__file__).parents[2]
HTTP = [ROOT / f"protocols/http/v{version}.py" for version in (1, 2)]
SOCKETS = [ROOT / f"protocols/websocket/v{version}.py" for version in (1, 2)]
BESIDE: list[Any] = [ROOT / "protocols/http/limits.py", ROOT / "tests/protocols/http/answering.py"]
WEB = [name for name in TRANSCRIPTS if name not in WEBSOCKET]

PAIRS: dict[str, tuple[Any, Any, list[Any], list[str]]] = {
    "http": (*HTTP, [*BESIDE, SOCKETS[0]], WEB),
    "websocket": (*SOCKETS, [*BESIDE, HTTP[1]], WEBSOCKET),
    "http below websockets": (*HTTP, [*BESIDE, SOCKETS[1]], WEBSOCKET),
    "both": ([HTTP[0], SOCKETS[0]], [HTTP[1], SOCKETS[1]], BESIDE, [*TRANSCRIPTS]),
}
"""What is swapped: old, new, what stands beside them, and what is played."""

LOOPS = ("asyncio", "uvloop")
WIRES = ("plain", "tls")
BEGINS = ("old", "new")
SOME = {"limit": 8, "tried": ("swaps",)}
MEANWHILE = {"tried": ("meanwhile",)}
ALL = {"limit": sys.maxsize, "tried": ("swaps", "wire", "meanwhile", "bystander")}
DUE = {"limit": sys.maxsize, "tried": ("due",), "due": 80.0}
"""Longer than any time that is given; so late, the versions differ on purpose in those below."""
NOT_DUE = {
    "bodies": "only version 2 gives a body a time",
    "chunks": "the same",
    "ended": "version 1 reads a head, which is late then, of a client that does not read",
    "pings": "version 1 takes nothing but a pong for a sign of life, and hands on that none came",
}
pytestmark = pytest.mark.timeout(1200)  # thousands of plays, on a machine that may be busy


@pytest.fixture
def census(monkeypatch: pytest.MonkeyPatch) -> Census:
    """Counts all swaps of the test."""
    counted = Census()
    move = Play._move

    async def counting(play: Play, what: Any, act: Any, row: int) -> None:
        counted.note(play, what, act)
        await move(play, what, act, row)

    monkeypatch.setattr(Play, "_move", counting)
    return counted


def cut_short(difference: Difference) -> bool:
    """A session of TLS is over when the client ends it: what a coroutine then writes is lost.

    Version 1 reads that end while the client does not read, version 2 when all was written.
    """
    got, old, new = (
        b"".join(replies_of(data)) for data in (difference.got, difference.old, difference.new)
    )
    lost = [new[: len(one)] == one and b"x-long" in one for one in (got, old)]
    return all(lost) and old != new and difference.got_end == difference.new_end == "closed"


def checked(pair: str, wire: str, loop: str, options: Any, without: Container[str] = ()) -> Report:
    """Fails when a client of any class would notice."""
    old, new, beside, names = PAIRS[pair]
    steps = [Transcript(TRANSCRIPTS[name], name) for name in names if name not in without]
    more: dict[str, Any] = {"beside": beside, "served": "http.connection", "replies": replies_of}
    if wire == "tls":
        more["expect"] = cut_short
    return check_swappable(old, new, *steps, loops=[loop], over=wire, **more, **options)


def unplayed(census: Census, wire: str, loop: str, played: list[str]) -> list[str]:
    """The classes, and the transcripts of a class, under which there was no swap."""
    found = []
    for (name, row), begins in product(CLASSES.items(), BEGINS):
        listed = [one for one in row.transcripts if one in played]
        counts = {
            at.transcript: n
            for at, n in census.swaps.items()
            if (at.name, at.wire, at.loop, at.begins) == (name, wire, loop, begins)
        }
        if listed and (name, wire) != ("TLS", "plain") and not sum(counts.values()):
            found.append(f"{name}, from {begins}: no swap")
        if wire == "plain" and name != "TLS":
            found += [f"{name}: not in {one!r}" for one in listed if not counts.get(one)]
    return found


def figures(census: Census) -> str:
    """Swaps and different cuts of each class, as a table."""
    swaps, cuts = Counter[str](), Counter[str]()
    for row, count in census.swaps.items():
        swaps[row.name] += count
        cuts[row.name] += len(census.cuts[row])
    rows = [f"{name:<56}{cuts[name]:>8}{swaps[name]:>9}" for name in CLASSES]
    return "\n".join([f"{'':<56}{'cuts':>8}{'swaps':>9}", *rows])


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("wire", WIRES)
def test_a_swap_under_every_class(census: Census, wire: str, loop: str) -> None:
    """No client notices, and the swaps were where the table says that they are."""
    timed = CLASSES["timers due inside the swap"].transcripts
    report = checked("both", wire, loop, SOME)
    checked("both", wire, loop, MEANWHILE, without=TRANSCRIPTS.keys() - timed)
    assert not unplayed(census, wire, loop, [*TRANSCRIPTS])
    assert not report.unjudged


CUT_SHORT = {
    ("ended in flight", "old"): "a session is over when its client ends it: what a coroutine",
    ("ended in flight", "new"): "would have written later is lost",
    ("ended", "old"): "version 1 reads that end of a client that does not read its answers",
}
"""What a client is not told over TLS, and why; what was written by then has come."""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("version", BEGINS)
def test_over_tls_each_step_is_answered_as_over_a_plain_connection(version: str, loop: str) -> None:
    """Byte for byte; when a client has ended its side, no more than that, and in order."""
    old, new, beside, _ = PAIRS["both"]
    code = load_subject(old, new, beside, served="http.connection")
    keys = make_keys()
    with closing(LOOPS_OF_THE_KIT[loop]()) as made, code as subject:
        for name, steps in TRANSCRIPTS.items():
            case = Case("alone", Transcript(steps), version)
            plain, sealed = (heard(made, subject, case, wire) for wire in (None, keys))
            if (name, version) not in CUT_SHORT:
                assert sealed == plain, name
                continue
            said, more = (b"".join(b"".join(row[0]) for row in rows) for rows in (sealed, plain))
            assert said, name
            assert more.startswith(said), name


def heard(loop: Any, subject: Subject, case: Case, keys: Keys | None) -> list[Any]:
    """The answers to each step, and how the connection ended there, if it did."""
    loop.begin_anew()
    play = Play(loop, subject, case, 1, keys)
    loop.run_until_complete(play.run())
    places = product(case.transcript.clients, range(len(play.steps) + 2))
    found = [play.seen.of(*place) for place in places]
    return [(replies_of(data), end) for data, end in found]


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("pair", PAIRS)
def test_a_swap_at_every_byte_of_every_class(
    census: Census, pair: str, wire: str, loop: str
) -> None:
    """Of the plain bytes, of the wire, and with timers due inside the swap."""
    report = checked(pair, wire, loop, ALL)
    print(f"\n{pair}, {wire}, {loop}: {report}\n{figures(census)}")
    longer = checked(pair, wire, loop, DUE, without=NOT_DUE)
    print(f"swaps that last: {longer}\n{figures(census)}")
    played = PAIRS[pair][3]
    assert report.cuts == report.possible
    assert report.cuts == sum(
        len(one.cuts) + (wire == "tls") * len(one.wire_cuts)
        for one in (Transcript(TRANSCRIPTS[name]) for name in played)
    )
    assert not unplayed(census, wire, loop, played)


def test_a_class_that_is_not_played_is_told() -> None:
    """An empty census has played none of them."""
    told = unplayed(Census(), "tls", "uvloop", [*TRANSCRIPTS])
    assert told == [f"{name}, from {begins}: no swap" for name in CLASSES for begins in BEGINS]
    assert "idle keep-alive: not in 'idle'" in unplayed(Census(), "plain", "uvloop", ["idle"])
