"""A connect that fails for want of something of our own says nothing about the server."""

from __future__ import annotations

import errno
import os
from functools import partial

import pytest

from loadgen.continuity import Tally
from loadgen.findings import build_report
from loadgen.judging import judge
from loadgen.lines.dialling import Dialling
from loadgen.lines.line import Line
from tests.loadgen.carried import served
from tests.loadgen.faulty_server import PROTOCOLS, Server

SERVER = partial(Server, PROTOCOLS["verify"], "none")


@pytest.mark.asyncio(loop_factories=["uvloop"])  # a load process always runs on it
@pytest.mark.parametrize("connects", [0, 4])
@pytest.mark.parametrize(
    ("number", "exit_code"),
    [(errno.EMFILE, 12), (errno.EADDRNOTAVAIL, 12), (errno.ECONNREFUSED, 10)],
)
async def test_a_connect_fails_for_want_of_ours(
    number: int, exit_code: int, connects: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files, no local port left: the run is invalid, and nobody has refused."""
    connect, left = Dialling._connect, [None] * connects

    async def failing(self: Dialling, connection: int) -> Line:
        if not left:
            raise OSError(number, os.strerror(number))
        left.pop()
        return await connect(self, connection)

    monkeypatch.setattr(Dialling, "_connect", failing)
    seen = await served(SERVER, scenario="churn", rate=400.0)
    verdict = judge(build_report(seen))
    assert verdict.exit_code == (exit_code if connects else 12), verdict.reasons
    assert (seen.tally.refused == 0) == (exit_code == 12)
    assert os.strerror(number) in verdict.reasons[0] or seen.tally.refused


def test_what_was_short_of_several_processes_adds_up() -> None:
    """As all counts do."""
    one, other = Tally(short={"Too many open files": 2}), Tally(short={"Too many open files": 3})
    one.add(other)
    assert one.short == {"Too many open files": 5}
