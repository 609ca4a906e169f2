"""Where a suspended call is reported to hang: a line that its author can go to."""

from __future__ import annotations

import asyncio
from typing import Any

from netswap.quiescence import suspended_at

BUNDLED = """
import asyncio

async def inner():
    await asyncio.Event().wait()

async def outer():
    await inner()
"""


async def test_the_innermost_line_of_an_authors_file_is_named() -> None:
    """Not the line of asyncio's in which every wait ends."""
    names: dict[str, Any] = {}
    exec(compile(BUNDLED, "store.py@0123456789ab", "exec"), names)  # noqa: S102 - as the loader does
    task = asyncio.ensure_future(names["outer"]())
    await asyncio.sleep(0)
    assert suspended_at(task.get_coro()) == "store.py:5"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_where_no_frame_is_an_authors_the_innermost_is_named() -> None:
    """Better a foreign line than none."""
    task = asyncio.ensure_future(asyncio.Event().wait())
    await asyncio.sleep(0)
    assert "locks.py:" in (suspended_at(task.get_coro()) or "")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
