"""A slot: what it says of the channel to its worker."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from structlog.testing import capture_logs

from netswap.channel import Link, messages
from netswap.supervisor.slots import Slot, SlotSettings


@pytest.mark.parametrize("stopping", [True, False], ids=["stopping", "serving"])
async def test_a_worker_that_ends_before_it_has_read_is_news_only_if_it_was_to_serve(
    stopping: bool,
) -> None:
    """Its end of the channel resets ours: nothing broke when it was told to end."""
    watcher: Any = None  # it is told nothing here
    slot = Slot(0, SlotSettings(mesh=-1, descriptors=()), watcher)
    if stopping:
        slot.drain(0)
    ours, theirs = socket.socketpair()
    lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    link = await Link.over(ours, Link("worker 0", slot._on_message, lost.set_result))
    link.send(messages.Drain(0))
    theirs.close()
    error = await lost
    assert isinstance(error, ConnectionResetError)
    with capture_logs() as told:
        slot._on_lost(error)
    assert [row["event"] for row in told] == ([] if stopping else ["control channel broke"])
