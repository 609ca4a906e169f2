"""Faults in a swap: each of them bites, is told, and leaves everything as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from netswap.testing.carried import differences, snapshot
from netswap.testing.faults import FAULTS, Fault
from netswap.testing.loops import LOOPS
from netswap.testing.push import Push
from netswap.testing.subject import NEW, load_subject
from netswap.testing.subject import OLD as OLD_VERSION
from netswap.testing.world import World

CHAT = Path(__file__).parents[2] / "protocols/chat"
OBJECTS = {
    "the rooms": 1,
    "a client's connection": 2,
}
"""The objects of a swap of chat from version 1 to 2, in its order."""

TOLD = {
    "the conversion of object {nth} raises": "Injected: the conversion failed",
    "the conversion of object {nth} raises after others have flipped": "the conversion failed",
    "the conversion of object {nth} takes too long": "DeadlinePassed: it did not end in time",
    "object {nth} is given up when it was built": "Injected: given up when it was built",
    "a part of object {nth} can't be made": "Injected: the part could not be made",
    "on_start of service {nth} raises": "Injected: on_start failed",
    "on_stop of service {nth} raises": "Injected: on_stop failed",
    "object {nth} does not come to rest": "not quiescent in time",
    "everything is given up after slice {nth}": "given up by the test",
}


def test_every_fault_is_here() -> None:
    """A new one comes with what is told of it."""
    assert TOLD.keys() == FAULTS.keys()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_refuses_the_swap_and_leaves_nothing(name: str, loop: str) -> None:
    """The refusal says what was injected; table, states, tasks and calls are as before."""
    pair = ("v2.py", "session.py") if "rest" in name else ("v1.py", "v2.py")
    made = LOOPS[loop]()
    with load_subject(*(CHAT / file for file in pair), [CHAT / "v2.py"]) as subject:

        async def main() -> list[Any]:
            world = World(made, subject, NEW if "rest" in name else OLD_VERSION)
            for client in ("ann", "bob"):
                await world.connect(client)
                world.clients[client].send(b"/nick %b\nhalf a li" % client.encode())
            await world.settle()
            before = snapshot(world)
            version = OLD_VERSION if "rest" in name else NEW
            fault = Fault(name, 1)
            push = Push(world, version, fault.sliced)
            with fault.around(push):
                await push.finish(push.start())
            await world.settle()
            found = [push.refusal, differences(world, before, NEW), push.stuck]
            return [*found, await world.close(), world.log.errors]

        refusal, *rest = made.run_until_complete(main())
    made.close()
    assert refusal is not None
    assert TOLD[name] in refusal.reason
    assert rest == [[], [], [], []]
