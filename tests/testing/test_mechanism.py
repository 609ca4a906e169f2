"""What the kit would say if the mechanism itself forgot something: each line here is one omission.

The pair is the sound one: whatever is found comes from the omission.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netswap.hotswap import Swap
from netswap.stack import Connection, Part, Service, Session
from netswap.testing import Do, NotSwappable, Wait, check_swappable

from .lines import OLD, STEPS, V2, module

PROTOCOLS = Path(__file__).parents[2] / "protocols"
TALK = [b"/nick ann\n", b"half", Do.STOP_READING, b" a line\n", b"/who\n", Do.READ_AGAIN, Do.END]


def lines(**options: Any) -> None:
    check_swappable(OLD, module(V2), STEPS, **options)


def briefly(**options: Any) -> None:
    check_swappable(OLD, module(V2), [b"one\n", b"two"], **options)


def session(**options: Any) -> None:
    check_swappable(PROTOCOLS / "chat/v2.py", PROTOCOLS / "chat/session.py", TALK, **options)


def rooms(**options: Any) -> None:
    pair = (PROTOCOLS / "chat/v1.py", PROTOCOLS / "chat/v2.py")
    check_swappable(*pair, [b"/nick ann\n"], replies=lambda data: data.splitlines(), **options)


def output(**options: Any) -> None:
    pair = (PROTOCOLS / "buffers/immediate.py", PROTOCOLS / "buffers/coalescing.py")
    check_swappable(*pair, TALK, beside=[PROTOCOLS / "chat/v2.py"], **options)


def timers(**options: Any) -> None:
    pair = (PROTOCOLS / "timers/loop.py", PROTOCOLS / "timers/wheel.py")
    check_swappable(*pair, [b"one\n", Wait(3), Wait(3)], beside=[OLD], **options)


def without(cls: type, name: str, field: str, value: Any) -> Callable[..., Any]:
    """The class method with a field of its outcome forgotten."""
    real = getattr(cls, name).__func__

    def forgetful(cls: type, *args: Any) -> Any:
        made = real(cls, *args)
        setattr(made, field, value)
        return made

    return classmethod(forgetful)  # type: ignore[return-value]  # to be set on a class


def no_protocol(self: Any, old: Any) -> None:
    """Point nothing to the follower but the table."""


def greeting(self: Any, old: Any, real: Any = Connection.take_over) -> None:
    """Write as soon as it is there."""
    real(self, old)
    self.write(b"hello again\n")


def nothing(self: Any, *_: Any) -> None:
    """Forget it."""


OMISSIONS: dict[str, tuple[Callable[..., None], type, str, Any]] = {
    "paused writing is not moved": (
        lines,
        Connection,
        "successor",
        without(Connection, "successor", "writing_paused", False),
    ),
    "the timers of a connection are not moved": (
        briefly,
        Connection,
        "successor",
        without(Connection, "successor", "_timers", None),
    ),
    "the transport keeps the old object": (lines, Connection, "take_over", no_protocol),
    "a follower writes to its client by itself": (lines, Connection, "take_over", greeting),
    "the owner of a send buffer keeps the old one": (output, Part, "take_over", nothing),
    "parts that were made for nothing stay": (rooms, Connection, "undo_building", nothing),
    "a retired conversation runs on": (session, Session, "retire", nothing),
    "held conversations are not let go on": (session, Session, "carry_on", nothing),
    "a service that is given up does not start again": (timers, Service, "undo_building", nothing),
    "who was accepted before a swap begins as old code after it": (
        lines,
        Connection,
        "connection_made",
        lambda self, transport: self.begin_on(transport),
    ),
    "objects born during a swap stay new when it is taken back": (
        lines,
        Swap,
        "_came_from",
        lambda self, entry: self._previous.get(entry.identity),
    ),
}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("omission", OMISSIONS)
def test_it_is_noticed_when(omission: str, loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check fails on each loop."""
    check, cls, name, broken = OMISSIONS[omission]
    monkeypatch.setattr(cls, name, broken)
    with pytest.raises(NotSwappable) as failed:
        check(loops=[loop], limit=12)
    print(failed.value)


@pytest.mark.parametrize("check", [briefly, session, rooms, output, timers])
def test_nothing_is_noticed_without_an_omission(check: Callable[..., None]) -> None:
    """The same checks pass as the mechanism is."""
    check(limit=12)
