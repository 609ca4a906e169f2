"""serve --reload: what is said of saves. That a save is a push is tested with a real server."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from netswap.commands import reload


async def test_one_that_fails_says_that_saves_are_pushed_no_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server serves on, so it would not be noticed until an edit has no effect."""

    def broken(_paths: object) -> NoReturn:
        raise RuntimeError("no eyes")

    monkeypatch.setattr(reload, "look_at", broken)
    supervisor: Any = SimpleNamespace(config=SimpleNamespace(reload=True, app="nowhere:app"))
    said = ""
    async with asyncio.timeout(20), reload.reloading(supervisor):
        while "pushed no more" not in said:
            await asyncio.sleep(0)
            said += capsys.readouterr().err
    assert "RuntimeError: no eyes" in said


async def test_without_the_option_nothing_looks() -> None:
    """No task is there."""
    supervisor: Any = SimpleNamespace(config=SimpleNamespace(reload=False))
    before = asyncio.all_tasks()
    async with reload.reloading(supervisor):
        assert asyncio.all_tasks() == before
